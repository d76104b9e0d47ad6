//! `/setup`, `/login`, `/logout`: coming in and going out.

use actix_session::Session;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::form::{Fields, Form};
use super::shell::{Bare, Frame};
use super::{html, refused, see_other};
use crate::domain::users::{NewUser, Role};
use crate::domain::{oidc, sessions, setup};
use crate::error::{Error, Result};
use crate::web::api::auth::begin;
use crate::web::extract::{self, Query};
use crate::web::form_token::FormToken;

/// The first account, while there is none.
#[derive(Template)]
#[template(path = "pages/setup.html")]
pub struct SetupPage {
    pub shell: Bare,
    pub form: Form,
    /// Guards the form of someone who has no session yet.
    pub csrf_token: String,
}

/// E-mail and password.
#[derive(Template)]
#[template(path = "pages/login.html")]
pub struct LoginPage {
    pub shell: Bare,
    pub form: Form,
    pub csrf_token: String,
    /// Where to go afterwards: a path of ours.
    pub next: String,
    /// Set after a password was chosen by a link.
    pub changed: bool,
    /// What the OpenID Connect provider is called, if there is one.
    pub provider: Option<String>,
}

impl LoginPage {
    /// Where the sign-in with the provider begins.
    fn provider_href(&self) -> String {
        provider_href(&self.next)
    }
}

/// Where the sign-in with the provider begins that ends at `next`.
#[must_use]
pub fn provider_href(next: &str) -> String {
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    format!("/api/v1/auth/oidc/authorize?next={next}")
}

/// The path to go to after signing in: one of ours, or the start page. Anything that a browser
/// could take for another host (`//host`, `/\host`, a scheme) is not.
#[must_use]
pub fn safe_next(next: Option<&str>) -> &str {
    match next {
        Some(path)
            if path.starts_with('/')
                && !path.starts_with("//")
                && !path.contains(['\\', '\r', '\n', '\t']) =>
        {
            path
        }
        _ => "/",
    }
}

/// Puts the token's cookie beside the form that holds the token.
pub(super) fn with_token(mut answer: HttpResponse, token: &FormToken) -> Result<HttpResponse> {
    answer
        .add_cookie(&token.cookie())
        .map_err(Error::internal)?;
    Ok(answer)
}

/// What the sign-in page is asked with.
#[derive(Debug, serde::Deserialize)]
pub struct AskedLogin {
    next: Option<String>,
    /// What was changed just now: `password`.
    changed: Option<String>,
}

/// `GET /login`.
///
/// # Errors
/// When the database fails.
pub async fn login_page(
    frame: Frame,
    request: HttpRequest,
    asked: Query<AskedLogin>,
) -> Result<HttpResponse> {
    let next = safe_next(asked.0.next.as_deref());
    if frame.ctx.user_id().is_some() {
        return Ok(see_other(next));
    }
    if setup::is_needed(&frame.ctx).await? {
        return Ok(see_other("/setup"));
    }
    let token = FormToken::of(frame.ctx.app(), &request);
    let mut page = login_form(&frame, &token, Form::new(), next);
    page.changed = asked.0.changed.as_deref() == Some("password");
    with_token(html(&page)?, &token)
}

fn login_form(frame: &Frame, token: &FormToken, form: Form, next: &str) -> LoginPage {
    LoginPage {
        shell: Bare::new(frame.theme, "Sign in"),
        form,
        csrf_token: token.value.clone(),
        next: next.to_owned(),
        changed: false,
        provider: oidc::name(frame.ctx.app()).map(str::to_owned),
    }
}

/// `POST /login`.
///
/// # Errors
/// As `sessions::login`.
pub async fn login(
    frame: Frame,
    request: HttpRequest,
    session: Session,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let next = safe_next(Some(fields.text("next")));
    let email = fields.text("email").trim();
    let known = match sessions::know(&frame.ctx, email, fields.text("password")).await {
        Ok(known) if known.needs_code => {
            let ticket = sessions::ticket(&frame.ctx, &known)?;
            let token = FormToken::of(frame.ctx.app(), &request);
            let page = code_form(&frame, &token, Form::new(), next, ticket);
            return with_token(html(&page)?, &token);
        }
        Ok(known) => sessions::enter(&frame.ctx, known, None).await,
        Err(error) => Err(error),
    };
    match known {
        Ok(signed_in) => {
            begin(&session, &signed_in)?;
            Ok(see_other(next))
        }
        Err(error) => {
            let form = Form::new().with_all(&fields, &["email"]);
            let form = form.refused(&error, &["email", "password"])?;
            let token = FormToken::of(frame.ctx.app(), &request);
            let page = login_form(&frame, &token, form, next);
            with_token(refused(error, &page)?, &token)
        }
    }
}

/// The code, after the password was right.
#[derive(Template)]
#[template(path = "pages/login_code.html")]
pub struct LoginCodePage {
    pub shell: Bare,
    pub form: Form,
    pub csrf_token: String,
    pub next: String,
    /// Says whose password was right; sealed.
    pub ticket: String,
}

fn code_form(
    frame: &Frame,
    token: &FormToken,
    form: Form,
    next: &str,
    ticket: String,
) -> LoginCodePage {
    LoginCodePage {
        shell: Bare::new(frame.theme, "One-time code"),
        form,
        csrf_token: token.value.clone(),
        next: next.to_owned(),
        ticket,
    }
}

/// `POST /login/code`.
///
/// # Errors
/// As `sessions::enter`.
pub async fn login_code(
    frame: Frame,
    request: HttpRequest,
    session: Session,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let next = safe_next(Some(fields.text("next")));
    let ticket = fields.text("ticket").to_owned();
    let Ok(known) = sessions::known_by_ticket(&frame.ctx, &ticket).await else {
        // Too late, or the password changed: from the beginning.
        return Ok(see_other("/login"));
    };
    let code = fields.text("totp").trim();
    let outcome = if code.is_empty() {
        Err(Error::field("totp", "totp must not be empty"))
    } else {
        sessions::enter(&frame.ctx, known, Some(code)).await
    };
    match outcome {
        Ok(signed_in) => {
            begin(&session, &signed_in)?;
            Ok(see_other(next))
        }
        Err(error @ Error::WrongPassword) => Err(error),
        Err(error) => {
            let mut form = Form::new();
            if matches!(error, Error::WrongCode) {
                form.refuse("totp", error.message());
            } else {
                form = form.refused(&error, &["totp"])?;
            }
            let token = FormToken::of(frame.ctx.app(), &request);
            let page = code_form(&frame, &token, form, next, ticket);
            with_token(refused(error, &page)?, &token)
        }
    }
}

/// `POST /logout`.
///
/// # Errors
/// As `sessions::logout`.
pub async fn logout(frame: Frame, session: Session) -> Result<HttpResponse> {
    sessions::logout(&frame.ctx).await?;
    session.purge();
    Ok(see_other("/login"))
}

/// `GET /setup`.
///
/// # Errors
/// When the database fails.
pub async fn setup_page(frame: Frame, request: HttpRequest) -> Result<HttpResponse> {
    if !setup::is_needed(&frame.ctx).await? {
        return Ok(see_other("/login"));
    }
    let token = FormToken::of(frame.ctx.app(), &request);
    with_token(html(&setup_form(&frame, &token, Form::new()))?, &token)
}

fn setup_form(frame: &Frame, token: &FormToken, form: Form) -> SetupPage {
    SetupPage {
        shell: Bare::new(frame.theme, "Set up"),
        form,
        csrf_token: token.value.clone(),
    }
}

/// `POST /setup`: makes the first administrator and signs them in.
///
/// # Errors
/// As `setup::complete`.
pub async fn complete_setup(
    frame: Frame,
    request: HttpRequest,
    session: Session,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let new = NewUser {
        email: fields.text("email").trim().to_owned(),
        display_name: fields.optional("display_name").map(str::to_owned),
        role: Role::Admin,
        password: fields.text("password").to_owned(),
    };
    match setup::complete(&frame.ctx, fields.text("code"), new).await {
        Ok(signed_in) => {
            begin(&session, &signed_in)?;
            Ok(see_other("/"))
        }
        Err(error) => {
            let form = Form::new().with_all(&fields, &["code", "email", "display_name"]);
            let form = form.refused(&error, &["code", "email", "display_name", "password"])?;
            let token = FormToken::of(frame.ctx.app(), &request);
            with_token(refused(error, &setup_form(&frame, &token, form))?, &token)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_paths_are_followed() {
        for (given, taken) in [
            (Some("/containers/new"), "/containers/new"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("/\t/evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some(""), "/"),
            (None, "/"),
        ] {
            assert_eq!(safe_next(given), taken);
        }
    }
}
