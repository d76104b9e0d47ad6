//! Making the database and the engine agree: at the start, when an init dies, and every few
//! seconds. The database is the truth about what is wanted, the engine about what is so.
//!
//! To reconcile one more thing, add it to [`at_start`] and to the rounds of [`watch`].

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::containers::ContainerRow;
use crate::db::{self};
use crate::domain::audit::{self, Action, Event};
use crate::domain::commands;
use crate::domain::containers::{self, ContainerState, Wanted};
use crate::domain::ctx::Ctx;
use crate::domain::ids::ContainerId;
use crate::domain::jobs::{self, JobKind, NewJob};
use crate::domain::time::Time;
use crate::error::Result;
use crate::runtime::{Fact, RuntimeError, RuntimeEvent};

/// How often every container is looked at.
const EVERY: Duration = Duration::from_secs(5);

async fn rows(app: &App) -> Result<Vec<ContainerRow>> {
    let node = app.node_name.clone();
    app.db
        .read(move |conn| Ok(db::containers::list_on_node(conn, &node)?))
        .await
}

/// Before the first request: what runs is taken up, what is left over removed (only now: later, a
/// container made since its rows were read would look left over), and every state made true. After the machine itself was restarted, what should run is started again.
///
/// # Errors
/// When the database fails. An engine that cannot work is no error: the pages then say so.
pub async fn at_start(app: &App) -> Result<()> {
    super::take_up(app).await?;
    let rows = rows(app).await?;
    let known: Vec<ContainerId> = rows.iter().map(|row| row.id.clone()).collect();
    let facts = match app.runtime.reconcile(&known).await {
        Ok(done) => {
            if !done.removed.is_empty() {
                tracing::info!(removed = ?done.removed, "leftovers were removed");
            }
            done.facts
        }
        Err(error) => {
            tracing::error!(%error, "the container engine cannot work");
            super::commands::take_up(app).await?;
            return Ok(());
        }
    };
    super::commands::take_up(app).await?;
    let rebooted = machine_was_restarted(app).await?;
    let ctx = Ctx::system(app.clone(), "reconciler");
    let mut facts: HashMap<ContainerId, Fact> = facts.into_iter().collect();
    for row in rows {
        let fact = facts.remove(&row.id).unwrap_or(Fact::Missing);
        settle(&ctx, &row, &fact, rebooted).await?;
    }
    Ok(())
}

/// Whether this is the first start since the machine was.
async fn machine_was_restarted(app: &App) -> Result<bool> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim().to_owned();
    let name = format!("boot_id:{}", app.node_name);
    app.db
        .write(move |conn| {
            let before = db::settings::get(conn, &name)?;
            db::settings::set(conn, &name, &boot)?;
            Ok(before.is_some_and(|before| before != boot))
        })
        .await
}

/// Makes one row true, in a transaction that leaves alone what has work waiting.
async fn settle(ctx: &Ctx, row: &ContainerRow, fact: &Fact, restart: bool) -> Result<()> {
    let agrees = match (row.state, fact) {
        (ContainerState::Running, Fact::Running(started)) => {
            row.started_at == Some(Time::from(started.started_at))
        }
        (ContainerState::Stopped, Fact::Stopped | Fact::Missing)
        | (ContainerState::Failed, Fact::Stopped | Fact::Missing) => true,
        _ => false,
    };
    if agrees && !restart {
        return Ok(());
    }
    let (inner, row, fact) = (ctx.clone(), row.clone(), fact.clone());
    ctx.db()
        .write(move |conn| {
            let Some((current, ..)) = db::containers::get(conn, &row.id)? else {
                return Ok(());
            };
            // What changed since the fact was read, or is about to, is not ours to judge.
            if current.state != row.state
                || current.updated_at != row.updated_at
                || !db::jobs::open_for(conn, &row.id)?.is_empty()
            {
                return Ok(());
            }
            let queue = |conn: &mut db::Conn, kind| {
                let job = NewJob::of_container(&inner, kind, &row.id, &row.node_name);
                jobs::queue(conn, &inner, &job)
            };
            match (current.wanted, &fact) {
                (Wanted::Deleted, _) => queue(conn, JobKind::ContainerDelete),
                // Made in the transaction that queued its job; without one the job was lost.
                (Wanted::Running, Fact::Missing | Fact::Stopped)
                    if current.state == ContainerState::Provisioning =>
                {
                    queue(conn, JobKind::ContainerCreate)
                }
                (Wanted::Running, Fact::Stopped)
                    if restart && current.state == ContainerState::Running =>
                {
                    queue(conn, JobKind::ContainerStart)
                }
                (_, Fact::Running(started)) => {
                    let at = Some(Time::from(started.started_at));
                    let state = ContainerState::Running;
                    containers::put_state(conn, &inner, &row.id, state, None, at)
                }
                (_, Fact::Stopped) if current.state == ContainerState::Running => {
                    let why = "Its init process ended";
                    let state = ContainerState::Stopped;
                    containers::put_state(conn, &inner, &row.id, state, Some(why), None)?;
                    db::containers::set_wanted(conn, &row.id, Wanted::Stopped, inner.now())?;
                    commands::fail_queued(conn, &inner, &row.id, "The container stopped")?;
                    let event = Event::success(Action::ContainerExit).container(&row.id);
                    audit::record(conn, &inner, event)
                }
                (_, Fact::Missing)
                    if !matches!(
                        current.state,
                        ContainerState::Failed | ContainerState::Deleting
                    ) =>
                {
                    let why = "Its disk is not on this machine any more";
                    let state = ContainerState::Failed;
                    containers::put_state(conn, &inner, &row.id, state, Some(why), None)
                }
                _ => Ok(()),
            }
        })
        .await?;
    jobs::ring(ctx);
    Ok(())
}

/// Looks at one container now.
async fn look_at(ctx: &Ctx, id: &ContainerId) -> Result<()> {
    let wanted = id.clone();
    let row = ctx
        .db()
        .read(move |conn| Ok(db::containers::get(conn, &wanted)?))
        .await?;
    let Some((row, ..)) = row else { return Ok(()) };
    super::containers::forget_reading(ctx, id);
    match ctx.app().runtime.fact(id).await {
        Ok(fact) => settle(ctx, &row, &fact, false).await,
        Err(error) => {
            tracing::warn!(%error, container_id = %id, "a container cannot be looked at");
            Ok(())
        }
    }
}

async fn look_at_all(ctx: &Ctx) -> Result<()> {
    for row in rows(ctx.app()).await? {
        match ctx.app().runtime.fact(&row.id).await {
            Ok(fact) => settle(ctx, &row, &fact, false).await?,
            Err(RuntimeError::Unavailable(_)) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, container_id = %row.id, "a container cannot be looked at");
            }
        }
    }
    Ok(())
}

/// Follows deaths and makes its rounds until `stop` is cancelled.
pub async fn watch(app: App, stop: CancellationToken) {
    let ctx = Ctx::system(app.clone(), "reconciler");
    let mut events = app.runtime.events();
    let mut round = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(RuntimeEvent::Died { id }) => look_at(&ctx, &id).await,
                Err(RecvError::Lagged(_)) => look_at_all(&ctx).await,
                Err(RecvError::Closed) => return,
            },
            _ = round.tick() => look_at_all(&ctx).await,
        };
        if let Err(error) = done {
            tracing::error!(%error, "reconciling failed");
        }
    }
}
