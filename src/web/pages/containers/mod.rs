//! The pages about boxes: the list, a new one, and the tabs of one.

pub mod detail;
pub mod list;
pub mod new;

use super::mark::Mark;
use super::say::{self, When};

/// A box, as the pages show it.
#[derive(Debug, Clone)]
pub struct BoxView {
    pub id: String,
    pub hostname: String,
    pub image: String,
    pub node_name: String,
    /// Who owns it, if that is not the one who looks.
    pub owner: Option<String>,
    pub state: Mark,
    pub reason: Option<String>,
    pub ipv4: Option<String>,
    pub cpu_cores: u32,
    pub memory_mb: u64,
    pub disk_gb: u64,
    pub created: When,
    pub started: Option<When>,
    pub may: May,
}

/// The API call that makes a box, to paste into a shell.
fn create_call(public_url: &str, json: &str) -> String {
    format!(
        "curl {public_url}/api/v1/containers \\\n  -H \"Authorization: Bearer $HZEL_TOKEN\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -d '{}'",
        json.replace('\'', "'\\''")
    )
}

/// What the one who looks may do with a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct May {
    pub read_metrics: bool,
    pub start_stop: bool,
    pub run_commands: bool,
    pub delete: bool,
}

impl BoxView {
    /// `2 CPUs`.
    #[must_use]
    pub fn cpus(&self) -> String {
        say::count(u64::from(self.cpu_cores), "CPU")
    }

    /// `512 MiB`.
    #[must_use]
    pub fn memory(&self) -> String {
        say::mebibytes(self.memory_mb)
    }

    /// `18 GiB`.
    #[must_use]
    pub fn disk(&self) -> String {
        format!("{} GiB", self.disk_gb)
    }

    #[must_use]
    pub fn can_start(&self) -> bool {
        self.may.start_stop && matches!(self.state, Mark::Stopped | Mark::Failed)
    }

    #[must_use]
    pub fn can_stop(&self) -> bool {
        self.may.start_stop && self.state == Mark::Running
    }
}
