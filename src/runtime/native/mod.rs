//! The embedded engine: containers by an OCI runtime binary, without a daemon.
//!
//! [`NativeRuntime`] answers the [`Runtime`] trait. Behind it, `engine` holds the parts and who
//! may act, `lifecycle` the actions; `assemble` mounts a container's file system by `disk` and
//! `namespace`; `bundle` with `confine` and `seccomp` describes its sandbox to `oci_runtime`;
//! `exec`, `terminal`, `kill`, `metrics`, `console` and `files` (as `tenant`) deal with running ones,
//! `watch` and `reconcile` with
//! what happens by itself and what an earlier server left. `network` connects, `images` keeps the
//! trees containers start from, `doctor` explains what a machine lacks.
//!
//! No state is kept that is not also on the disk or in the kernel: a server may be killed at any
//! instant, containers run on, and the next one takes them up.

mod assemble;
mod bundle;
mod cgroup;
mod confine;
mod console;
mod disk;
pub mod doctor;
mod engine;
mod exec;
mod fault;
mod files;
pub mod images;
mod kill;
mod lifecycle;
mod metrics;
mod namespace;
pub mod network;
mod oci_runtime;
mod process;
mod reconcile;
mod revert;
mod seccomp;
mod state;
mod tenant;
mod terminal;
mod tree;
mod users;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, broadcast};

pub use self::oci_runtime::{OciRuntime, OciRuntimeChoice};

use self::engine::Engine;
use self::fault::{Context as _, blocking};
use self::images::ImageStore;
use super::{
    Capabilities, ContainerSpec, Created, Exec, ExecSpec, Fact, FileTree, Finding, ImageProgress,
    ImageSource, Metrics, PreparedImage, Reconciled, Runtime, RuntimeError, RuntimeEvent, Started,
    Terminal, TerminalSpec,
};
use crate::domain::ids::ContainerId;

/// How many deaths a slow listener may be behind before it misses some and must reconcile.
const EVENTS: usize = 256;

/// What the embedded engine needs to know.
#[derive(Debug, Clone)]
pub struct NativeConfig {
    /// The server's data directory; the engine's files go to `native` in it.
    pub data_dir: PathBuf,
    /// The program that makes the sandboxes.
    pub oci_runtime: OciRuntimeChoice,
    /// How long a container is kept that nobody knows of.
    pub keep_unclaimed: Duration,
}

/// The embedded engine, also on a machine where it cannot work: then its operations say what is
/// missing.
pub struct NativeRuntime {
    config: NativeConfig,
    images: ImageStore,
    engine: OnceCell<Arc<Engine>>,
    events: broadcast::Sender<RuntimeEvent>,
}

impl NativeRuntime {
    /// Touches nothing yet: the first operation does, and takes up what still runs.
    ///
    /// # Errors
    /// None at present; a driver may find its configuration impossible.
    pub fn new(config: NativeConfig) -> Result<Self, RuntimeError> {
        let images = ImageStore::new(config.data_dir.join("native").join("images"));
        let (events, _) = broadcast::channel(EVENTS);
        Ok(Self {
            config,
            images,
            engine: OnceCell::new(),
            events,
        })
    }

    /// The engine, opened when it is needed first and as often as it fails.
    async fn engine(&self) -> Result<&Arc<Engine>, RuntimeError> {
        self.engine
            .get_or_try_init(|| {
                Engine::open(&self.config, self.images.clone(), self.events.clone())
            })
            .await
    }
}

/// Carries an action through, also when the caller no longer waits for it: an action that stops in
/// the middle of a step could not even undo itself.
async fn whole<T: Send + 'static>(
    action: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    fault::joined(tokio::spawn(action).await)
}

#[async_trait]
impl Runtime for NativeRuntime {
    fn name(&self) -> &'static str {
        "native"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            live_limits: false,
            metrics: true,
        }
    }

    async fn examine(&self) -> Vec<Finding> {
        doctor::examine(&self.config).await
    }

    async fn ready(&self) -> Result<(), RuntimeError> {
        self.engine().await?.ready()
    }

    // Images need neither lock nor running engine: they can be made while a server runs.

    async fn prepare_image(
        &self,
        name: &str,
        source: &ImageSource,
        progress: ImageProgress,
    ) -> Result<PreparedImage, RuntimeError> {
        self.images.prepare(name, source, progress).await
    }

    async fn has_image(&self, name: &str) -> Result<bool, RuntimeError> {
        let (images, name) = (self.images.clone(), name.to_owned());
        blocking(move || match images.open(&name) {
            Ok(_) => Ok(true),
            Err(RuntimeError::ImageMissing(_)) => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    async fn remove_image(&self, name: &str) -> Result<(), RuntimeError> {
        // Also of a container that nobody claims, which the caller does not know of.
        if let Some(engine) = self.engine.get()
            && engine.uses_image(name)
        {
            return Err(RuntimeError::Failed {
                what: "could not remove the image",
                cause: "containers of this machine are made from it".into(),
            });
        }
        self.images.remove(name).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, RuntimeError> {
        let (engine, spec) = (self.engine().await?.clone(), spec.clone());
        whole(async move { engine.create(&spec).await }).await
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Started, RuntimeError> {
        let (engine, spec) = (self.engine().await?.clone(), spec.clone());
        whole(async move { engine.start(&spec).await }).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        let (engine, id) = (self.engine().await?.clone(), id.clone());
        whole(async move { engine.stop(&id, grace).await }).await
    }

    async fn delete(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let (engine, id) = (self.engine().await?.clone(), id.clone());
        whole(async move { engine.delete(&id).await }).await
    }

    async fn fact(&self, id: &ContainerId) -> Result<Fact, RuntimeError> {
        Ok(self.engine().await?.fact(id))
    }

    async fn metrics(&self, id: &ContainerId) -> Result<Metrics, RuntimeError> {
        self.engine().await?.metrics(id).await
    }

    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError> {
        let engine = self.engine().await?;
        let entry = engine.existing(id)?;
        let log = engine.layout.console(id);
        blocking(move || {
            if let Some(live) = entry.live() {
                watch::collect(&live)?;
            }
            console::tail(&log, lines).or_fail("could not read the console's log")
        })
        .await
    }

    async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<Exec, RuntimeError> {
        let engine = self.engine().await?;
        let (entry, live) = engine.running(id)?;
        let pid = live.process.id.pid;
        match exec::start(&engine.oci, &engine.host, &entry, pid, spec).await {
            // It ended while what is in it was looked at.
            Err(_) if !live.process.alive() => Err(RuntimeError::NotRunning),
            other => other,
        }
    }

    async fn open_terminal(
        &self,
        id: &ContainerId,
        spec: TerminalSpec,
    ) -> Result<Terminal, RuntimeError> {
        let engine = Arc::clone(self.engine().await?);
        // Carried through, or a shell would begin that nobody has the other end of.
        let id = id.clone();
        whole(async move { terminal::open(&engine, &id, spec).await }).await
    }

    async fn kill_exec(&self, id: &ContainerId, exec_id: &str) -> Result<(), RuntimeError> {
        let engine = self.engine().await?;
        let entry = engine.existing(id)?;
        if entry.live().is_none() {
            return Ok(());
        }
        let (engine, group) = (Arc::clone(engine), engine.layout.cgroup(id));
        let exec_id = exec_id.to_owned();
        blocking(move || {
            let under_way = || engine::lock(&entry.runs).contains(&exec_id);
            if kill::kill_run(&engine.cgroups, &group, &exec_id, under_way) {
                Ok(())
            } else {
                Err(RuntimeError::Timeout("ending the processes"))
            }
        })
        .await
    }

    async fn files(&self, id: &ContainerId) -> Result<Box<dyn FileTree>, RuntimeError> {
        let (_, live) = self.engine().await?.running(id)?;
        Ok(Box::new(files::Files::new(live)))
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    async fn reconcile(&self, known: &[ContainerId]) -> Result<Reconciled, RuntimeError> {
        self.engine().await?.reconcile(known).await
    }

    async fn upkeep(&self) -> Result<(), RuntimeError> {
        // Not opened for this: where it cannot work there is nothing to keep up.
        match self.engine.get() {
            Some(engine) => engine.upkeep().await,
            None => Ok(()),
        }
    }

    async fn close(&self) -> Result<(), RuntimeError> {
        match self.engine.get() {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }
}
