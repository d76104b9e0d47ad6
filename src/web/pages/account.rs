//! `/profile` and `/sessions`: who one is, how one signs in, and where one is signed in.

use askama::Template;

use super::form::Form;
use super::say::When;
use super::shell::Shell;

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
    /// Set after the password was changed.
    pub changed: bool,
    /// Whether this account has a password at all.
    pub has_password: bool,
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
