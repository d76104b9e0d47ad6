//! Running commands: claimed once, run in the container, their output and end recorded.
//!
//! To do one more thing with a command's output, do it in [`Taken::take`]: every byte passes there in
//! order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::Config;
use crate::db::commands::{CommandRow, Ending};
use crate::db::{self};
use crate::domain::commands::{self, CommandSpec, CommandStatus, KEPT_OUTPUT, cancel_key};
use crate::domain::containers::{ContainerState, Wanted};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{CommandId, ContainerId, UserId};
use crate::error::{Error, Result};
use crate::runtime::{Exec, ExecSpec, ExitStatus, RuntimeError, Stream};
use crate::spool::{Piece, Writer};

/// Commands that run side by side on this node.
const SIDE_BY_SIDE: usize = 256;
/// How long after a kill the end is waited for.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Chunks of output that are written down together.
const BATCH: usize = 8;

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
            ..recovered(app, &row.id).await.ending(CommandStatus::Failed)
        };
        finish(app, &row, ending).await?;
    }
    Ok(())
}

/// What an earlier server had written down of a command's output.
async fn recovered(app: &App, id: &CommandId) -> Kept {
    let mut reader = app.spools.reader(id);
    let reading = tokio::task::spawn_blocking(move || {
        let mut kept = Kept::default();
        loop {
            match reader.read() {
                Ok(Piece::Output(output)) => {
                    for (stream, chunk) in output {
                        kept.take(stream, &chunk);
                    }
                }
                Ok(Piece::Dropped(_)) => kept.truncated = true,
                Ok(Piece::Nothing) => return kept,
                Err(error) => {
                    tracing::warn!(%error, "a command's output could not be read");
                    return kept;
                }
            }
        }
    });
    reading.await.unwrap_or_default()
}

/// Removes what listeners could still have read of commands that are gone.
pub async fn forget_output(app: &App, ids: Vec<CommandId>) {
    let app = app.clone();
    let removing = tokio::task::spawn_blocking(move || {
        for id in &ids {
            app.spools.remove(id);
        }
    });
    if let Err(error) = removing.await {
        tracing::warn!(%error, "commands' output was not removed");
    }
}

/// How many run, in which container and whose.
#[derive(Debug, Default)]
struct Places {
    all: usize,
    containers: HashMap<ContainerId, usize>,
    users: HashMap<UserId, usize>,
}

/// One of them; free again when it is dropped, panics included.
struct Place {
    app: App,
    places: Arc<Mutex<Places>>,
    container: ContainerId,
    user: UserId,
}

impl Places {
    fn of(&self, container: &ContainerId, user: &UserId) -> (usize, usize) {
        let count = |found: Option<&usize>| found.copied().unwrap_or_default();
        let in_container = count(self.containers.get(container));
        (count(self.users.get(user)), in_container)
    }

    fn is_free(&self, config: &Config, container: &ContainerId, user: &UserId) -> bool {
        let (of_user, in_container) = self.of(container, user);
        self.all < SIDE_BY_SIDE
            && of_user < config.jobs_per_user
            && in_container < config.jobs_per_container
    }
}

impl Place {
    fn take(
        app: &App,
        places: &Arc<Mutex<Places>>,
        container: &ContainerId,
        user: &UserId,
    ) -> Option<Self> {
        let mut all = places.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.is_free(&app.config, container, user) {
            return None;
        }
        all.all += 1;
        *all.containers.entry(container.clone()).or_default() += 1;
        *all.users.entry(user.clone()).or_default() += 1;
        Some(Self {
            app: app.clone(),
            places: Arc::clone(places),
            container: container.clone(),
            user: user.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        all.all -= 1;
        if let Some(count) = all.containers.get_mut(&self.container) {
            *count -= 1;
        }
        if let Some(count) = all.users.get_mut(&self.user) {
            *count -= 1;
        }
        all.containers.retain(|_, count| *count > 0);
        all.users.retain(|_, count| *count > 0);
        drop(all);
        self.app.commands_ready.notify_one();
    }
}

/// Claims and runs commands until `stop` is cancelled.
pub async fn dispatch(app: App, stop: CancellationToken) {
    let places: Arc<Mutex<Places>> = Arc::default();
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        if let Err(error) = claim_all(&app, &mut running, &places).await {
            tracing::error!(%error, "the queue of commands could not be read");
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
        let ending = execute(&app, &row).await;
        if let Err(error) = finish(&app, &row, ending).await {
            tracing::error!(%error, "a command's end could not be recorded");
        }
    };
    tracing::Instrument::instrument(work, span).await;
    drop(place);
}

async fn finish(app: &App, row: &CommandRow, ending: Ending) -> Result<()> {
    let ctx = Ctx::system(app.clone(), "commands");
    let (id, container) = (row.id.clone(), row.container_id.clone());
    app.db
        .write(move |conn| {
            if db::commands::finish(conn, &id, &ending, ctx.now())? {
                commands::tell(conn, &ctx, &id, &container)?;
            }
            Ok(())
        })
        .await?;
    app.waiting.ring(row.id.as_str());
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

/// A command's output on its way: all of it to its spool, the beginning of each stream to its record.
struct Taken {
    kept: Kept,
    spool: Writer,
}

impl Taken {
    /// All that has come by now, beginning with what was received already.
    async fn take(&mut self, first: (Stream, Bytes), output: &mut Output) {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(chunk) = output.try_recv()
        {
            batch.push(chunk);
        }
        for (stream, bytes) in &batch {
            self.kept.take(*stream, bytes);
        }
        self.spool.append(batch).await;
    }

    /// All that is still to come.
    async fn take_rest(&mut self, output: &mut Output) {
        while let Some(chunk) = output.recv().await {
            self.take(chunk, output).await;
        }
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
    let mut taken = Taken {
        kept: Kept::default(),
        spool: app.spools.writer(&row.id),
    };
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
                Some(chunk) => taken.take(chunk, &mut output).await,
                None => open = false,
            },
            ended = &mut exit => break ended,
            () = &mut deadline, if killed.is_none() => killed = Some(CommandStatus::TimedOut),
            () = cancelled.rung(), if killed.is_none() => killed = Some(CommandStatus::Cancelled),
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
        Ok(Err(RuntimeError::CannotRun(why))) => Ending {
            error: Some(why),
            ..kept.ending(CommandStatus::Failed)
        },
        Ok(Err(RuntimeError::NotRunning | RuntimeError::NotFound)) | Err(_) => Ending {
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
