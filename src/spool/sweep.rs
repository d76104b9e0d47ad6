//! Keeping spools within their bounds: what is old goes, then whatever must so that all together are
//! not too large and the disk is not nearly full.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::TryLockError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::write::segment_name;
use super::{Spools, lock};
use crate::domain::ids::CommandId;

/// How long a finished command's output is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// What the container engine keeps free at least, beside a twentieth of the disk.
const RESERVE: u64 = 1 << 30;

/// A spool on the disk.
struct Found {
    /// When it was last written.
    last: SystemTime,
    path: PathBuf,
    size: u64,
    /// Name and size of each, oldest first.
    segments: VecDeque<(u64, u64)>,
}

impl Spools {
    /// Removes a command's spool, if there is one. Blocks.
    pub fn remove(&self, id: &CommandId) {
        discard(&self.path(id));
    }

    /// Removes what is older than a day. Then, as long as all together are too large or the disk is
    /// nearly full, the oldest of the finished ones go, and when there are none left, those that are
    /// being written lose their oldest segments, the largest first; each keeps the one that is
    /// written. Blocks. Does nothing while it is done already.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let _alone = match self.shared.sweeping.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let (mut finished, mut open) = self.find(now)?;
        finished.sort_by_key(|spool| spool.last);
        let mut total: u64 = finished.iter().chain(&open).map(|spool| spool.size).sum();
        for spool in finished {
            let old = now.duration_since(spool.last).is_ok_and(|age| age > KEPT);
            if !old && !self.is_short(total) {
                break;
            }
            discard(&spool.path);
            total -= spool.size;
        }
        while self.is_short(total) {
            let largest = open
                .iter_mut()
                .filter(|spool| spool.segments.len() > 1)
                .max_by_key(|spool| spool.size);
            let Some(spool) = largest else {
                break;
            };
            let Some((name, size)) = spool.segments.pop_front() else {
                break;
            };
            if let Err(error) = drop_segment(&spool.path, name) {
                tracing::warn!(%error, "a part of a command's output could not be removed");
            }
            spool.size -= size;
            total -= size;
        }
        self.shared.kept.store(total, Ordering::Relaxed);
        Ok(())
    }

    /// Sweeps when there is too much, for a writer that is about to add to it: between two rounds
    /// of the sweep a disk can be filled. Blocks.
    pub(super) fn make_room(&self) {
        if !self.is_short(self.shared.kept.load(Ordering::Relaxed)) {
            return;
        }
        if let Err(error) = self.sweep(SystemTime::now()) {
            tracing::warn!(%error, "old output of commands could not be removed");
        }
    }

    /// Whether the disk is nearly full.
    pub(super) fn is_tight(&self) -> bool {
        (self.tight)(&self.dir)
    }

    fn is_short(&self, total: u64) -> bool {
        total > self.limits.total || self.is_tight()
    }

    /// The finished ones, and those that are being written.
    fn find(&self, now: SystemTime) -> io::Result<(Vec<Found>, Vec<Found>)> {
        let (mut finished, mut open) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((finished, open)),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(|name| name.parse::<CommandId>().ok());
            let is_open = id.is_some_and(|id| lock(&self.shared.open).contains(&id));
            // Removed meanwhile.
            let Ok(files) = fs::read_dir(&path) else {
                continue;
            };
            let mut spool = Found {
                last: SystemTime::UNIX_EPOCH,
                path,
                size: 0,
                segments: VecDeque::new(),
            };
            for file in files.flatten() {
                let Ok(meta) = file.metadata() else {
                    continue;
                };
                spool.size += meta.len();
                spool.last = spool.last.max(meta.modified().unwrap_or(now));
                let name = file.file_name();
                if let Some(name) = name.to_str().and_then(|name| name.parse().ok()) {
                    spool.segments.push_back((name, meta.len()));
                }
            }
            spool.segments.make_contiguous().sort_unstable();
            if is_open {
                open.push(spool);
            } else {
                finished.push(spool);
            }
        }
        Ok((finished, open))
    }
}

fn discard(path: &Path) {
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "a command's output could not be removed"),
    }
}

/// Removes a segment, if somebody else has not.
pub(super) fn drop_segment(dir: &Path, name: u64) -> io::Result<()> {
    match fs::remove_file(dir.join(segment_name(name))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the disk under `dir` has less free than twice what the container engine keeps: at that
/// it refuses to make containers, and what commands write must not bring anybody there.
pub(super) fn is_nearly_full(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|stat| {
        let (free, all) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        free < 2 * RESERVE.max(all / 20)
    })
}
