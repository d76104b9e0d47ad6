//! Who waits for what to end, within this process. To wait for a new kind of thing, choose its id
//! as the key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Bells by key.
#[derive(Debug, Default)]
pub struct Waiting {
    bells: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

/// Someone who waits; goes off the list when dropped.
#[derive(Debug)]
pub struct Listener {
    key: String,
    bell: Arc<Notify>,
    bells: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

impl Waiting {
    /// Begins to listen. What rings between this call and [`Listener::rung`] is not missed by one
    /// listener; several are all woken when they wait at the time.
    #[must_use]
    pub fn listen(&self, key: &str) -> Listener {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = Arc::clone(bells.entry(key.to_owned()).or_default());
        Listener {
            key: key.to_owned(),
            bell,
            bells: Arc::clone(&self.bells),
        }
    }

    /// Wakes whoever waits for `key`.
    pub fn ring(&self, key: &str) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = bells.get(key) {
            bell.notify_waiters();
            bell.notify_one();
        }
    }
}

impl Listener {
    pub async fn rung(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        // Two are held when nobody else listens: the map's and this one's.
        if Arc::strong_count(&self.bell) <= 2 {
            bells.remove(&self.key);
        }
    }
}
