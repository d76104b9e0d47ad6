//! Running commands: claimed once, run in the container, their output and end recorded.
//!
//! To follow a command's output while it runs, listen where [`Kept::take`] is called: every byte
//! passes there in order.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::commands::{CommandRow, Ending};
use crate::db::{self};
use crate::domain::commands::{CommandSpec, CommandStatus, KEPT_OUTPUT, cancel_key};
use crate::domain::containers::{ContainerState, Wanted};
use crate::domain::ids::{CommandId, ContainerId};
use crate::error::{Error, Result};
use crate::runtime::{Exec, ExecSpec, ExitStatus, RuntimeError, Stream};

/// Commands that run side by side on this node, and in one container.
const SIDE_BY_SIDE: usize = 64;
const PER_CONTAINER: usize = 16;
/// How long after a kill the end is waited for.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// Ends what a server that is gone had begun: its output's reader is gone with it.
///
/// # Errors
/// When the database fails.
pub async fn take_up(app: &App) -> Result<()> {
    let node = app.node_name.clone();
    let left = app
        .db
        .read(move |conn| Ok(db::commands::running(conn, &node)?))
        .await?;
    for row in left {
        if let Err(error) = app
            .runtime
            .kill_exec(&row.container_id, row.id.as_str())
            .await
        {
            tracing::warn!(%error, command = %row.id, "a left-over command could not be killed");
        }
        let why = "The server was restarted while the command ran";
        let ending = Ending {
            error: Some(why.into()),
            ..ending(CommandStatus::Failed)
        };
        finish(app, &row.id, ending).await?;
    }
    Ok(())
}

/// Claims and runs commands until `stop` is cancelled.
pub async fn dispatch(app: App, stop: CancellationToken) {
    let mut running: JoinSet<ContainerId> = JoinSet::new();
    let mut per_container: HashMap<ContainerId, usize> = HashMap::new();
    loop {
        if let Err(error) = claim_all(&app, &mut running, &mut per_container).await {
            tracing::error!(%error, "the queue of commands could not be read");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.commands_ready.notified() => {}
            Some(ended) = running.join_next() => free(&mut per_container, ended),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        while let Some(ended) = running.try_join_next() {
            free(&mut per_container, ended);
        }
    }
}

fn free(
    per_container: &mut HashMap<ContainerId, usize>,
    ended: std::result::Result<ContainerId, tokio::task::JoinError>,
) {
    match ended {
        Ok(id) => {
            if let Some(count) = per_container.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    per_container.remove(&id);
                }
            }
        }
        Err(error) => tracing::error!(%error, "a command's task was lost"),
    }
}

async fn claim_all(
    app: &App,
    running: &mut JoinSet<ContainerId>,
    per_container: &mut HashMap<ContainerId, usize>,
) -> Result<()> {
    if running.len() >= SIDE_BY_SIDE {
        return Ok(());
    }
    let node = app.node_name.clone();
    let waiting = app
        .db
        .read(move |conn| Ok(db::commands::queued(conn, &node, 200)?))
        .await?;
    for row in waiting {
        let count = per_container.entry(row.container_id.clone()).or_default();
        if *count >= PER_CONTAINER || running.len() >= SIDE_BY_SIDE {
            continue;
        }
        let (id, now) = (row.id.clone(), app.clock.now().into());
        if !app
            .db
            .write(move |conn| Ok(db::commands::claim(conn, &id, now)?))
            .await?
        {
            continue;
        }
        *count += 1;
        running.spawn(run(app.clone(), row));
    }
    per_container.retain(|_, count| *count > 0);
    Ok(())
}

async fn run(app: App, row: CommandRow) -> ContainerId {
    let container = row.container_id.clone();
    let span = tracing::info_span!("command", id = %row.id, container_id = %container);
    let work = async {
        let ending = execute(&app, &row).await;
        if let Err(error) = finish(&app, &row.id, ending).await {
            tracing::error!(%error, "a command's end could not be recorded");
        }
    };
    tracing::Instrument::instrument(work, span).await;
    container
}

async fn finish(app: &App, id: &CommandId, ending: Ending) -> Result<()> {
    let (key, now) = (id.clone(), app.clock.now().into());
    app.db
        .write(move |conn| Ok(db::commands::finish(conn, &key, &ending, now)?))
        .await?;
    app.waiting.ring(id.as_str());
    Ok(())
}

const fn ending(status: CommandStatus) -> Ending {
    Ending {
        status,
        exit_code: None,
        stdout: String::new(),
        stderr: String::new(),
        truncated: false,
        error: None,
    }
}

fn could_not(why: impl Into<String>) -> Ending {
    Ending {
        error: Some(why.into()),
        ..ending(CommandStatus::Failed)
    }
}

/// What a record keeps of the two streams.
#[derive(Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn take(&mut self, stream: Stream, chunk: &Bytes) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = KEPT_OUTPUT - kept.len();
        if chunk.len() > room {
            self.truncated = true;
        }
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    fn ending(self, status: CommandStatus) -> Ending {
        Ending {
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            truncated: self.truncated,
            ..ending(status)
        }
    }
}

/// As text for both databases: PostgreSQL has no NUL in text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}")
}

async fn execute(app: &App, row: &CommandRow) -> Ending {
    let spec: CommandSpec = match serde_json::from_str(&row.spec) {
        Ok(spec) => spec,
        Err(error) => {
            tracing::error!(%error, "a command's record cannot be read");
            return could_not("The command's record cannot be read");
        }
    };
    // Registered before the start, so that no request to cancel falls between; one that came
    // before it rang for nobody, and is in the row.
    let cancelled = app.waiting.listen(&cancel_key(row.id.as_str()));
    let id = row.id.clone();
    let latest = app.db.read(move |conn| Ok(db::commands::get(conn, &id)?));
    match latest.await {
        Ok(Some(latest)) if latest.cancel_requested => return ending(CommandStatus::Cancelled),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "a command's record cannot be read again"),
    }
    let exec = ExecSpec {
        exec_id: row.id.to_string(),
        argv: spec.argv,
        cwd: spec.cwd,
        env: spec.env.into_iter().collect(),
        user: spec.user,
    };
    let exec = match app.runtime.exec(&row.container_id, exec).await {
        Ok(exec) => exec,
        Err(RuntimeError::CannotRun(why)) => return could_not(why),
        Err(RuntimeError::NotRunning | RuntimeError::NotFound) => {
            return could_not("The container is not running");
        }
        Err(failure) => {
            let error = Error::from_runtime(failure);
            tracing::error!(%error, "a command could not be started");
            return could_not(error.message());
        }
    };
    let limit = Duration::from_secs(u64::try_from(row.timeout_seconds).unwrap_or_default());
    let mut kept = Kept::default();
    let Exec {
        mut output,
        mut exit,
    } = exec;
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    let mut killed: Option<CommandStatus> = None;
    let mut open = true;
    let ended = loop {
        tokio::select! {
            chunk = output.recv(), if open => match chunk {
                Some((stream, bytes)) => kept.take(stream, &bytes),
                None => open = false,
            },
            ended = &mut exit => break ended,
            () = &mut deadline, if killed.is_none() => killed = Some(CommandStatus::TimedOut),
            () = cancelled.rung(), if killed.is_none() => killed = Some(CommandStatus::Cancelled),
        }
        if let Some(status) = killed {
            return kill(app, row, kept, status, output, exit).await;
        }
    };
    while let Some((stream, bytes)) = output.recv().await {
        kept.take(stream, &bytes);
    }
    match ended {
        Ok(Ok(ExitStatus { code: 0 })) => Ending {
            exit_code: Some(0),
            ..kept.ending(CommandStatus::Completed)
        },
        Ok(Ok(ExitStatus { code })) => Ending {
            exit_code: Some(code),
            error: stopped_meanwhile(app, row, code).await,
            ..kept.ending(CommandStatus::Failed)
        },
        Ok(Err(RuntimeError::CannotRun(why))) => Ending {
            error: Some(why),
            ..kept.ending(CommandStatus::Failed)
        },
        Ok(Err(RuntimeError::NotRunning | RuntimeError::NotFound)) | Err(_) => Ending {
            error: Some("The container stopped while the command ran".into()),
            ..kept.ending(CommandStatus::Failed)
        },
        Ok(Err(failure)) => {
            let error = Error::from_runtime(failure);
            tracing::error!(%error, "a command was lost");
            Ending {
                error: Some(error.message()),
                ..kept.ending(CommandStatus::Failed)
            }
        }
    }
}

/// Why a command that a signal ended was ended, when it was its container's stop.
async fn stopped_meanwhile(app: &App, row: &CommandRow, code: i32) -> Option<String> {
    if code < 128 {
        return None;
    }
    let id = row.container_id.clone();
    let stopping = app
        .db
        .read(move |conn| {
            let row = db::containers::get(conn, &id)?.map(|owned| owned.0);
            Ok(row.is_none_or(|row| {
                row.state != ContainerState::Running || row.wanted != Wanted::Running
            }))
        })
        .await;
    matches!(stopping, Ok(true)).then(|| "The container stopped while the command ran".to_owned())
}

type Output = tokio::sync::mpsc::Receiver<(Stream, Bytes)>;
type Exit = tokio::sync::oneshot::Receiver<std::result::Result<ExitStatus, RuntimeError>>;

/// Kills it and keeps what it wrote until then.
async fn kill(
    app: &App,
    row: &CommandRow,
    mut kept: Kept,
    status: CommandStatus,
    mut output: Output,
    exit: Exit,
) -> Ending {
    let killing = app.runtime.kill_exec(&row.container_id, row.id.as_str());
    if let Err(error) = killing.await {
        tracing::warn!(%error, "a command could not be killed");
    }
    let rest = async {
        while let Some((stream, bytes)) = output.recv().await {
            kept.take(stream, &bytes);
        }
        let _how = exit.await;
    };
    let dead = tokio::time::timeout(KILL_WAIT, rest).await.is_ok();
    let why = match (status, dead) {
        (_, false) => Some("The command did not end when it was killed".to_owned()),
        (CommandStatus::TimedOut, true) => Some(format!(
            "The command took longer than {} seconds",
            row.timeout_seconds
        )),
        _ => None,
    };
    Ending {
        error: why,
        ..kept.ending(status)
    }
}
