//! Starting, stopping, restarting and deleting: what is wanted is queued as a job, and the caller
//! waits for what came of it.
//!
//! To add an action, add it to [`Act`].

use std::time::Duration;

use super::{Container, ContainerState, Wanted, find_and_hold, get, put_state};
use crate::db;
use crate::domain::audit::{self, Action, Event};
use crate::domain::commands;
use crate::domain::ctx::Ctx;
use crate::domain::jobs::{self, JobKind, NewJob};
use crate::domain::permissions::Permissions;
use crate::error::{Error, Result};

/// How long start, stop and restart wait for their confirmation.
const CONFIRM_WITHIN: Duration = Duration::from_secs(60);
/// Jobs that may wait for one container.
const OPEN_JOBS: usize = 8;
/// An action on an existing container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Start,
    Stop { force: bool },
    Restart,
}

impl Act {
    const fn job(self) -> JobKind {
        match self {
            Self::Start => JobKind::ContainerStart,
            Self::Stop { force: false } => JobKind::ContainerStop,
            Self::Stop { force: true } => JobKind::ContainerKill,
            Self::Restart => JobKind::ContainerRestart,
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Start => Action::ContainerStart,
            Self::Stop { .. } => Action::ContainerStop,
            Self::Restart => Action::ContainerRestart,
        }
    }

    const fn wanted(self) -> Wanted {
        match self {
            Self::Start | Self::Restart => Wanted::Running,
            Self::Stop { .. } => Wanted::Stopped,
        }
    }

    /// Whether there is nothing to do in that state.
    const fn is_done_in(self, state: ContainerState) -> bool {
        matches!(
            (self, state),
            (Self::Start, ContainerState::Running) | (Self::Stop { .. }, ContainerState::Stopped)
        )
    }
}

/// Starts it and waits for the confirmation.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::Conflict`] while it is being made
/// or deleted.
pub async fn start(ctx: &Ctx, id: &str) -> Result<Container> {
    act(ctx, id, Act::Start).await
}

/// Stops it, at once with `force`, and waits for the confirmation.
///
/// # Errors
/// As [`start`].
pub async fn stop(ctx: &Ctx, id: &str, force: bool) -> Result<Container> {
    act(ctx, id, Act::Stop { force }).await
}

/// Stops and starts it and waits for the confirmation.
///
/// # Errors
/// As [`start`].
pub async fn restart(ctx: &Ctx, id: &str) -> Result<Container> {
    act(ctx, id, Act::Restart).await
}

async fn act(ctx: &Ctx, id: &str, act: Act) -> Result<Container> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let job = ctx
        .db()
        .write(move |conn| {
            let ((row, ..), _) = find_and_hold(conn, &inner, &asked, Permissions::START_STOP)?;
            match row.state {
                ContainerState::Provisioning => {
                    return Err(Error::Conflict("The container is still being made".into()));
                }
                ContainerState::Deleting => {
                    return Err(Error::Conflict("The container is being deleted".into()));
                }
                ContainerState::Running | ContainerState::Stopped | ContainerState::Failed => {}
            }
            let open = db::jobs::open_for(conn, &row.id)?;
            if open.len() >= OPEN_JOBS {
                return Err(Error::Conflict(
                    "Too many actions wait for this container".into(),
                ));
            }
            let job = if act.is_done_in(row.state) && open.is_empty() {
                None
            } else {
                db::containers::set_wanted(conn, &row.id, act.wanted(), inner.now())?;
                let job = NewJob::of_container(&inner, act.job(), &row.id, &row.node_name);
                jobs::queue(conn, &inner, &job)?;
                Some(job.id)
            };
            let event = Event::success(act.action()).container(&row.id);
            audit::record(conn, &inner, event)?;
            Ok(job)
        })
        .await?;
    if let Some(job) = job {
        jobs::ring(ctx);
        jobs::wait(ctx, &job, CONFIRM_WITHIN).await?;
    }
    get(ctx, id).await
}

/// Deletes it with its disk and waits until it is gone. What was asked is kept: when it takes
/// longer than the wait, it goes on in the background. `force` kills at once and tries again
/// where a delete failed.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::Conflict`] when it cannot be
/// removed.
pub async fn delete(ctx: &Ctx, id: &str, force: bool) -> Result<()> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let job = ctx
        .db()
        .write(move |conn| {
            let ((row, ..), _) = find_and_hold(conn, &inner, &asked, Permissions::DELETE)?;
            let open = db::jobs::open_for(conn, &row.id)?;
            let pending = open.iter().find(|job| job.kind == JobKind::ContainerDelete);
            if let Some(pending) = pending
                && !force
            {
                return Ok(pending.id.clone());
            }
            let now = inner.now();
            db::containers::set_wanted(conn, &row.id, Wanted::Deleted, now)?;
            let state = ContainerState::Deleting;
            put_state(conn, &inner, &row.id, state, None, None)?;
            commands::fail_queued(conn, &inner, &row.id, "The container was deleted")?;
            let job =
                NewJob::of_container(&inner, JobKind::ContainerDelete, &row.id, &row.node_name);
            jobs::queue(conn, &inner, &job)?;
            let event = Event::success(Action::ContainerDelete)
                .container(&row.id)
                .with("hostname", row.hostname.as_str());
            audit::record(conn, &inner, event)?;
            Ok(job.id)
        })
        .await?;
    jobs::ring(ctx);
    match jobs::wait(ctx, &job, CONFIRM_WITHIN).await? {
        Some(Some(reason)) => match ctx.app().runtime.ready().await {
            Ok(()) => Err(Error::Conflict(reason)),
            Err(failure) => Err(Error::from_runtime(failure)),
        },
        Some(None) | None => Ok(()),
    }
}
