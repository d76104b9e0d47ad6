//! What surrounds every page of someone signed in: who looks, from which place, in which colours.
//!
//! To add a place to the rail, add it to [`Place`] and to `templates/app.html`.

use std::future::{Ready, ready};

use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};

use super::form::Fields;
use super::mark::Mark;
use super::say::When;
use super::{is_htmx, see_other};
use crate::auth::actor::Credential;
use crate::domain::ctx::Ctx;
use crate::domain::sessions;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::web::assets::url;
use crate::web::extract::Form;

/// The version in the corner of every page.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where in the rail a page belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Containers,
    Images,
    Activity,
    Tokens,
    Docs,
    Profile,
    Sessions,
    Users,
    Styleguide,
    Apps,
    Authorizations,
}

/// Light or dark, by the system's preference unless someone chose. The choice is a cookie, so that
/// the first byte of a page already has it and nothing flashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// The cookie that keeps the choice; its values are those of [`Theme::as_str`].
    pub const COOKIE: &'static str = "theme";

    /// The choice in a cookie or a form; anything unknown is the system's.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    /// As in the cookie, the form and `<html data-theme>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Who looks.
#[derive(Debug, Clone)]
pub struct Viewer {
    pub display_name: String,
    pub email: String,
    pub admin: bool,
}

/// The frame of a page for someone signed in.
#[derive(Debug, Clone)]
pub struct Shell {
    pub viewer: Viewer,
    /// Goes into every form of the page.
    pub csrf_token: String,
    pub place: Place,
    pub theme: Theme,
    /// Without the trailing "· hzel".
    pub title: String,
    /// The address of the tab's icon.
    pub icon: &'static str,
}

impl Shell {
    /// Whether `place` is the one looked at, as `aria-current` wants it.
    #[must_use]
    pub fn at(&self, place: Place) -> bool {
        self.place == place
    }
}

/// The frame of a page for someone who is not, or not known to be, signed in.
#[derive(Debug, Clone)]
pub struct Bare {
    pub theme: Theme,
    /// Without the trailing "· hzel".
    pub title: String,
    /// The address of the tab's icon.
    pub icon: &'static str,
}

impl Bare {
    /// A plain frame; the icon is hzel's own.
    #[must_use]
    pub fn new(theme: Theme, title: impl Into<String>) -> Self {
        Self {
            theme,
            title: title.into(),
            icon: url::MARKS_HZEL_SVG,
        }
    }

    /// The same, with the failed mark as icon.
    #[must_use]
    pub fn failed(theme: Theme, title: impl Into<String>) -> Self {
        Self {
            theme,
            title: title.into(),
            icon: Mark::Failed.icon(),
        }
    }
}

/// What every handler of a page takes: the context, and what a [`Shell`] or [`Bare`] is made of.
#[derive(Clone)]
pub struct Frame {
    pub ctx: Ctx,
    pub theme: Theme,
    /// Whether only a part of the page is asked for.
    pub part: bool,
}

impl FromRequest for Frame {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let ctx = request.extensions().get::<Ctx>().cloned();
        let cookie = request.cookie(Theme::COOKIE);
        ready(
            ctx.ok_or_else(|| Error::internal("a page without its gate"))
                .map(|ctx| Self {
                    ctx,
                    theme: Theme::parse(cookie.as_ref().map(Cookie::value)),
                    part: is_htmx(request),
                }),
        )
    }
}

impl Frame {
    /// The frame of a page at `place`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for nobody.
    pub fn shell(&self, place: Place, title: impl Into<String>) -> Result<Shell> {
        let caller = self.ctx.caller()?;
        let csrf_token = match &caller.credential {
            Credential::Session { csrf_token, .. } => csrf_token.0.clone(),
            // Its forms are sent with the token itself, which needs no other.
            Credential::PersonalToken { .. } | Credential::OauthToken { .. } => String::new(),
        };
        Ok(Shell {
            viewer: Viewer {
                display_name: caller.display_name.clone(),
                email: caller.email.clone(),
                admin: caller.is_admin(),
            },
            csrf_token,
            place,
            theme: self.theme,
            title: title.into(),
            icon: url::MARKS_HZEL_SVG,
        })
    }

    /// Whether what is sensitive can be done without the password being asked for first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_proved(&self) -> Result<bool> {
        sessions::is_proved(&self.ctx).await
    }

    /// A time, as seen from this request's moment.
    #[must_use]
    pub fn when(&self, at: Time) -> When {
        When {
            at: at.utc(),
            now: self.ctx.now().utc(),
        }
    }

    /// The public address, without a slash at its end.
    #[must_use]
    pub fn public_url(&self) -> String {
        self.ctx
            .app()
            .config
            .public_url
            .as_str()
            .trim_end_matches('/')
            .to_owned()
    }
}

/// `POST /theme`: keeps the choice and goes back to where it was made.
///
/// # Errors
/// None of its own.
pub async fn choose_theme(
    frame: Frame,
    request: HttpRequest,
    fields: Form<Fields>,
) -> Result<HttpResponse> {
    let theme = Theme::parse(Some(fields.0.text("theme")));
    // Readable by js/theme.js, which writes it too; it is no secret.
    let cookie = Cookie::build(Theme::COOKIE, theme.as_str())
        .path("/")
        .secure(frame.ctx.app().config.is_https())
        .same_site(SameSite::Lax)
        .max_age(actix_web::cookie::time::Duration::days(365))
        .finish();
    let mut answer = see_other(&came_from(&frame, &request));
    answer.add_cookie(&cookie).map_err(Error::internal)?;
    Ok(answer)
}

/// The path of the page of ours that the request came from; the start page if it is not known.
fn came_from(frame: &Frame, request: &HttpRequest) -> String {
    let referer = request
        .headers()
        .get(header::REFERER)
        .and_then(|v| v.to_str().ok());
    referer
        .and_then(|text| ::url::Url::parse(text).ok())
        .filter(|from| from.origin() == frame.ctx.app().config.public_url.origin())
        .map_or_else(
            || "/".to_owned(),
            |from| super::sign_in::safe_next(Some(from.path())).to_owned(),
        )
}
