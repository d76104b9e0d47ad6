//! The directory that a build works in: made and locked, removed whatever becomes of the build, and
//! told from one that a crash left.
//!
//! What more a build needs for itself is a field of [`Build`], and put there by [`Build::begin`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::problem::Problem;
use super::{ImageStore, make_directory};

/// A build's directory, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) directory: PathBuf,
    /// Held by its lock.
    _lock: File,
}

impl Build {
    pub(super) fn begin(store: &Path) -> Result<Self, Problem> {
        make_directory(store)?;
        let store = ImageStore::new(store.to_owned());
        let directory = store.unused_name();
        let _one_at_a_time = store.lock()?;
        make_directory(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::create_dir(directory.join("rootfs"))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// Removes it now.
    pub(super) fn remove(self) {
        // What stays is tried again when it is dropped, and by the next sweep.
        if let Err(cause) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(%cause, directory = %self.directory.display(), "not removed at once");
        }
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if !self.directory.exists() {
            return;
        }
        // It may be 10,000 files, and this may be a thread that must not wait.
        let directory = self.directory.clone();
        let spawned = std::thread::Builder::new()
            .name("image-rm".into())
            .spawn(move || {
                // Again when what was writing there has just been told to stop.
                for _ in 0..20 {
                    match std::fs::remove_dir_all(&directory) {
                        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        _ => return,
                    }
                }
            });
        if let Err(cause) = spawned {
            tracing::warn!(%cause, "an unfinished image is left to the next sweep");
        }
    }
}

/// Whether nobody holds the lock of a build's directory.
pub(super) fn is_abandoned(directory: &Path) -> bool {
    match File::open(directory.join("lock")) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // Being removed, or a removed image: no build works there.
        Err(_) => true,
    }
}
