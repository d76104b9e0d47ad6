//! The pages about boxes: the list, a new one, and the tabs of one.

pub mod act;
pub mod detail;
pub mod files;
pub mod list;
pub mod new;
pub mod terminal;
pub mod usage;

use self::usage::Usage;
use super::mark::Mark;
use super::say::{self, When};
use super::shell::Frame;
use crate::domain::containers::Container;
use crate::domain::permissions::Permissions;

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
    /// What it uses now, where that was measured.
    pub usage: Option<Usage>,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a permission of its own"
)]
pub struct May {
    pub read_metrics: bool,
    pub start_stop: bool,
    pub run_commands: bool,
    pub delete: bool,
}

impl BoxView {
    /// As the one who looks sees it.
    #[must_use]
    pub fn of(frame: &Frame, container: Container) -> Self {
        let own = frame.ctx.user_id() == Some(&container.user_id);
        let held = container.permissions;
        Self {
            id: container.id.to_string(),
            hostname: container.hostname,
            image: container.image,
            node_name: container.node_name,
            owner: (!own).then_some(container.owner_name),
            state: container.state.into(),
            reason: container.state_reason,
            ipv4: container.ipv4,
            cpu_cores: u32::try_from(container.cpu_cores).unwrap_or_default(),
            memory_mb: u64::try_from(container.memory_mb).unwrap_or_default(),
            disk_gb: u64::try_from(container.disk_gb).unwrap_or_default(),
            created: frame.when(container.created_at),
            started: container.started_at.map(|at| frame.when(at)),
            may: May {
                read_metrics: held.has(Permissions::READ_METRICS),
                start_stop: held.has(Permissions::START_STOP),
                run_commands: held.has(Permissions::TERMINAL),
                delete: held.has(Permissions::DELETE),
            },
            usage: None,
        }
    }

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

    /// Thousandths of its CPUs in use, as far as measured; likewise the next two.
    #[must_use]
    pub fn cpu_share(&self) -> u64 {
        self.usage.as_ref().map_or(0, Usage::cpu_share)
    }

    #[must_use]
    pub fn memory_share(&self) -> u64 {
        self.usage.as_ref().map_or(0, Usage::memory_share)
    }

    #[must_use]
    pub fn disk_share(&self) -> u64 {
        self.usage.as_ref().map_or(0, Usage::disk_share)
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
