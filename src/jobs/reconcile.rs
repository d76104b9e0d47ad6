//! Making the database and the engine agree: at the start, when an init dies, and every few
//! seconds. The database is the truth about what is wanted, the engine about what is so.
//!
//! To reconcile one more thing, add it to [`at_start`] and to the rounds of [`watch`]; what is only
//! the engine's own goes into its `upkeep`.

use std::collections::HashMap;
use std::sync::PoisonError;
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
/// How often the engine looks whether the machine still has what containers need.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);
/// How often leftovers are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

async fn rows(app: &App) -> Result<Vec<ContainerRow>> {
    let node = app.node_name.clone();
    app.db
        .read(move |conn| Ok(db::containers::list_on_node(conn, &node)?))
        .await
}

/// Before the first request: what runs is taken up, what is left over removed, and every state made
/// true. After the machine itself was restarted, what should run is started again.
///
/// # Errors
/// When the database fails. An engine that cannot work is no error: the pages then say so.
pub async fn at_start(app: &App) -> Result<()> {
    super::take_up(app).await?;
    let rows = rows(app).await?;
    let facts = match sweep(app, &rows).await {
        Ok(facts) => facts,
        Err(error) => {
            tracing::error!(%error, "the container engine cannot work");
            super::commands::take_up(app).await?;
            return Ok(());
        }
    };
    super::commands::take_up(app).await?;
    let after_boot = boot(app).await? == Boot::Another;
    let ctx = Ctx::system(app.clone(), "reconciler");
    let mut facts: HashMap<ContainerId, Fact> = facts.into_iter().collect();
    for row in rows {
        let fact = facts.remove(&row.id).unwrap_or(Fact::Missing);
        settle(&ctx, &row, &fact, after_boot).await?;
    }
    // Only now: a start that is broken off before is made up for by the next one.
    note_boot(app).await
}

/// Has the engine remove leftovers, and tells of containers that nobody claims.
async fn sweep(
    app: &App,
    rows: &[ContainerRow],
) -> std::result::Result<Vec<(ContainerId, Fact)>, RuntimeError> {
    let known: Vec<ContainerId> = rows.iter().map(|row| row.id.clone()).collect();
    let done = app.runtime.reconcile(&known).await?;
    if !done.removed.is_empty() {
        tracing::info!(removed = ?done.removed, "leftovers were removed");
    }
    for container in &done.unclaimed {
        tracing::warn!(
            id = %container.id,
            hostname = container.hostname,
            until = %container.until,
            "a container of this machine is not in the database; it is kept until then"
        );
    }
    *app.unclaimed.lock().unwrap_or_else(PoisonError::into_inner) = done.unclaimed;
    Ok(done.facts)
}

/// Which start of the machine this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    /// The one whose containers have been judged.
    Noted,
    /// A later one: what ran before it was ended by the machine, not by anybody's wish.
    Another,
    /// The first that this database hears of.
    First,
}

fn boot_key(app: &App) -> (String, String) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    (format!("boot_id:{}", app.node_name), boot.trim().to_owned())
}

async fn boot(app: &App) -> Result<Boot> {
    let (name, now) = boot_key(app);
    let noted = app
        .db
        .read(move |conn| Ok(db::settings::get(conn, &name)?))
        .await?;
    Ok(match noted {
        None => Boot::First,
        Some(noted) if noted == now => Boot::Noted,
        Some(_) => Boot::Another,
    })
}

/// Writes down that what ran before this boot has been judged.
async fn note_boot(app: &App) -> Result<()> {
    let (name, now) = boot_key(app);
    app.db
        .write(move |conn| {
            if db::settings::get(conn, &name)?.as_deref() != Some(&now) {
                db::settings::set(conn, &name, &now)?;
            }
            Ok(())
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
            db::containers::hold(conn, &row.id)?;
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
                    let why = "The machine was restarted; it is being started again";
                    let state = ContainerState::Stopped;
                    containers::put_state(conn, &inner, &row.id, state, Some(why), None)?;
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

/// What [`watch`] does, again and again.
struct Rounds {
    ctx: Ctx,
    /// Whether what ran before the machine's last start has been judged. Not at once where the engine
    /// could not work when the server began.
    judged: bool,
}

impl Rounds {
    /// Whether a container that should run and does not was ended by the machine's restart.
    async fn after_boot(&self) -> Result<bool> {
        Ok(!self.judged && boot(self.ctx.app()).await? == Boot::Another)
    }

    /// Looks at one container now.
    async fn one(&self, id: &ContainerId) -> Result<()> {
        let ctx = &self.ctx;
        let wanted = id.clone();
        let row = ctx
            .db()
            .read(move |conn| Ok(db::containers::get(conn, &wanted)?))
            .await?;
        let Some((row, ..)) = row else { return Ok(()) };
        super::containers::forget_reading(ctx, id);
        match ctx.app().runtime.fact(id).await {
            Ok(fact) => settle(ctx, &row, &fact, self.after_boot().await?).await,
            Err(error) => {
                tracing::warn!(%error, container_id = %id, "a container cannot be looked at");
                Ok(())
            }
        }
    }

    async fn all(&mut self) -> Result<()> {
        let (app, after_boot) = (self.ctx.app(), self.after_boot().await?);
        let mut whole = true;
        for row in rows(app).await? {
            match app.runtime.fact(&row.id).await {
                Ok(fact) => settle(&self.ctx, &row, &fact, after_boot).await?,
                Err(RuntimeError::Unavailable(_)) => return Ok(()),
                Err(error) => {
                    whole = false;
                    tracing::warn!(%error, container_id = %row.id, "a container cannot be looked at");
                }
            }
        }
        if whole && !self.judged {
            note_boot(app).await?;
            self.judged = true;
        }
        Ok(())
    }

    async fn upkeep(&self) {
        if let Err(error) = self.ctx.app().runtime.upkeep().await {
            tracing::error!(%error, "what containers need of this machine is not all there");
        }
    }

    async fn sweep(&self) -> Result<()> {
        let app = self.ctx.app();
        if let Err(error) = sweep(app, &rows(app).await?).await {
            tracing::warn!(%error, "leftovers could not be looked for");
        }
        Ok(())
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rounds
}

/// Follows deaths and makes its rounds until `stop` is cancelled.
pub async fn watch(app: App, stop: CancellationToken) {
    let mut events = app.runtime.events();
    let mut rounds = Rounds {
        ctx: Ctx::system(app, "reconciler"),
        judged: false,
    };
    let (mut looks, mut upkeeps, mut sweeps) =
        (every(EVERY), every(UPKEEP_EVERY), every(SWEEP_EVERY));
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(RuntimeEvent::Died { id }) => rounds.one(&id).await,
                Err(RecvError::Lagged(_)) => rounds.all().await,
                Err(RecvError::Closed) => return,
            },
            _ = looks.tick() => rounds.all().await,
            _ = upkeeps.tick() => {
                rounds.upkeep().await;
                Ok(())
            }
            _ = sweeps.tick() => rounds.sweep().await,
        };
        if let Err(error) = done {
            tracing::error!(%error, "reconciling failed");
        }
    }
}
