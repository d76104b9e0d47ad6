//! Commands: run once in a running container, recorded with their output and end. What is asked
//! for commits here; `crate::jobs::commands` runs it.
//!
//! To give a command one more property: a field in [`CommandSpec`] with its rule in [`check`].

mod follow;

use std::collections::BTreeMap;
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
use crate::error::{Error, FieldError, Result};

pub use self::follow::{Following, Step, follow};

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

/// Seconds a command may take when nothing is said.
pub const DEFAULT_TIMEOUT: i64 = 600;
/// Most seconds a command may take.
pub const MAX_TIMEOUT: i64 = 86_400;
/// Bytes of each stream that a record keeps.
pub const KEPT_OUTPUT: usize = 1024 * 1024;
/// Bytes of each stream that a list shows of each command.
pub const LISTED_OUTPUT: usize = 16 * 1024;
/// Commands of one container that may wait or run.
const MAX_OPEN: i64 = 500;
/// Longest command line, argument or variable, in bytes; Linux itself stops at 128 KiB.
const MAX_TEXT: usize = 64 * 1024;

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CommandSpec {
    pub argv: Vec<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
}

/// What is asked for, as it was sent.
#[derive(Debug, Clone, Default)]
pub struct NewCommand {
    /// For the container's `/bin/sh -c`.
    pub command: Option<String>,
    /// A program run as it is, with `args`.
    pub program: Option<String>,
    pub args: Vec<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
    pub timeout_seconds: Option<i64>,
}

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

fn check(new: NewCommand) -> Result<(String, CommandSpec, i32)> {
    let mut wrong: Vec<FieldError> = Vec::new();
    let mut note = |field: &str, message: String| {
        wrong.push(FieldError {
            field: field.to_owned(),
            message,
        });
    };
    let bad_text = |text: &str| text.len() > MAX_TEXT || text.contains('\0');
    let (shown, argv) = match (new.command, new.program) {
        (None, None) => return Err(Error::BadRequest("command is required".into())),
        (Some(_), Some(_)) => {
            note(
                "program",
                "program must not be given together with command".into(),
            );
            (String::new(), Vec::new())
        }
        (Some(command), None) => {
            if command.trim().is_empty() {
                note("command", "command must not be empty".into());
            } else if bad_text(&command) {
                let rule = format!("command must have at most {MAX_TEXT} bytes and no NUL");
                note("command", rule);
            }
            if !new.args.is_empty() {
                note("args", "args must go with program, not with command".into());
            }
            (
                command.clone(),
                vec!["/bin/sh".into(), "-c".into(), command],
            )
        }
        (None, Some(program)) => {
            if program.trim().is_empty() || bad_text(&program) {
                let rule = format!("program must have 1 to {MAX_TEXT} bytes and no NUL");
                note("program", rule);
            }
            let total: usize = new.args.iter().map(String::len).sum();
            if new.args.len() > 1000
                || total > 16 * MAX_TEXT
                || new.args.iter().any(|a| bad_text(a))
            {
                note(
                    "args",
                    format!("args must be at most 1000 of {MAX_TEXT} bytes, with no NUL"),
                );
            }
            let mut argv = vec![program];
            argv.extend(new.args);
            (
                argv.iter()
                    .map(|word| quoted(word))
                    .collect::<Vec<_>>()
                    .join(" "),
                argv,
            )
        }
    };
    if new
        .cwd
        .as_ref()
        .is_some_and(|cwd| !cwd.starts_with('/') || cwd.len() > 4096 || bad_text(cwd))
    {
        note("cwd", "cwd must be an absolute path".into());
    }
    let bad_name = |name: &str| {
        name.is_empty()
            || name.len() > 256
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let total: usize = new.env.values().map(String::len).sum();
    if new.env.len() > 200
        || total > 4 * MAX_TEXT
        || new
            .env
            .iter()
            .any(|(name, value)| bad_name(name) || bad_text(value))
    {
        note(
            "env",
            "env must be at most 200 variables of letters, digits and underscores".into(),
        );
    }
    let bad_user = |user: &String| {
        user.is_empty()
            || user.len() > 32
            || !user
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
    };
    if new.user.as_ref().is_some_and(bad_user) {
        note(
            "user",
            "user must be a user's name or number in the container".into(),
        );
    }
    let timeout = new.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
    if !(1..=MAX_TIMEOUT).contains(&timeout) {
        note(
            "timeout_seconds",
            format!("timeout_seconds must be between 1 and {MAX_TIMEOUT}"),
        );
    }
    if wrong.is_empty() {
        let spec = CommandSpec {
            argv,
            cwd: new.cwd,
            env: new.env,
            user: new.user,
        };
        Ok((shown, spec, i32::try_from(timeout).unwrap_or(i32::MAX)))
    } else {
        Err(Error::Validation(wrong))
    }
}

/// A word as a shell would take it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
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
    if container.state != ContainerState::Running {
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
    // The command itself is not repeated here: people put secrets into command lines.
    let event = Event::success(Action::CommandCreate)
        .container(&command.container_id)
        .with("subject", command.id.as_str());
    audit::record(conn, ctx, event)?;
    let made = Command::from(command);
    idempotency::keep(conn, ctx, &made)?;
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
pub async fn get_when_over(ctx: &Ctx, id: &str, limit: Duration) -> Result<Command> {
    let deadline = tokio::time::Instant::now() + limit;
    let listener = ctx.app().waiting.listen(id);
    loop {
        let command = get(ctx, id).await?;
        if command.status.is_over() || tokio::time::Instant::now() >= deadline {
            return Ok(command);
        }
        let next = tokio::time::Instant::now() + Duration::from_secs(1);
        tokio::select! {
            () = listener.rung() => {}
            () = tokio::time::sleep_until(next.min(deadline)) => {}
        }
    }
}

/// A container's, newest first, with the beginning of their output.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`].
pub async fn list(ctx: &Ctx, container: &str, request: PageRequest) -> Result<Page<Command>> {
    let (inner, asked) = (ctx.clone(), container.to_owned());
    ctx.db()
        .read(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            let rows = db::commands::list(conn, &row.id, request.before(), request.fetch())?;
            Ok(
                Page::cut(rows, &request, |row| row.id.to_string()).map(|row| {
                    let mut command = Command::from(row);
                    for stream in [&mut command.stdout, &mut command.stderr] {
                        if stream.len() > LISTED_OUTPUT {
                            stream.truncate(stream.floor_char_boundary(LISTED_OUTPUT));
                            command.truncated = true;
                        }
                    }
                    command
                }),
            )
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
            let row = find(conn, &inner, &asked)?;
            if row.status == CommandStatus::Cancelled {
                return Ok(());
            }
            if row.status.is_over() {
                return Err(Error::Conflict(format!(
                    "The command is over: {}",
                    row.status
                )));
            }
            let event = Event::success(Action::CommandCancel)
                .container(&row.container_id)
                .with("subject", row.id.as_str());
            audit::record(conn, &inner, event)?;
            if db::commands::cancel_queued(conn, &row.id, inner.now())? {
                tell(conn, &inner, &row.id, &row.container_id)
            } else {
                Ok(db::commands::request_cancel(conn, &row.id)?)
            }
        })
        .await?;
    ctx.app().waiting.ring(&cancel_key(id));
    ctx.app().waiting.ring(id);
    get_when_over(ctx, id, Duration::from_secs(15)).await
}

/// What rings when a command is to be cancelled.
#[must_use]
pub fn cancel_key(id: &str) -> String {
    format!("cancel:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_a_program_or_a_line() {
        assert!(matches!(
            check(NewCommand::default()),
            Err(Error::BadRequest(_))
        ));
        let line = NewCommand {
            command: Some("uname -a".into()),
            ..NewCommand::default()
        };
        let (shown, spec, timeout) = check(line).unwrap();
        assert_eq!((shown.as_str(), timeout), ("uname -a", 600));
        assert_eq!(spec.argv, ["/bin/sh", "-c", "uname -a"]);
    }

    #[test]
    fn programs_are_shown_as_a_shell_would_take_them() {
        let new = NewCommand {
            program: Some("echo".into()),
            args: vec!["it's".into(), "a b".into(), String::new()],
            ..NewCommand::default()
        };
        assert_eq!(check(new).unwrap().0, r"echo 'it'\''s' 'a b' ''");
    }

    #[test]
    fn bad_fields_are_named() {
        let new = NewCommand {
            command: Some("x".into()),
            cwd: Some("tmp".into()),
            user: Some("a b".into()),
            timeout_seconds: Some(0),
            ..NewCommand::default()
        };
        let error = check(new).unwrap_err();
        let fields: Vec<&str> = error.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["cwd", "user", "timeout_seconds"]);
    }
}
