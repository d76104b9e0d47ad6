//! `/activity`: what was done, by whom, and what came of it. One's own; admins see everyone's.

use askama::Template;

use super::say::When;
use super::shell::Shell;

/// An entry of the audit log, as the pages show it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: String,
    /// `container.start`.
    pub action: String,
    /// `success`, `failure` or `denied`.
    pub outcome: String,
    /// Who did it; nothing if nobody was signed in.
    pub who: Option<String>,
    /// What it was done to, and where that is.
    pub target: Option<(String, String)>,
    pub address: Option<String>,
    pub at: When,
}

impl Entry {
    /// The tone of its badge, and the icon in it.
    #[must_use]
    pub fn tone(&self) -> (&'static str, &'static str) {
        match self.outcome.as_str() {
            "success" => ("ok", "check"),
            "denied" => ("warn", "slash"),
            _ => ("bad", "cross"),
        }
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "pages/activity.html")]
pub struct ActivityPage {
    pub shell: Shell,
    pub entries: Vec<Entry>,
    pub next: Option<String>,
}
