//! How an [`Error`] is sent: as the envelope, or as a page, by where it happened.
//!
//! To send errors in one more form, add it to [`Form`] and to [`response`].

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};

use super::pages::errors::{ErrorView, render};
use super::pages::shell::Theme;
use crate::error::{Error, Result};

/// What rendering an error needs to know of the request it happened in.
#[derive(Debug, Clone)]
pub struct Rendering {
    pub form: Form,
    pub request_id: String,
    /// Whether the request came with a session's cookie.
    pub signed_in: bool,
    pub theme: Theme,
    /// RFC 3339.
    pub time: String,
}

/// In which form an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Html,
}

tokio::task_local! {
    /// `ResponseError` knows no request; [`super::envelope`] leaves here what it needs of it.
    pub static RENDERING: Rendering;
}

/// Marks an answer that is in our form already.
#[derive(Debug, Clone, Copy)]
pub struct Ours;

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        response(self)
    }
}

/// The answer to a path that no route has, signed in or not.
///
/// # Errors
/// Always [`Error::NotFound`].
pub async fn unknown_route() -> Result<HttpResponse> {
    Err(Error::NotFound("There is nothing at this address".into()))
}

/// The whole answer.
#[must_use]
pub fn response(error: &Error) -> HttpResponse<BoxBody> {
    if let Error::Internal { cause } = error {
        tracing::error!(cause, "a request failed");
    }
    let rendering = RENDERING.try_with(Clone::clone).ok();
    let form = rendering.as_ref().map_or(Form::Json, |r| r.form);
    let message = match (error, &rendering) {
        (Error::Internal { .. }, Some(r)) => format!(
            "Something went wrong on our side. Contact support with the request id {} and the \
             time {}",
            r.request_id, r.time
        ),
        _ => error.message(),
    };
    let mut builder = HttpResponse::build(error.status_code());
    if let Some(wait) = error.retry_after() {
        builder.insert_header((header::RETRY_AFTER, wait.as_secs().max(1)));
    }
    if matches!(error, Error::Unauthorized) && form == Form::Json {
        builder.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    }
    if let Error::RangeNotSatisfiable { size } = error {
        builder.insert_header((header::CONTENT_RANGE, format!("bytes */{size}")));
    }
    let code = error.code().as_str();
    let mut answer = match (form, rendering) {
        (Form::Html, Some(r)) => {
            let html = render(&ErrorView {
                status: error.status(),
                code,
                message: &message,
                request_id: &r.request_id,
                signed_in: r.signed_in,
                theme: r.theme,
                retry_after: error.retry_after().map(|wait| wait.as_secs().max(1)),
                time: &r.time,
            });
            builder.content_type("text/html; charset=utf-8").body(html)
        }
        _ => builder.json(serde_json::json!({ "error": { "code": code, "message": message } })),
    };
    answer.extensions_mut().insert(Ours);
    answer
}
