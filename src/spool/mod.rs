//! What commands write, whole, in files of the data directory: written once by whoever runs the
//! command ([`Writer`]), read by each listener at its own pace ([`Reader`]). So no listener can slow
//! a command, and none needs memory for what another has not read yet.
//!
//! A command's spool is a directory of segments. A segment is named by how many bytes of output lie
//! before it, and is a row of records: stream, length, bytes. When a spool grows past its limit its
//! oldest segments go, whole; a reader that still wanted them is told how much it missed. All spools
//! together, those that are being written too, are kept within bounds by [`sweep`](Spools::sweep).
//!
//! To bound spools in a new way, add it to [`Limits`] and to the sweep.

mod read;
mod sweep;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use self::read::{Piece, Reader};
pub use self::write::Writer;
use crate::domain::ids::CommandId;

/// Largest record, in bytes of output.
const RECORD: usize = 64 * 1024;
/// Bytes before a record's output: which stream, and its length.
const HEAD: usize = 5;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one command's output.
    pub command: u64,
    /// Bytes of all commands' output.
    pub total: u64,
}

impl Limits {
    /// Bytes of one segment: small beside the whole, for segments go whole.
    const fn segment(self) -> u64 {
        let part = self.command / 32;
        if part < 64 * 1024 {
            64 * 1024
        } else if part > 16 << 20 {
            16 << 20
        } else {
            part
        }
    }
}

/// All spools of this server, cheap to clone.
#[derive(Debug, Clone)]
pub struct Spools {
    dir: PathBuf,
    limits: Limits,
    /// Whether the disk under a directory is nearly full; a parameter, so that a test can decide it.
    tight: fn(&Path) -> bool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Who is to be told of what is new, by command; only while somebody listens.
    tails: Mutex<HashMap<CommandId, watch::Sender<Tail>>>,
    /// Those that are being written.
    open: Mutex<HashSet<CommandId>>,
    /// Bytes in all of them, about: grows with what is written, and each sweep sets it right.
    kept: AtomicU64,
    /// Held by the one that sweeps.
    sweeping: Mutex<()>,
}

/// What changed of a command, as counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its output grew.
    pub output: u64,
    /// Its row changed.
    pub row: u64,
}

/// Hears of what is new of one command.
#[derive(Debug)]
pub struct Listener {
    id: CommandId,
    changes: watch::Receiver<Tail>,
    shared: Arc<Shared>,
}

/// Nothing done under these locks can panic half-way, so a poisoned one is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spools {
    /// Under the data directory.
    #[must_use]
    pub fn new(data_dir: &Path, limits: Limits) -> Self {
        Self {
            dir: data_dir.join("spool").join("commands"),
            limits,
            tight: sweep::is_nearly_full,
            shared: Arc::default(),
        }
    }

    fn path(&self, id: &CommandId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// Begins to listen; nothing that is told from now on is missed.
    #[must_use]
    pub fn listen(&self, id: &CommandId) -> Listener {
        let mut tails = lock(&self.shared.tails);
        let tail = tails
            .entry(id.clone())
            .or_insert_with(|| watch::Sender::new(Tail::default()));
        Listener {
            id: id.clone(),
            changes: tail.subscribe(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Tells who listens that the command's row changed.
    pub fn row_changed(&self, id: &CommandId) {
        self.shared.tell(id, |tail| tail.row += 1);
    }

    /// For the one who runs the command. Nothing is on the disk before something is written.
    #[must_use]
    pub fn writer(&self, id: &CommandId) -> Writer {
        Writer::new(id.clone(), self.clone())
    }

    /// From the first byte that is kept.
    #[must_use]
    pub fn reader(&self, id: &CommandId) -> Reader {
        Reader::new(self.path(id))
    }
}

impl Shared {
    fn tell(&self, id: &CommandId, change: impl FnOnce(&mut Tail)) {
        if let Some(tail) = lock(&self.tails).get(id) {
            tail.send_modify(change);
        }
    }
}

impl Listener {
    /// What has changed by now; from here on, what comes after it counts as new.
    pub fn seen(&mut self) -> Tail {
        *self.changes.borrow_and_update()
    }

    /// Waits for something new since [`Listener::seen`].
    pub async fn changed(&mut self) {
        // The sender stays in the map as long as this listener lives.
        let _told = self.changes.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut tails = lock(&self.shared.tails);
        // This one is still counted.
        if tails
            .get(&self.id)
            .is_some_and(|tail| tail.receiver_count() <= 1)
        {
            tails.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
