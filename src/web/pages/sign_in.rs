//! `/setup`, `/login`, `/logout`: coming in and going out.

use askama::Template;

use super::form::Form;
use super::shell::Bare;

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
