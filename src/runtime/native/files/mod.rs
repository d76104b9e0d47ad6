//! The files of a running container: [`FileTree`] for the embedded engine.
//!
//! Every step runs on a thread for blocking work, as the container's root ([`super::tenant`]) where
//! it names something, and is known to the container's [`Gate`], which ends it when the container
//! stops. Between two steps no thread waits for a client: one that is slow or gone costs an open
//! file, which goes with its handle. To add an operation, add a function beside the others that is
//! given the root, and call it by [`Files::once`].

mod archive;
mod draft;
mod gate;
mod place;
mod walk;

use std::collections::BinaryHeap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, RenameFlags, chmodat, fstat, mkdirat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use self::archive::Archive;
use self::draft::Draft;
pub(super) use self::gate::Gate;
use self::gate::{Held, Permit};
use self::place::{
    Place, info, kind_of, open_pointed, own_name, point_at, require_storage, require_stored, split,
    target_of, told,
};
use super::engine::Live;
use super::fault::{Context as _, failed};
use super::tenant::Tenant;
use crate::runtime::{
    FileArchive, FileError, FileInfo, FileKind, FileReader, FileTree, FileWriter, ListRange,
    Listing, MAX_LISTED, NewAttributes, RuntimeError,
};

const WHAT: &str = "could not work with the container's files";
/// Most that is read at once.
const CHUNK: usize = 1 << 20;

/// Places at the [`Gate`] that an operation takes, by what it costs the server: one open file; a
/// directory's entries in memory; or directories open as deep as a tree goes.
const LIGHT: u32 = 1;
const LIST: u32 = 3;
const TREE: u32 = 6;

/// The files of one container, for one start of it.
pub(super) struct Files {
    live: Arc<Live>,
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(failed("the engine was interrupted", error).into()))
}

/// Does `work` as the container's root, now.
fn as_tenant<T>(
    live: &Live,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<T, FileError>,
) -> Result<T, FileError> {
    let tenant = Tenant::of(&live.process).or_fail(WHAT)?;
    let tenant = tenant.ok_or(RuntimeError::NotRunning)?;
    tenant.act(work).or_fail(WHAT)?
}

impl Files {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// A whole operation as the container's root.
    async fn once<T: Send + 'static>(
        &self,
        places: u32,
        work: impl FnOnce(BorrowedFd<'_>, &Gate) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let (done, _over) = self.begin(places, work).await?;
        Ok(done)
    }

    /// The first step of something that the gate keeps open.
    async fn begin<T: Send + 'static>(
        &self,
        places: u32,
        work: impl FnOnce(BorrowedFd<'_>, &Gate) -> Result<T, FileError> + Send + 'static,
    ) -> Result<(T, Permit), FileError> {
        let permit = self.live.files.enter(places)?;
        let live = Arc::clone(&self.live);
        let done = blocking(move || {
            live.files
                .during(|| as_tenant(&live, |root| work(root, &live.files)))
        })
        .await?;
        Ok((done, permit))
    }
}

#[async_trait]
impl FileTree for Files {
    async fn stat(&self, path: &str) -> Result<FileInfo, FileError> {
        let path = path.to_owned();
        self.once(LIGHT, move |root, _| stat(root, &path)).await
    }

    async fn list(&self, path: &str, range: ListRange) -> Result<Listing, FileError> {
        let path = path.to_owned();
        self.once(LIST, move |root, gate| list(root, &path, &range, gate))
            .await
    }

    async fn open(&self, path: &str) -> Result<(FileInfo, Box<dyn FileReader>), FileError> {
        let path = path.to_owned();
        let ((info, file), permit) = self
            .begin(LIGHT, move |root, gate| {
                let (info, file) = open(root, &path)?;
                Ok((info, gate.hold(file)))
            })
            .await?;
        let live = Arc::clone(&self.live);
        let reader = Open {
            live,
            held: file,
            _permit: permit,
        };
        Ok((info, Box::new(reader)))
    }

    async fn archive(&self, path: &str) -> Result<Box<dyn FileArchive>, FileError> {
        let path = path.to_owned();
        let (held, permit) = self
            .begin(TREE, move |root, gate| Ok(gate.hold(archive(root, &path)?)))
            .await?;
        let live = Arc::clone(&self.live);
        Ok(Box::new(Open {
            live,
            held,
            _permit: permit,
        }))
    }

    async fn create(
        &self,
        path: &str,
        attributes: NewAttributes,
    ) -> Result<Box<dyn FileWriter>, FileError> {
        let path = path.to_owned();
        let (held, permit) = self
            .begin(LIGHT, move |root, gate| {
                Ok(gate.hold(Draft::new(root, &path, attributes)?))
            })
            .await?;
        let live = Arc::clone(&self.live);
        Ok(Box::new(Open {
            live,
            held,
            _permit: permit,
        }))
    }

    async fn make_dir(&self, path: &str, parents: bool) -> Result<(), FileError> {
        let path = path.to_owned();
        self.once(LIGHT, move |root, _| make_dir(root, &path, parents))
            .await
    }

    async fn rename(&self, from: &str, to: &str, overwrite: bool) -> Result<(), FileError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.once(LIGHT, move |root, _| rename(root, &from, &to, overwrite))
            .await
    }

    async fn remove(&self, path: &str, recursive: bool) -> Result<(), FileError> {
        let path = path.to_owned();
        self.once(if recursive { TREE } else { LIGHT }, move |root, gate| {
            remove(root, &path, recursive, gate)
        })
        .await
    }

    async fn chmod(&self, path: &str, mode: u32) -> Result<(), FileError> {
        let path = path.to_owned();
        self.once(LIGHT, move |root, _| chmod(root, &path, mode))
            .await
    }
}

/// Something open, in the hands of who transfers it.
struct Open<T> {
    live: Arc<Live>,
    held: Held<T>,
    _permit: Permit,
}

impl<T: Send + 'static> Open<T> {
    /// One step with it.
    async fn step<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Live, &mut T) -> Result<R, FileError> + Send + 'static,
    ) -> Result<R, FileError> {
        let (live, held) = (Arc::clone(&self.live), self.held.clone());
        blocking(move || live.files.during(|| held.with(|thing| work(&live, thing)))).await
    }
}

#[async_trait]
impl FileReader for Open<OwnedFd> {
    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, FileError> {
        self.step(move |_, file| {
            let mut bytes = vec![0; length.min(CHUNK)];
            let read = loop {
                match rustix::io::pread(&*file, &mut bytes[..], offset) {
                    Err(Errno::INTR) => {}
                    other => break other.map_err(told)?,
                }
            };
            bytes.truncate(read);
            Ok(bytes.into())
        })
        .await
    }
}

#[async_trait]
impl FileArchive for Open<Archive> {
    async fn next(&mut self) -> Result<Option<Bytes>, FileError> {
        let piece = self
            .step(|live, archive| as_tenant(live, |_| archive.piece()))
            .await?;
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

#[async_trait]
impl FileWriter for Open<Draft> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), FileError> {
        self.step(move |_, draft| draft.write(&bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<FileInfo, FileError> {
        self.step(|live, draft| as_tenant(live, |_| draft.finish()))
            .await
    }
}

// What follows runs as the container's root.

fn stat(root: BorrowedFd<'_>, path: &str) -> Result<FileInfo, FileError> {
    let fd = point_at(root, path, OFlags::empty()).map_err(told)?;
    Ok(info(shown_name(path), &fstat(&fd).map_err(told)?, None))
}

/// What a path's last part is called; the root is `/`.
fn shown_name(path: &str) -> &[u8] {
    split(path).map_or(b"/", |(_, name)| name.as_bytes())
}

/// A directory may hold any number of names: no more are kept than are asked for, the first of those
/// that come after the given one, and only these are looked at.
fn list(
    root: BorrowedFd<'_>,
    path: &str,
    range: &ListRange,
    gate: &Gate,
) -> Result<Listing, FileError> {
    let fd = point_at(root, path, OFlags::DIRECTORY).map_err(told)?;
    let dir = open_pointed(fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(told)?;
    let mut names = Dir::read_from(&dir).map_err(told)?;
    let most = range.most.min(MAX_LISTED);
    // The greatest of the kept is on top, the first to go.
    let mut kept = BinaryHeap::<CString>::new();
    while let Some(entry) = names.read() {
        if gate.is_closing() {
            return Err(RuntimeError::NotRunning.into());
        }
        let entry = entry.map_err(told)?;
        let name = entry.file_name();
        if name == c"." || name == c".." || name.to_bytes() <= range.after.as_slice() {
            continue;
        }
        // One more than asked for: whether it comes tells whether there is a next piece.
        if kept.len() <= most {
            kept.push(name.to_owned());
        } else if let Some(mut greatest) = kept.peek_mut()
            && name < greatest.as_c_str()
        {
            *greatest = name.to_owned();
        }
    }
    let mut kept = kept.into_sorted_vec();
    let more = kept.len() > most;
    kept.truncate(most);
    let mut listing = Listing::default();
    for name in &kept {
        let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile; or one of the kernel's that cannot be looked at.
            Err(Errno::NOENT | Errno::ACCESS | Errno::SRCH) => continue,
            Err(error) => return Err(told(error)),
        };
        let target = (kind_of(&stat) == FileKind::Symlink)
            .then(|| target_of(dir.as_fd(), name))
            .flatten();
        listing.entries.push(info(name.to_bytes(), &stat, target));
    }
    listing.next = kept.pop().filter(|_| more).map(CString::into_bytes);
    Ok(listing)
}

fn open(root: BorrowedFd<'_>, path: &str) -> Result<(FileInfo, OwnedFd), FileError> {
    let fd = point_at(root, path, OFlags::empty()).map_err(told)?;
    if require_stored(&fstat(&fd).map_err(told)?)? == FileKind::Directory {
        return Err(FileError::IsDirectory);
    }
    require_storage(fd.as_fd())?;
    let file = open_pointed(fd.as_fd(), OFlags::RDONLY).map_err(told)?;
    let stat = fstat(&file).map_err(told)?;
    Ok((info(shown_name(path), &stat, None), file))
}

fn archive(root: BorrowedFd<'_>, path: &str) -> Result<Archive, FileError> {
    let fd = point_at(root, path, OFlags::empty()).map_err(told)?;
    require_stored(&fstat(&fd).map_err(told)?)?;
    require_storage(fd.as_fd())?;
    let name = match shown_name(path) {
        b"/" => b"",
        name => name,
    };
    Archive::new(fd.as_fd(), name)
}

fn make_dir(root: BorrowedFd<'_>, path: &str, parents: bool) -> Result<(), FileError> {
    if parents {
        let trimmed = path.trim_end_matches('/');
        let ends = trimmed.match_indices('/').map(|(at, _)| at);
        for above in ends
            .map(|at| &trimmed[..at])
            .filter(|part| !part.is_empty())
        {
            match point_at(root, above, OFlags::DIRECTORY) {
                Ok(_) => {}
                Err(Errno::NOENT) => make_one(&Place::of(root, above)?)?,
                Err(error) => return Err(told(error)),
            }
        }
    }
    if parents && path.trim_matches('/').is_empty() {
        return Ok(());
    }
    match make_one(&Place::of(root, path)?) {
        Err(FileError::Exists) if parents => match point_at(root, path, OFlags::DIRECTORY) {
            Ok(_) => Ok(()),
            Err(Errno::NOTDIR) => Err(FileError::Exists),
            Err(error) => Err(told(error)),
        },
        other => other,
    }
}

fn make_one(place: &Place) -> Result<(), FileError> {
    mkdirat(&place.dir, &place.name, Mode::from_raw_mode(0o755)).map_err(told)
}

fn rename(root: BorrowedFd<'_>, from: &str, to: &str, overwrite: bool) -> Result<(), FileError> {
    let from_path = from;
    let from = Place::of(root, from)?;
    let kind = require_stored(&from.stat()?.ok_or(FileError::NotFound)?)?;
    from.require_no_mount()?;
    require_named(from_path, kind)?;
    let to =
        destination(root, to, kind).map_err(|error| FileError::Destination(Box::new(error)))?;
    let flags = if overwrite {
        RenameFlags::empty()
    } else {
        RenameFlags::NOREPLACE
    };
    renameat_with(&from.dir, &from.name, &to.dir, &to.name, flags).map_err(|error| match error {
        Errno::INVAL => FileError::Invalid("a directory cannot be moved into itself"),
        // A directory over a file, a file over a directory, over one that is not empty.
        Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY => {
            FileError::Destination(Box::new(FileError::Exists))
        }
        error => told(error),
    })
}

/// Where something is to be moved: a directory, and a name that is free or that of something stored.
fn destination(root: BorrowedFd<'_>, path: &str, kind: FileKind) -> Result<Place, FileError> {
    let place = Place::of(root, path)?;
    if let Some(there) = place.stat()? {
        require_stored(&there)?;
        place.require_no_mount()?;
    }
    require_named(path, kind)?;
    Ok(place)
}

/// A path that ends in a slash names a directory.
fn require_named(path: &str, kind: FileKind) -> Result<(), FileError> {
    if path.ends_with('/') && kind != FileKind::Directory {
        Err(FileError::NotDirectory)
    } else {
        Ok(())
    }
}

fn remove(root: BorrowedFd<'_>, path: &str, recursive: bool, gate: &Gate) -> Result<(), FileError> {
    let place = Place::of(root, path)?;
    let stat = place.stat()?.ok_or(FileError::NotFound)?;
    let kind = require_stored(&stat)?;
    place.require_no_mount()?;
    require_named(path, kind)?;
    match kind {
        FileKind::Directory if recursive => {
            walk::remove_all(place.dir.as_fd(), &place.name, || gate.is_closing())
        }
        FileKind::Directory => unlinkat(&place.dir, &place.name, AtFlags::REMOVEDIR).map_err(told),
        _ => unlinkat(&place.dir, &place.name, AtFlags::empty()).map_err(told),
    }
}

fn chmod(root: BorrowedFd<'_>, path: &str, mode: u32) -> Result<(), FileError> {
    let fd = point_at(root, path, OFlags::empty()).map_err(told)?;
    require_stored(&fstat(&fd).map_err(told)?)?;
    require_storage(fd.as_fd())?;
    let mode = Mode::from_raw_mode(mode);
    chmodat(
        rustix::fs::CWD,
        own_name(fd.as_fd()),
        mode,
        AtFlags::empty(),
    )
    .map_err(told)
}
