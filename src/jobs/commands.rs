//! Running commands: claimed once, run in the container, their output and end recorded.
//!
//! To end a running command for one more reason, add it to the loop of [`execute`].

mod kept;
mod places;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::kept::{Taken, recovered};
use self::places::{Place, Places};
use crate::app::App;
use crate::db::commands::{CommandRow, Ending};
use crate::db::{self};
use crate::domain::commands::{self, CommandSpec, CommandStatus, cancel_key};
use crate::domain::containers::{ContainerState, Wanted};
use crate::domain::ctx::Ctx;
use crate::domain::ids::CommandId;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::runtime::{Exec, ExecSpec, ExitStatus, RuntimeError, Stream};

pub(super) use crate::domain::commands::forget_output;

/// How long after a kill the end is waited for.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// How long the queue is left alone after it could not be claimed from.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// How often another server's request to cancel is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long after a failure an end is first recorded again, and at most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Ends what a server that is gone had begun, with the output that it had written down: the reader of
/// the rest is gone with it.
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
        let ending = abandoned(app, &row, "The server was restarted while the command ran").await;
        finish(app, &row, &Arc::new(ending), app.clock.now().into()).await?;
    }
    Ok(())
}

/// Kills what nobody waits for any more; its end, with the output that was written down.
async fn abandoned(app: &App, row: &CommandRow, why: &str) -> Ending {
    if let Err(error) = app
        .runtime
        .kill_exec(&row.container_id, row.id.as_str())
        .await
    {
        tracing::warn!(%error, command = %row.id, "a left-over command could not be killed");
    }
    Ending {
        error: Some(why.into()),
        ..recovered(app, &row.id).await.ending(CommandStatus::Failed)
    }
}

/// Claims and runs commands until `stop` is cancelled.
pub async fn dispatch(app: App, stop: CancellationToken) {
    let places: Arc<Mutex<Places>> = Arc::default();
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        if let Err(error) = claim_all(&app, &mut running, &places).await {
            tracing::error!(%error, "the queue of commands could not be read");
            // The place that was taken for it rings when it is free again: without a pause the next
            // turn would be at once, and fail as this one did.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AFTER_ERROR) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.commands_ready.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        while let Some(ended) = running.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a command's task was lost");
            }
        }
    }
}

/// Claims what may run now. Whoever has the fewest running comes first, so that nobody's thousand
/// commands keep another's one waiting.
async fn claim_all(
    app: &App,
    running: &mut JoinSet<()>,
    places: &Arc<Mutex<Places>>,
) -> Result<()> {
    loop {
        let node = app.node_name.clone();
        let mut waiting = app
            .db
            .read(move |conn| Ok(db::commands::waiting(conn, &node)?))
            .await?;
        {
            let places = places.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.sort_by_cached_key(|(user, container, id)| {
                (places.of(container, user), id.clone())
            });
        }
        let mut claimed = false;
        for (user, container, id) in waiting {
            let Some(place) = Place::take(app, places, &container, &user) else {
                continue;
            };
            if let Some(row) = claim(app, id).await? {
                claimed = true;
                running.spawn(run(app.clone(), row, place));
            }
        }
        // Each had one turn; whoever has more waiting gets the next.
        if !claimed {
            return Ok(());
        }
    }
}

/// The command, if it still waited.
async fn claim(app: &App, id: CommandId) -> Result<Option<CommandRow>> {
    let ctx = Ctx::system(app.clone(), "commands");
    app.db
        .write(move |conn| {
            if !db::commands::claim(conn, &id, ctx.now())? {
                return Ok(None);
            }
            let Some(row) = db::commands::get(conn, &id)? else {
                return Ok(None);
            };
            commands::tell(conn, &ctx, &row.id, &row.container_id)?;
            Ok(Some(row))
        })
        .await
}

async fn run(app: App, row: CommandRow, place: Place) {
    let span = tracing::info_span!("command", id = %row.id, container_id = %row.container_id);
    let work = async {
        let executing = AssertUnwindSafe(execute(&app, &row)).catch_unwind();
        let ending = match executing.await {
            Ok(ending) => ending,
            Err(_panic) => lost(&app, &row).await,
        };
        close(&app, &row, Arc::new(ending)).await;
    };
    tracing::Instrument::instrument(work, span).await;
    drop(place);
}

/// The end of one that a fault of the server's own left behind.
async fn lost(app: &App, row: &CommandRow) -> Ending {
    const WHY: &str = "The server failed while the command ran";
    tracing::error!("a command was lost to a panic");
    let leaving = AssertUnwindSafe(abandoned(app, row, WHY)).catch_unwind();
    leaving.await.unwrap_or_else(|_panic| could_not(WHY))
}

/// Records the end, however long the database is away; when the server ends before, the next one
/// does it.
async fn close(app: &App, row: &CommandRow, ending: Arc<Ending>) {
    let ended = app.clock.now().into();
    let (mut pause, longest) = RETRY_AFTER;
    while let Err(error) = finish(app, row, &ending, ended).await {
        tracing::error!(%error, "a command's end could not be recorded; it is tried again");
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = longest.min(pause * 2);
    }
}

async fn finish(app: &App, row: &CommandRow, ending: &Arc<Ending>, ended: Time) -> Result<()> {
    let ctx = Ctx::system(app.clone(), "commands");
    let (id, container) = (row.id.clone(), row.container_id.clone());
    let ending = Arc::clone(ending);
    app.db
        .write(move |conn| {
            if db::commands::finish(conn, &id, &ending, ended)? {
                commands::tell(conn, &ctx, &id, &container)?;
            }
            Ok(())
        })
        .await?;
    app.waiting.ring(row.id.as_str());
    Ok(())
}

/// Ends when the row asks for the command's end: another server of the database can ring here for
/// nobody.
async fn asked_elsewhere(app: &App, id: &CommandId) {
    if !app.db.is_shared() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match is_cancel_requested(app, id).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "a command's record cannot be read again"),
        }
    }
}

async fn is_cancel_requested(app: &App, id: &CommandId) -> Result<bool> {
    let id = id.clone();
    app.db
        .read(move |conn| Ok(db::commands::is_cancel_requested(conn, &id)?))
        .await
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

const STOPPED: &str = "The container stopped while the command ran";

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
    match is_cancel_requested(app, &row.id).await {
        Ok(true) => return ending(CommandStatus::Cancelled),
        Ok(false) => {}
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
        Err(RuntimeError::NotRunning | RuntimeError::NotFound) => {
            return could_not("The container is not running");
        }
        // Whatever it met with while its container went.
        Err(_) if is_stopping(app, row).await => {
            return could_not(commands::NEVER_BEGAN);
        }
        Err(RuntimeError::CannotRun(why)) => return could_not(why),
        Err(failure) => {
            let error = Error::from_runtime(failure);
            tracing::error!(%error, "a command could not be started");
            return could_not(error.message());
        }
    };
    let limit = Duration::from_secs(u64::try_from(row.timeout_seconds).unwrap_or_default());
    let mut taken = Taken::new(app.spools.writer(&row.id));
    let Exec {
        mut output,
        mut exit,
    } = exec;
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    let elsewhere = asked_elsewhere(app, &row.id);
    tokio::pin!(elsewhere);
    let mut killed: Option<CommandStatus> = None;
    let mut open = true;
    let ended = loop {
        tokio::select! {
            chunk = output.recv(), if open => match chunk {
                Some(chunk) => taken.take(chunk, &mut output).await,
                None => open = false,
            },
            ended = &mut exit => break ended,
            () = &mut deadline, if killed.is_none() => killed = Some(CommandStatus::TimedOut),
            () = cancelled.rung(), if killed.is_none() => killed = Some(CommandStatus::Cancelled),
            () = &mut elsewhere, if killed.is_none() => killed = Some(CommandStatus::Cancelled),
        }
        if let Some(status) = killed {
            return kill(app, row, taken, status, output, exit).await;
        }
    };
    taken.take_rest(&mut output).await;
    let kept = taken.kept;
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
        // Its program never began, so what there is on the streams is the runtime's dismay.
        Ok(Err(RuntimeError::CannotRun(_))) if is_stopping(app, row).await => could_not(STOPPED),
        Ok(Err(RuntimeError::CannotRun(why))) => could_not(why),
        Ok(Err(RuntimeError::NotRunning | RuntimeError::NotFound)) | Err(_) => Ending {
            error: Some(STOPPED.into()),
            ..kept.ending(CommandStatus::Failed)
        },
        Ok(Err(_)) if is_stopping(app, row).await => Ending {
            error: Some(STOPPED.into()),
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
    (code >= 128 && is_stopping(app, row).await).then(|| STOPPED.to_owned())
}

/// Whether its container stands still, or is to.
async fn is_stopping(app: &App, row: &CommandRow) -> bool {
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
    matches!(stopping, Ok(true))
}

type Output = tokio::sync::mpsc::Receiver<(Stream, Bytes)>;
type Exit = tokio::sync::oneshot::Receiver<std::result::Result<ExitStatus, RuntimeError>>;

/// Kills it and keeps what it wrote until then.
async fn kill(
    app: &App,
    row: &CommandRow,
    mut taken: Taken,
    status: CommandStatus,
    mut output: Output,
    exit: Exit,
) -> Ending {
    let killing = app.runtime.kill_exec(&row.container_id, row.id.as_str());
    if let Err(error) = killing.await {
        tracing::warn!(%error, "a command could not be killed");
    }
    let rest = async {
        taken.take_rest(&mut output).await;
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
        ..taken.kept.ending(status)
    }
}
