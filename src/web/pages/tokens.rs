//! `/tokens`: personal access tokens; a new one is shown once, on the page that answers its form.

use askama::Template;

use super::form::Form;
use super::say::When;
use super::shell::Shell;

/// A token, as the pages show it: never its secret.
#[derive(Debug, Clone)]
pub struct TokenView {
    pub id: String,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<String>,
    pub created: When,
    pub expires: Option<When>,
    pub last_used: Option<When>,
    pub expired: bool,
}

/// A scope that can be chosen, and what it allows.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    pub name: &'static str,
    pub allows: &'static str,
}

/// The list and the form.
#[derive(Template)]
#[template(path = "pages/tokens.html")]
pub struct TokensPage {
    pub shell: Shell,
    pub tokens: Vec<TokenView>,
    pub form: Form,
    pub scopes: Vec<Scope>,
}

/// The one page that holds the secret.
#[derive(Template)]
#[template(path = "pages/token_created.html")]
pub struct TokenCreatedPage {
    pub shell: Shell,
    pub token: TokenView,
    pub secret: String,
    pub public_url: String,
}

impl TokenCreatedPage {
    /// `hzel-backup-script.txt`: only what every file system takes.
    fn file_name(&self) -> String {
        let name: String = self
            .token
            .name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        format!("hzel-{}.txt", name.trim_matches('-'))
    }

    fn curl(&self) -> String {
        format!(
            "export HZEL_TOKEN={}\ncurl -H \"Authorization: Bearer $HZEL_TOKEN\" {}/api/v1/auth/me",
            self.secret, self.public_url
        )
    }
}
