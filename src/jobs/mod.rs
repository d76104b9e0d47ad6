//! Background work: jobs are rows, claimed one by one with an atomic UPDATE, done here, and their
//! end is recorded in one transaction with what they changed.
//!
//! To add a kind: a word in `domain::jobs::JobKind` and its branch in [`run`]. A job must be able
//! to run again after the server ended in its middle: drivers answer the same for what is done.

pub mod commands;
pub mod containers;
pub mod images;
pub mod reconcile;
pub mod retention;
pub mod waiting;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::actor::Actor;
use crate::db::{self, jobs::JobRow};
use crate::domain::ctx::{Ctx, Origin};
use crate::domain::events;
use crate::domain::ids::JobId;
use crate::domain::jobs::JobKind;
use crate::domain::terminals;
use crate::domain::time::Time;
use crate::error::Result;

/// How long a claimed job may be without a worker: longer than a claim takes to be answered.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Jobs that run side by side.
const SIDE_BY_SIDE: usize = 32;
/// A job that was begun this often and never ended is given up: perhaps it is what ends the server.
/// Making an image takes minutes, in which an operator may well restart the server a few times.
const fn max_attempts(kind: JobKind) -> i32 {
    match kind {
        JobKind::ImagePrepare => 12,
        _ => 3,
    }
}

/// Starts all background work; it ends when `stop` is cancelled. What is running then is taken up
/// again by the next server.
pub fn spawn(app: &App, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(dispatch(app.clone(), stop.clone()));
    tasks.spawn(commands::dispatch(app.clone(), stop.clone()));
    tasks.spawn(images::try_again(app.clone(), stop.clone()));
    tasks.spawn(reconcile::watch(app.clone(), stop.clone()));
    tasks.spawn(retention::sweep(app.clone(), stop.clone()));
    tasks.spawn(terminals::watch(app.clone(), stop.clone()));
    tasks.spawn(events::carry(app.clone(), stop.clone()));
    tasks
}

/// Puts back what a server that is gone had begun.
///
/// # Errors
/// When the database fails.
pub async fn take_up(app: &App) -> Result<()> {
    let node = app.node_name.clone();
    let count = app
        .db
        .write(move |conn| Ok(db::jobs::requeue_running(conn, &node)?))
        .await?;
    if count > 0 {
        tracing::info!(count, "jobs of an earlier server are taken up again");
    }
    Ok(())
}

/// What is being worked on, and by which job: never two of one container or one image at once.
type Busy = Arc<Mutex<HashMap<String, JobId>>>;

async fn dispatch(app: App, stop: CancellationToken) {
    let busy: Busy = Arc::default();
    let mut running = JoinSet::new();
    let mut looked = tokio::time::Instant::now();
    loop {
        while running.try_join_next().is_some() {}
        if looked.elapsed() >= LOST_AFTER {
            looked = tokio::time::Instant::now();
            if let Err(error) = find_lost(&app, &busy).await {
                tracing::warn!(%error, "jobs without a worker could not be looked for");
            }
        }
        if let Err(error) = claim_all(&app, &busy, &mut running).await {
            tracing::error!(%error, "the queue of jobs could not be read");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.jobs_ready.notified() => {}
            // Another server may have queued work for this node.
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// Puts back jobs that were claimed for this server and that nobody works on: the answer to the
/// claim was lost with its connection.
async fn find_lost(app: &App, busy: &Busy) -> Result<()> {
    let (node, now): (_, Time) = (app.node_name.clone(), app.clock.now().into());
    let before = now.plus(-TimeDelta::seconds(LOST_AFTER.as_secs().cast_signed()));
    let begun = app
        .db
        .read(move |conn| Ok(db::jobs::running_since(conn, &node, before)?))
        .await?;
    for id in begun {
        let held = busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .any(|job| *job == id);
        if !held {
            tracing::warn!(%id, "a job that nobody works on is put back");
            app.db
                .write(move |conn| Ok(db::jobs::requeue(conn, &id)?))
                .await?;
        }
    }
    Ok(())
}

async fn claim_all(app: &App, busy: &Busy, running: &mut JoinSet<()>) -> Result<()> {
    let node = app.node_name.clone();
    let waiting = app
        .db
        .read(move |conn| Ok(db::jobs::queued(conn, &node, 500)?))
        .await?;
    // An older job of the same container goes first, even when it cannot be begun now.
    let mut passed: HashSet<String> = HashSet::new();
    for job in waiting {
        let key = job.container_id.as_ref().map_or_else(
            || format!("image {}", job.subject),
            |id| format!("container {id}"),
        );
        let taken = passed.contains(&key)
            || busy
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(&key);
        passed.insert(key.clone());
        // Containers wait for their images, so these are never behind them.
        let full = running.len() >= SIDE_BY_SIDE && job.container_id.is_some();
        if taken || full {
            continue;
        }
        let (id, now) = (job.id.clone(), app.clock.now().into());
        if !app
            .db
            .write(move |conn| Ok(db::jobs::claim(conn, &id, now)?))
            .await?
        {
            continue;
        }
        busy.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), job.id.clone());
        running.spawn(run(
            app.clone(),
            job,
            Release {
                busy: Arc::clone(busy),
                key,
            },
        ));
    }
    Ok(())
}

/// Frees a container for its next job when this one is over, panics included.
struct Release {
    busy: Busy,
    key: String,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

/// Does one claimed job and records its end.
async fn run(app: App, job: JobRow, release: Release) {
    let origin = Origin {
        request_id: job.request_id.clone(),
        ..Origin::default()
    };
    let ctx = Ctx::new(app.clone(), Actor::System("job"), origin);
    let span = tracing::info_span!(
        "job",
        id = %job.id,
        kind = %job.kind,
        request_id = %job.request_id,
        subject = %release.key,
    );
    let work = async {
        let doing = async {
            if job.attempts >= max_attempts(job.kind) {
                give_up(&ctx, &job).await
            } else {
                begin(&ctx, &job).await
            }
        };
        // Nothing of it is looked at after a panic but the row.
        match AssertUnwindSafe(doing).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "a job's end could not be recorded"),
            Err(_) => tracing::error!("a job panicked"),
        }
        put_back(&app, &job.id).await;
    };
    tracing::Instrument::instrument(work, span).await;
    drop(release);
    app.waiting.ring(job.id.as_str());
    app.jobs_ready.notify_one();
}

/// Has a job done again, as soon as the database can be told so. One that was done already finds
/// nothing to do. At the server's end it stays claimed, and the next start takes it up.
async fn put_back(app: &App, id: &JobId) {
    let mut pause = Duration::from_secs(1);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let id = id.clone();
        let done = app
            .db
            .write(move |conn| Ok(db::jobs::requeue(conn, &id)?))
            .await;
        match done {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "a job could not be put back"),
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

pub(crate) async fn begin(ctx: &Ctx, job: &JobRow) -> Result<()> {
    match job.kind {
        JobKind::ContainerCreate => containers::create(ctx, job).await,
        JobKind::ContainerStart => containers::start(ctx, job).await,
        JobKind::ContainerStop => containers::stop(ctx, job, containers::GRACE).await,
        JobKind::ContainerKill => containers::stop(ctx, job, Duration::ZERO).await,
        JobKind::ContainerRestart => containers::restart(ctx, job).await,
        JobKind::ContainerDelete => containers::delete(ctx, job).await,
        JobKind::ImagePrepare => images::prepare(ctx, job).await,
        JobKind::ImageRemove => images::remove(ctx, job).await,
    }
}

async fn give_up(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let reason = "The server ended again and again while it worked on this; it was given up";
    match (&job.container_id, job.kind) {
        (Some(_), _) => containers::fail(ctx, job, reason).await,
        (None, JobKind::ImagePrepare) => images::fail(ctx, job, reason).await,
        (None, _) => {
            let (id, now) = (job.id.clone(), ctx.now());
            ctx.db()
                .write(move |conn| Ok(db::jobs::finish(conn, &id, Some(reason), now)?))
                .await
        }
    }
}
