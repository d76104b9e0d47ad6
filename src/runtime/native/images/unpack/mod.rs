//! Unpacking layers and tarballs into a directory, whatever they contain.
//!
//! The archive may be hostile, so the thread that unpacks has the target for its root directory
//! (a root of its own: `unshare(CLONE_FS)`), where neither `..` nor a symbolic link leads out, and
//! keeps only the capabilities to write files for others: it cannot make a device. Device nodes
//! in the archive are skipped; a container's `/dev` is made when it starts.

mod stream;
#[cfg(test)]
mod tests;
mod whiteout;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, fchown, lchown};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use tar::EntryType;

use self::stream::open;
use self::whiteout::whiteout;
use super::problem::Problem;

/// What an image may unpack to: bytes and entries. Far above any real one; an archive that
/// unpacks to more was made to fill the disk.
const MOST_BYTES: u64 = 64 << 30;
const MOST_ENTRIES: u64 = 4_000_000;
/// What is left free on the disk, for containers that run.
pub const RESERVE: u64 = 1 << 30;
/// How often the disk is looked at, in bytes written.
const LOOK_EVERY: u64 = 64 << 20;
/// What has an owner a container has no number for is nobody's.
const NOBODY: u64 = 65_534;
/// A container has the ids below this.
const IDS: u64 = 65_536;

/// An archive to unpack, and how.
#[derive(Debug)]
pub struct Archive {
    pub file: PathBuf,
    /// Whether its `.wh.` files remove what earlier archives made.
    pub whiteouts: bool,
}

/// Seen from both sides while it runs.
#[derive(Debug, Default)]
pub struct Watch {
    /// Bytes of the archives read so far, as they are on disk.
    pub read: AtomicU64,
    /// Set to make it stop soon.
    pub abandoned: AtomicBool,
}

/// Unpacks the archives over one another into the empty directory `root`, and waits for it.
pub fn unpack(root: &Path, archives: &[Archive], watch: &Arc<Watch>) -> Result<(), Problem> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("unpack".into())
            .spawn_scoped(scope, || {
                // All that needs the machine's own root directory comes first.
                let mut streams = Vec::new();
                for archive in archives {
                    streams.push((open(&archive.file, watch)?, archive.whiteouts));
                }
                enter(root)?;
                let mut budget = Budget::default();
                for (stream, whiteouts) in streams {
                    apply(stream, whiteouts, &mut budget, watch)?;
                }
                Ok(())
            })?
            .join()
            .unwrap_or_else(|_| Err(Problem::Failed("the unpacking thread panicked".into())))
    })
}

/// Makes `root` this thread's root directory, and gives up what unpacking does not need.
fn enter(root: &Path) -> Result<(), Problem> {
    // SAFETY: CLONE_FS only separates this thread's root, working directory and umask from the
    // other threads'. No memory or descriptor is affected, and nothing on this thread relies on
    // sharing them: it was started for this and ends after it.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    rustix::process::chroot(root)?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::empty());
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::SETFCAP;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// What may still be written.
#[derive(Default)]
struct Budget {
    entries: u64,
    bytes: u64,
    looked_at: u64,
}

impl Budget {
    /// Counts an entry and checks that there is room for it.
    fn take(&mut self, bytes: u64) -> Result<(), Problem> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > MOST_ENTRIES || self.bytes > MOST_BYTES {
            return Err(Problem::Broken(format!(
                "it unpacks to more than {MOST_ENTRIES} files or {} GiB",
                MOST_BYTES >> 30
            )));
        }
        if self.bytes >= self.looked_at {
            room(Path::new("/"), bytes)?;
            self.looked_at = self.bytes.saturating_add(LOOK_EVERY);
        }
        Ok(())
    }
}

/// Checks that `wanted` more bytes leave the [`RESERVE`] on the file system of `path`.
pub fn room(path: &Path, wanted: u64) -> Result<(), Problem> {
    let stat = rustix::fs::statvfs(path)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= wanted.saturating_add(RESERVE) {
        return Ok(());
    }
    Err(Problem::NoSpace(format!(
        "an image that takes {} MiB more does not fit: {} MiB are free, and {} MiB are kept in \
         reserve",
        wanted.div_ceil(1 << 20),
        free >> 20,
        RESERVE >> 20
    )))
}

/// What cannot be read as an archive. What is wrong with it is for the log: it has parts of the file,
/// which may be any of the machine's, and everybody sees why an image failed.
fn damaged(cause: io::Error) -> Problem {
    if cause.raw_os_error().is_some() {
        return Problem::from(cause);
    }
    tracing::warn!(%cause, "an archive cannot be read");
    Problem::Broken("the archive is damaged, or is no tar file".into())
}

/// Unpacks one archive into the thread's root directory.
fn apply(
    stream: Box<dyn Read>,
    whiteouts: bool,
    budget: &mut Budget,
    watch: &Watch,
) -> Result<(), Problem> {
    let mut archive = tar::Archive::new(stream);
    // What this archive made itself is not meant by its whiteouts, whatever the order.
    let mut own = HashSet::new();
    let mut seen = false;
    for entry in archive.entries().map_err(damaged)? {
        if watch.abandoned.load(Ordering::Relaxed) {
            return Err(Problem::Abandoned);
        }
        let mut entry = entry.map_err(damaged)?;
        seen = true;
        let kind = entry.header().entry_type();
        let size = if kind.is_file() { entry.size() } else { 0 };
        budget.take(size)?;
        let path = inside(OsStr::from_bytes(&entry.path_bytes()))?;
        if whiteouts {
            if let Some(target) = whiteout(&path) {
                target.apply(&own)?;
                continue;
            }
            let mut directory = Some(path.as_path());
            while let Some(each) = directory {
                if !own.insert(each.to_owned()) {
                    break;
                }
                directory = each.parent();
            }
        }
        place(&mut entry, kind, &path).map_err(|problem| match problem {
            Problem::Failed(cause) => Problem::Failed(format!("{}: {cause}", path.display())),
            other => other,
        })?;
    }
    // A layer may well change nothing; a tarball that has nothing is none.
    if seen || whiteouts {
        Ok(())
    } else {
        Err(Problem::Broken(
            "the archive is empty, or no tar file".into(),
        ))
    }
}

/// The path below the root that a name in an archive means.
fn inside(name: &OsStr) -> Result<PathBuf, Problem> {
    let mut path = PathBuf::from("/");
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Problem::Broken(format!(
                    "it has an entry that leads outside: {}",
                    name.to_string_lossy()
                )));
            }
        }
    }
    Ok(path)
}

/// Removes whatever is there, without following a link.
fn remove(path: &Path) -> Result<(), Problem> {
    let found = match std::fs::symlink_metadata(path) {
        Err(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        other => other?,
    };
    if found.is_dir() {
        std::fs::remove_dir_all(path)?;
    } else {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Makes one entry of an archive, in place of what was there.
fn place(
    entry: &mut tar::Entry<'_, Box<dyn Read>>,
    kind: EntryType,
    path: &Path,
) -> Result<(), Problem> {
    let whole = |id: io::Result<u64>| -> Result<u32, Problem> {
        let id = id.map_err(damaged)?;
        // Below 65536, so it fits.
        Ok(u32::try_from(if id < IDS { id } else { NOBODY }).unwrap_or_default())
    };
    let uid = whole(entry.header().uid())?;
    let gid = whole(entry.header().gid())?;
    let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o644) & 0o7777);
    let modified = Timestamps {
        last_access: time(entry),
        last_modification: time(entry),
    };
    if path == Path::new("/") {
        if kind.is_dir() {
            rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            rustix::fs::chmod(path, mode)?;
        }
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_parents(parent)?;
    }
    match kind {
        EntryType::Directory => {
            if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                remove(path)?;
                rustix::fs::mkdir(path, Mode::RWXU)?;
            }
            lchown(path, Some(uid), Some(gid))?;
            rustix::fs::chmod(path, mode)?;
            set_attributes(entry, path)?;
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            remove(path)?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?;
            io::copy(entry, &mut file).map_err(damaged)?;
            // In this order: a new owner takes set-user-id bits and capabilities away.
            fchown(&file, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&file, mode)?;
            set_attributes(entry, path)?;
            rustix::fs::futimens(&file, &modified)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            remove(path)?;
            rustix::fs::symlink(target.as_slice(), path)?;
            lchown(path, Some(uid), Some(gid))?;
            let here = rustix::fs::CWD;
            rustix::fs::utimensat(here, path, &modified, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let target = inside(OsStr::from_bytes(&target))?;
            if target == path {
                return Ok(());
            }
            remove(path)?;
            std::fs::hard_link(&target, path).map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => Problem::Broken(format!(
                    "it has a hard link to {}, which it has not",
                    target.display()
                )),
                _ => cause.into(),
            })?;
        }
        EntryType::Fifo => {
            remove(path)?;
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR, 0)?;
            lchown(path, Some(uid), Some(gid))?;
            rustix::fs::chmod(path, mode)?;
        }
        // Devices are skipped, and so is what some archiver has added for itself.
        _ => {}
    }
    Ok(())
}

/// When an entry was last changed.
fn time(entry: &tar::Entry<'_, Box<dyn Read>>) -> Timespec {
    let seconds = entry.header().mtime().unwrap_or_default();
    Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or_default(),
        tv_nsec: 0,
    }
}

/// Makes the directories above an entry that no entry made, and puts them in the place of files.
fn make_parents(parent: &Path) -> Result<(), Problem> {
    // Through links, as a container would go; they cannot lead out.
    if std::fs::metadata(parent).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    if let Some(above) = parent.parent() {
        make_parents(above)?;
    }
    remove(parent)?;
    let usual = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    rustix::fs::mkdir(parent, usual)?;
    Ok(())
}

/// Sets the extended attributes that mean something in a container.
fn set_attributes(entry: &mut tar::Entry<'_, Box<dyn Read>>, path: &Path) -> Result<(), Problem> {
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return Ok(());
    };
    for extension in extensions.flatten() {
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        if name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        match rustix::fs::lsetxattr(path, name, extension.value_bytes(), XattrFlags::empty()) {
            // The store's file system may have none; programs then lack a privilege, no more.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                tracing::debug!(path = %path.display(), "no extended attributes here");
            }
            other => other?,
        }
    }
    Ok(())
}
