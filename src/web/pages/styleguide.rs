//! `/styleguide`: every component in every state, for those who change them.

use askama::Template;

use super::commands::Progress;
use super::form::Form;
use super::mark::Mark;
use super::shell::Shell;

/// The page; its samples are in its template.
#[derive(Template)]
#[template(path = "pages/styleguide.html")]
pub struct StyleguidePage {
    pub shell: Shell,
    /// With one field right, one wrong.
    pub form: Form,
}

impl StyleguidePage {
    fn marks(&self) -> [Mark; 5] {
        Mark::ALL
    }

    fn progresses(&self) -> [Progress; 6] {
        Progress::ALL
    }
}
