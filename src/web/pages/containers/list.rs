//! `/`: every box one may see, one row each.

use askama::Template;

use super::{BoxView, create_call};
use crate::web::pages::mark::Mark;
use crate::web::pages::say;
use crate::web::pages::shell::Shell;

/// The whole page.
#[derive(Template)]
#[template(path = "pages/containers.html")]
pub struct ContainersPage {
    pub shell: Shell,
    pub list: List,
    /// Whether the one who looks may make one.
    pub may_create: bool,
    /// For the curl that does the same: `https://cloud.example.org`.
    pub public_url: String,
}

impl ContainersPage {
    fn curl(&self) -> String {
        create_call(&self.public_url, r#"{"hostname":"dev-box"}"#)
    }
}

/// The part that is fetched again and again.
#[derive(Template)]
#[template(path = "pages/containers.html", block = "boxes")]
pub struct ContainersFragment {
    pub shell: Shell,
    pub list: List,
}

/// The rows, and what was asked for.
#[derive(Debug, Clone)]
pub struct List {
    pub boxes: Vec<BoxView>,
    pub q: String,
    pub state: Option<Mark>,
    /// The address of this list, with its filter.
    pub here: String,
    /// The address of the next page.
    pub next: Option<String>,
}

impl List {
    /// Whether anything narrows it.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        !self.q.is_empty() || self.state.is_some()
    }

    #[must_use]
    pub fn shows(&self, state: &Mark) -> bool {
        self.state == Some(*state)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// How many are in each state, those with any.
    #[must_use]
    pub fn counts(&self) -> Vec<(Mark, usize)> {
        Mark::ALL
            .into_iter()
            .map(|mark| (mark, self.boxes.iter().filter(|b| b.state == mark).count()))
            .filter(|(_, number)| *number > 0)
            .collect()
    }

    #[must_use]
    pub fn cpus(&self) -> u64 {
        self.boxes.iter().map(|b| u64::from(b.cpu_cores)).sum()
    }

    #[must_use]
    pub fn memory(&self) -> String {
        say::mebibytes(self.boxes.iter().map(|b| b.memory_mb).sum())
    }

    #[must_use]
    pub fn disk(&self) -> String {
        format!("{} GiB", self.boxes.iter().map(|b| b.disk_gb).sum::<u64>())
    }

    /// How often to look again, in seconds: soon while something is on its way.
    #[must_use]
    pub fn pace(&self) -> u8 {
        if self.boxes.iter().any(|b| b.state.is_passing()) {
            1
        } else {
            5
        }
    }
}
