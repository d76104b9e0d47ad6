//! Applications that ask users for access, the question they put, and what users have allowed.
//!
//! To show more of an application, extend [`AppView`].

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PageQuery;
use crate::domain::ctx::Ctx;
use crate::domain::oauth::apps::{self, Application, Change, NewApplication};
use crate::domain::oauth::authorizations::{self, Authorization};
use crate::domain::oauth::authorize::{self, Question};
use crate::domain::time::Time;
use crate::error::Result;
use crate::web::extract::{Json, Query};
use crate::web::reply::{Data, Listed, Reply};

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "name": "Deploy bot", "redirect_uris": ["http://localhost:3000/callback"] }))]
pub struct NewAppBody {
    /// 1 to 100 characters.
    #[serde(default)]
    #[schema(required = true)]
    name: String,
    /// At most 500 characters.
    description: Option<String>,
    /// 1 to 10: https, or http on a loopback host; for public applications also a private-use
    /// scheme.
    #[serde(default)]
    #[schema(required = true)]
    redirect_uris: Vec<String>,
    /// It can keep no secret: it gets none, and must use PKCE.
    public: Option<bool>,
}

/// What is to be changed.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "redirect_uris": ["https://bot.example.org/callback"] }))]
pub struct AppChangeBody {
    /// 1 to 100 characters.
    name: Option<String>,
    /// At most 500 characters.
    description: Option<String>,
    /// 1 to 10.
    redirect_uris: Option<Vec<String>>,
    /// Cannot be changed.
    public: Option<bool>,
}

/// An application; its secret only in the answer that made it.
#[derive(Serialize, ToSchema)]
pub struct AppView {
    id: String,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    client_secret_prefix: Option<String>,
    name: String,
    description: String,
    redirect_uris: Vec<String>,
    public: bool,
    created_at: String,
}

/// What everyone may know of an application.
#[derive(Serialize, ToSchema)]
pub struct PublicAppView {
    client_id: String,
    name: String,
    description: String,
    owner_name: String,
}

/// An application that may act for one.
#[derive(Serialize, ToSchema)]
pub struct AuthorizationView {
    app_id: String,
    client_id: String,
    name: String,
    description: String,
    owner_name: String,
    scopes: Vec<&'static str>,
    created_at: String,
    last_used_at: Option<String>,
}

impl AppView {
    fn of(app: Application, client_secret: Option<String>) -> Self {
        Self {
            id: app.id.to_string(),
            client_id: app.client_id,
            client_secret,
            client_secret_prefix: app.client_secret_prefix,
            name: app.name,
            description: app.description,
            redirect_uris: app.redirect_uris,
            public: app.public,
            created_at: app.created_at.rfc3339(),
        }
    }
}

impl AuthorizationView {
    fn of(authorization: Authorization) -> Self {
        Self {
            app_id: authorization.app_id.to_string(),
            client_id: authorization.client_id,
            name: authorization.name,
            description: authorization.description,
            owner_name: authorization.owner_name,
            scopes: authorization.scopes.iter().map(|s| s.as_str()).collect(),
            created_at: authorization.created_at.rfc3339(),
            last_used_at: authorization.last_used_at.map(Time::rfc3339),
        }
    }
}

/// # Errors
/// As `apps::create`.
pub async fn create(ctx: Ctx, body: Json<NewAppBody>) -> Reply<AppView> {
    let new = NewApplication {
        name: body.0.name,
        description: body.0.description.unwrap_or_default(),
        redirect_uris: body.0.redirect_uris,
        public: body.0.public.unwrap_or_default(),
    };
    let (app, secret) = apps::create(&ctx, new).await?;
    Ok(Data(AppView::of(app, secret)))
}

/// # Errors
/// As `apps::list`.
pub async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<AppView>> {
    let page = apps::list(&ctx, query.0.parse()?).await?;
    Ok(Listed(page.map(|app| AppView::of(app, None))))
}

/// # Errors
/// As `apps::get`.
pub async fn get(ctx: Ctx, id: Path<String>) -> Reply<AppView> {
    Ok(Data(AppView::of(apps::get(&ctx, &id).await?, None)))
}

/// # Errors
/// As `apps::get_public`.
pub async fn get_public(ctx: Ctx, client_id: Path<String>) -> Reply<PublicAppView> {
    let app = apps::get_public(&ctx, &client_id).await?;
    Ok(Data(PublicAppView {
        client_id: app.client_id,
        name: app.name,
        description: app.description,
        owner_name: app.owner_name,
    }))
}

/// # Errors
/// As `apps::update`.
pub async fn update(ctx: Ctx, id: Path<String>, body: Json<AppChangeBody>) -> Reply<AppView> {
    let change = Change {
        name: body.0.name,
        description: body.0.description,
        redirect_uris: body.0.redirect_uris,
        public: body.0.public,
    };
    let app = apps::update(&ctx, &id, change).await?;
    Ok(Data(AppView::of(app, None)))
}

/// # Errors
/// As `apps::rotate_secret`.
pub async fn rotate_secret(ctx: Ctx, id: Path<String>) -> Reply<AppView> {
    let (app, secret) = apps::rotate_secret(&ctx, &id).await?;
    Ok(Data(AppView::of(app, Some(secret))))
}

/// # Errors
/// As `apps::delete`.
pub async fn delete(ctx: Ctx, id: Path<String>) -> Reply<&'static str> {
    apps::delete(&ctx, &id).await?;
    Ok(Data("deleted"))
}

/// # Errors
/// As `authorizations::list`.
pub async fn authorizations(
    ctx: Ctx,
    query: Query<PageQuery>,
) -> Result<Listed<AuthorizationView>> {
    let page = authorizations::list(&ctx, query.0.parse()?).await?;
    Ok(Listed(page.map(AuthorizationView::of)))
}

/// # Errors
/// As `authorizations::revoke`.
pub async fn revoke_authorization(ctx: Ctx, app_id: Path<String>) -> Reply<&'static str> {
    authorizations::revoke(&ctx, &app_id).await?;
    Ok(Data("revoked"))
}

/// The question, as an application sends it in a browser's address.
#[derive(Debug, Default, Deserialize)]
pub struct QuestionQuery {
    client_id: Option<String>,
    redirect_uri: Option<String>,
    response_type: Option<String>,
    state: Option<String>,
    scope: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    prompt: Option<String>,
}

impl From<QuestionQuery> for Question {
    fn from(query: QuestionQuery) -> Self {
        Self {
            client_id: query.client_id,
            redirect_uri: query.redirect_uri,
            response_type: query.response_type,
            state: query.state,
            scope: query.scope,
            code_challenge: query.code_challenge,
            code_challenge_method: query.code_challenge_method,
            prompt: query.prompt,
        }
    }
}

/// Sends the browser to the page that puts the question.
///
/// # Errors
/// As `authorize::check`.
pub async fn ask(ctx: Ctx, query: Query<QuestionQuery>) -> Result<HttpResponse> {
    let checked = authorize::check(&ctx, query.0.into()).await?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(checked.parameters())
        .finish();
    Ok(HttpResponse::Found()
        .insert_header((header::LOCATION, format!("/oauth/consent?{query}")))
        .finish())
}

/// The user's answer.
#[derive(Deserialize, ToSchema)]
pub struct DecisionBody {
    #[schema(required = true)]
    client_id: Option<String>,
    /// Exactly one that the application has registered.
    #[schema(required = true)]
    redirect_uri: Option<String>,
    /// Given back as it is; may be left out with a `code_challenge`.
    state: Option<String>,
    /// Words with spaces between; everything when none.
    scope: Option<String>,
    /// Of the method S256; required for public applications.
    code_challenge: Option<String>,
    /// `S256`, if it is there.
    code_challenge_method: Option<String>,
    /// False sends the browser back with `access_denied`.
    approved: bool,
}

/// Where to send the browser.
#[derive(Serialize, ToSchema)]
pub struct DecidedView {
    redirect_url: String,
}

/// # Errors
/// As `authorize::decide`.
pub async fn decide(ctx: Ctx, body: Json<DecisionBody>) -> Reply<DecidedView> {
    let body = body.0;
    // What this body leaves out has one value only.
    let method = body
        .code_challenge_method
        .or_else(|| body.code_challenge.as_ref().map(|_| "S256".to_owned()));
    let question = Question {
        client_id: body.client_id,
        redirect_uri: body.redirect_uri,
        response_type: Some("code".into()),
        state: body.state,
        scope: body.scope,
        code_challenge: body.code_challenge,
        code_challenge_method: method,
        prompt: None,
    };
    let redirect_url = authorize::decide(&ctx, question, body.approved).await?;
    Ok(Data(DecidedView { redirect_url }))
}
