//! Locks between the processes of one test run: nextest runs each test in its own.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Held until it is dropped, or its process ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    pub fn exclusive(path: &Path) -> Self {
        Self::take(path, FlockOperation::LockExclusive)
    }

    pub fn shared(path: &Path) -> Self {
        Self::take(path, FlockOperation::LockShared)
    }

    fn take(path: &Path, how: FlockOperation) -> Self {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        loop {
            match flock(&file, how) {
                Ok(()) => return Self { _file: file },
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => panic!("{}: {e}", path.display()),
            }
        }
    }
}
