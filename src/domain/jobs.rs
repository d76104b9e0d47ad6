//! Background work as the domain sees it: a row that commits together with what asked for it, and
//! waiting for its end. How each kind is done is in `crate::jobs`.
//!
//! To add a kind: a word in [`JobKind`], and its branch in `crate::jobs::run`.

use std::time::Duration;

use crate::db::jobs::JobRow;
use crate::db::{self, Conn};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{ContainerId, JobId};
use crate::domain::text_enum::text_enum;
use crate::error::Result;

text_enum! {
    /// What is to be done.
    JobKind {
        ContainerCreate = "container.create",
        ContainerStart = "container.start",
        ContainerStop = "container.stop",
        ContainerKill = "container.kill",
        ContainerRestart = "container.restart",
        ContainerDelete = "container.delete",
        ImagePrepare = "image.prepare",
        ImageRemove = "image.remove",
    }
}

text_enum! {
    /// How far it is.
    JobStatus {
        Queued = "queued",
        Running = "running",
        Done = "done",
        Failed = "failed",
    }
}

/// Work to be queued.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    pub kind: JobKind,
    pub container_id: Option<ContainerId>,
    pub subject: String,
    /// Whose machine does it.
    pub node_name: String,
}

impl NewJob {
    #[must_use]
    pub fn of_container(ctx: &Ctx, kind: JobKind, id: &ContainerId, node_name: &str) -> Self {
        Self {
            id: JobId::new(ctx.now().utc()),
            kind,
            container_id: Some(id.clone()),
            subject: String::new(),
            node_name: node_name.to_owned(),
        }
    }

    #[must_use]
    pub fn of_image(ctx: &Ctx, kind: JobKind, name: &str) -> Self {
        Self {
            id: JobId::new(ctx.now().utc()),
            kind,
            container_id: None,
            subject: name.to_owned(),
            node_name: ctx.app().node_name.clone(),
        }
    }
}

/// Queues it, in the caller's transaction; [`ring`] after the commit.
///
/// # Errors
/// When the database fails.
pub fn queue(conn: &mut Conn, ctx: &Ctx, new: &NewJob) -> Result<()> {
    let row = JobRow {
        id: new.id.clone(),
        kind: new.kind,
        container_id: new.container_id.clone(),
        subject: new.subject.clone(),
        user_id: ctx.user_id().cloned(),
        request_id: ctx.origin().request_id.clone(),
        node_name: new.node_name.clone(),
        status: JobStatus::Queued,
        error: None,
        attempts: 0,
        created_at: ctx.now(),
        started_at: None,
        finished_at: None,
    };
    Ok(db::jobs::insert(conn, &row)?)
}

/// Tells the worker that there is work.
pub fn ring(ctx: &Ctx) {
    ctx.app().jobs_ready.notify_one();
}

/// Waits for a job's end, at most `limit`; its error, if it failed. None when it goes on.
///
/// # Errors
/// When the database fails.
pub async fn wait(ctx: &Ctx, id: &JobId, limit: Duration) -> Result<Option<Option<String>>> {
    let listener = ctx.app().waiting.listen(id.as_str());
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let wanted = id.clone();
        let row = ctx
            .db()
            .read(move |conn| Ok(db::jobs::get(conn, &wanted)?))
            .await?;
        match row.as_ref().map(|row| row.status) {
            Some(JobStatus::Queued | JobStatus::Running) => {}
            Some(JobStatus::Done) | None => return Ok(Some(None)),
            Some(JobStatus::Failed) => {
                return Ok(Some(Some(
                    row.and_then(|row| row.error).unwrap_or_default(),
                )));
            }
        }
        // The bell rings in this process only; another server's work is seen by asking.
        let next = tokio::time::Instant::now() + Duration::from_secs(1);
        tokio::select! {
            () = listener.rung() => {}
            () = tokio::time::sleep_until(next.min(deadline)) => {}
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(None);
        }
    }
}
