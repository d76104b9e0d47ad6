//! The CSRF token of forms that come before there is a session: a random value in a cookie of its
//! own and in the form, which only a page of ours can make the same.
//!
//! To put it into another form, show [`FormToken::value`] in it and send [`FormToken::cookie`].

use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite};

use crate::app::App;
use crate::auth::secrets;
use crate::domain::ctx::Ctx;

const COOKIE: &str = "hzel_form";
const LENGTH: usize = 43;

/// The token of one browser.
pub struct FormToken {
    /// For the form.
    pub value: String,
    /// For the cookie.
    kept: String,
    secure: bool,
}

impl FormToken {
    /// The browser's own, or a new one.
    #[must_use]
    pub fn of(app: &App, request: &HttpRequest) -> Self {
        let value =
            of_request(request).unwrap_or_else(|| secrets::random_base62(LENGTH, &*app.entropy));
        Self {
            kept: value.clone(),
            value,
            secure: app.config.is_https(),
        }
    }

    /// For a page that someone signed in may see too: the gate then wants the session's own token.
    #[must_use]
    pub fn of_anyone(ctx: &Ctx, request: &HttpRequest) -> Self {
        let own = ctx.caller().ok().and_then(|caller| caller.csrf_token());
        let token = Self::of(ctx.app(), request);
        match own {
            Some(text) => Self {
                value: text.to_owned(),
                kept: token.kept,
                secure: token.secure,
            },
            None => token,
        }
    }

    #[must_use]
    pub fn cookie(&self) -> Cookie<'static> {
        Cookie::build(COOKIE, self.kept.clone())
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Strict)
            .finish()
    }
}

/// The token that the browser holds.
#[must_use]
pub fn of_request(request: &HttpRequest) -> Option<String> {
    let value = request.cookie(COOKIE)?.value().to_owned();
    let ok = value.len() == LENGTH && value.bytes().all(|b| b.is_ascii_alphanumeric());
    ok.then_some(value)
}
