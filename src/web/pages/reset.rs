//! `/reset`: choosing a password by a link. The secret is behind the link's `#`, which browsers do
//! not send; `js/reset.js` puts it into the form, and without scripts it can be pasted.

use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::form::{Fields, Form};
use super::shell::{Bare, Frame};
use super::sign_in::with_token;
use super::{html, refused, see_other};
use crate::domain::password_resets;
use crate::error::Result;
use crate::web::extract;
use crate::web::form_token::FormToken;

/// The form.
#[derive(Template)]
#[template(path = "pages/reset.html")]
pub struct ResetPage {
    pub shell: Bare,
    pub form: Form,
    pub csrf_token: String,
}

fn page(frame: &Frame, token: &FormToken, form: Form) -> ResetPage {
    ResetPage {
        shell: Bare::new(frame.theme, "Choose a password"),
        form,
        csrf_token: token.value.clone(),
    }
}

/// `GET /reset`.
///
/// # Errors
/// None of its own.
pub async fn show(frame: Frame, request: HttpRequest) -> Result<HttpResponse> {
    let token = FormToken::of_anyone(&frame.ctx, &request);
    with_token(html(&page(&frame, &token, Form::new()))?, &token)
}

/// `POST /reset`.
///
/// # Errors
/// As `password_resets::redeem`.
pub async fn redeem(
    frame: Frame,
    request: HttpRequest,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    // Someone without scripts may have pasted the whole link.
    let pasted = fields.text("token").trim();
    let secret = pasted.rsplit('#').next().unwrap_or(pasted);
    match password_resets::redeem(&frame.ctx, secret, fields.text("new_password")).await {
        Ok(()) => Ok(see_other("/login?changed=password")),
        Err(error) => {
            let names = ["token", "new_password"];
            let form = Form::new().with("token", secret).refused(&error, &names)?;
            let token = FormToken::of_anyone(&frame.ctx, &request);
            with_token(refused(error, &page(&frame, &token, form))?, &token)
        }
    }
}
