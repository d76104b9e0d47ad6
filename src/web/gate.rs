//! Before every handler: who asks, whether this kind of credential and its scopes will do, and
//! whether a browser's request is really its user's. Around it: what was refused is audited, and a
//! panic is an answer.
//!
//! To require something new of requests, add it to [`admit`] in the order of the contract.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use futures_util::FutureExt;
use tracing_actix_web::RequestId;

use super::error::{Form, RENDERING, response};
use super::extract;
use super::form_token;
use super::routes::{self, Access, Endpoint, Surface};
use crate::app::App;
use crate::auth::actor::{Actor, AuthMethod, Credential};
use crate::auth::resolver::{self, Places, Resolved};
use crate::auth::secrets;
use crate::domain::audit::{self, Event, Outcome};
use crate::domain::ctx::{Ctx, IdempotencyKey, Origin};
use crate::domain::{idempotency, permissions, sessions, setup};
use crate::error::{Code, Error, Result};

/// The middleware of one endpoint.
///
/// # Errors
/// None: what goes wrong is answered.
pub async fn wrap(
    endpoint: &'static Endpoint,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // Routing is over, so a second handle on the request does no harm.
    let handle = request.request().clone();
    let Some(app) = request
        .app_data::<web::Data<App>>()
        .map(|app| App::clone(app))
    else {
        return Ok(ServiceResponse::new(
            handle,
            response(&Error::internal("no app")),
        ));
    };
    let ctx = match admit(&app, endpoint, &mut request).await {
        Ok(ctx) => ctx,
        Err(Refusal { error, ctx }) => {
            let answer = refuse(&app, endpoint, &handle, &error).await;
            match ctx {
                Some(ctx) if ctx.user_id().is_none() => note_stranger(endpoint, &ctx, &error).await,
                ctx => note(endpoint, ctx.as_ref(), &error).await,
            }
            return Ok(ServiceResponse::new(handle, answer));
        }
    };
    if let Some(user) = ctx.user_id() {
        tracing::Span::current().record("user_id", user.as_str());
    }
    request.extensions_mut().insert(ctx.clone());
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(answer)) => {
            if let Some(error) = answer
                .response()
                .error()
                .and_then(|e| e.as_error::<Error>())
            {
                let error = error.clone();
                note(endpoint, Some(&ctx), &error).await;
                if matches!(error, Error::Unproved) && endpoint.surface == Surface::Page {
                    return Ok(ServiceResponse::new(handle.clone(), ask_again(&handle)));
                }
            }
            Ok(answer)
        }
        Ok(Err(error)) => Err(error),
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let error = Error::internal(format!("a handler panicked: {text}"));
            Ok(ServiceResponse::new(handle, response(&error)))
        }
    }
}

/// Why a request was not let in, with who asked where that is known.
struct Refusal {
    error: Error,
    ctx: Option<Ctx>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, ctx: None }
    }
}

async fn admit(
    app: &App,
    endpoint: &'static Endpoint,
    request: &mut ServiceRequest,
) -> std::result::Result<Ctx, Refusal> {
    let places = match endpoint.surface {
        Surface::Ws => Places::WithQuery,
        Surface::Api | Surface::Page | Surface::Probe => Places::Usual,
    };
    let Resolved { actor, ambient } = match resolver::resolve(app, request, places).await {
        Ok(resolved) => resolved,
        // What needs nobody must not fail because somebody cannot be found: whoever wants to sign
        // in may still hold the cookie of a session that is over, and a probe may come while the
        // database is away.
        Err(error) if endpoint.access == Access::Anyone => {
            if matches!(error, Error::Internal { .. }) {
                tracing::warn!(%error, "a credential could not be looked up");
            }
            Resolved {
                actor: Actor::Anonymous,
                ambient: false,
            }
        }
        Err(error) => return Err(error.into()),
    };
    let mut origin = Origin {
        request_id: request
            .extensions()
            .get::<RequestId>()
            .map(ToString::to_string)
            .unwrap_or_default(),
        address: address_of(app, request),
        user_agent: text(request, &header::USER_AGENT).map(str::to_owned),
        idempotency: None,
    };
    let ctx = Ctx::new(app.clone(), actor.clone(), origin.clone());
    let refused = |error: Error| Refusal {
        error,
        ctx: Some(ctx.clone()),
    };
    if endpoint.surface != Surface::Probe
        && let Actor::Caller(caller) = &actor
    {
        app.limiter
            .spend(&caller.limit_key(), ctx.now())
            .map_err(&refused)?;
    }
    credential_will_do(endpoint, &actor).map_err(&refused)?;
    if let Some(scope) = endpoint.scope {
        permissions::require_scope(&ctx, scope).map_err(&refused)?;
    }
    if endpoint.surface == Surface::Ws && ambient && !resolver::is_same_origin(app, request) {
        return Err(refused(Error::CsrfRejected));
    }
    let changes = !matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS");
    if changes {
        csrf_is_right(app, endpoint, &actor, request)
            .await
            .map_err(|error| refused(slowed(endpoint, &ctx, error)))?;
        // What is streamed is not read here, not even for the hash that a key wants: putting a file
        // twice puts it once anyway.
        if let Some(key) = text(request, &HeaderName::from_static("idempotency-key"))
            && !endpoint.streams
        {
            if key.is_empty() || key.len() > idempotency::MAX_LEN {
                return Err(Error::field(
                    "Idempotency-Key",
                    format!(
                        "Idempotency-Key must have 1 to {} characters",
                        idempotency::MAX_LEN
                    ),
                )
                .into());
            }
            let key = key.to_owned();
            let body = take_body(request).await?;
            let body_hash = secrets::hash(&secrets::hex(&body));
            let route = format!("{} {}", request.method(), request.path());
            origin.idempotency = Some(IdempotencyKey {
                key,
                route,
                body_hash,
            });
            put_body(request, body);
            return Ok(Ctx::new(app.clone(), actor, origin));
        }
    }
    Ok(ctx)
}

fn credential_will_do(endpoint: &Endpoint, actor: &Actor) -> Result<()> {
    let caller = match (endpoint.access, actor) {
        (Access::Anyone, _) => return Ok(()),
        (_, Actor::Caller(caller)) => caller,
        (_, Actor::Anonymous | Actor::System(_)) => return Err(Error::Unauthorized),
    };
    if endpoint.access != Access::Any && caller.auth_method == AuthMethod::OauthToken {
        return Err(Error::Forbidden(
            "This endpoint is not accessible via OAuth application tokens".into(),
        ));
    }
    let is_session = matches!(caller.credential, Credential::Session { .. });
    if endpoint.access == Access::Session && !is_session {
        return Err(Error::Forbidden(
            "This endpoint needs a signed-in session".into(),
        ));
    }
    Ok(())
}

/// A browser sends its cookie with whatever page asked for the request; the token shows that it was
/// ours.
async fn csrf_is_right(
    app: &App,
    endpoint: &Endpoint,
    actor: &Actor,
    request: &mut ServiceRequest,
) -> Result<()> {
    if let Actor::Caller(caller) = actor
        && !caller.is_ambient()
    {
        return Ok(());
    }
    if resolver::is_cross_origin(app, request) {
        return Err(Error::CsrfRejected);
    }
    let wanted = match actor {
        Actor::Caller(caller) => match &caller.credential {
            Credential::Session { csrf_token, .. } => csrf_token.0.clone(),
            Credential::PersonalToken { .. } | Credential::OauthToken { .. } => return Ok(()),
        },
        // Before a session there is nothing to abuse through the API.
        Actor::Anonymous if endpoint.surface != Surface::Page => return Ok(()),
        Actor::Anonymous | Actor::System(_) => {
            form_token::of_request(request.request()).ok_or(Error::CsrfRejected)?
        }
    };
    // Signing in by the API with an older session's cookie still present.
    if endpoint.access == Access::Anyone && endpoint.surface == Surface::Api {
        return Ok(());
    }
    let sent = match text(request, &HeaderName::from_static("x-csrf-token")) {
        Some(sent) => sent.to_owned(),
        // Its handler finds the token in the first part, by `form_token_is_right`.
        None if endpoint.streams && endpoint.surface == Surface::Page => return Ok(()),
        None if endpoint.surface == Surface::Page => {
            let body = take_body(request).await?;
            let field = form_field(&body, "csrf_token");
            put_body(request, body);
            field.ok_or(Error::CsrfRejected)?
        }
        None => return Err(Error::CsrfRejected),
    };
    if secrets::same(&sent, &wanted) {
        Ok(())
    } else {
        Err(Error::CsrfRejected)
    }
}

/// Checks the token of a form that is streamed, which its handler must do before anything else.
///
/// # Errors
/// [`Error::CsrfRejected`] when it is not the session's.
pub fn form_token_is_right(ctx: &Ctx, sent: &str) -> Result<()> {
    match ctx.caller()?.csrf_token() {
        Some(wanted) if !secrets::same(sent, wanted) => Err(Error::CsrfRejected),
        // Without a session there is no cookie that could be abused.
        _ => Ok(()),
    }
}

fn form_field(body: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(body)
        .find(|(field, _)| field == name)
        .map(|(_, value)| value.into_owned())
}

async fn take_body(request: &mut ServiceRequest) -> Result<web::Bytes> {
    let length = request.headers().get(header::CONTENT_LENGTH).cloned();
    extract::read_body(request.take_payload(), length.as_ref()).await
}

fn put_body(request: &mut ServiceRequest, body: web::Bytes) {
    request.set_payload(Payload::from(body));
}

fn text<'a>(request: &'a ServiceRequest, name: &HeaderName) -> Option<&'a str> {
    request
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// Who is at the other end: believed from trusted proxies only, and then the nearest address that
/// is not one of them.
fn address_of(app: &App, request: &ServiceRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let trusted = &app.config.trusted_proxies;
    if !trusted.contains(&peer) {
        return Some(peer);
    }
    let forwarded: Vec<IpAddr> = request
        .headers()
        .get_all(HeaderName::from_static("x-forwarded-for"))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|part| part.trim().parse().ok())
        .collect();
    forwarded
        .into_iter()
        .rev()
        .find(|address| !trusted.contains(address))
        .or(Some(peer))
}

/// The answer to who is not let in: on a page, the way to sign in.
async fn refuse(
    app: &App,
    endpoint: &Endpoint,
    request: &actix_web::HttpRequest,
    error: &Error,
) -> HttpResponse<BoxBody> {
    let html = RENDERING
        .try_with(|r| r.form == Form::Html)
        .unwrap_or(false);
    if endpoint.surface != Surface::Page || !html || !matches!(error, Error::Unauthorized) {
        return response(error);
    }
    let ctx = Ctx::system(app.clone(), "gate");
    let place = match setup::is_needed(&ctx).await {
        Ok(true) => "/setup".to_owned(),
        Ok(false) => {
            let asked = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let next: String = url::form_urlencoded::byte_serialize(asked.as_bytes()).collect();
            if request.method() == "GET" && asked != "/" {
                format!("/login?next={next}")
            } else {
                "/login".to_owned()
            }
        }
        Err(error) => return response(&error),
    };
    let Ok(value) = HeaderValue::from_str(&place) else {
        return response(error);
    };
    // htmx would put the login page into a corner of this one; so it is told to go there.
    if request.headers().contains_key("hx-request") {
        return HttpResponse::Ok()
            .insert_header((HeaderName::from_static("hx-redirect"), value))
            .finish();
    }
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, value))
        .finish()
}

/// Leads to where the password is asked for again, and from there back to the page that the form
/// belongs to. The browser's own word of where it comes from may be a page that answered a form,
/// and cannot be asked for again.
fn ask_again(request: &actix_web::HttpRequest) -> HttpResponse<BoxBody> {
    let html = RENDERING
        .try_with(|r| r.form == Form::Html)
        .unwrap_or(false);
    if !html {
        return response(&Error::Unproved);
    }
    let back = routes::page_above(request.path());
    let next: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, format!("/confirm?next={next}")))
        .finish()
}

/// What counts the sign-ins of an address that were refused for where they came from.
fn origin_key(ctx: &Ctx) -> String {
    format!("origin:{}", ctx.origin().address_text())
}

/// The refusal of a stranger's sign-in for where it comes from. After many of them it is a limit's:
/// each one has its entry in the audit log, which a stranger could fill.
fn slowed(endpoint: &Endpoint, ctx: &Ctx, error: Error) -> Error {
    if !endpoint.signs_in || ctx.user_id().is_some() || !matches!(error, Error::CsrfRejected) {
        return error;
    }
    let limiter = &ctx.app().limiter;
    match limiter.attempt_with(&origin_key(ctx), sessions::FREE_BY_ADDRESS, ctx.now()) {
        Ok(()) => error,
        Err(limited) => limited,
    }
}

/// Audits what [`slowed`] has bounded: each refusal, and the first of those that had to wait.
async fn note_stranger(endpoint: &Endpoint, ctx: &Ctx, error: &Error) {
    let is_news = match error {
        Error::CsrfRejected => true,
        Error::RateLimited { .. } => ctx.app().limiter.is_news(&origin_key(ctx)),
        _ => false,
    };
    if endpoint.signs_in && is_news {
        let event = refusal(endpoint, audit::Action::Login, Outcome::Denied, error);
        audit::record_alone(ctx, event).await;
    }
}

/// Audits what was refused or failed, of someone known. What nobody known tried is in the log: a
/// stranger could fill the table.
async fn note(endpoint: &Endpoint, ctx: Option<&Ctx>, error: &Error) {
    let Some(ctx) = ctx.filter(|ctx| ctx.user_id().is_some() && !ctx.is_noted()) else {
        return;
    };
    let code = error.code();
    let outcome = match code {
        Code::Forbidden | Code::CsrfRejected | Code::QuotaExceeded => Outcome::Denied,
        _ if endpoint.action.is_some() => Outcome::Failure,
        _ => return,
    };
    let action = endpoint.action.unwrap_or(audit::Action::Request);
    audit::record_alone(ctx, refusal(endpoint, action, outcome, error)).await;
}

fn refusal(endpoint: &Endpoint, action: audit::Action, outcome: Outcome, error: &Error) -> Event {
    Event::new(action, outcome)
        .with(
            "route",
            format!("{} {}", endpoint.verb.as_str(), endpoint.path),
        )
        .with("code", error.code().as_str())
}
