//! `/apps`: the applications one has registered; a secret is shown once, on the page that answers
//! its form.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::form::{Fields, Form};
use super::say::When;
use super::shell::{Frame, Place, Shell};
use super::{html, refused, see_other};
use crate::domain::oauth::apps::{self, Application, Change, NewApplication};
use crate::domain::page::PageRequest;
use crate::error::Result;
use crate::web::extract;

/// An application, as the pages show it: never its secret.
#[derive(Debug, Clone)]
pub struct AppView {
    pub id: String,
    pub client_id: String,
    pub secret_prefix: Option<String>,
    pub name: String,
    pub description: String,
    pub redirect_uris: Vec<String>,
    pub public: bool,
    pub created: When,
}

/// The list and the form.
#[derive(Template)]
#[template(path = "pages/apps.html")]
pub struct AppsPage {
    pub shell: Shell,
    pub apps: Vec<AppView>,
    pub form: Form,
}

/// One application: its facts, what may be changed, and its end.
#[derive(Template)]
#[template(path = "pages/app_settings.html")]
pub struct AppPage {
    pub shell: Shell,
    pub app: AppView,
    pub form: Form,
    pub public_url: String,
}

/// The one page that holds the secret.
#[derive(Template)]
#[template(path = "pages/app_secret.html")]
pub struct AppSecretPage {
    pub shell: Shell,
    pub app: AppView,
    pub secret: String,
    /// Whether it takes the place of another.
    pub rotated: bool,
}

impl AppView {
    fn of(frame: &Frame, app: Application) -> Self {
        Self {
            id: app.id.to_string(),
            client_id: app.client_id,
            secret_prefix: app.client_secret_prefix,
            name: app.name,
            description: app.description,
            redirect_uris: app.redirect_uris,
            public: app.public,
            created: frame.when(app.created_at),
        }
    }
}

/// The names of the forms' fields.
const FIELDS: [&str; 4] = ["name", "description", "redirect_uris", "public"];

fn redirect_uris(fields: &Fields) -> Vec<String> {
    fields
        .text("redirect_uris")
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

async fn page(frame: &Frame, form: Form) -> Result<AppsPage> {
    let page = apps::list(&frame.ctx, PageRequest::parse(Some(200), None)?).await?;
    Ok(AppsPage {
        shell: frame.shell(Place::Apps, "Applications")?,
        apps: page
            .items
            .into_iter()
            .map(|app| AppView::of(frame, app))
            .collect(),
        form,
    })
}

fn settings(frame: &Frame, app: Application, form: Form) -> Result<AppPage> {
    Ok(AppPage {
        shell: frame.shell(Place::Apps, app.name.clone())?,
        app: AppView::of(frame, app),
        form,
        public_url: frame.public_url(),
    })
}

fn secret(frame: &Frame, app: Application, secret: String, rotated: bool) -> Result<HttpResponse> {
    html(&AppSecretPage {
        shell: frame.shell(Place::Apps, app.name.clone())?,
        app: AppView::of(frame, app),
        secret,
        rotated,
    })
}

/// `GET /apps`.
///
/// # Errors
/// As `apps::list`.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    html(&page(&frame, Form::new()).await?)
}

/// `POST /apps`: answers the page that shows the secret, if there is one.
///
/// # Errors
/// As `apps::create`.
pub async fn create(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let fields = fields.0;
    let new = NewApplication {
        name: fields.text("name").to_owned(),
        description: fields.lines("description"),
        redirect_uris: redirect_uris(&fields),
        public: fields.text("public") == "yes",
    };
    match apps::create(&frame.ctx, new).await {
        Ok((app, Some(text))) => secret(&frame, app, text, false),
        Ok((app, None)) => Ok(see_other(&format!("/apps/{}", app.id))),
        Err(error) => {
            let form = Form::new()
                .with_all(&fields, &FIELDS)
                .refused(&error, &FIELDS)?;
            refused(error, &page(&frame, form).await?)
        }
    }
}

/// `GET /apps/{id}`.
///
/// # Errors
/// As `apps::get`.
pub async fn edit(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let app = apps::get(&frame.ctx, &id).await?;
    let form = Form::new()
        .with("name", app.name.clone())
        .with("description", app.description.clone())
        .with("redirect_uris", app.redirect_uris.join("\n"));
    html(&settings(&frame, app, form)?)
}

/// `POST /apps/{id}`.
///
/// # Errors
/// As `apps::update`.
pub async fn save(
    frame: Frame,
    id: web::Path<String>,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let change = Change {
        name: Some(fields.text("name").to_owned()),
        description: Some(fields.lines("description")),
        redirect_uris: Some(redirect_uris(&fields)),
        public: None,
    };
    match apps::update(&frame.ctx, &id, change).await {
        Ok(app) => Ok(see_other(&format!("/apps/{}", app.id))),
        Err(error) => {
            let form = Form::new()
                .with_all(&fields, &FIELDS)
                .refused(&error, &FIELDS)?;
            let app = apps::get(&frame.ctx, &id).await?;
            refused(error, &settings(&frame, app, form)?)
        }
    }
}

/// `POST /apps/{id}/secret`: answers the page that shows the new one.
///
/// # Errors
/// As `apps::rotate_secret`.
pub async fn rotate_secret(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let (app, text) = apps::rotate_secret(&frame.ctx, &id).await?;
    secret(&frame, app, text, true)
}

/// `POST /apps/{id}/delete`.
///
/// # Errors
/// As `apps::delete`.
pub async fn delete(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    apps::delete(&frame.ctx, &id).await?;
    Ok(see_other("/apps"))
}
