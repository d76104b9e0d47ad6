//! The files of a running container: seen, fetched, put, moved and removed. There is nothing of
//! them in the database but what the audit log says was done.
//!
//! To add an operation: the engine's part in [`crate::runtime::FileTree`], and here a function that
//! finds the container, checks what it was given, and has a change [`recorded`].

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::db::containers::ContainerRow;
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::containers::{self, ContainerState};
use crate::domain::ctx::Ctx;
use crate::domain::ids::ContainerId;
use crate::domain::page::Page;
use crate::domain::permissions::Permissions;
use crate::error::{Error, Result};
use crate::runtime::{FileError, FileTree, MAX_LISTED, MAX_PATH};

pub use crate::runtime::{FileArchive, FileInfo, FileKind, FileReader, ListRange, NewAttributes};

/// How much of an upload is gathered before it is written.
const GATHERED: usize = 512 * 1024;
/// How long an upload may send nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest user or group number in a container.
const MAX_ID: i64 = 65_535;

/// What a path leads to.
pub enum Content {
    File(FileInfo, Box<dyn FileReader>),
    /// A piece of it, sorted by the bytes of the names.
    Directory(Page<FileInfo>),
}

/// The container, if its files may be worked with.
async fn find(ctx: &Ctx, container: &str) -> Result<ContainerRow> {
    let (inner, asked) = (ctx.clone(), container.to_owned());
    ctx.db()
        .read(move |conn| {
            let ((row, ..), _) = containers::find(conn, &inner, &asked, Permissions::TERMINAL)?;
            Ok(row)
        })
        .await
}

/// Its files, while it runs, and here.
async fn tree(ctx: &Ctx, row: &ContainerRow) -> Result<Box<dyn FileTree>> {
    if row.state != ContainerState::Running {
        return Err(Error::Conflict("The container is not running".into()));
    }
    containers::require_here(ctx, row)?;
    let tree = ctx.app().runtime.files(&row.id).await;
    tree.map_err(Error::from_runtime)
}

/// A path of the container, checked as far as that can be done without looking.
fn path(field: &'static str, given: Option<&str>) -> Result<String> {
    let text = given.ok_or_else(|| Error::BadRequest(format!("{field} is required")))?;
    let rule = if !text.starts_with('/') {
        "must be an absolute path"
    } else if text.contains('\0') {
        "must not contain a NUL character"
    } else if text.len() > MAX_PATH {
        return Err(Error::field(
            field,
            format!("{field} must have at most {MAX_PATH} bytes"),
        ));
    } else {
        return Ok(text.to_owned());
    };
    Err(Error::field(field, format!("{field} {rule}")))
}

/// What the engine's failure is to who asked; `field` is the path's name in what was sent.
fn told(field: &str, failure: FileError) -> Error {
    let about = |text: String| Error::field(field, format!("{field}: {text}"));
    match failure {
        FileError::NotFound => Error::NotFound("There is no such file or directory".into()),
        FileError::NotDirectory => {
            Error::NotFound("There is no such file: a part of the path is not a directory".into())
        }
        FileError::Special(_)
        | FileError::NotStorage
        | FileError::BadLink
        | FileError::Invalid(_) => about(failure.to_string()),
        FileError::Exists => Error::Conflict("There is something of this name already".into()),
        FileError::IsDirectory => Error::Conflict("This is a directory, not a file".into()),
        FileError::NotEmpty => Error::Conflict(
            "The directory is not empty; recursive deletes it with all that is in it".into(),
        ),
        FileError::Denied => Error::Conflict(
            "The container does not allow this: it is read-only or protected there".into(),
        ),
        FileError::NoSpace => Error::Conflict("The container's disk is full".into()),
        FileError::CrossDevice => Error::Conflict(
            "The two lie on different file systems of the container; copy it there instead".into(),
        ),
        FileError::InUse => Error::Conflict("This is in use in the container".into()),
        FileError::TooDeep => Error::Conflict(
            "The directories lie too deep in each other; a command in the container can do it"
                .into(),
        ),
        FileError::TooMany => Error::RateLimited {
            retry_after: Duration::from_secs(1),
        },
        FileError::Destination(failure) => told("to", *failure),
        FileError::Engine(failure) => Error::from_runtime(failure),
    }
}

/// A change, as the audit log tells of it.
#[derive(Clone)]
struct Change {
    action: Action,
    container: ContainerId,
    facts: Vec<(&'static str, String)>,
}

impl Change {
    fn new(action: Action, row: &ContainerRow, path: &str) -> Self {
        Self {
            action,
            container: row.id.clone(),
            facts: vec![("path", path.to_owned())],
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// Writes down what came of it; not told a second time by the gate.
    async fn note(self, ctx: &Ctx, failure: Option<&str>) {
        ctx.mark_noted();
        let outcome = failure.map_or(Outcome::Success, |_| Outcome::Failure);
        let mut event = Event::new(self.action, outcome).container(&self.container);
        let code = failure.map(|code| ("code", code.to_owned()));
        for (name, value) in self.facts.into_iter().chain(code) {
            event = event.with(name, value);
        }
        audit::record_alone(ctx, event).await;
    }
}

/// Makes a change and writes down what came of it, also when nobody waits for it any more.
async fn recorded<T: Send + 'static>(
    ctx: &Ctx,
    change: Change,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let ctx = ctx.clone();
    let done = tokio::spawn(async move {
        let result = work.await;
        let failure = result.as_ref().err().map(|error| error.code().as_str());
        change.note(&ctx, failure).await;
        result
    });
    done.await
        .unwrap_or_else(|error| Err(Error::internal(error)))
}

/// Which piece of a directory: at most `limit` entries, after those that the answer had which gave
/// `cursor`. A directory that changes meanwhile loses and repeats nothing of what stays.
///
/// # Errors
/// A validation error that names the field.
pub fn range(limit: Option<i64>, cursor: Option<&str>) -> Result<ListRange> {
    let whole = ListRange::default();
    let most = match limit.map(usize::try_from) {
        None => whole.most,
        Some(Ok(most @ 1..=MAX_LISTED)) => most,
        Some(_) => {
            return Err(Error::field(
                "limit",
                format!("limit must be between 1 and {MAX_LISTED}"),
            ));
        }
    };
    let after = cursor.map(|cursor| {
        let name = URL_SAFE_NO_PAD.decode(cursor).ok();
        name.filter(|name| !name.is_empty())
            .ok_or_else(|| Error::field("cursor", "cursor must be one that an earlier answer gave"))
    });
    let after = after.transpose()?.unwrap_or(whole.after);
    Ok(ListRange { after, most })
}

/// What a path leads to, links followed; of a directory the piece `range`.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`]; a validation error of `path`, also for a
/// device and its like; [`Error::Conflict`] when the container does not run, or on another server;
/// [`Error::NotFound`].
pub async fn get(
    ctx: &Ctx,
    container: &str,
    at: Option<&str>,
    range: Result<ListRange>,
) -> Result<Content> {
    let row = find(ctx, container).await?;
    let range = range?;
    let at = path("path", at)?;
    let tree = tree(ctx, &row).await?;
    match tree.open(&at).await {
        Ok((info, reader)) => Ok(Content::File(info, reader)),
        Err(FileError::IsDirectory) => {
            let listing = tree.list(&at, range).await;
            let listing = listing.map_err(|failure| told("path", failure))?;
            Ok(Content::Directory(Page {
                items: listing.entries,
                next: listing.next.map(|name| URL_SAFE_NO_PAD.encode(name)),
            }))
        }
        Err(failure) => Err(told("path", failure)),
    }
}

/// A tar of a file or of a directory with all that is in it.
///
/// # Errors
/// As [`get`].
pub async fn archive(ctx: &Ctx, container: &str, at: Option<&str>) -> Result<Box<dyn FileArchive>> {
    let row = find(ctx, container).await?;
    let at = path("path", at)?;
    let tree = tree(ctx, &row).await?;
    tree.archive(&at)
        .await
        .map_err(|failure| told("path", failure))
}

/// A new file's owner, in numbers, and its mode in octal.
///
/// # Errors
/// A validation error that names the field.
fn attributes(uid: Option<i64>, gid: Option<i64>, mode: Option<&str>) -> Result<NewAttributes> {
    let number = |field: &str, value: Option<i64>| {
        value
            .map(|value| {
                let known = u32::try_from(value).ok().filter(|_| value <= MAX_ID);
                known.ok_or_else(|| {
                    Error::field(field, format!("{field} must be between 0 and {MAX_ID}"))
                })
            })
            .transpose()
    };
    Ok(NewAttributes {
        uid: number("uid", uid)?,
        gid: number("gid", gid)?,
        mode: mode.map(parse_mode).transpose()?,
    })
}

/// What is said of an upload besides its content.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewFile<'a> {
    pub path: Option<&'a str>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    /// In octal.
    pub mode: Option<&'a str>,
    /// How many bytes are to come, where that was announced.
    pub length: Option<u64>,
}

/// Makes or replaces a file with what `body` gives. It has its name when it is whole, and not
/// before: one that breaks off leaves what was there.
///
/// # Errors
/// As [`get`]; [`Error::PayloadTooLarge`] past the configured limit; [`Error::Conflict`] when the
/// disk is full or a directory has the name; those of `body`.
pub async fn put(
    ctx: &Ctx,
    container: &str,
    new: NewFile<'_>,
    body: impl Stream<Item = Result<Bytes>>,
) -> Result<FileInfo> {
    let row = find(ctx, container).await?;
    let at = path("path", new.path)?;
    if at.ends_with('/') {
        return Err(Error::field(
            "path",
            "path must end with the file's name, not with a /",
        ));
    }
    let attributes = attributes(new.uid, new.gid, new.mode)?;
    let change = Change::new(Action::FileUpload, &row, &at);
    let mut unfinished = Unfinished(Some((ctx.clone(), change.clone())));
    let filled = fill(ctx, &row, &at, attributes, new.length, body).await;
    unfinished.0 = None;
    match filled {
        Ok((writer, size)) => {
            let change = change.with("size", size.to_string());
            recorded(ctx, change, async move {
                let finished = writer.finish().await;
                finished.map_err(|failure| told("path", failure))
            })
            .await
        }
        Err(error) => recorded(ctx, change, async { Err(error) }).await,
    }
}

/// Writes all of `body` to a file without a name; how much that was.
async fn fill(
    ctx: &Ctx,
    row: &ContainerRow,
    at: &str,
    attributes: NewAttributes,
    length: Option<u64>,
    body: impl Stream<Item = Result<Bytes>>,
) -> Result<(Box<dyn crate::runtime::FileWriter>, u64)> {
    let limit = ctx.app().config.upload_limit;
    let too_large = || Error::PayloadTooLarge {
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    if length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let tree = tree(ctx, row).await?;
    let failed = |failure| told("path", failure);
    let mut writer = tree.create(at, attributes).await.map_err(failed)?;
    let mut body = std::pin::pin!(body);
    let (mut gathered, mut size) = (BytesMut::new(), 0_u64);
    loop {
        let chunk = tokio::time::timeout(PATIENCE, body.next())
            .await
            .map_err(|_| Error::BadRequest("The upload stood still for too long".into()))?
            .transpose()?;
        if let Some(chunk) = &chunk {
            size = size.saturating_add(chunk.len() as u64);
            if size > limit {
                return Err(too_large());
            }
            gathered.extend_from_slice(chunk);
        }
        if gathered.len() >= GATHERED || (chunk.is_none() && !gathered.is_empty()) {
            let piece = gathered.split().freeze();
            writer.write(piece).await.map_err(failed)?;
        }
        if chunk.is_none() {
            return Ok((writer, size));
        }
    }
}

/// An upload under way. A client that goes away ends it in the middle of a wait; then this is all
/// that is left to tell of it.
struct Unfinished(Option<(Ctx, Change)>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((ctx, change)) = self.0.take() {
            tokio::spawn(async move {
                change.note(&ctx, Some("BROKEN_OFF")).await;
            });
        }
    }
}

/// [`put`] of what is at hand whole.
///
/// # Errors
/// As [`put`].
pub async fn upload(ctx: &Ctx, container: &str, at: &str, bytes: Bytes) -> Result<FileInfo> {
    let new = NewFile {
        path: Some(at),
        length: Some(bytes.len() as u64),
        ..NewFile::default()
    };
    put(ctx, container, new, futures_util::stream::iter([Ok(bytes)])).await
}

/// Makes a directory; with `parents` those above it too, and then one that is there will do.
///
/// # Errors
/// As [`get`]; [`Error::Conflict`] when the name is taken.
pub async fn make_dir(
    ctx: &Ctx,
    container: &str,
    at: Option<&str>,
    parents: bool,
) -> Result<FileInfo> {
    let row = find(ctx, container).await?;
    let at = path("path", at)?;
    let change = Change::new(Action::FileMkdir, &row, &at);
    let inner = ctx.clone();
    recorded(ctx, change, async move {
        let tree = tree(&inner, &row).await?;
        let failed = |failure| told("path", failure);
        tree.make_dir(&at, parents).await.map_err(failed)?;
        tree.stat(&at).await.map_err(failed)
    })
    .await
}

/// Gives something another name or place; with `overwrite` that of something else.
///
/// # Errors
/// As [`get`]; [`Error::Conflict`] when the name is taken or lies on another file system.
pub async fn rename(
    ctx: &Ctx,
    container: &str,
    from: Option<&str>,
    to: Option<&str>,
    overwrite: bool,
) -> Result<()> {
    let row = find(ctx, container).await?;
    let (from, to) = (path("from", from)?, path("to", to)?);
    let change = Change::new(Action::FileMove, &row, &from).with("to", to.as_str());
    let inner = ctx.clone();
    recorded(ctx, change, async move {
        let tree = tree(&inner, &row).await?;
        tree.rename(&from, &to, overwrite)
            .await
            .map_err(|failure| told("from", failure))
    })
    .await
}

/// Deletes a file, a link or an empty directory; with `recursive` any directory.
///
/// # Errors
/// As [`get`]; [`Error::Conflict`] when it is not empty or in use.
pub async fn remove(ctx: &Ctx, container: &str, at: Option<&str>, recursive: bool) -> Result<()> {
    let row = find(ctx, container).await?;
    let at = path("path", at)?;
    let change = Change::new(Action::FileDelete, &row, &at);
    let inner = ctx.clone();
    recorded(ctx, change, async move {
        let tree = tree(&inner, &row).await?;
        tree.remove(&at, recursive)
            .await
            .map_err(|failure| told("path", failure))
    })
    .await
}

/// Sets the permissions, given in octal.
///
/// # Errors
/// As [`get`]; a validation error of `mode`.
pub async fn chmod(ctx: &Ctx, container: &str, at: Option<&str>, mode: &str) -> Result<FileInfo> {
    let row = find(ctx, container).await?;
    let at = path("path", at)?;
    let bits = parse_mode(mode)?;
    let change = Change::new(Action::FileChmod, &row, &at).with("mode", mode);
    let inner = ctx.clone();
    recorded(ctx, change, async move {
        let tree = tree(&inner, &row).await?;
        let failed = |failure| told("path", failure);
        tree.chmod(&at, bits).await.map_err(failed)?;
        tree.stat(&at).await.map_err(failed)
    })
    .await
}

fn parse_mode(text: &str) -> Result<u32> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| {
            Error::field(
                "mode",
                "mode must be three or four octal digits such as 0644",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_bounded() {
        let long = format!("/{}", "a".repeat(MAX_PATH));
        for bad in ["", "etc", "./etc", "/a\0b", &long] {
            let error = path("path", Some(bad)).unwrap_err();
            assert_eq!(error.fields()[0].field, "path", "{bad:?}");
        }
        assert_eq!(path("path", Some("/a/../b")).unwrap(), "/a/../b");
        assert!(matches!(path("from", None), Err(Error::BadRequest(_))));
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0644").unwrap(), 0o644);
        assert_eq!(parse_mode("755").unwrap(), 0o755);
        assert_eq!(parse_mode("4755").unwrap(), 0o4755);
        for bad in ["", "8", "+644", "0888", "rwx", "00644", "-644"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_are_the_containers() {
        assert_eq!(attributes(Some(0), None, None).unwrap().uid, Some(0));
        assert_eq!(
            attributes(None, None, Some("755")).unwrap().mode,
            Some(0o755)
        );
        for bad in [-1, 65_536, i64::MAX] {
            let error = attributes(None, Some(bad), None).unwrap_err();
            assert_eq!(error.fields()[0].field, "gid");
        }
    }

    #[test]
    fn pieces_have_bounds_and_a_beginning() {
        assert_eq!(range(None, None).unwrap().most, MAX_LISTED);
        for bad in [0, -1, 10_001, i64::MAX] {
            assert_eq!(
                range(Some(bad), None).unwrap_err().fields()[0].field,
                "limit"
            );
        }
        for bad in ["", "?", "a b", "ä"] {
            assert_eq!(
                range(None, Some(bad)).unwrap_err().fields()[0].field,
                "cursor"
            );
        }
        let cursor = URL_SAFE_NO_PAD.encode(b"a\xff");
        assert_eq!(range(Some(2), Some(&cursor)).unwrap().after, b"a\xff");
    }
}
