//! `/commands/{id}`: one command, its output as it comes, and how it ended.

use askama::Template;

use super::say::When;
use super::shell::Shell;

/// How a command is, as the pages draw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl Progress {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The API's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// The word for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TimedOut => "timed out",
            other => other.as_str(),
        }
    }

    /// The tone of its badge, and the icon in it.
    #[must_use]
    pub fn tone(self) -> (&'static str, &'static str) {
        match self {
            Self::Queued => ("quiet", "clock"),
            Self::Running => ("wait", "play"),
            Self::Completed => ("ok", "check"),
            Self::Failed => ("bad", "cross"),
            Self::Cancelled => ("quiet", "slash"),
            Self::TimedOut => ("warn", "clock"),
        }
    }

    /// Whether there is more to come.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// A command, as the pages show it.
#[derive(Debug, Clone)]
pub struct CommandView {
    pub id: String,
    pub container_id: String,
    pub command: String,
    pub progress: Progress,
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub truncated: bool,
    pub error: Option<String>,
    pub created: When,
    /// From its start to its end, or to now.
    pub took: Option<String>,
}

/// The whole page.
#[derive(Template)]
#[template(path = "pages/command.html")]
pub struct CommandPage {
    pub shell: Shell,
    pub command: CommandView,
    /// Whose command it is.
    pub hostname: String,
    pub may_run: bool,
}

/// The part that is fetched again while it runs.
#[derive(Template)]
#[template(path = "pages/command.html", block = "command")]
pub struct CommandFragment {
    pub shell: Shell,
    pub command: CommandView,
    pub may_run: bool,
}
