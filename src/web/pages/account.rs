//! `/profile` and `/sessions`: who one is, how one signs in, and where one is signed in.

use actix_session::Session;
use actix_web::{HttpResponse, web};
use askama::Template;

use super::form::{Fields, Form};
use super::say::When;
use super::shell::{Frame, Place, Shell};
use super::{html, refused, see_other};
use crate::domain::second_factor::{self, Factor};
use crate::domain::{oidc, sessions};
use crate::error::Result;
use crate::web::extract::{self, Query};

/// A sign-in, as the pages show it.
#[derive(Debug, Clone)]
pub struct SessionView {
    pub id: String,
    /// What the browser says of itself, shortened: `Firefox on Linux`.
    pub browser: String,
    pub address: String,
    pub created: When,
    pub last_seen: When,
    pub expires: When,
    /// The one this page is looked at with.
    pub current: bool,
}

/// `/sessions`.
#[derive(Template)]
#[template(path = "pages/sessions.html")]
pub struct SessionsPage {
    pub shell: Shell,
    pub sessions: Vec<SessionView>,
}

/// `/profile`.
#[derive(Template)]
#[template(path = "pages/profile.html")]
pub struct ProfilePage {
    pub shell: Shell,
    pub form: Form,
    /// What was changed just now: `password`, `totp`, `linked` or `unlinked`.
    pub changed: String,
    pub factor: Factor,
    /// What is wrong in the forms about ways of signing in.
    pub ways: Form,
    /// What the OpenID Connect provider is called, if there is one.
    pub provider: Option<String>,
    pub linked: Vec<LinkedView>,
}

/// An account elsewhere, as the pages show it.
#[derive(Debug, Clone)]
pub struct LinkedView {
    pub id: String,
    pub issuer: String,
    /// Its address, or how the provider calls it.
    pub who: String,
    pub since: When,
    pub last_used: Option<When>,
}

/// The profile as it is.
///
/// # Errors
/// As `second_factor::get` and `oidc::list`.
pub async fn profile_page(frame: &Frame) -> Result<ProfilePage> {
    let linked = oidc::list(&frame.ctx).await?;
    Ok(ProfilePage {
        shell: frame.shell(Place::Profile, "Profile")?,
        form: Form::new(),
        changed: String::new(),
        factor: second_factor::get(&frame.ctx).await?,
        ways: Form::new(),
        provider: oidc::name(frame.ctx.app()).map(str::to_owned),
        linked: linked
            .into_iter()
            .map(|linked| LinkedView {
                id: linked.id.to_string(),
                issuer: linked.issuer,
                who: linked.email.unwrap_or(linked.subject),
                since: frame.when(linked.created_at),
                last_used: linked.last_login_at.map(|at| frame.when(at)),
            })
            .collect(),
    })
}

/// A short name for a `User-Agent`: the browser and the system, as far as they are known.
#[must_use]
pub fn browser(user_agent: &str) -> String {
    // Order matters: Edge and Opera also say Chrome, Chrome also says Safari.
    const BROWSERS: [(&str, &str); 8] = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("HeadlessChrome/", "Chrome (headless)"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
        ("python", "Python"),
    ];
    // Likewise: Android also says Linux, iPhones also say Mac OS X.
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find = |table: &[(&str, &'static str)]| {
        table
            .iter()
            .find(|(sign, _)| user_agent.contains(sign))
            .map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => format!("A browser on {system}"),
        (None, None) => "Unknown browser".to_owned(),
    }
}

/// A sign-in, as this request sees it.
#[must_use]
pub fn session_view(frame: &Frame, session: sessions::Session) -> SessionView {
    SessionView {
        id: session.id.to_string(),
        browser: browser(session.user_agent.as_deref().unwrap_or_default()),
        address: session.address.unwrap_or_default(),
        created: frame.when(session.created_at),
        last_seen: frame.when(session.last_seen_at),
        expires: frame.when(session.expires_at),
        current: session.current,
    }
}

/// `GET /sessions`.
///
/// # Errors
/// As `sessions::list`.
pub async fn sessions(frame: Frame) -> Result<HttpResponse> {
    let sessions = sessions::list(&frame.ctx).await?.into_iter();
    html(&SessionsPage {
        shell: frame.shell(Place::Sessions, "Sessions")?,
        sessions: sessions
            .map(|session| session_view(&frame, session))
            .collect(),
    })
}

/// `POST /sessions/{id}/end`: one's own present one is signed out.
///
/// # Errors
/// As `sessions::end`.
pub async fn end_session(
    frame: Frame,
    cookie: Session,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let current = sessions::current(&frame.ctx).await?.id.as_str() == id.as_str();
    if current {
        sessions::logout(&frame.ctx).await?;
        cookie.purge();
        return Ok(see_other("/login"));
    }
    sessions::end(&frame.ctx, &id).await?;
    Ok(see_other("/sessions"))
}

/// What the profile is asked with.
#[derive(Debug, serde::Deserialize)]
pub struct AskedProfile {
    /// What was changed just now.
    changed: Option<String>,
}

/// `GET /profile`.
///
/// # Errors
/// None of its own.
pub async fn profile(frame: Frame, asked: Query<AskedProfile>) -> Result<HttpResponse> {
    let mut page = profile_page(&frame).await?;
    page.changed = asked.0.changed.unwrap_or_default();
    html(&page)
}

/// `POST /profile/password`.
///
/// # Errors
/// As `sessions::change_password`.
pub async fn change_password(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let names = ["current_password", "new_password"];
    let [current, new] = names.map(|name| fields.0.text(name));
    match sessions::change_password(&frame.ctx, current, new).await {
        Ok(()) => Ok(see_other("/profile?changed=password")),
        Err(error) => {
            let mut page = profile_page(&frame).await?;
            page.form = Form::new().refused(&error, &names)?;
            refused(error, &page)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        for (agent, said) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0 Safari/537.36 Edg/128.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Safari/604.1",
                "Safari on iPhone",
            ),
            ("curl/8.5.0", "curl"),
            ("", "Unknown browser"),
        ] {
            assert_eq!(browser(agent), said);
        }
    }
}
