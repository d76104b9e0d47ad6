//! What keeps a container's disk free to be unmounted: every file of it that the server has open,
//! and every operation under way, is known here and ended when the container stops. A disk that is
//! still mounted somewhere must not be mounted a second time by the next start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runtime::native::engine::lock;
use crate::runtime::{FileError, RuntimeError};

/// Operations and transfers of one container at once: it must not use up the server's threads and
/// open files.
const AT_ONCE: usize = 24;

/// The open files of one running container.
pub(in crate::runtime::native) struct Gate {
    /// Set first, so that long work stops by itself.
    closing: AtomicBool,
    /// Held for reading by whatever works; whether it is closed for good.
    closed: RwLock<bool>,
    held: Mutex<Vec<Weak<dyn Close>>>,
    slots: Arc<Semaphore>,
}

/// A place among those that may work at once.
pub(super) type Permit = OwnedSemaphorePermit;

impl Default for Gate {
    fn default() -> Self {
        Self {
            closing: AtomicBool::new(false),
            closed: RwLock::new(false),
            held: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Gate {
    /// Places, if there are so many.
    pub(super) fn enter(&self, places: u32) -> Result<Permit, FileError> {
        Arc::clone(&self.slots)
            .try_acquire_many_owned(places)
            .map_err(|_| FileError::TooMany)
    }

    /// Does `work`, which [`Gate::close`] then waits for.
    pub(super) fn during<T>(
        &self,
        work: impl FnOnce() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed || self.is_closing() {
            return Err(RuntimeError::NotRunning.into());
        }
        work()
    }

    /// Whether long work is to stop.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Keeps something with open files in it until it is dropped or the container stops. To be
    /// called within [`Gate::during`], so that none slips in behind [`Gate::close`].
    pub(super) fn hold<T: Send + 'static>(&self, thing: T) -> Held<T> {
        let inner = Arc::new(Mutex::new(Some(thing)));
        let mut held = lock(&self.held);
        held.retain(|known| known.strong_count() > 0);
        let known: Weak<Mutex<Option<T>>> = Arc::downgrade(&inner);
        held.push(known);
        Held(inner)
    }

    /// Ends what is under way and closes what is open. Afterwards nothing begins.
    pub(in crate::runtime::native) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        let held = std::mem::take(&mut *lock(&self.held));
        for thing in held.iter().filter_map(Weak::upgrade) {
            thing.close();
        }
    }
}

trait Close: Send + Sync {
    fn close(&self);
}

impl<T: Send> Close for Mutex<Option<T>> {
    fn close(&self) {
        drop(lock(self).take());
    }
}

/// Something with open files in it, which may be taken away at any time.
pub(super) struct Held<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Held<T> {
    /// Works with it, if it is still there.
    pub(super) fn with<R>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, FileError>,
    ) -> Result<R, FileError> {
        match lock(&self.0).as_mut() {
            Some(thing) => work(thing),
            None => Err(RuntimeError::NotRunning.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_takes_everything_away() {
        let gate = Gate::default();
        let held = gate.during(|| Ok(gate.hold("open".to_owned()))).unwrap();
        assert_eq!(held.with(|text| Ok(text.len())).unwrap(), 4);
        gate.close();
        let gone = |result: Result<_, FileError>| {
            assert!(matches!(
                result,
                Err(FileError::Engine(RuntimeError::NotRunning))
            ));
        };
        gone(held.with(|_| Ok(())));
        gone(gate.during(|| Ok(())));
    }

    #[test]
    fn only_so_many_at_once() {
        let gate = Gate::default();
        let all: Vec<_> = (0..AT_ONCE).map(|_| gate.enter(1).unwrap()).collect();
        assert!(matches!(gate.enter(1), Err(FileError::TooMany)));
        drop(all);
        assert!(gate.enter(6).is_ok());
    }
}
