//! Images: what containers start from. They are made in the background; their progress is in their
//! row.
//!
//! To add a kind of source, teach `ImageSource::parse` and the driver.

use crate::db::images::ImageRow;
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Audience, Change};
use crate::domain::idempotency;
use crate::domain::ids::ImageId;
use crate::domain::jobs::{self, JobKind, JobStatus, NewJob};
use crate::domain::text_enum::text_enum;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::runtime::ImageSource;

text_enum! {
    /// How far it is.
    ImageStatus {
        Preparing = "preparing",
        Ready = "ready",
        Failed = "failed",
    }
}

/// Remembers which image is taken when none is named.
const DEFAULT_SETTING: &str = "default_image";

/// An image.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Image {
    pub id: ImageId,
    pub name: String,
    pub source: String,
    pub status: ImageStatus,
    /// What is being done now, for people.
    pub step: String,
    pub percent: i32,
    pub error: Option<String>,
    pub description: String,
    pub size_bytes: i64,
    /// Whether it is taken when none is named.
    pub is_default: bool,
    pub created_at: Time,
}

fn image_of(row: ImageRow, default: Option<&str>) -> Image {
    Image {
        is_default: default == Some(row.name.as_str()),
        id: row.id,
        name: row.name,
        source: row.source,
        status: row.status,
        step: row.step,
        percent: row.percent,
        error: row.error,
        description: row.description,
        size_bytes: row.size_bytes,
        created_at: row.created_at,
    }
}

/// The image that is taken when none is named.
pub(crate) fn default_name(conn: &mut Conn) -> Result<Option<String>> {
    Ok(db::settings::get(conn, DEFAULT_SETTING)?)
}

/// What can be chosen, the default first, then newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx) -> Result<Vec<Image>> {
    let outsider = !ctx.is_admin();
    if outsider {
        ctx.caller()?;
    }
    ctx.db()
        .read(move |conn| {
            let default = default_name(conn)?;
            let rows = db::images::list(conn)?;
            let mut images: Vec<Image> = rows
                .into_iter()
                .map(|row| image_of(row, default.as_deref()))
                .collect();
            images.sort_by_key(|image| !image.is_default);
            // Where files lie on the server is nobody else's concern.
            for image in images.iter_mut().filter(|_| outsider) {
                if let Some((_, name)) = image.source.rsplit_once('/')
                    && image.source.starts_with('/')
                {
                    image.source = name.to_owned();
                }
            }
            Ok(images)
        })
        .await
}

/// # Errors
/// [`Error::NotFound`].
pub async fn get(ctx: &Ctx, name: &str) -> Result<Image> {
    let found = list(ctx)
        .await?
        .into_iter()
        .find(|image| image.name == name);
    found.ok_or_else(|| Error::NotFound(format!("Image {name} was not found")))
}

fn check_name(name: &str) -> Result<()> {
    let ok = (1..=63).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if ok {
        Ok(())
    } else {
        Err(Error::field(
            "name",
            "name must be 1 to 63 lower-case letters, digits, dots and hyphens, and begin with a \
             letter or digit",
        ))
    }
}

/// Has an image made, or made anew from another source.
///
/// # Errors
/// [`Error::Forbidden`] for everyone but administrators, validation errors, [`Error::Conflict`]
/// while it is being made.
pub async fn add(ctx: &Ctx, name: &str, source: &str) -> Result<Image> {
    ctx.require_admin()?;
    check_name(name)?;
    let source = source.trim().to_owned();
    if source.is_empty() {
        return Err(Error::field("source", "source must not be empty"));
    }
    if source.len() > 1000 {
        return Err(Error::field("source", "source must be at most 1000 bytes"));
    }
    if source.contains('\0') {
        return Err(Error::field(
            "source",
            "source must not contain a NUL character",
        ));
    }
    ImageSource::parse(&source)
        .map_err(|reason| Error::field("source", format!("source {reason}")))?;
    let (inner, name) = (ctx.clone(), name.to_owned());
    let image = ctx
        .db()
        .write(move |conn| {
            if let Some(first) = idempotency::replay::<Image>(conn, &inner)? {
                return Ok(first);
            }
            put(conn, &inner, &name, &source)?;
            let default = default_name(conn)?;
            if default.is_none() {
                db::settings::set(conn, DEFAULT_SETTING, &name)?;
            }
            let row = db::images::get(conn, &name)?
                .ok_or_else(|| Error::internal("an image vanished in its own transaction"))?;
            let image = image_of(row, default.as_deref().or(Some(&name)));
            idempotency::keep(conn, &inner, &image)?;
            let event = Event::success(Action::ImageAdd)
                .with("subject", name.as_str())
                .with("source", source.as_str());
            audit::record(conn, &inner, event)?;
            Ok(image)
        })
        .await?;
    jobs::ring(ctx);
    Ok(image)
}

fn put(conn: &mut Conn, ctx: &Ctx, name: &str, source: &str) -> Result<()> {
    let now = ctx.now();
    db::images::hold(conn, name)?;
    if db::jobs::is_open(conn, JobKind::ImagePrepare, name)? {
        return Err(Error::Conflict(format!("Image {name} is being made")));
    }
    if db::images::get(conn, name)?.is_some() {
        db::images::set_preparing(conn, name, source, "waiting", now)?;
    } else {
        let row = ImageRow {
            id: ImageId::new(now.utc()),
            name: name.to_owned(),
            source: source.to_owned(),
            status: ImageStatus::Preparing,
            step: "waiting".into(),
            percent: 0,
            error: None,
            description: String::new(),
            size_bytes: 0,
            created_at: now,
            updated_at: now,
        };
        match db::images::insert(conn, &row) {
            Ok(()) => {}
            Err(e) if e.is_unique_violation() => {
                return Err(Error::Conflict(format!("Image {name} is being made")));
            }
            Err(e) => return Err(e.into()),
        }
    }
    tell(conn, ctx, name)?;
    jobs::queue(
        conn,
        ctx,
        &NewJob::of_image(ctx, JobKind::ImagePrepare, name),
    )
}

/// Tells how far an image is now, in the caller's transaction.
pub(crate) fn tell(conn: &mut Conn, ctx: &Ctx, name: &str) -> Result<()> {
    let Some(row) = db::images::get(conn, name)? else {
        return Ok(());
    };
    let change = Change::ImageProgress {
        name: row.name,
        status: row.status,
        step: row.step,
        percent: row.percent,
        error: row.error,
    };
    events::publish(conn, ctx, Audience::Everyone, change)
}

/// Removes an image that no container was made from.
///
/// # Errors
/// [`Error::Forbidden`], [`Error::NotFound`], [`Error::Conflict`] while it is used or being made.
pub async fn remove(ctx: &Ctx, name: &str) -> Result<()> {
    ctx.require_admin()?;
    let (inner, name) = (ctx.clone(), name.to_owned());
    ctx.db()
        .write(move |conn| {
            let missing = || Error::NotFound(format!("Image {name} was not found"));
            if name.contains('\0') {
                return Err(missing());
            }
            db::images::hold(conn, &name)?;
            db::images::get(conn, &name)?.ok_or_else(missing)?;
            let users = db::images::count_users(conn, &name)?;
            if users > 0 {
                let who = match users {
                    1 => "1 container uses".to_owned(),
                    many => format!("{many} containers use"),
                };
                return Err(Error::Conflict(format!("{who} image {name}")));
            }
            if db::jobs::is_open(conn, JobKind::ImagePrepare, &name)? {
                return Err(Error::Conflict(format!("Image {name} is being made")));
            }
            if default_name(conn)?.as_deref() == Some(name.as_str()) {
                return Err(Error::Conflict(format!(
                    "Image {name} is the default image"
                )));
            }
            db::images::delete(conn, &name)?;
            let change = Change::ImageRemoved { name: name.clone() };
            events::publish(conn, &inner, Audience::Everyone, change)?;
            jobs::queue(
                conn,
                &inner,
                &NewJob::of_image(&inner, JobKind::ImageRemove, &name),
            )?;
            audit::record(
                conn,
                &inner,
                Event::success(Action::ImageRemove).with("subject", name),
            )
        })
        .await?;
    jobs::ring(ctx);
    Ok(())
}

/// Whether this machine lacks an image that is ready: another server of the database made it.
pub(crate) async fn is_lacking(ctx: &Ctx, name: &str) -> bool {
    // One that is there and broken is not lacking, and tells why it cannot be used.
    matches!(ctx.app().runtime.has_image(name).await, Ok(false))
}

/// The job by which this machine last made an image that others have made before.
fn making_key(ctx: &Ctx, name: &str) -> String {
    format!("image_job:{}:{name}", ctx.app().node_name)
}

/// How it is with making an image here.
enum Making {
    GoesOn,
    Failed(String),
    /// Nobody does.
    Rests,
}

/// One that failed before `since` counts no more.
fn making(conn: &mut Conn, ctx: &Ctx, name: &str, since: Time) -> Result<Making> {
    let last = db::settings::get(conn, &making_key(ctx, name))?.and_then(|id| id.parse().ok());
    let last = match last {
        Some(id) => db::jobs::get(conn, &id)?,
        None => None,
    };
    Ok(match last {
        Some(job) if matches!(job.status, JobStatus::Queued | JobStatus::Running) => Making::GoesOn,
        Some(job) if job.finished_at.is_some_and(|at| at >= since) => {
            job.error.map_or(Making::Rests, Making::Failed)
        }
        _ => Making::Rests,
    })
}

/// Sees to it that an image that is ready and that this machine lacks is made here too, from its
/// source. Its row stays as it is. Answers why that failed, if it did after `since`.
///
/// # Errors
/// When the database fails.
pub(crate) async fn make_here(ctx: &Ctx, name: &str, since: Time) -> Result<Option<String>> {
    let (inner, asked) = (ctx.clone(), name.to_owned());
    let now = ctx
        .db()
        .read(move |conn| making(conn, &inner, &asked, since))
        .await?;
    match now {
        Making::GoesOn => return Ok(None),
        Making::Failed(why) => return Ok(Some(why)),
        Making::Rests => {}
    }
    let (inner, asked) = (ctx.clone(), name.to_owned());
    let queued = ctx
        .db()
        .write(move |conn| {
            // Many may wait for it, and one is enough. Nor may it be made anew for all by now.
            let ready =
                db::images::get(conn, &asked)?.is_some_and(|row| row.status == ImageStatus::Ready);
            if !ready || !matches!(making(conn, &inner, &asked, since)?, Making::Rests) {
                return Ok(());
            }
            let job = NewJob::of_image(&inner, JobKind::ImagePrepare, &asked);
            let key = making_key(&inner, &asked);
            match db::settings::set(conn, &key, job.id.as_str()) {
                Ok(()) => jobs::queue(conn, &inner, &job),
                Err(e) if e.is_unique_violation() => {
                    Err(Error::Conflict("It is being made".into()))
                }
                Err(e) => Err(e.into()),
            }
        })
        .await;
    match queued {
        // Of two at once on PostgreSQL the other was faster.
        Ok(()) | Err(Error::Conflict(_)) => {
            jobs::ring(ctx);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// How the default image is for this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultImage {
    /// It serves, or there is none.
    Fine,
    Preparing,
    /// It could not be made, and nobody tries.
    Failed,
}

/// How the default image is for this machine.
///
/// # Errors
/// When the database fails.
pub(crate) async fn look_at_default(ctx: &Ctx) -> Result<DefaultImage> {
    let found = ctx
        .db()
        .read(move |conn| {
            let Some(name) = default_name(conn)? else {
                return Ok(None);
            };
            let open = db::jobs::is_open(conn, JobKind::ImagePrepare, &name)?;
            Ok(db::images::get(conn, &name)?.map(|row| (row, open)))
        })
        .await?;
    let Some((row, open)) = found else {
        return Ok(DefaultImage::Fine);
    };
    Ok(match row.status {
        ImageStatus::Preparing => DefaultImage::Preparing,
        ImageStatus::Failed if open => DefaultImage::Preparing,
        ImageStatus::Ready if is_lacking(ctx, &row.name).await => DefaultImage::Failed,
        ImageStatus::Ready => DefaultImage::Fine,
        ImageStatus::Failed => DefaultImage::Failed,
    })
}

/// Has the default image made again that could not be made, unless somebody was faster. A container
/// that failed for want of it stays so: its owner starts it.
///
/// # Errors
/// When the database fails.
pub(crate) async fn try_default_again(ctx: &Ctx) -> Result<()> {
    let inner = ctx.clone();
    let lacking = ctx
        .db()
        .write(move |conn| {
            let Some(name) = default_name(conn)? else {
                return Ok(None);
            };
            let Some(row) = db::images::get(conn, &name)? else {
                return Ok(None);
            };
            if row.status == ImageStatus::Failed
                && !db::jobs::is_open(conn, JobKind::ImagePrepare, &name)?
            {
                put(conn, &inner, &name, &row.source)?;
            }
            Ok((row.status == ImageStatus::Ready).then_some(name))
        })
        .await?;
    if let Some(name) = lacking
        && is_lacking(ctx, &name).await
    {
        make_here(ctx, &name, ctx.now()).await?;
    }
    jobs::ring(ctx);
    Ok(())
}

/// At the server's start: sees to it that there is a default image, from the configured source, that
/// one which failed is tried again, and that this machine has it where another made it.
///
/// # Errors
/// When the database fails.
pub async fn ensure_default(ctx: &Ctx, name: &str, source: &str) -> Result<()> {
    ctx.require_admin()?;
    let (inner, name, source) = (ctx.clone(), name.to_owned(), source.to_owned());
    let asked = name.clone();
    let ready = ctx
        .db()
        .write(move |conn| {
            let current = default_name(conn)?;
            // Only a change of the configured source changes a default that someone chose.
            let row = db::images::get(conn, &name)?;
            let wants_making = match &row {
                None => true,
                Some(row) => row.source != source || row.status == ImageStatus::Failed,
            };
            if current.as_deref() != Some(name.as_str()) {
                db::settings::set(conn, DEFAULT_SETTING, &name)?;
            }
            if wants_making && !db::jobs::is_open(conn, JobKind::ImagePrepare, &name)? {
                put(conn, &inner, &name, &source)?;
                let event = Event::success(Action::ImageAdd)
                    .with("subject", name.as_str())
                    .with("source", source.as_str());
                audit::record(conn, &inner, event)?;
            }
            let ready = row.is_some_and(|row| row.status == ImageStatus::Ready);
            Ok(ready && !wants_making)
        })
        .await?;
    if ready && is_lacking(ctx, &asked).await {
        make_here(ctx, &asked, ctx.now()).await?;
    }
    jobs::ring(ctx);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_plain() {
        for good in ["debian-12", "a", "ubuntu-24.04"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a/b", "..", "a b", "a\0"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
