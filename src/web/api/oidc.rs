//! Signing in with an OpenID Connect provider. Two of these answer browsers, which follow them.
//!
//! To show more of an account elsewhere, extend [`IdentityView`].

use actix_session::Session;
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::begin as begin_session;
use crate::app::App;
use crate::domain::ctx::Ctx;
use crate::domain::oidc::{self, Begun, Finished, Linked, MINUTES, Return};
use crate::domain::page::Page;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::web::api::PageQuery;
use crate::web::extract::Query;
use crate::web::pages::sign_in::safe_next;
use crate::web::reply::{Data, Listed, Reply};

/// An account elsewhere by which one signs in.
#[derive(Serialize, ToSchema)]
pub struct IdentityView {
    id: String,
    issuer: String,
    subject: String,
    /// As the provider said when it was linked.
    email: Option<String>,
    created_at: String,
    last_login_at: Option<String>,
}

impl From<Linked> for IdentityView {
    fn from(linked: Linked) -> Self {
        Self {
            id: linked.id.to_string(),
            issuer: linked.issuer,
            subject: linked.subject,
            email: linked.email,
            created_at: linked.created_at.rfc3339(),
            last_login_at: linked.last_login_at.map(Time::rfc3339),
        }
    }
}

/// Where to go on.
#[derive(Serialize, ToSchema)]
pub struct LinkAnswer {
    authorize_url: String,
}

/// Where to go afterwards.
#[derive(Deserialize)]
pub struct NextQuery {
    next: Option<String>,
}

/// What the provider sends back; what else it sends is left alone.
#[derive(Deserialize)]
pub struct ReturnQuery {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

const fn cookie_name(https: bool) -> &'static str {
    if https {
        "__Host-hzel_oidc"
    } else {
        "hzel_oidc"
    }
}

/// What binds a sign-in at the provider to this browser.
fn browser(app: &App, request: &HttpRequest) -> Option<String> {
    let cookie = request.cookie(cookie_name(app.config.is_https()))?;
    Some(cookie.value().to_owned())
}

/// Begins, and leaves the browser its cookie in `answer`.
///
/// # Errors
/// As `oidc::begin`.
pub async fn begin(
    ctx: &Ctx,
    request: &HttpRequest,
    next: &str,
    link: bool,
    answer: impl FnOnce(&str) -> Result<HttpResponse>,
) -> Result<HttpResponse> {
    let app = ctx.app();
    let held = browser(app, request);
    let Begun { url, browser } = oidc::begin(ctx, held.as_deref(), next, link).await?;
    let https = app.config.is_https();
    // Lax: the provider sends the browser back from another site.
    let cookie = Cookie::build(cookie_name(https), browser)
        .path("/")
        .http_only(true)
        .secure(https)
        .same_site(SameSite::Lax)
        .max_age(Duration::minutes(MINUTES))
        .finish();
    let mut answer = answer(url.as_str())?;
    answer.add_cookie(&cookie).map_err(Error::internal)?;
    Ok(answer)
}

fn found(place: &str) -> HttpResponse {
    HttpResponse::Found()
        .insert_header((header::LOCATION, place))
        .finish()
}

/// # Errors
/// As `oidc::begin`.
pub async fn authorize(
    ctx: Ctx,
    request: HttpRequest,
    query: Query<NextQuery>,
) -> Result<HttpResponse> {
    let next = safe_next(query.0.next.as_deref());
    begin(&ctx, &request, next, false, |url| Ok(found(url))).await
}

/// # Errors
/// As `oidc::finish`.
pub async fn callback(
    ctx: Ctx,
    request: HttpRequest,
    session: Session,
    query: Query<ReturnQuery>,
) -> Result<HttpResponse> {
    let returned = Return {
        state: query.0.state,
        code: query.0.code,
        iss: query.0.iss,
        error: query.0.error,
    };
    let held = browser(ctx.app(), &request);
    match oidc::finish(&ctx, held.as_deref(), returned).await? {
        Finished::SignedIn(signed_in, next) => {
            begin_session(&session, &signed_in)?;
            Ok(found(&next))
        }
        Finished::Linked(next) => Ok(found(&next)),
    }
}

/// # Errors
/// As `oidc::begin`.
pub async fn link(ctx: Ctx, request: HttpRequest) -> Result<HttpResponse> {
    begin(&ctx, &request, "/profile?changed=linked", true, |url| {
        let data = LinkAnswer {
            authorize_url: url.to_owned(),
        };
        Ok(HttpResponse::Ok().json(serde_json::json!({ "data": data })))
    })
    .await
}

/// # Errors
/// As `oidc::list`.
pub async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<IdentityView>> {
    let request = query.0.parse()?;
    let page = Page::of(oidc::list(&ctx).await?, &request, |one| one.id.to_string());
    Ok(Listed(page.map(IdentityView::from)))
}

/// # Errors
/// As `oidc::unlink`.
pub async fn unlink(ctx: Ctx, id: Path<String>) -> Reply<&'static str> {
    oidc::unlink(&ctx, &id).await?;
    Ok(Data("deleted"))
}
