//! Around every request: its id, the form of its errors, and the headers that every answer has.
//! Errors that libraries made are put into our form here.
//!
//! To send a header with every answer, add it to [`finish`].

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use tracing_actix_web::RequestId;

use super::error::{Form, Ours, RENDERING, Rendering, response};
use super::pages::shell::Theme;
use crate::app::App;
use crate::domain::time::Time;
use crate::error::Error;

/// Neither inline code nor anything from another host, and no page of ours in another's frame.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; \
     manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'";
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The policy of a page whose scripts make styles: those that carry `nonce`.
#[must_use]
pub fn policy_with_style(nonce: &str) -> String {
    let ours = "style-src 'self'";
    PAGE_POLICY.replace(ours, &format!("{ours} 'nonce-{nonce}'"))
}

/// The middleware.
///
/// # Errors
/// Those of what it wraps, in our form.
pub async fn wrap(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, actix_web::Error> {
    let app = request.app_data::<web::Data<App>>().cloned();
    let id = request
        .extensions()
        .get::<RequestId>()
        .map(ToString::to_string)
        .unwrap_or_default();
    let https = app.as_ref().is_some_and(|app| app.config.is_https());
    let cookie = app.as_ref().map_or("", |app| app.config.session_cookie());
    let now = app
        .as_ref()
        .map(|app| Time::from(app.clock.now()).rfc3339())
        .unwrap_or_default();
    let theme = request.cookie(Theme::COOKIE);
    let rendering = Rendering {
        form: form_of(&request),
        request_id: id.clone(),
        signed_in: request.cookie(cookie).is_some(),
        theme: Theme::parse(theme.as_ref().map(|cookie| cookie.value())),
        time: now,
    };
    RENDERING
        .scope(rendering, async move {
            match next.call(request).await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let foreign =
                        status >= 400 && answer.response().extensions().get::<Ours>().is_none();
                    let mut answer = if foreign {
                        answer
                            .into_response(response(&by_status(status)))
                            .map_into_right_body()
                    } else {
                        answer.map_into_left_body()
                    };
                    finish(answer.headers_mut(), &id, https);
                    Ok(answer)
                }
                Err(error) => {
                    let ours = error.as_error::<Error>().cloned();
                    let ours = ours.unwrap_or_else(|| {
                        let status = error.as_response_error().status_code().as_u16();
                        if status >= 500 {
                            Error::internal(&error)
                        } else {
                            by_status(status)
                        }
                    });
                    let mut answer = response(&ours);
                    finish(answer.headers_mut(), &id, https);
                    Err(InternalError::from_response(ours, answer).into())
                }
            }
        })
        .await
}

/// By where it is, unless a page's address was asked for JSON.
fn form_of(request: &ServiceRequest) -> Form {
    let path = request.path();
    let data = [
        "/api",
        "/ws",
        "/webhooks",
        "/.well-known",
        "/healthz",
        "/readyz",
        "/openapi.json",
    ];
    let is_data = data.iter().any(|prefix| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let wants_html = accept.contains("text/html");
    let wants_json = accept.contains("application/json") && !wants_html;
    // The two addresses of the API at which people arrive in a browser.
    let arrival = path.starts_with("/api/v1/auth/oidc/") && wants_html;
    if (is_data && !arrival) || wants_json {
        Form::Json
    } else {
        Form::Html
    }
}

/// What a library meant by its status.
fn by_status(status: u16) -> Error {
    match status {
        401 => Error::Unauthorized,
        403 => Error::Forbidden("This is not allowed".into()),
        404 => Error::NotFound("There is nothing at this address".into()),
        405 => Error::MethodNotAllowed,
        413 => Error::PayloadTooLarge {
            limit: super::extract::MAX_BODY,
        },
        415 => Error::UnsupportedMediaType {
            expected: "application/json",
        },
        400..=499 => Error::BadRequest("The request could not be understood".into()),
        _ => Error::internal(format!("a library answered {status}")),
    }
}

fn finish(headers: &mut HeaderMap, id: &str, https: bool) {
    let page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let mut set = |name: HeaderName, value: &str| {
        if !headers.contains_key(&name)
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
    };
    set(HeaderName::from_static("x-request-id"), id);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::CACHE_CONTROL, "no-store");
    set(
        header::CONTENT_SECURITY_POLICY,
        if page { PAGE_POLICY } else { DATA_POLICY },
    );
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    if https {
        set(
            header::STRICT_TRANSPORT_SECURITY,
            "max-age=31536000; includeSubDomains",
        );
    }
}
