//! The work on images: making them with their progress in their row, and removing them.
//!
//! To show more of the progress, extend what the driver reports through `ImageProgress`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::{self, jobs::JobRow};
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::images::{self, DefaultImage, ImageStatus};
use crate::error::{Error, Result};
use crate::runtime::{ImageProgress, ImageSource, RuntimeError};

/// How often the progress is written.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether the default image failed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long the default image is left failed before it is tried again, at first; each time twice as
/// long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Tries again to make the default image while it has failed, until `stop` is cancelled: at a
/// machine's first start its network may not be up yet.
pub async fn try_again(app: App, stop: CancellationToken) {
    let ctx = Ctx::system(app, "images");
    let mut pause = FIRST_PAUSE;
    let mut failed: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match images::look_at_default(&ctx).await {
            Ok(DefaultImage::Fine) => (pause, failed) = (FIRST_PAUSE, None),
            Ok(DefaultImage::Preparing) => failed = None,
            Ok(DefaultImage::Failed) => {
                let since = failed.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() < pause {
                    continue;
                }
                (pause, failed) = ((pause * 2).min(LONGEST_PAUSE), None);
                if let Err(error) = images::try_default_again(&ctx).await {
                    tracing::warn!(%error, "the default image could not be tried again");
                }
            }
            Err(error) => tracing::warn!(%error, "the default image could not be looked at"),
        }
    }
}

/// Makes the image: for all, or where it is ready already for this machine alone, which lacks it. The
/// latter leaves the row as it is.
pub async fn prepare(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let name = job.subject.clone();
    let wanted = name.clone();
    let row = ctx
        .db()
        .read(move |conn| Ok(db::images::get(conn, &wanted)?))
        .await?;
    let Some(row) = row else {
        return finish(ctx, job, None).await;
    };
    let here_only = row.status == ImageStatus::Ready;
    if here_only && !images::is_lacking(ctx, &name).await {
        return finish(ctx, job, None).await;
    }
    let source = ImageSource::parse(&row.source).map_err(Error::internal)?;

    let latest: Arc<Mutex<(String, u8)>> = Arc::default();
    let writer = Arc::clone(&latest);
    let progress: ImageProgress = Arc::new(move |step: &str, percent: u8| {
        *writer.lock().unwrap_or_else(PoisonError::into_inner) = (step.to_owned(), percent);
    });
    let telling = (!here_only).then(|| tokio::spawn(tell(ctx.clone(), name.clone(), latest)));
    let began = std::time::Instant::now();
    tracing::info!(image = %name, "making an image");
    let made = ctx
        .app()
        .runtime
        .prepare_image(&name, &source, progress)
        .await;
    if let Some(telling) = telling {
        telling.abort();
        // The last progress must not be written after the end.
        let _aborted = telling.await;
    }
    match made {
        Ok(image) => {
            tracing::info!(image = %name, seconds = began.elapsed().as_secs(), "the image is ready");
            if here_only {
                return finish(ctx, job, None).await;
            }
            let (job_id, now, inner) = (job.id.clone(), ctx.now(), ctx.clone());
            let size = i64::try_from(image.size_bytes).unwrap_or(i64::MAX);
            ctx.db()
                .write(move |conn| {
                    db::images::set_ready(conn, &name, &image.description, size, now)?;
                    images::tell(conn, &inner, &name)?;
                    Ok(db::jobs::finish(conn, &job_id, None, now)?)
                })
                .await
        }
        Err(failure) => {
            let why = match &failure {
                RuntimeError::ImageBroken { reason, .. } => reason.clone(),
                RuntimeError::Failed { what, cause } => {
                    tracing::error!(what, cause, image = %name, "the image could not be made");
                    (*what).to_owned()
                }
                other => other.to_string(),
            };
            let why = one_line(&why);
            tracing::warn!(image = %name, reason = %why, "the image could not be made");
            fail(ctx, job, &why).await
        }
    }
}

/// Text that may come from elsewhere, such as a registry's answer: short, and unable to look like
/// several lines of a log.
fn one_line(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let words: Vec<&str> = clean.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Writes the latest progress now and then, when it changed.
async fn tell(ctx: Ctx, name: String, latest: Arc<Mutex<(String, u8)>>) {
    let mut told = (String::new(), 0);
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let now = latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if now == told || now.0.is_empty() {
            continue;
        }
        told.clone_from(&now);
        let (name, at, inner) = (name.clone(), ctx.now(), ctx.clone());
        let written = ctx
            .db()
            .write(move |conn| {
                db::images::set_progress(conn, &name, &now.0, i32::from(now.1), at)?;
                images::tell(conn, &inner, &name)
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, "an image's progress could not be written");
        }
    }
}

/// Records that it could not be made. One that is ready stays so for the servers that have it.
pub async fn fail(ctx: &Ctx, job: &JobRow, why: &str) -> Result<()> {
    let (inner, job, why) = (ctx.clone(), job.clone(), why.to_owned());
    ctx.db()
        .write(move |conn| {
            let now = inner.now();
            let row = db::images::get(conn, &job.subject)?;
            if row.is_some_and(|row| row.status == ImageStatus::Ready) {
                return Ok(db::jobs::finish(conn, &job.id, Some(&why), now)?);
            }
            db::images::set_failed(conn, &job.subject, &why, now)?;
            images::tell(conn, &inner, &job.subject)?;
            db::jobs::finish(conn, &job.id, Some(&why), now)?;
            let event = Event::new(Action::ImageAdd, Outcome::Failure)
                .with("subject", job.subject.as_str())
                .with("reason", why.as_str());
            audit::record(conn, &inner, event)
        })
        .await
}

/// Removes what the engine has of it, unless it was added again since. What cannot be removed now
/// the engine's next collection tries again.
pub async fn remove(ctx: &Ctx, job: &JobRow) -> Result<()> {
    let name = job.subject.clone();
    let again = ctx
        .db()
        .read(move |conn| Ok(db::images::get(conn, &name)?.is_some()))
        .await?;
    if again {
        return finish(ctx, job, None).await;
    }
    let Err(failure) = ctx.app().runtime.remove_image(&job.subject).await else {
        return finish(ctx, job, None).await;
    };
    tracing::error!(?failure, image = %job.subject, "an image's files could not be removed");
    let why = "Its files could not be removed";
    let (inner, job) = (ctx.clone(), job.clone());
    ctx.db()
        .write(move |conn| {
            db::jobs::finish(conn, &job.id, Some(why), inner.now())?;
            let mut event = Event::new(Action::ImageRemove, Outcome::Failure)
                .with("subject", job.subject.as_str())
                .with("reason", why);
            if let Some(user) = &job.user_id {
                event = event.by(user);
            }
            audit::record(conn, &inner, event)
        })
        .await
}

async fn finish(ctx: &Ctx, job: &JobRow, error: Option<&str>) -> Result<()> {
    let (id, error, now) = (job.id.clone(), error.map(str::to_owned), ctx.now());
    ctx.db()
        .write(move |conn| Ok(db::jobs::finish(conn, &id, error.as_deref(), now)?))
        .await
}
