//! The work on one container: what was wanted is made so, and what came of it is recorded.
//!
//! To add an action: a function here that drives the runtime and ends in [`record`].

use std::time::Duration;

use crate::db::containers::ContainerRow;
use crate::db::{self, jobs::JobRow};
use crate::domain::access::{self, Changed};
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::commands;
use crate::domain::containers::{self, ContainerState, Wanted};
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Audience, Change};
use crate::domain::ids::ContainerId;
use crate::domain::images::{self, ImageStatus};
use crate::domain::jobs::JobKind;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::runtime::{ContainerSpec, Fact, RuntimeError, Started};

/// How long an init has to end by itself before it is killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// How often one that waits for its image looks again.
const IMAGE_POLL: Duration = Duration::from_millis(500);

/// What the driver is told of a row.
pub fn spec_of(row: &ContainerRow) -> ContainerSpec {
    let whole = |value: i32| u32::try_from(value).unwrap_or_default();
    ContainerSpec {
        id: row.id.clone(),
        hostname: row.hostname.clone(),
        image: row.image.clone(),
        cpu_cores: whole(row.cpu_cores),
        memory_mb: whole(row.memory_mb),
        disk_gb: whole(row.disk_gb),
        ssh_keys: row.ssh_keys.lines().map(str::to_owned).collect(),
        user_data: row.user_data.clone(),
    }
}

/// How an action went.
enum Came {
    Running(Started),
    Stopped,
    /// The sentence is for people.
    Failed(String),
}

async fn row_of(ctx: &Ctx, job: &JobRow) -> Result<Option<ContainerRow>> {
    let Some(id) = job.container_id.clone() else {
        return Err(Error::internal("a container's job without a container"));
    };
    ctx.db()
        .read(move |conn| Ok(db::containers::get(conn, &id)?.map(|owned| owned.0)))
        .await
}

/// A driver's failure as a sentence that a person can act on; its cause goes to the log.
fn reason(action: &str, failure: &RuntimeError) -> String {
    if let RuntimeError::Failed { what, cause } = failure {
        tracing::error!(what, cause, "the container engine failed");
        return format!("Could not {action}: {what}");
    }
    tracing::warn!(error = %failure, "the container engine refused");
    let text = failure.to_string();
    let mut letters = text.chars();
    let capital = letters
        .next()
        .map(|c| c.to_uppercase().collect::<String>())
        .unwrap_or_default();
    format!("Could not {action}: {capital}{}", letters.as_str())
}

/// Makes and starts it.
pub async fn create(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let Some(row) = row_of(ctx, job).await? else {
        return finish(ctx, job, None).await;
    };
    make_with_image(ctx, job, &row, "make the container").await
}

/// Makes and starts it, when its image is there.
async fn make_with_image(ctx: &Ctx, job: &JobRow, row: &ContainerRow, action: &str) -> Result<()> {
    match image_is_ready(ctx, job, row).await? {
        Image::Ready => {}
        Image::NoLongerWanted => return finish(ctx, job, None).await,
        Image::Failed(why) => return record(ctx, job, row, Came::Failed(why)).await,
    }
    let came = make_and_start(ctx, row, action).await?;
    record(ctx, job, row, came).await
}

/// Starts it, making first what is not there: one that failed half-made is tried again.
pub async fn start(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let Some(row) = row_of(ctx, job).await? else {
        return finish(ctx, job, None).await;
    };
    let action = "start the container";
    // What was never made wants its image first; what was, its own disk and tree.
    if let Ok(Fact::Missing) = ctx.app().runtime.fact(&row.id).await {
        return make_with_image(ctx, job, &row, action).await;
    }
    let came = make_and_start(ctx, &row, action).await?;
    record(ctx, job, &row, came).await
}

async fn make_and_start(ctx: &Ctx, row: &ContainerRow, action: &str) -> Result<Came> {
    let runtime = &ctx.app().runtime;
    let spec = spec_of(row);
    let created = match runtime.create(&spec).await {
        Ok(created) => created,
        Err(e) => return Ok(Came::Failed(reason(action, &e))),
    };
    match runtime.start(&spec).await {
        Ok(started) => Ok(Came::Running(started)),
        Err(e) => {
            // It has an address all the same; of one that runs it is recorded with the start.
            if let Some(ipv4) = created.ipv4 {
                let (id, text) = (row.id.clone(), ipv4.to_string());
                ctx.db()
                    .write(move |conn| Ok(db::containers::set_ipv4(conn, &id, Some(&text))?))
                    .await?;
            }
            Ok(Came::Failed(reason(action, &e)))
        }
    }
}

/// Stops it within `grace`.
pub async fn stop(ctx: &Ctx, job: &JobRow, grace: Duration) -> Result<()> {
    let Some(row) = row_of(ctx, job).await? else {
        return finish(ctx, job, None).await;
    };
    let came = match ctx.app().runtime.stop(&row.id, grace).await {
        Ok(()) | Err(RuntimeError::NotFound) => Came::Stopped,
        Err(e) => Came::Failed(reason("stop the container", &e)),
    };
    record(ctx, job, &row, came).await
}

/// Stops and starts it.
pub async fn restart(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let Some(row) = row_of(ctx, job).await? else {
        return finish(ctx, job, None).await;
    };
    let came = match ctx.app().runtime.stop(&row.id, GRACE).await {
        Ok(()) | Err(RuntimeError::NotFound) => {
            make_and_start(ctx, &row, "restart the container").await?
        }
        Err(e) => Came::Failed(reason("restart the container", &e)),
    };
    record(ctx, job, &row, came).await
}

/// Removes all there is of it, the row last: what is acknowledged as gone is gone.
pub async fn delete(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let Some(row) = row_of(ctx, job).await? else {
        return finish(ctx, job, None).await;
    };
    match ctx.app().runtime.delete(&row.id).await {
        Ok(()) | Err(RuntimeError::NotFound) => {
            let (id, job_id, now) = (row.id.clone(), job.id.clone(), ctx.now());
            let inner = ctx.clone();
            forget_reading(ctx, &row.id);
            let commands = ctx
                .db()
                .write(move |conn| {
                    let commands = db::commands::ids_of(conn, &id)?;
                    let audience = Audience::of(conn, &id, &row.user_id)?;
                    db::containers::delete(conn, &id)?;
                    let change = Change::ContainerDeleted {
                        id: id.clone(),
                        hostname: row.hostname,
                    };
                    events::publish(conn, &inner, audience, change)?;
                    access::ring(&inner, Changed::Container(id));
                    db::jobs::finish(conn, &job_id, None, now)?;
                    Ok(commands)
                })
                .await?;
            super::commands::forget_output(ctx.app(), commands).await;
            Ok(())
        }
        Err(e) => {
            let why = reason("delete the container", &e);
            record(ctx, job, &row, Came::Failed(why)).await
        }
    }
}

/// Records that it was given up.
pub async fn fail(ctx: &Ctx, job: &JobRow, why: &str) -> Result<()> {
    let Some(row) = row_of(ctx, job).await? else {
        return finish(ctx, job, Some(why)).await;
    };
    record(ctx, job, &row, Came::Failed(why.to_owned())).await
}

enum Image {
    Ready,
    NoLongerWanted,
    Failed(String),
}

/// Waits while its image is being made, and has it made where only other servers have it.
async fn image_is_ready(ctx: &Ctx, job: &JobRow, row: &ContainerRow) -> Result<Image> {
    let since = ctx.now();
    let mut told = false;
    loop {
        let (id, name) = (row.id.clone(), row.image.clone());
        let (wanted, image) = ctx
            .db()
            .read(move |conn| {
                let wanted = db::containers::get(conn, &id)?.map(|owned| owned.0.wanted);
                Ok((wanted, db::images::get(conn, &name)?))
            })
            .await?;
        if !matches!(wanted, Some(Wanted::Running)) {
            return Ok(Image::NoLongerWanted);
        }
        // While a name is made anew, and when that fails, what was whole before serves on.
        let serves = image.as_ref().is_some_and(|image| image.size_bytes > 0);
        let serves = serves
            && ctx
                .app()
                .runtime
                .has_image(&row.image)
                .await
                .unwrap_or(false);
        match image.map(|image| (image.status, image.error)) {
            Some(_) if serves => break,
            Some((ImageStatus::Ready, _)) => {
                if !images::is_lacking(ctx, &row.image).await {
                    break;
                }
                if let Some(why) = images::make_here(ctx, &row.image, since).await? {
                    return Ok(Image::Failed(format!(
                        "Image {} could not be made on this server: {why}",
                        row.image
                    )));
                }
            }
            Some((ImageStatus::Failed, error)) => {
                let why = error.unwrap_or_default();
                return Ok(Image::Failed(format!(
                    "Image {} could not be made: {why}",
                    row.image
                )));
            }
            None => return Ok(Image::Failed(format!("Image {} was removed", row.image))),
            Some((ImageStatus::Preparing, _)) => {}
        }
        if !told {
            tell_of_waiting(ctx, job, row).await?;
            told = true;
        }
        tokio::time::sleep(IMAGE_POLL).await;
    }
    Ok(Image::Ready)
}

async fn tell_of_waiting(ctx: &Ctx, job: &JobRow, row: &ContainerRow) -> Result<()> {
    tracing::info!(job = %job.id, image = %row.image, "waiting for the image");
    let (id, job, inner) = (row.id.clone(), job.id.clone(), ctx.clone());
    let why = format!("Waiting for image {} to be made", row.image);
    ctx.db()
        .write(move |conn| {
            db::containers::hold(conn, &id)?;
            db::jobs::forget_attempts(conn, &job)?;
            let wanted = db::containers::get(conn, &id)?.map(|owned| owned.0.wanted);
            if !matches!(wanted, Some(Wanted::Running)) {
                return Ok(());
            }
            let state = ContainerState::Provisioning;
            containers::put_state(conn, &inner, &id, state, Some(&why), None)
        })
        .await
}

async fn finish(ctx: &Ctx, job: &JobRow, error: Option<&str>) -> Result<()> {
    let (id, error, now) = (job.id.clone(), error.map(str::to_owned), ctx.now());
    ctx.db()
        .write(move |conn| Ok(db::jobs::finish(conn, &id, error.as_deref(), now)?))
        .await
}

/// Writes what is so now, and the job's end, together. A container that someone asked to delete in
/// the meantime keeps its state: the delete comes next.
async fn record(ctx: &Ctx, job: &JobRow, row: &ContainerRow, came: Came) -> Result<()> {
    let (job, id, inner) = (job.clone(), row.id.clone(), ctx.clone());
    if !matches!(came, Came::Running(_)) {
        forget_reading(ctx, &row.id);
    }
    ctx.db()
        .write(move |conn| {
            let now = inner.now();
            db::containers::hold(conn, &id)?;
            let current = db::containers::get(conn, &id)?.map(|owned| owned.0);
            let deleting = job.kind != JobKind::ContainerDelete
                && current.is_some_and(|row| row.state == ContainerState::Deleting);
            let (state, why, started_at, ipv4) = match &came {
                Came::Running(started) => {
                    let at = Some(Time::from(started.started_at));
                    (ContainerState::Running, None, at, started.ipv4)
                }
                Came::Stopped => (ContainerState::Stopped, None, None, None),
                Came::Failed(why) => (ContainerState::Failed, Some(why.as_str()), None, None),
            };
            if !deleting {
                db::containers::set_state(conn, &id, state, why, started_at, now)?;
            }
            if let Some(ipv4) = ipv4 {
                db::containers::set_ipv4(conn, &id, Some(&ipv4.to_string()))?;
            }
            if !deleting {
                containers::tell_state(conn, &inner, &id)?;
            }
            if state != ContainerState::Running {
                commands::fail_queued(conn, &inner, &id, commands::NEVER_BEGAN)?;
            }
            db::jobs::finish(conn, &job.id, why, now)?;
            if let Some(why) = why
                && !audit::is_repeated(conn, &id, action_of(job.kind), why)?
            {
                let mut event = Event::new(action_of(job.kind), Outcome::Failure)
                    .container(&id)
                    .with("reason", why);
                if let Some(user) = &job.user_id {
                    event = event.by(user);
                }
                audit::record(conn, &inner, event)?;
            }
            Ok(())
        })
        .await
}

const fn action_of(kind: JobKind) -> Action {
    match kind {
        JobKind::ContainerStart => Action::ContainerStart,
        JobKind::ContainerStop | JobKind::ContainerKill => Action::ContainerStop,
        JobKind::ContainerRestart => Action::ContainerRestart,
        JobKind::ContainerDelete => Action::ContainerDelete,
        JobKind::ContainerCreate | JobKind::ImagePrepare | JobKind::ImageRemove => {
            Action::ContainerCreate
        }
    }
}

/// The next start counts CPU time from zero.
pub fn forget_reading(ctx: &Ctx, id: &ContainerId) {
    let readings = &ctx.app().cpu_readings;
    readings
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .remove(id);
}
