//! The ways of signing in, on the profile: one-time codes and accounts at a provider. What is
//! secret is shown once, on the page that answers its form.
//!
//! To offer another way, give it a section in `profile.html` and its handlers here.

use std::fmt::Write;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use qrcodegen::{QrCode, QrCodeEcc};

use super::account::profile_page;
use super::form::{Fields, Form};
use super::shell::{Bare, Frame, Place, Shell};
use super::sign_in::{provider_href, safe_next};
use super::{html, refused, see_other};
use crate::domain::second_factor::{self, Setup};
use crate::domain::{oidc, sessions};
use crate::error::{Error, Result};
use crate::web::api;
use crate::web::extract::{self, Query};

/// Setting up one-time codes.
#[derive(Template)]
#[template(path = "pages/totp_setup.html")]
pub struct TotpSetupPage {
    pub shell: Shell,
    pub form: Form,
    /// In groups of four, for typing.
    pub secret: String,
    /// An SVG of ours.
    pub qr: String,
}

/// The one page that holds the codes for recovery.
#[derive(Template)]
#[template(path = "pages/recovery_codes.html")]
pub struct RecoveryPage {
    pub shell: Shell,
    pub codes: Vec<String>,
    /// Whether one-time codes were turned on just now.
    pub new: bool,
}

/// On the way to the provider. A form may not redirect to another host (`form-action` of the
/// content security policy), so this page goes there by itself.
#[derive(Template)]
#[template(path = "pages/oidc_away.html")]
pub struct AwayPage {
    pub shell: Bare,
    pub name: String,
    pub url: String,
}

/// A QR code as SVG: black on white in every theme, for cameras want it so.
fn qr(text: &str) -> Result<String> {
    const QUIET: i32 = 4;
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).map_err(Error::internal)?;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            write!(path, "M{},{}h1v1h-1z", x + QUIET, y + QUIET).map_err(Error::internal)?;
        }
    }
    let side = code.size() + 2 * QUIET;
    Ok(format!(
        "<svg viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"QR code of the key\" \
         shape-rendering=\"crispEdges\"><rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/>\
         <path d=\"{path}\" fill=\"#000\"/></svg>"
    ))
}

fn in_groups(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    let groups: Vec<String> = letters
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join(" ")
}

fn setup_page(frame: &Frame, setup: &Setup, form: Form) -> Result<TotpSetupPage> {
    Ok(TotpSetupPage {
        shell: frame.shell(Place::Profile, "One-time codes")?,
        form,
        secret: in_groups(&setup.secret),
        qr: qr(&setup.url)?,
    })
}

/// The profile again, with what was wrong beside the form it was wrong in.
async fn back(frame: &Frame, error: Error, names: &[&str]) -> Result<HttpResponse> {
    let form = Form::new().refused(&error, names)?;
    let mut page = profile_page(frame).await?;
    page.ways = form;
    refused(error, &page)
}

/// `POST /profile/totp`.
///
/// # Errors
/// As `second_factor::start`.
pub async fn start_totp(frame: Frame) -> Result<HttpResponse> {
    match second_factor::start(&frame.ctx).await {
        Ok(setup) => html(&setup_page(&frame, &setup, Form::new())?),
        Err(error) => back(&frame, error, &[]).await,
    }
}

/// `POST /profile/totp/confirm`.
///
/// # Errors
/// As `second_factor::confirm`.
pub async fn confirm_totp(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    match second_factor::confirm(&frame.ctx, fields.0.text("code")).await {
        Ok(codes) => html(&RecoveryPage {
            shell: frame.shell(Place::Profile, "Recovery codes")?,
            codes,
            new: true,
        }),
        Err(error @ Error::Conflict(_)) => back(&frame, error, &[]).await,
        Err(error) => {
            let form = Form::new().refused(&error, &["code"])?;
            let setup = second_factor::pending(&frame.ctx).await?;
            refused(error, &setup_page(&frame, &setup, form)?)
        }
    }
}

/// `POST /profile/totp/recovery`.
///
/// # Errors
/// As `second_factor::renew_recovery`.
pub async fn renew_recovery(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    match second_factor::renew_recovery(&frame.ctx, fields.0.text("password")).await {
        Ok(codes) => html(&RecoveryPage {
            shell: frame.shell(Place::Profile, "Recovery codes")?,
            codes,
            new: false,
        }),
        Err(error) => back(&frame, error, &["password"]).await,
    }
}

/// `POST /profile/totp/off`.
///
/// # Errors
/// As `second_factor::disable`.
pub async fn disable_totp(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    match second_factor::disable(&frame.ctx, fields.0.text("password")).await {
        Ok(()) => Ok(see_other("/profile?changed=totp")),
        Err(error) => back(&frame, error, &["password"]).await,
    }
}

/// `POST /profile/oidc/link`.
///
/// # Errors
/// As `oidc::begin`.
pub async fn link(frame: Frame, request: HttpRequest) -> Result<HttpResponse> {
    let name = oidc::name(frame.ctx.app()).unwrap_or_default().to_owned();
    let after = "/profile?changed=linked";
    let page = |url: &str| {
        html(&AwayPage {
            shell: Bare::new(frame.theme, "Connect"),
            name,
            url: url.to_owned(),
        })
    };
    api::oidc::begin(&frame.ctx, &request, after, true, page).await
}

/// `POST /profile/oidc/{id}/unlink`.
///
/// # Errors
/// As `oidc::unlink`.
pub async fn unlink(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    match oidc::unlink(&frame.ctx, &id).await {
        Ok(()) => Ok(see_other("/profile?changed=unlinked")),
        Err(error) => back(&frame, error, &[]).await,
    }
}

/// The password again, before something sensitive.
#[derive(Template)]
#[template(path = "pages/confirm.html")]
pub struct ConfirmPage {
    pub shell: Bare,
    pub form: Form,
    pub csrf_token: String,
    pub email: String,
    /// Where to go afterwards: a path of ours.
    pub next: String,
    pub has_password: bool,
}

impl ConfirmPage {
    /// Who has no password signs in again where they come from.
    fn provider_href(&self) -> String {
        provider_href(&self.next)
    }
}

async fn confirm_page(frame: &Frame, form: Form, next: &str) -> Result<ConfirmPage> {
    let caller = frame.ctx.caller()?;
    Ok(ConfirmPage {
        shell: Bare::new(frame.theme, "Is it you?"),
        form,
        csrf_token: caller.csrf_token().unwrap_or_default().to_owned(),
        email: caller.email.clone(),
        next: next.to_owned(),
        has_password: second_factor::get(&frame.ctx).await?.available,
    })
}

/// Where to go afterwards.
#[derive(Debug, serde::Deserialize)]
pub struct AskedConfirm {
    next: Option<String>,
}

/// `GET /confirm`.
///
/// # Errors
/// None of its own.
pub async fn show_confirm(frame: Frame, asked: Query<AskedConfirm>) -> Result<HttpResponse> {
    let next = safe_next(asked.0.next.as_deref());
    html(&confirm_page(&frame, Form::new(), next).await?)
}

/// `POST /confirm`.
///
/// # Errors
/// As `sessions::confirm`.
pub async fn confirm(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let next = safe_next(Some(fields.0.text("next")));
    match sessions::confirm(&frame.ctx, fields.0.text("password")).await {
        Ok(()) => Ok(see_other(next)),
        Err(error) => {
            let form = Form::new().refused(&error, &["password"])?;
            refused(error, &confirm_page(&frame, form, next).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_groups() {
        assert_eq!(in_groups("ABCDEFGHIJ"), "ABCD EFGH IJ");
    }

    #[test]
    fn a_qr_code_needs_no_style() {
        let svg = qr("otpauth://totp/hzel:a@x.org?secret=ABC").unwrap();
        assert!(svg.starts_with("<svg") && !svg.contains("style"));
    }
}
