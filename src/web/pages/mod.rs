//! The pages: HTML for people, over the same domain calls as the API.
//!
//! A page is a typed struct beside its handler and a template of the same name under
//! `templates/pages/`; its parts are macros under `templates/components/`, shown in every state on
//! `/styleguide`. A handler translates only: extract, one domain call, render. To add a page,
//! write both and name the handler in `web/routes.rs`.

pub mod account;
pub mod activity;
pub mod apps;
pub mod authorizations;
pub mod commands;
pub mod consent;
pub mod containers;
pub mod docs;
pub mod errors;
pub mod form;
pub mod images;
pub mod mark;
pub mod reset;
pub mod say;
pub mod scopes;
pub mod shell;
pub mod sign_in;
pub mod styleguide;
pub mod tokens;
pub mod users;
pub mod ways;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::error::{Form as AnswerForm, RENDERING};
use crate::error::{Error, Result};

const HTML: &str = "text/html; charset=utf-8";

/// Answers a page.
///
/// # Errors
/// Internal, when the template fails.
pub fn html(page: &impl Template) -> Result<HttpResponse> {
    let text = page.render().map_err(Error::internal)?;
    Ok(HttpResponse::Ok()
        .content_type(HTML)
        .insert_header((header::VARY, "HX-Request"))
        .body(text))
}

/// Answers the page of a form that was refused, with the error's status, and leaves the error in
/// the answer for the gate to audit. Whoever asked for JSON gets the error itself.
///
/// # Errors
/// As [`html`], and `error` for JSON.
pub fn refused(error: Error, page: &impl Template) -> Result<HttpResponse> {
    if RENDERING
        .try_with(|r| r.form == AnswerForm::Json)
        .unwrap_or(true)
    {
        return Err(error);
    }
    let text = page.render().map_err(Error::internal)?;
    let mut answer = HttpResponse::from_error(error).set_body(BoxBody::new(text));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
    Ok(answer)
}

/// Sends the browser on to `place` with a GET.
#[must_use]
pub fn see_other(place: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, place))
        .finish()
}

/// After something was done: a browser goes to `place`; htmx stays and looks again, which
/// `static/js/live.js` and the `changed` triggers of the templates see to.
#[must_use]
pub fn done(request: &HttpRequest, place: &str) -> HttpResponse {
    if is_htmx(request) {
        HttpResponse::build(StatusCode::NO_CONTENT)
            .insert_header((HeaderName::from_static("hx-trigger"), "changed"))
            .finish()
    } else {
        see_other(place)
    }
}

/// Whether htmx asks for a part of a page, rather than the browser for the whole.
#[must_use]
pub fn is_htmx(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key("hx-request") && !headers.contains_key("hx-history-restore-request")
}
