//! All shells of this server, by whose they are and what they are called.
//!
//! A place is taken before the shell is started, so that caps hold and two sockets that come at
//! once with one name share one shell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;

use super::SessionName;
use super::shell::Shell;
use crate::domain::ctx::Ctx;
use crate::domain::ids::{ContainerId, UserId};
use crate::error::{Error, Result};

/// Shells that one user may have, and that may be in one container.
const PER_USER: usize = 32;
const PER_CONTAINER: usize = 32;

/// What finds a shell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    container: ContainerId,
    user: UserId,
    name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Session(SessionName),
    /// Found by nobody.
    None(String),
}

impl Key {
    pub(super) fn new(
        ctx: &Ctx,
        container: &ContainerId,
        user: &UserId,
        session: Option<SessionName>,
    ) -> Self {
        let unique = || crate::domain::ids::new_uuid(ctx.now().utc());
        Self {
            container: container.clone(),
            user: user.clone(),
            name: session.map_or_else(|| Name::None(unique()), Name::Session),
        }
    }

    pub(super) fn session(&self) -> Option<&SessionName> {
        match &self.name {
            Name::Session(name) => Some(name),
            Name::None(_) => None,
        }
    }
}

/// A place for a shell, empty until it is started.
#[derive(Default)]
pub(super) struct Slot(OnceCell<Arc<Shell>>);

impl Slot {
    /// The shell, started by whoever comes first.
    pub(super) async fn shell<F>(&self, start: impl FnOnce() -> F) -> Result<Arc<Shell>>
    where
        F: Future<Output = Result<Arc<Shell>>>,
    {
        self.0.get_or_try_init(start).await.map(Arc::clone)
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Terminals(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    /// The work of each shell.
    tasks: Mutex<JoinSet<()>>,
    recheck: Notify,
}

/// A place that is held while its shell is looked for or started. Given back when it is dropped and
/// nobody has started one: whoever asked may have gone in the middle.
pub(super) struct Place {
    terminals: Terminals,
    pub(super) key: Key,
    pub(super) slot: Arc<Slot>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.terminals.slots();
        // The table's, and this one: nobody else is about to start it.
        let last = Arc::strong_count(&self.slot) <= 2;
        if last && self.slot.0.get().is_none() && is_there(&slots, &self.key, &self.slot) {
            slots.remove(&self.key);
        }
    }
}

fn is_there(slots: &HashMap<Key, Arc<Slot>>, key: &Key, slot: &Arc<Slot>) -> bool {
    slots.get(key).is_some_and(|now| Arc::ptr_eq(now, slot))
}

impl Terminals {
    /// Nothing that is done under this lock can panic half-way, so a poisoned one is sound.
    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of that key, taken now if it was free.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub(super) fn reserve(&self, key: Key) -> Result<Place> {
        let mut slots = self.slots();
        let place = |key: Key, slot: &Arc<Slot>| Place {
            terminals: self.clone(),
            slot: Arc::clone(slot),
            key,
        };
        if let Some(slot) = slots.get(&key) {
            return Ok(place(key, slot));
        }
        let count = |of: &dyn Fn(&Key) -> bool| slots.keys().filter(|key| of(key)).count();
        let own = count(&|other| other.user == key.user);
        if own >= PER_USER {
            return Err(Error::QuotaExceeded(format!(
                "You have {own} terminals open, and {PER_USER} are allowed"
            )));
        }
        let here = count(&|other| other.container == key.container);
        if here >= PER_CONTAINER {
            return Err(Error::QuotaExceeded(format!(
                "The container has {here} terminals open, and {PER_CONTAINER} are allowed"
            )));
        }
        let slot = Arc::<Slot>::default();
        slots.insert(key.clone(), Arc::clone(&slot));
        Ok(place(key, &slot))
    }

    /// Frees that very place.
    pub(super) fn forget(&self, key: &Key, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        if is_there(&slots, key, slot) {
            slots.remove(key);
        }
    }

    /// Every shell that runs.
    pub(super) fn all(&self) -> Vec<Arc<Shell>> {
        let slots = self.slots();
        let shells = slots.values().filter_map(|slot| slot.0.get().cloned());
        shells.collect()
    }

    /// A user's in a container.
    pub(super) fn of(&self, container: &ContainerId, user: &UserId) -> Vec<Arc<Shell>> {
        let slots = self.slots();
        let own = slots
            .iter()
            .filter(|(key, _)| key.container == *container && key.user == *user);
        let shells = own.filter_map(|(_, slot)| slot.0.get().cloned());
        shells.filter(|shell| !shell.is_over()).collect()
    }

    /// Runs a shell's work; [`Terminals::ended`] waits for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all shells are over and recorded.
    pub(super) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }

    /// Has it looked now whether the users of shells may still use them.
    pub fn recheck(&self) {
        self.0.recheck.notify_one();
    }

    pub(super) async fn recheck_asked(&self) {
        self.0.recheck.notified().await;
    }
}
