//! Commands.
//!
//! To show more of a command, extend [`CommandView`].

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PageQuery;
use crate::domain::commands::{self, Command, NewCommand};
use crate::domain::ctx::Ctx;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::web::extract::{Json, Query, QueryWhole, Whole};
use crate::web::reply::{Data, Listed, Reply};

/// Longest wait for an end, in seconds.
const MAX_WAIT: u64 = 60;

/// What is asked for: a line for the shell, or a program with its arguments.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "command": "uname -a", "timeout_seconds": 60 }))]
pub struct NewCommandBody {
    /// Run by the container's `/bin/sh -c`; this or `program` is required. At most 64 KiB.
    command: Option<String>,
    /// Run as it is, with `args`, without a shell.
    program: Option<String>,
    /// At most 1000.
    args: Option<Vec<String>>,
    /// Absolute; the user's home when none.
    cwd: Option<String>,
    /// At most 200 variables.
    env: Option<BTreeMap<String, String>>,
    /// A user of the container; root when none.
    user: Option<String>,
    /// 1 to 86400; 600 when none.
    timeout_seconds: Option<Whole>,
}

/// A command and what came of it.
#[derive(Serialize, ToSchema)]
pub struct CommandView {
    id: String,
    container_id: String,
    requested_by: String,
    command: String,
    /// `queued`, `running`, `completed`, `failed`, `cancelled` or `timed_out`.
    status: &'static str,
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
    /// Whether a stream was longer than what is shown.
    truncated: bool,
    /// Why it could not run, or was ended.
    error: Option<String>,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
}

impl From<Command> for CommandView {
    fn from(command: Command) -> Self {
        Self {
            id: command.id.to_string(),
            container_id: command.container_id.to_string(),
            requested_by: command.requested_by.to_string(),
            command: command.command,
            status: command.status.as_str(),
            exit_code: command.exit_code,
            stdout: command.stdout,
            stderr: command.stderr,
            truncated: command.truncated,
            error: command.error,
            created_at: command.created_at.rfc3339(),
            started_at: command.started_at.map(Time::rfc3339),
            finished_at: command.finished_at.map(Time::rfc3339),
        }
    }
}

/// `?wait_seconds=`.
#[derive(Debug, Deserialize)]
pub struct WaitQuery {
    wait_seconds: Option<QueryWhole>,
}

/// # Errors
/// As `commands::create`.
pub async fn create(ctx: Ctx, id: Path<String>, body: Json<NewCommandBody>) -> Reply<CommandView> {
    let body = body.0;
    let new = NewCommand {
        command: body.command,
        program: body.program,
        args: body.args.unwrap_or_default(),
        cwd: body.cwd,
        env: body.env.unwrap_or_default(),
        user: body.user,
        timeout_seconds: body.timeout_seconds.map(|whole| whole.0),
    };
    Ok(Data(commands::create(&ctx, &id, new).await?.into()))
}

/// # Errors
/// As `commands::list`.
pub async fn list(
    ctx: Ctx,
    id: Path<String>,
    query: Query<PageQuery>,
) -> Result<Listed<CommandView>> {
    let page = commands::list(&ctx, &id, query.0.parse()).await?;
    Ok(Listed(page.map(CommandView::from)))
}

/// # Errors
/// As `commands::get`.
pub async fn get(ctx: Ctx, id: Path<String>, query: Query<WaitQuery>) -> Reply<CommandView> {
    let wait = query.0.wait_seconds.map_or(0, |whole| whole.0);
    let wait = u64::try_from(wait)
        .ok()
        .filter(|wait| *wait <= MAX_WAIT)
        .ok_or_else(|| {
            let rule = format!("wait_seconds must be between 0 and {MAX_WAIT}");
            Error::field("wait_seconds", rule)
        })
        .map(Duration::from_secs);
    Ok(Data(commands::get_when_over(&ctx, &id, wait).await?.into()))
}

/// # Errors
/// As `commands::cancel`.
pub async fn cancel(ctx: Ctx, id: Path<String>) -> Reply<CommandView> {
    Ok(Data(commands::cancel(&ctx, &id).await?.into()))
}
