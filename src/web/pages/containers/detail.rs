//! `/containers/{id}` and its tabs. A tab that the one who looks may not use is not shown.

use askama::Template;

use super::BoxView;
use crate::web::pages::commands::CommandView;
use crate::web::pages::form::Form;
use crate::web::pages::mark::Mark;
use crate::web::pages::say;
use crate::web::pages::shell::Shell;

/// Which tab is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Commands,
    Console,
    Settings,
}

impl Tab {
    /// As in the address.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Commands => "commands",
            Self::Console => "console",
            Self::Settings => "settings",
        }
    }
}

/// What all tabs have: the box, and which one is open.
#[derive(Debug, Clone)]
pub struct Detail {
    pub container: BoxView,
    pub tab: Tab,
}

impl Detail {
    #[must_use]
    pub fn at(&self, tab: Tab) -> bool {
        self.tab == tab
    }

    /// `dev-box · running`.
    #[must_use]
    pub fn title(&self) -> String {
        format!(
            "{} · {}",
            self.container.hostname,
            self.container.state.as_str()
        )
    }

    /// How often to look again, in seconds.
    #[must_use]
    pub fn pace(&self) -> u8 {
        if self.container.state.is_passing() {
            1
        } else {
            5
        }
    }
}

/// The measured present of a running box.
#[derive(Debug, Clone)]
pub struct Usage {
    pub cpu_percent: f64,
    pub cpu_cores: u32,
    pub memory_used_mb: u64,
    pub memory_limit_mb: u64,
    pub disk_used_mb: u64,
    pub disk_limit_mb: u64,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub processes: u64,
    pub uptime_seconds: u64,
}

impl Usage {
    /// With one decimal below ten: `3.2`, `48`.
    #[must_use]
    pub fn cpu(&self) -> String {
        if self.cpu_percent < 10.0 {
            format!("{:.1}", self.cpu_percent)
        } else {
            format!("{:.0}", self.cpu_percent)
        }
    }

    /// Per mille of what was given.
    #[must_use]
    pub fn cpu_share(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0–1000 before the cast"
        )]
        let share = (self.cpu_percent * 10.0).clamp(0.0, 1_000.0) as u64;
        share
    }

    #[must_use]
    pub fn memory_share(&self) -> u64 {
        per_mille(self.memory_used_mb, self.memory_limit_mb)
    }

    #[must_use]
    pub fn disk_share(&self) -> u64 {
        per_mille(self.disk_used_mb, self.disk_limit_mb)
    }

    #[must_use]
    pub fn memory_used(&self) -> String {
        say::mebibytes(self.memory_used_mb)
    }

    #[must_use]
    pub fn memory_limit(&self) -> String {
        say::mebibytes(self.memory_limit_mb)
    }

    #[must_use]
    pub fn disk_used(&self) -> String {
        say::mebibytes(self.disk_used_mb)
    }

    #[must_use]
    pub fn disk_limit(&self) -> String {
        say::mebibytes(self.disk_limit_mb)
    }

    /// By the box.
    #[must_use]
    pub fn received(&self) -> String {
        say::bytes(self.network_rx_bytes)
    }

    /// By the box.
    #[must_use]
    pub fn sent(&self) -> String {
        say::bytes(self.network_tx_bytes)
    }

    #[must_use]
    pub fn up(&self) -> String {
        say::duration(self.uptime_seconds)
    }

    #[must_use]
    pub fn given(&self) -> String {
        say::count(u64::from(self.cpu_cores), "CPU")
    }
}

/// How much of `limit` is `used`, in thousandths, at most all of it.
fn per_mille(used: u64, limit: u64) -> u64 {
    if limit == 0 {
        0
    } else {
        (used.saturating_mul(1_000) / limit).min(1_000)
    }
}

/// The first tab: what it uses, what it is, what was run lately.
#[derive(Template)]
#[template(path = "pages/container_overview.html")]
pub struct OverviewPage {
    pub shell: Shell,
    pub detail: Detail,
    pub usage: Option<Usage>,
    pub recent: Vec<CommandView>,
    pub public_url: String,
}

impl OverviewPage {
    fn curl(&self) -> String {
        format!(
            "curl {}/api/v1/containers/{}/commands \\\n  -H \"Authorization: Bearer $HZEL_TOKEN\" \\\n  \
             -H 'Content-Type: application/json' \\\n  -d '{{\"command\":\"uname -a\"}}'",
            self.public_url, self.detail.container.id
        )
    }
}

/// The header alone, fetched again and again on every tab.
#[derive(Template)]
#[template(path = "components/box_head.html")]
pub struct HeadFragment {
    pub shell: Shell,
    pub detail: Detail,
}

/// The meters alone.
#[derive(Template)]
#[template(path = "components/usage.html")]
pub struct UsageFragment {
    pub detail: Detail,
    pub usage: Option<Usage>,
}

/// The second tab: a box to type a command into, and those that were run.
#[derive(Template)]
#[template(path = "pages/container_commands.html")]
pub struct CommandsPage {
    pub shell: Shell,
    pub detail: Detail,
    pub form: Form,
    pub commands: Vec<CommandView>,
    pub next: Option<String>,
}

/// The list of commands alone.
#[derive(Template)]
#[template(path = "components/command_list.html")]
pub struct CommandsFragment {
    pub commands: Vec<CommandView>,
    pub detail: Detail,
    pub next: Option<String>,
}

impl CommandsPage {
    /// The optional part is open when there is something in it to see.
    fn is_more_open(&self) -> bool {
        ["cwd", "user", "timeout_seconds"]
            .iter()
            .any(|name| !self.form.value(name).is_empty() || self.form.error(name).is_some())
    }

    fn has_open(&self) -> bool {
        self.commands
            .iter()
            .any(|command| command.progress.is_open())
    }
}

impl CommandsFragment {
    fn has_open(&self) -> bool {
        self.commands
            .iter()
            .any(|command| command.progress.is_open())
    }
}

/// The third tab: what the init wrote.
#[derive(Template)]
#[template(path = "pages/container_console.html")]
pub struct ConsolePage {
    pub shell: Shell,
    pub detail: Detail,
    pub console: String,
    pub lines: usize,
}

/// The console's text alone.
#[derive(Template)]
#[template(path = "components/console.html")]
pub struct ConsoleFragment {
    pub detail: Detail,
    pub console: String,
    pub lines: usize,
}

/// The last tab: what it is made of, and how to be rid of it.
#[derive(Template)]
#[template(path = "pages/container_settings.html")]
pub struct SettingsPage {
    pub shell: Shell,
    pub detail: Detail,
    pub form: Form,
}

impl SettingsPage {
    /// A box that is stuck can be removed without asking the engine nicely.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.detail.container.state, Mark::Failed | Mark::Deleting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_meter() {
        assert_eq!(per_mille(5, 0), 0);
        assert_eq!(per_mille(256, 512), 500);
        assert_eq!(per_mille(600, 512), 1_000);
    }
}
