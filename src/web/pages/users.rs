//! `/admin/users`: everyone's accounts, and what an administrator can do with one. A link to choose
//! a password is shown once, on the page that answers the form.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::account::{SessionView, session_view};
use super::form::{Fields, Form};
use super::say::When;
use super::shell::{Frame, Place, Shell};
use super::{html, refused, see_other};
use crate::domain::page::PageRequest;
use crate::domain::password_resets::ResetLink;
use crate::domain::user_admin::{self, Account, Change, NewAccount, UserQuery};
use crate::domain::users::{Role, Status};
use crate::error::{Error, Result};
use crate::web::extract::{self, Query};

/// An account, as the pages show it.
#[derive(Debug, Clone)]
pub struct UserView {
    pub id: String,
    pub email: String,
    pub name: String,
    pub admin: bool,
    pub active: bool,
    pub created: When,
    pub last_login: Option<When>,
    pub has_password: bool,
    pub has_totp: bool,
    pub has_oidc: bool,
    pub has_passkey: bool,
    pub sessions: i64,
    pub containers: i64,
    /// Whether it is the one that looks.
    pub you: bool,
}

impl UserView {
    fn of(frame: &Frame, account: Account) -> Self {
        Self {
            you: frame.ctx.user_id() == Some(&account.user.id),
            id: account.user.id.to_string(),
            email: account.user.email,
            name: account.user.display_name,
            admin: account.user.role == Role::Admin,
            active: account.user.status == Status::Active,
            created: frame.when(account.user.created_at),
            last_login: account.last_login_at.map(|at| frame.when(at)),
            has_password: account.has_password,
            has_totp: account.has_totp,
            has_oidc: account.has_oidc,
            has_passkey: account.passkeys > 0,
            sessions: account.sessions,
            containers: account.containers,
        }
    }

    /// By what it can sign in, in words.
    #[must_use]
    pub fn ways(&self) -> String {
        let ways = [
            (self.has_password, "password"),
            (self.has_totp, "one-time codes"),
            (self.has_passkey, "passkey"),
            (self.has_oidc, "OpenID Connect"),
        ];
        let ways: Vec<&str> = ways.iter().filter(|w| w.0).map(|w| w.1).collect();
        if ways.is_empty() {
            "nothing yet".to_owned()
        } else {
            ways.join(", ")
        }
    }
}

/// The list and the form.
#[derive(Template)]
#[template(path = "pages/users.html")]
pub struct UsersPage {
    pub shell: Shell,
    pub users: Vec<UserView>,
    pub form: Form,
    /// What the list is narrowed to.
    pub q: String,
    pub status: String,
    pub next: Option<String>,
    /// Whether an account can be made without the password being asked for first.
    pub proved: bool,
}

/// One account.
#[derive(Template)]
#[template(path = "pages/user.html")]
pub struct UserPage {
    pub shell: Shell,
    pub user: UserView,
    pub sessions: Vec<SessionView>,
    /// Why the last thing asked for was not done.
    pub form: Form,
}

/// The one page that holds the link.
#[derive(Template)]
#[template(path = "pages/user_link.html")]
pub struct UserLinkPage {
    pub shell: Shell,
    pub email: String,
    pub id: String,
    pub url: String,
    pub expires: When,
    /// Whether the account was made just now.
    pub new: bool,
}

/// Which accounts.
#[derive(Debug, Default, serde::Deserialize)]
pub struct Asked {
    q: Option<String>,
    status: Option<String>,
    cursor: Option<String>,
}

async fn page(frame: &Frame, asked: Asked, form: Form) -> Result<UsersPage> {
    let request = PageRequest::parse(Some(50), asked.cursor.as_deref())?;
    let query = UserQuery {
        q: asked.q.clone(),
        status: asked.status.clone(),
        role: None,
    };
    let found = user_admin::search(&frame.ctx, query, request).await?;
    let (q, status) = (
        asked.q.unwrap_or_default(),
        asked.status.unwrap_or_default(),
    );
    let next = found.next.map(|cursor| {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("q", &q)
            .append_pair("status", &status)
            .append_pair("cursor", &cursor)
            .finish();
        format!("/admin/users?{query}")
    });
    Ok(UsersPage {
        shell: frame.shell(Place::Users, "Users")?,
        users: found
            .items
            .into_iter()
            .map(|account| UserView::of(frame, account))
            .collect(),
        form,
        q,
        status,
        next,
        proved: frame.is_proved().await?,
    })
}

async fn one(frame: &Frame, id: &str, form: Form) -> Result<UserPage> {
    let user = UserView::of(frame, user_admin::get(&frame.ctx, id).await?);
    let sessions = user_admin::list_sessions(&frame.ctx, id).await?;
    Ok(UserPage {
        shell: frame.shell(Place::Users, user.name.clone())?,
        sessions: sessions
            .into_iter()
            .map(|session| session_view(frame, session))
            .collect(),
        user,
        form,
    })
}

/// `GET /admin/users`.
///
/// # Errors
/// As `user_admin::search`.
pub async fn show(frame: Frame, asked: Query<Asked>) -> Result<HttpResponse> {
    html(&page(&frame, asked.0, Form::new().with("role", "user")).await?)
}

fn link_page(
    frame: &Frame,
    id: String,
    email: String,
    link: ResetLink,
    new: bool,
) -> Result<HttpResponse> {
    html(&UserLinkPage {
        shell: frame.shell(Place::Users, email.clone())?,
        expires: frame.when(link.expires_at),
        url: link.url,
        email,
        id,
        new,
    })
}

/// `POST /admin/users`: the owner chooses the password by the link that this shows.
///
/// # Errors
/// As `user_admin::create`.
pub async fn create(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let fields = fields.0;
    let new = NewAccount {
        email: fields.text("email").trim().to_owned(),
        display_name: fields.optional("display_name").map(str::to_owned),
        role: fields.optional("role").map(str::to_owned),
        password: None,
    };
    match user_admin::create(&frame.ctx, new).await {
        Ok((account, Some(link))) => {
            let id = account.user.id.to_string();
            link_page(&frame, id, account.user.email, link, true)
        }
        Ok((account, None)) => Ok(see_other(&format!("/admin/users/{}", account.user.id))),
        Err(error) => {
            let names = ["email", "display_name", "role"];
            let form = Form::new()
                .with_all(&fields, &names)
                .refused(&error, &names)?;
            refused(error, &page(&frame, Asked::default(), form).await?)
        }
    }
}

/// `GET /admin/users/{id}`.
///
/// # Errors
/// As `user_admin::get`.
pub async fn one_user(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    html(&one(&frame, &id, Form::new()).await?)
}

/// Back to the account's page, or the same page with what was wrong.
async fn after<T>(frame: &Frame, id: &str, outcome: Result<T>) -> Result<HttpResponse> {
    match outcome {
        Ok(_) => Ok(see_other(&format!("/admin/users/{id}"))),
        Err(error) => {
            let form = Form::new().refused(&error, &["display_name"])?;
            refused(error, &one(frame, id, form).await?)
        }
    }
}

/// `POST /admin/users/{id}`: name, role or status, whichever field came.
///
/// # Errors
/// As `user_admin::change`.
pub async fn change(
    frame: Frame,
    id: web::Path<String>,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let field = |name: &str| fields.0.all(name).next().map(str::to_owned);
    let change = Change {
        display_name: field("display_name"),
        role: field("role"),
        status: field("status"),
    };
    let outcome = user_admin::change(&frame.ctx, &id, change).await;
    after(&frame, &id, outcome).await
}

/// `POST /admin/users/{id}/reset`.
///
/// # Errors
/// As `user_admin::reset`.
pub async fn reset(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    match user_admin::reset(&frame.ctx, &id).await {
        Ok(link) => {
            let account = user_admin::get(&frame.ctx, &id).await?;
            let id = account.user.id.to_string();
            link_page(&frame, id, account.user.email, link, false)
        }
        Err(error) => after::<()>(&frame, &id, Err(error)).await,
    }
}

/// `POST /admin/users/{id}/sessions/end`.
///
/// # Errors
/// As `user_admin::end_sessions`.
pub async fn end_sessions(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let outcome = user_admin::end_sessions(&frame.ctx, &id).await;
    after(&frame, &id, outcome).await
}

/// `POST /admin/users/{id}/sessions/{session_id}/end`.
///
/// # Errors
/// As `user_admin::end_session`.
pub async fn end_session(frame: Frame, path: web::Path<(String, String)>) -> Result<HttpResponse> {
    let (id, session) = path.into_inner();
    let outcome = match user_admin::end_session(&frame.ctx, &id, &session).await {
        // It ended by itself in the meantime, which is what was wanted.
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    };
    after(&frame, &id, outcome).await
}

/// `POST /admin/users/{id}/totp/remove`.
///
/// # Errors
/// As `user_admin::remove_totp`.
pub async fn remove_totp(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let outcome = user_admin::remove_totp(&frame.ctx, &id).await;
    after(&frame, &id, outcome).await
}
