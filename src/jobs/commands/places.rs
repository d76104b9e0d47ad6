//! The places in which commands run: so many in all, of one user and in one container.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::App;
use crate::config::Config;
use crate::domain::ids::{ContainerId, UserId};

/// Commands that run side by side on this node.
const SIDE_BY_SIDE: usize = 256;

/// How many run, in which container and whose.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: usize,
    containers: HashMap<ContainerId, usize>,
    users: HashMap<UserId, usize>,
}

/// One of them; free again when it is dropped, panics included.
pub(super) struct Place {
    app: App,
    places: Arc<Mutex<Places>>,
    container: ContainerId,
    user: UserId,
}

impl Places {
    pub(super) fn of(&self, container: &ContainerId, user: &UserId) -> (usize, usize) {
        let count = |found: Option<&usize>| found.copied().unwrap_or_default();
        let in_container = count(self.containers.get(container));
        (count(self.users.get(user)), in_container)
    }

    fn is_free(&self, config: &Config, container: &ContainerId, user: &UserId) -> bool {
        let (of_user, in_container) = self.of(container, user);
        self.all < SIDE_BY_SIDE
            && of_user < config.jobs_per_user
            && in_container < config.jobs_per_container
    }
}

impl Place {
    pub(super) fn take(
        app: &App,
        places: &Arc<Mutex<Places>>,
        container: &ContainerId,
        user: &UserId,
    ) -> Option<Self> {
        let mut all = places.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.is_free(&app.config, container, user) {
            return None;
        }
        all.all += 1;
        *all.containers.entry(container.clone()).or_default() += 1;
        *all.users.entry(user.clone()).or_default() += 1;
        Some(Self {
            app: app.clone(),
            places: Arc::clone(places),
            container: container.clone(),
            user: user.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        all.all -= 1;
        if let Some(count) = all.containers.get_mut(&self.container) {
            *count -= 1;
        }
        if let Some(count) = all.users.get_mut(&self.user) {
            *count -= 1;
        }
        all.containers.retain(|_, count| *count > 0);
        all.users.retain(|_, count| *count > 0);
        drop(all);
        self.app.commands_ready.notify_one();
    }
}
