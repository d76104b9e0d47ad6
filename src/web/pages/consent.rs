//! `/oauth/consent`: what an application asks of the signed-in user, and the user's answer.
//!
//! A browser leaves by a page of ours that goes on by itself, not by a redirect: redirects that
//! follow a form are held to the `form-action` of the page with the form, in Chromium all of them,
//! so also those that the application answers with. This page's stays `'self'`, whichever
//! application asks, and so does that of the sign-in page before it.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::form::Fields;
use super::scopes::all_allowed;
use super::shell::{Bare, Frame};
use super::{html, see_other};
use crate::auth::actor::Credential;
use crate::domain::oauth::authorize::{self, Asked, Checked, Question};
use crate::error::{Error, Result};
use crate::web::api::oauth::QuestionQuery;
use crate::web::extract::{self, Query};

/// The question.
#[derive(Template)]
#[template(path = "pages/consent.html")]
pub struct ConsentPage {
    pub shell: Bare,
    pub csrf_token: String,
    pub app_name: String,
    pub description: String,
    pub owner_name: String,
    /// Who is asked.
    pub email: String,
    /// What the application could do, in plain words.
    pub may: Vec<&'static str>,
    /// Where the answer goes, as far as a person can judge it.
    pub destination: String,
    /// The question again, for the form.
    pub parameters: Vec<(&'static str, String)>,
}

/// The way back to the application.
#[derive(Template)]
#[template(path = "pages/leave.html")]
pub struct LeavePage {
    pub shell: Bare,
    pub redirect_url: String,
}

/// `https://app.example.org` of an address, or its scheme when it has no host.
fn destination(uri: &str) -> String {
    match url::Url::parse(uri) {
        Ok(url) if url.origin().is_tuple() => url.origin().ascii_serialization(),
        Ok(url) => format!("the program for {}: on this device", url.scheme()),
        Err(_) => uri.to_owned(),
    }
}

/// `GET /oauth/consent`.
///
/// # Errors
/// As `authorize::ask`.
pub async fn ask(
    frame: Frame,
    request: HttpRequest,
    query: Query<QuestionQuery>,
) -> Result<HttpResponse> {
    match authorize::ask(&frame.ctx, query.0.into()).await? {
        Asked::Open(checked) => html(&consent(&frame, *checked)?),
        Asked::Answered { redirect_url } => leave(&frame, &request, redirect_url),
    }
}

fn consent(frame: &Frame, checked: Checked) -> Result<ConsentPage> {
    let caller = frame.ctx.caller()?;
    let Credential::Session { csrf_token, .. } = &caller.credential else {
        return Err(Error::Unauthorized);
    };
    Ok(ConsentPage {
        shell: Bare::new(frame.theme, format!("Authorize {}", checked.app_name())),
        csrf_token: csrf_token.0.clone(),
        app_name: checked.app_name().to_owned(),
        description: checked.description().to_owned(),
        email: caller.email.clone(),
        may: all_allowed(&checked.scopes),
        destination: destination(&checked.redirect_uri),
        parameters: checked.parameters(),
        owner_name: checked.owner_name,
    })
}

/// `POST /oauth/consent`.
///
/// # Errors
/// As `authorize::decide`.
pub async fn decide(
    frame: Frame,
    request: HttpRequest,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let given = |name: &str| Some(fields.text(name).to_owned()).filter(|text| !text.is_empty());
    let approved = match fields.text("decision") {
        "approve" => true,
        "deny" => false,
        _ => {
            return Err(Error::field("decision", "decision must be approve or deny"));
        }
    };
    let question = Question {
        client_id: given("client_id"),
        redirect_uri: given("redirect_uri"),
        response_type: given("response_type"),
        state: given("state"),
        scope: given("scope"),
        code_challenge: given("code_challenge"),
        code_challenge_method: given("code_challenge_method"),
        prompt: None,
    };
    let redirect_url = authorize::decide(&frame.ctx, question, approved).await?;
    leave(&frame, &request, redirect_url)
}

/// See the module. What is no browser is redirected.
fn leave(frame: &Frame, request: &HttpRequest, redirect_url: String) -> Result<HttpResponse> {
    let accept = request.headers().get(header::ACCEPT);
    let is_browser = accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"));
    if !is_browser {
        return Ok(see_other(&redirect_url));
    }
    html(&LeavePage {
        shell: Bare::new(frame.theme, "On your way"),
        redirect_url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_told_in_a_word() {
        for (uri, said) in [
            ("https://app.example.org/cb?x=1", "https://app.example.org"),
            ("http://127.0.0.1:9/cb", "http://127.0.0.1:9"),
            (
                "org.example.app:/cb",
                "the program for org.example.app: on this device",
            ),
        ] {
            assert_eq!(destination(uri), said);
        }
    }
}
