//! Undo of half-done work: steps register how to undo themselves; unless [`Revert::success`] is
//! called, they are undone in reverse order. To make a new multi-step action safe, register an
//! undo right after each step that leaves something behind.

use std::future::Future;
use std::pin::Pin;

type Undo = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Undoes what was registered unless told of success.
///
/// Undoing may need to wait (a child process, a netlink answer), so it runs as a task of its own:
/// also when the future that held the guard is dropped in the middle (a request was given up), the
/// undo runs to its end.
#[derive(Default)]
pub(super) struct Revert {
    undos: Vec<Undo>,
}

impl Revert {
    /// Nothing to undo yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Registers an undo. It must not fail: it logs what it cannot undo, and reconciling takes
    /// care of the rest.
    pub(super) fn add<F, Fut>(&mut self, undo: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.undos.push(Box::new(move || Box::pin(undo())));
    }

    /// All steps worked: nothing is undone.
    pub(super) fn success(mut self) {
        self.undos.clear();
    }

    /// Undoes now and waits for it: an error is only reported once nothing is left behind.
    pub(super) async fn undo(mut self) {
        let undos = std::mem::take(&mut self.undos);
        // As a task, so that dropping this future does not stop it in the middle.
        if let Err(error) = tokio::spawn(run(undos)).await {
            tracing::error!(%error, "undoing was interrupted");
        }
    }
}

async fn run(mut undos: Vec<Undo>) {
    while let Some(undo) = undos.pop() {
        undo().await;
    }
}

impl Drop for Revert {
    fn drop(&mut self) {
        if self.undos.is_empty() {
            return;
        }
        let undos = std::mem::take(&mut self.undos);
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => drop(handle.spawn(run(undos))),
            Err(error) => tracing::error!(%error, "nothing left to undo with; the next start does"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn note(revert: &mut Revert, seen: &Arc<Mutex<Vec<u8>>>, step: u8) {
        let seen = Arc::clone(seen);
        revert.add(move || async move { seen.lock().unwrap().push(step) });
    }

    #[tokio::test]
    async fn undoes_in_reverse_order() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut revert = Revert::new();
        note(&mut revert, &seen, 1);
        note(&mut revert, &seen, 2);
        revert.undo().await;
        assert_eq!(*seen.lock().unwrap(), [2, 1]);
    }

    #[tokio::test]
    async fn success_undoes_nothing() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut revert = Revert::new();
        note(&mut revert, &seen, 1);
        revert.success();
        tokio::task::yield_now().await;
        assert!(seen.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_guard_still_undoes() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut revert = Revert::new();
        note(&mut revert, &seen, 1);
        drop(revert);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*seen.lock().unwrap(), [1]);
    }
}
