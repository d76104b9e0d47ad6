//! What applications ask without a browser: tokens, their end, what they are worth, and what this
//! server can do. The body's form decides that of the errors: JSON gets our envelope, forms get RFC
//! 6749's.
//!
//! To take one more parameter, add it to [`Fields`].

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::actor::Scope;
use crate::domain::ctx::Ctx;
use crate::domain::oauth::refused::Refused;
use crate::domain::oauth::token::{self, Client, TokenRequest};
use crate::domain::oauth::{ACCESS_SECONDS, about, authorize};
use crate::error::Error;
use crate::web::error::{Ours, response};
use crate::web::extract::{from_json, from_query, read_body};
use crate::web::reply::Data;

/// Every parameter that these endpoints know.
#[derive(Deserialize)]
struct Fields {
    grant_type: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    refresh_token: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    token: Option<String>,
}

/// What is sent for tokens.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "only for the documentation; `Fields` is what is read"
)]
#[schema(example = json!({
    "grant_type": "authorization_code", "code": "$CODE", "redirect_uri": "$REDIRECT_URI",
    "client_id": "$CLIENT_ID", "client_secret": "$CLIENT_SECRET"
}))]
pub struct TokenBody {
    /// `authorization_code` or `refresh_token`.
    grant_type: String,
    /// Unless the request has it in `Authorization: Basic`.
    client_id: Option<String>,
    /// Of applications that are not public, unless it is in `Authorization: Basic`.
    client_secret: Option<String>,
    /// With `authorization_code`.
    code: Option<String>,
    /// With `authorization_code`: the one that the code was asked for with.
    redirect_uri: Option<String>,
    /// With `authorization_code`, if there was a `code_challenge`.
    code_verifier: Option<String>,
    /// With `refresh_token`.
    refresh_token: Option<String>,
    /// With `refresh_token`: fewer scopes than were granted.
    scope: Option<String>,
}

/// What is sent about a token.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "only for the documentation; `Fields` is what is read"
)]
#[schema(example = json!({
    "token": "$TOKEN", "client_id": "$CLIENT_ID", "client_secret": "$CLIENT_SECRET"
}))]
pub struct AboutTokenBody {
    /// An access token or a refresh token of this application.
    token: String,
    /// Unless the request has it in `Authorization: Basic`.
    client_id: Option<String>,
    /// Of applications that are not public, unless it is in `Authorization: Basic`.
    client_secret: Option<String>,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
pub struct IssuedView {
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: i64,
    refresh_token: String,
    /// Words with spaces between.
    scope: String,
}

/// What a token is worth; only `active` when it is worth nothing.
#[derive(Serialize, ToSchema)]
pub struct ExaminedView {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// `Bearer` for an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// The user's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
}

/// In whose terms errors are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Envelope,
    Rfc,
}

/// A request of an application, before anything in it is believed.
struct Sent {
    style: Style,
    /// Whether the application authenticates by header, and so wants to be told how.
    basic: bool,
    body: Result<(Option<Client>, Fields), Refused>,
}

impl Sent {
    async fn read(request: &HttpRequest, payload: web::Payload) -> Self {
        let kind = request.content_type().to_ascii_lowercase();
        let style = if kind == "application/x-www-form-urlencoded" {
            Style::Rfc
        } else {
            Style::Envelope
        };
        let authorization = request.headers().get(header::AUTHORIZATION);
        let length = request.headers().get(header::CONTENT_LENGTH).cloned();
        let body = match read_body(payload.into_inner(), length.as_ref()).await {
            Ok(bytes) => parse(style, &kind, &bytes).map_err(Refused::from),
            Err(error) => Err(error.into()),
        };
        let body = body.and_then(|fields| {
            let header = authorization.map(|v| v.to_str().unwrap_or_default());
            let client = client_of(header, &fields)?;
            Ok((client, fields))
        });
        Self {
            style,
            basic: authorization.is_some(),
            body,
        }
    }
}

fn parse(style: Style, kind: &str, bytes: &[u8]) -> crate::error::Result<Fields> {
    if style == Style::Rfc {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::BadRequest("The form is not valid UTF-8".into()))?;
        return from_query(text);
    }
    if kind != "application/json" && !kind.ends_with("+json") {
        return Err(Error::UnsupportedMediaType {
            expected: "application/json or application/x-www-form-urlencoded",
        });
    }
    from_json(bytes)
}

/// `client_secret_basic`, `client_secret_post`, or none: never two of them (RFC 6749, 2.3).
fn client_of(authorization: Option<&str>, fields: &Fields) -> Result<Option<Client>, Refused> {
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let (id, secret) = (given(&fields.client_id), given(&fields.client_secret));
    let Some(header) = authorization else {
        return Ok(id.map(|id| Client { id, secret }));
    };
    let client = basic(header).ok_or(Refused::Client)?;
    if secret.is_some() || id.is_some_and(|id| id != client.id) {
        return Err(Refused::Request {
            field: "client_id",
            message: "The application must authenticate in one way only".into(),
        });
    }
    Ok(Some(client))
}

fn basic(header: &str) -> Option<Client> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(rest.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    // Both are form-encoded before they are put together (RFC 6749, 2.3.1).
    let decoded = |text: &str| {
        url::form_urlencoded::parse(format!("v={text}").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some(Client {
        id: decoded(id)?,
        secret: decoded(secret).filter(|text| !text.is_empty()),
    })
}

fn refuse(refused: Refused, style: Style, basic: bool) -> HttpResponse {
    let (error, _) = refused.code();
    tracing::info!(error, "an application was refused");
    if style == Style::Envelope {
        return response(&refused.into_error());
    }
    if let Refused::Failed(Error::Internal { cause }) = &refused {
        tracing::error!(cause, "a request failed");
    }
    let (code, status) = refused.code();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = HttpResponse::build(status);
    if basic && status == StatusCode::UNAUTHORIZED {
        builder.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"hzel\""));
    }
    if let Refused::Failed(error) = &refused
        && let Some(wait) = error.retry_after()
    {
        builder.insert_header((header::RETRY_AFTER, wait.as_secs().max(1)));
    }
    let mut answer = not_stored(
        &mut builder,
        &json!({ "error": code, "error_description": refused.description() }),
    );
    answer.extensions_mut().insert(Ours);
    answer
}

fn not_stored(builder: &mut actix_web::HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    builder
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((HeaderName::from_static("pragma"), "no-cache"))
        .json(body)
}

/// `POST /oauth/token`.
pub async fn token(ctx: Ctx, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let Sent { style, basic, body } = Sent::read(&request, payload).await;
    let issued = match body {
        Ok((client, fields)) => {
            let asked = TokenRequest {
                grant_type: fields.grant_type,
                code: fields.code,
                redirect_uri: fields.redirect_uri,
                code_verifier: fields.code_verifier,
                refresh_token: fields.refresh_token,
                scope: fields.scope,
            };
            token::exchange(&ctx, client, asked).await
        }
        Err(refused) => Err(refused),
    };
    match issued {
        Ok(issued) => not_stored(
            &mut HttpResponse::Ok(),
            &IssuedView {
                access_token: issued.access_token,
                token_type: "Bearer",
                expires_in: ACCESS_SECONDS,
                refresh_token: issued.refresh_token,
                scope: issued.scope,
            },
        ),
        Err(refused) => refuse(refused, style, basic),
    }
}

/// `POST /oauth/token/revoke`.
pub async fn revoke(ctx: Ctx, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    use actix_web::Responder as _;
    let Sent { style, basic, body } = Sent::read(&request, payload).await;
    let revoked = match body {
        Ok((client, fields)) => about::revoke(&ctx, client, fields.token).await,
        Err(refused) => Err(refused),
    };
    match revoked {
        Ok(()) => Data("revoked").respond_to(&request),
        Err(refused) => refuse(refused, style, basic),
    }
}

/// `POST /oauth/introspect`.
pub async fn introspect(ctx: Ctx, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let Sent { style, basic, body } = Sent::read(&request, payload).await;
    let (client_id, examined) = match body {
        Ok((client, fields)) => (
            client.as_ref().map(|client| client.id.clone()),
            about::introspect(&ctx, client, fields.token).await,
        ),
        Err(refused) => (None, Err(refused)),
    };
    let view = match examined {
        Ok(Some(token)) => ExaminedView {
            active: true,
            scope: Some(token.scope),
            client_id,
            token_type: token.access.then_some("Bearer"),
            exp: Some(token.expires_at.utc().timestamp()),
            iat: Some(token.created_at.utc().timestamp()),
            sub: Some(token.user_id),
            iss: Some(ctx.app().config.public_origin()),
        },
        Ok(None) => ExaminedView {
            active: false,
            scope: None,
            client_id: None,
            token_type: None,
            exp: None,
            iat: None,
            sub: None,
            iss: None,
        },
        Err(refused) => return refuse(refused, style, basic),
    };
    not_stored(&mut HttpResponse::Ok(), &view)
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
///
/// # Errors
/// None.
pub async fn metadata(app: web::Data<App>) -> crate::error::Result<HttpResponse> {
    let issuer = app.config.public_origin();
    let at = |path: &str| format!("{issuer}/api/v1/oauth/{path}");
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let with_secret = ["client_secret_basic", "client_secret_post"];
    let any = ["client_secret_basic", "client_secret_post", "none"];
    Ok(HttpResponse::Ok().json(json!({
        "issuer": issuer,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "revocation_endpoint": at("token/revoke"),
        "introspection_endpoint": at("introspect"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": any,
        "revocation_endpoint_auth_methods_supported": any,
        "introspection_endpoint_auth_methods_supported": with_secret,
        "code_challenge_methods_supported": [authorize::CHALLENGE_METHOD],
        "authorization_response_iss_parameter_supported": true,
    })))
}
