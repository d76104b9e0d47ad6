//! `/commands/{id}`: one command, its output as it comes, and how it ended.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::say::{self, When};
use super::shell::{Frame, Place, Shell};
use super::{done, html, see_other};
use crate::domain::commands::{self, Command, CommandStatus};
use crate::domain::containers;
use crate::domain::permissions::Permissions;
use crate::error::Result;

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
    /// When it began, while it runs: how long that is ago grows.
    pub since: Option<When>,
    /// From its start to its end.
    pub took: Option<String>,
}

impl From<CommandStatus> for Progress {
    fn from(status: CommandStatus) -> Self {
        match status {
            CommandStatus::Queued => Self::Queued,
            CommandStatus::Running => Self::Running,
            CommandStatus::Completed => Self::Completed,
            CommandStatus::Failed => Self::Failed,
            CommandStatus::Cancelled => Self::Cancelled,
            CommandStatus::TimedOut => Self::TimedOut,
        }
    }
}

impl CommandView {
    /// As this request sees it.
    #[must_use]
    pub fn of(frame: &Frame, command: Command) -> Self {
        let took = command
            .started_at
            .zip(command.finished_at)
            .map(|(start, end)| end.since(start).num_milliseconds());
        let runs = command.status == CommandStatus::Running;
        Self {
            id: command.id.to_string(),
            container_id: command.container_id.to_string(),
            command: command.command,
            progress: command.status.into(),
            exit_code: command.exit_code,
            stdout: say::plain(&command.stdout),
            stderr: say::plain(&command.stderr),
            truncated: command.truncated,
            error: command.error,
            created: frame.when(command.created_at),
            since: command.started_at.filter(|_| runs).map(|at| frame.when(at)),
            took: took.map(|ms| say::milliseconds(u64::try_from(ms).unwrap_or_default())),
        }
    }
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
#[template(path = "components/command_view.html")]
pub struct CommandFragment {
    pub shell: Shell,
    pub command: CommandView,
    pub may_run: bool,
}

/// `GET /commands/{id}`.
///
/// # Errors
/// As `commands::get`.
pub async fn show(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let command = commands::get(&frame.ctx, &id).await?;
    let container = containers::get(&frame.ctx, command.container_id.as_str()).await?;
    let command = CommandView::of(&frame, command);
    let title = format!("{} · {}", command.progress.label(), container.hostname);
    let shell = frame.shell(Place::Containers, title)?;
    let may_run = container.permissions.has(Permissions::TERMINAL);
    if frame.part {
        return html(&CommandFragment {
            shell,
            command,
            may_run,
        });
    }
    html(&CommandPage {
        shell,
        command,
        hostname: container.hostname,
        may_run,
    })
}

/// `POST /commands/{id}/cancel`.
///
/// # Errors
/// As `commands::cancel`.
pub async fn cancel(
    frame: Frame,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    commands::cancel(&frame.ctx, &id).await?;
    Ok(done(&request, &format!("/commands/{id}")))
}

/// `POST /commands/{id}/again`.
///
/// # Errors
/// As `commands::again`.
pub async fn again(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let command = commands::again(&frame.ctx, &id).await?;
    Ok(see_other(&format!("/commands/{}", command.id)))
}
