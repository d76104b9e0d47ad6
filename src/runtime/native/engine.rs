//! The engine once it is known to work here: its parts, the containers it has, and the rule that
//! steps about one container never overlap.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::broadcast;

use super::bundle::Host;
use super::cgroup::Cgroups;
use super::confine;
use super::console::Console;
use super::fault::{Context as _, blocking};
use super::files::Gate;
use super::images::ImageStore;
use super::network::Network;
use super::oci_runtime::OciRuntime;
use super::process::Process;
use super::state::{self, Layout, Record, RunState, Slot};
use super::{NativeConfig, disk};
use crate::domain::ids::ContainerId;
use crate::runtime::{Fact, RuntimeError, RuntimeEvent, Started};

/// How long a server that is being replaced may still hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A container that is made, running or not.
pub(super) struct Entry {
    pub id: ContainerId,
    /// Held through every action that changes it.
    pub action: tokio::sync::Mutex<()>,
    pub record: Mutex<Record>,
    pub live: Mutex<Option<Arc<Live>>>,
    /// The runs of [`super::exec`] under way, by their `exec_id`s.
    pub runs: Mutex<Vec<String>>,
    /// When this server made it; one taken up from the disk has none.
    pub made: Option<Instant>,
}

/// A container that runs.
pub(super) struct Live {
    pub process: Process,
    pub state: RunState,
    /// None when it could not be found again after a restart of the server.
    pub console: Mutex<Option<Console>>,
    /// What the server has open of its files.
    pub files: Gate,
}

impl Entry {
    pub(super) fn new(record: Record, made: Option<Instant>) -> Self {
        Self {
            id: record.spec.id.clone(),
            action: tokio::sync::Mutex::new(()),
            record: Mutex::new(record),
            live: Mutex::new(None),
            runs: Mutex::default(),
            made,
        }
    }

    pub(super) fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// The running container; none also when its init has ended but not been cleared away yet.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone().filter(|live| live.process.alive())
    }
}

/// The engine's parts, all cheap to reach from a task.
pub(super) struct Engine {
    pub layout: Layout,
    pub network: Network,
    pub images: ImageStore,
    pub oci: OciRuntime,
    pub cgroups: Cgroups,
    pub host: Host,
    pub events: broadcast::Sender<RuntimeEvent>,
    /// How long a container is kept that nobody knows of.
    pub keep_unclaimed: Duration,
    registry: Mutex<Registry>,
    /// Held as long as the server lives: no two may work on one data directory.
    _lock: File,
}

#[derive(Default)]
struct Registry {
    entries: HashMap<ContainerId, Arc<Entry>>,
    /// Also of those being made or removed.
    slots: BTreeSet<Slot>,
}

/// Nothing that is done under these locks can panic half-way, so a poisoned one is sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Whether there is any, or one is being made or removed.
    pub(super) fn has_containers(&self) -> bool {
        let registry = lock(&self.registry);
        !registry.entries.is_empty() || !registry.slots.is_empty()
    }

    /// Looks at the machine, takes the lock, and takes up what is there.
    pub(super) async fn open(
        config: &NativeConfig,
        images: ImageStore,
        events: broadcast::Sender<RuntimeEvent>,
    ) -> Result<Arc<Self>, RuntimeError> {
        if !rustix::process::geteuid().is_root() {
            return Err(RuntimeError::Unavailable(
                "containers need root; run hzel as root (each container's root is an ordinary \
                 user of the host)"
                    .into(),
            ));
        }
        let data = config.data_dir.join("native");
        let choice = config.oci_runtime.clone();
        let (lock, layout, oci) = blocking({
            let data = data.clone();
            move || {
                state::make_dir(&data, 0o711).or_fail("could not make the data directory")?;
                let lock = take_lock(&data.join("lock"))?;
                let instance = state::instance(&data).or_fail("could not name the installation")?;
                let layout = Layout::new(data, instance);
                layout
                    .prepare()
                    .or_fail("could not make the engine's directories")?;
                let mut oci = OciRuntime::find(&choice, layout.oci())?;
                oci.pin_mounts()
                    .or_fail("could not make a mount namespace")?;
                Ok((lock, layout, oci))
            }
        })
        .await?;
        let network = Network::new(&layout.instance, &config.data_dir).await?;
        network.ensure().await?;
        let cgroups = Cgroups::detect();
        let host = Host {
            bounding: confine::bounding_set(),
            unified: cgroups.unified,
            limits_swap: cgroups.limits_swap(),
        };
        let engine = Arc::new(Self {
            layout,
            network,
            images,
            oci,
            cgroups,
            host,
            events,
            keep_unclaimed: config.keep_unclaimed,
            registry: Mutex::default(),
            _lock: lock,
        });
        engine.take_up().await?;
        super::watch::collect_consoles(&engine);
        Ok(engine)
    }

    /// Can containers be made now? Only looks.
    pub(super) fn ready(&self) -> Result<(), RuntimeError> {
        disk::check_reserve(self.layout.data())
    }

    pub(super) fn entry(&self, id: &ContainerId) -> Option<Arc<Entry>> {
        lock(&self.registry).entries.get(id).cloned()
    }

    /// The container, which must be there.
    pub(super) fn existing(&self, id: &ContainerId) -> Result<Arc<Entry>, RuntimeError> {
        self.entry(id).ok_or(RuntimeError::NotFound)
    }

    /// The container, which must run.
    pub(super) fn running(
        &self,
        id: &ContainerId,
    ) -> Result<(Arc<Entry>, Arc<Live>), RuntimeError> {
        let entry = self.existing(id)?;
        let live = entry.live().ok_or(RuntimeError::NotRunning)?;
        Ok((entry, live))
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.registry).entries.values().cloned().collect()
    }

    pub(super) fn insert(&self, entry: Arc<Entry>) {
        let mut registry = lock(&self.registry);
        registry.slots.insert(lock(&entry.record).slot);
        registry.entries.insert(entry.id.clone(), entry);
    }

    /// Forgets a container; its slot stays taken until [`Self::release`].
    pub(super) fn forget(&self, id: &ContainerId) {
        lock(&self.registry).entries.remove(id);
    }

    /// Takes the smallest slot that nothing has.
    pub(super) fn reserve(&self) -> Result<Slot, RuntimeError> {
        let mut registry = lock(&self.registry);
        let slot = Slot::first_free(&registry.slots)
            .filter(|slot| self.network.address(slot.0).is_some())
            .ok_or_else(|| RuntimeError::NoSpace("all addresses are taken".into()))?;
        registry.slots.insert(slot);
        Ok(slot)
    }

    /// Gives a slot back, once nothing of its container is left.
    pub(super) fn release(&self, slot: Slot) {
        lock(&self.registry).slots.remove(&slot);
    }

    pub(super) fn slots(&self) -> Vec<u32> {
        lock(&self.registry)
            .slots
            .iter()
            .map(|slot| slot.0)
            .collect()
    }

    /// Whether a container that is here was made from the image of that name.
    pub(super) fn uses_image(&self, name: &str) -> bool {
        self.entries()
            .iter()
            .any(|entry| lock(&entry.record).spec.image == name)
    }

    /// What is so of a container.
    pub(super) fn fact(&self, id: &ContainerId) -> Fact {
        match self.entry(id) {
            None => Fact::Missing,
            Some(entry) => match entry.live() {
                Some(live) => Fact::Running(self.started(&entry, live.state.started_at)),
                None => Fact::Stopped,
            },
        }
    }

    pub(super) fn started(&self, entry: &Entry, started_at: DateTime<Utc>) -> Started {
        let slot = lock(&entry.record).slot;
        Started {
            started_at,
            ipv4: self.network.address(slot.0),
        }
    }
}

/// Takes the lock that keeps a second server away.
fn take_lock(path: &Path) -> Result<File, RuntimeError> {
    let what = "could not lock the data directory";
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .or_fail(what)?;
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(RuntimeError::Unavailable(format!(
                    "another hzel uses this data directory ({} is locked); stop it, or name \
                     another directory",
                    path.display()
                )));
            }
            Err(error) => return Err(io::Error::from(error)).or_fail(what),
        }
    }
}
