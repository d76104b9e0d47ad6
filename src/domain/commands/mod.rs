//! Commands: run once in a running container, recorded with their output and end. What is asked
//! for commits here; `crate::jobs::commands` runs it.
//!
//! To give a command one more property: a field in [`CommandSpec`] with its rule beside it.

mod follow;
mod forget;
mod spec;

use std::time::Duration;

use crate::db::commands::CommandRow;
use crate::db::containers::ContainerRow;
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event};
use crate::domain::containers::{self, ContainerState};
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Audience, Change};
use crate::domain::idempotency;
use crate::domain::ids::{CommandId, ContainerId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::permissions::Permissions;
use crate::domain::text_enum::text_enum;
use crate::domain::time::Time;
use crate::error::{Error, Result};

use self::spec::check;

pub use self::follow::{Following, Step, follow};
pub use self::forget::{forget_old, forget_output};
pub use self::spec::{CommandSpec, NewCommand};

text_enum! {
    /// How far it is.
    CommandStatus {
        Queued = "queued",
        Running = "running",
        /// Ended with exit code 0.
        Completed = "completed",
        /// Ended with another, or could not be run.
        Failed = "failed",
        Cancelled = "cancelled",
        TimedOut = "timed_out",
    }
}

impl CommandStatus {
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Bytes of each stream that a record keeps.
pub const KEPT_OUTPUT: usize = 1024 * 1024;
/// Bytes of each stream that a list shows of each command.
pub const LISTED_OUTPUT: usize = 16 * 1024;
/// Commands of one container that may wait or run.
const MAX_OPEN: i64 = 500;

/// A command and what came of it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub container_id: ContainerId,
    pub requested_by: UserId,
    /// As it is shown.
    pub command: String,
    pub status: CommandStatus,
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Whether a stream was longer than what is kept.
    pub truncated: bool,
    /// Why it could not run, or was ended.
    pub error: Option<String>,
    pub timeout_seconds: i32,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
}

impl From<CommandRow> for Command {
    fn from(row: CommandRow) -> Self {
        Self {
            id: row.id,
            container_id: row.container_id,
            requested_by: row.requested_by,
            command: row.command,
            status: row.status,
            exit_code: row.exit_code,
            stdout: row.stdout,
            stderr: row.stderr,
            truncated: row.truncated,
            error: row.error,
            timeout_seconds: row.timeout_seconds,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

impl Command {
    /// With the beginning of its output only.
    fn listed(row: CommandRow) -> Self {
        let mut command = Self::from(row);
        for stream in [&mut command.stdout, &mut command.stderr] {
            command.truncated |= cut(stream, LISTED_OUTPUT);
        }
        command
    }
}

/// Cuts `text` to so many bytes, or a few less where a character would be split; whether it was
/// longer.
pub(crate) fn cut(text: &mut String, bytes: usize) -> bool {
    let longer = text.len() > bytes;
    if longer {
        text.truncate(text.floor_char_boundary(bytes));
        text.shrink_to_fit();
    }
    longer
}

/// Asks for a command to be run.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], validation errors, [`Error::Conflict`] when
/// the container does not run.
pub async fn create(ctx: &Ctx, container: &str, new: NewCommand) -> Result<Command> {
    let (inner, asked) = (ctx.clone(), container.to_owned());
    let made = ctx
        .db()
        .write(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            let (shown, spec, timeout) = check(new)?;
            let spec = serde_json::to_string(&spec).map_err(Error::internal)?;
            put(conn, &inner, row, shown, spec, timeout)
        })
        .await?;
    ctx.app().commands_ready.notify_one();
    Ok(made)
}

/// Asks for what was run before to be run again, by the one who asks now.
///
/// # Errors
/// [`Error::CommandNotFound`], [`Error::Conflict`] when the container does not run.
pub async fn again(ctx: &Ctx, id: &str) -> Result<Command> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let made = ctx
        .db()
        .write(move |conn| {
            let before = find(conn, &inner, &asked)?;
            let (row, ..) = db::containers::get(conn, &before.container_id)?
                .ok_or_else(|| Error::CommandNotFound(asked.clone()))?;
            let (shown, spec) = (before.command, before.spec);
            put(conn, &inner, row, shown, spec, before.timeout_seconds)
        })
        .await?;
    ctx.app().commands_ready.notify_one();
    Ok(made)
}

/// Queues what was authorised and checked, in the caller's transaction.
fn put(
    conn: &mut Conn,
    ctx: &Ctx,
    container: ContainerRow,
    shown: String,
    spec: String,
    timeout_seconds: i32,
) -> Result<Command> {
    let user = ctx.caller()?.user_id.clone();
    if let Some(first) = idempotency::replay::<Command>(conn, ctx)? {
        return Ok(first);
    }
    // What is decided by its state and its count must hold until this is queued.
    db::containers::hold(conn, &container.id)?;
    let state = db::containers::get(conn, &container.id)?.map(|owned| owned.0.state);
    if state != Some(ContainerState::Running) {
        return Err(Error::Conflict("The container is not running".into()));
    }
    if db::commands::count_open(conn, &container.id)? >= MAX_OPEN {
        return Err(Error::Conflict(
            "Too many commands wait for this container".into(),
        ));
    }
    let now = ctx.now();
    let command = CommandRow {
        id: CommandId::new(now.utc()),
        container_id: container.id,
        requested_by: user,
        node_name: container.node_name,
        command: shown,
        spec,
        timeout_seconds,
        status: CommandStatus::Queued,
        cancel_requested: false,
        exit_code: None,
        stdout: String::new(),
        stderr: String::new(),
        truncated: false,
        error: None,
        created_at: now,
        started_at: None,
        finished_at: None,
    };
    db::commands::insert(conn, &command)?;
    tell(conn, ctx, &command.id, &command.container_id)?;
    let made = Command::from(command);
    idempotency::keep(conn, ctx, &made)?;
    // The command itself is not repeated here: people put secrets into command lines.
    let event = Event::success(Action::CommandCreate)
        .container(&made.container_id)
        .with("subject", made.id.as_str());
    // Last, as in [`cancel`].
    audit::record(conn, ctx, event)?;
    Ok(made)
}

/// Tells how far a command is now, in the caller's transaction.
pub(crate) fn tell(
    conn: &mut Conn,
    ctx: &Ctx,
    id: &CommandId,
    container: &ContainerId,
) -> Result<()> {
    let (Some((status, exit_code)), Some((owner, ..))) = (
        db::commands::outcome(conn, id)?,
        db::containers::get(conn, container)?,
    ) else {
        return Ok(());
    };
    let (own, container_id) = (id.clone(), container.clone());
    let change = match status {
        CommandStatus::Queued => Change::CommandQueued {
            id: own,
            container_id,
        },
        CommandStatus::Running => Change::CommandStarted {
            id: own,
            container_id,
        },
        CommandStatus::Completed
        | CommandStatus::Failed
        | CommandStatus::Cancelled
        | CommandStatus::TimedOut => Change::CommandFinished {
            id: own,
            container_id,
            status,
            exit_code,
        },
    };
    let (app, id) = (ctx.app().clone(), id.clone());
    db::after_commit(move || app.spools.row_changed(&id));
    let audience = Audience::of(conn, container, &owner.user_id)?;
    events::publish(conn, ctx, audience, change)
}

/// Why one failed whose container stopped while it waited.
pub(crate) const NEVER_BEGAN: &str = "The container stopped before the command began";

/// Ends every waiting one of a container, for its box is gone, in the caller's transaction.
pub(crate) fn fail_queued(
    conn: &mut Conn,
    ctx: &Ctx,
    container: &ContainerId,
    why: &str,
) -> Result<()> {
    for id in db::commands::queued_in(conn, container)? {
        if db::commands::fail_queued(conn, &id, why, ctx.now())? {
            tell(conn, ctx, &id, container)?;
            let (app, id) = (ctx.app().clone(), id.to_string());
            db::after_commit(move || app.waiting.ring(&id));
        }
    }
    Ok(())
}

/// The command, if its container's commands may be seen; everything else is not found.
fn find(conn: &mut Conn, ctx: &Ctx, id: &str) -> Result<CommandRow> {
    let missing = || Error::CommandNotFound(id.to_owned());
    let parsed: CommandId = id.parse().map_err(|_| missing())?;
    let row = db::commands::get(conn, &parsed)?.ok_or_else(missing)?;
    let container = row.container_id.as_str();
    match containers::find(conn, ctx, container, Permissions::TERMINAL) {
        Ok(_) => Ok(row),
        Err(Error::Forbidden(_) | Error::ContainerNotFound(_)) => Err(missing()),
        Err(e) => Err(e),
    }
}

/// # Errors
/// [`Error::CommandNotFound`], also for one that the caller may not see.
pub async fn get(ctx: &Ctx, id: &str) -> Result<Command> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    ctx.db()
        .read(move |conn| Ok(find(conn, &inner, &asked)?.into()))
        .await
}

/// [`get`], as soon as it is over, or after `limit` as it is then.
///
/// # Errors
/// As [`get`].
pub async fn get_when_over(ctx: &Ctx, id: &str, limit: Result<Duration>) -> Result<Command> {
    let began = tokio::time::Instant::now();
    let listener = ctx.app().waiting.listen(id);
    let mut command = get(ctx, id).await?;
    let deadline = began + limit?;
    loop {
        if command.status.is_over() || tokio::time::Instant::now() >= deadline {
            return Ok(command);
        }
        let next = tokio::time::Instant::now() + Duration::from_secs(1);
        tokio::select! {
            () = listener.rung() => {}
            () = tokio::time::sleep_until(next.min(deadline)) => {}
        }
        command = get(ctx, id).await?;
    }
}

/// A container's, newest first, with the beginning of their output. What is wrong with the request is
/// said to who may see them.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`]; that of `request`.
pub async fn list(
    ctx: &Ctx,
    container: &str,
    request: Result<PageRequest>,
) -> Result<Page<Command>> {
    let (inner, asked) = (ctx.clone(), container.to_owned());
    ctx.db()
        .read(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            let request = request?;
            let before = request.before();
            // A character is a byte at least, so that one more of them tells whether there is more.
            let shown = i32::try_from(LISTED_OUTPUT + 1).unwrap_or(i32::MAX);
            let rows = db::commands::list(conn, &row.id, before, request.fetch(), shown)?;
            Ok(Page::cut(rows, &request, |row| row.id.to_string()).map(Command::listed))
        })
        .await
}

/// Ends it, whether it waits or runs, and waits for its end.
///
/// # Errors
/// [`Error::CommandNotFound`], [`Error::Conflict`] when it is over.
pub async fn cancel(ctx: &Ctx, id: &str) -> Result<Command> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            let mut row = find(conn, &inner, &asked)?;
            if db::commands::cancel_queued(conn, &row.id, inner.now())? {
                tell(conn, &inner, &row.id, &row.container_id)?;
            } else if !db::commands::request_cancel(conn, &row.id)? {
                // It may have ended since it was read.
                row = find(conn, &inner, &asked)?;
                if row.status == CommandStatus::Cancelled {
                    return Ok(());
                }
                return Err(Error::Conflict(format!(
                    "The command is over: {}",
                    row.status
                )));
            }
            let event = Event::success(Action::CommandCancel)
                .container(&row.container_id)
                .with("subject", row.id.as_str());
            // Last: on PostgreSQL it holds a lock that all share, under which nobody may wait for a
            // row.
            audit::record(conn, &inner, event)
        })
        .await?;
    ctx.app().waiting.ring(&cancel_key(id));
    ctx.app().waiting.ring(id);
    get_when_over(ctx, id, Ok(Duration::from_secs(15))).await
}

/// What rings when a command is to be cancelled.
#[must_use]
pub fn cancel_key(id: &str) -> String {
    format!("cancel:{id}")
}
