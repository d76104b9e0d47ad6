//! A container's life: made, started, stopped, removed. Every action can be repeated, undoes
//! itself when a step fails, and leaves nothing that the next start of the server would not clear
//! away when it is killed in the middle.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use rustix::process::Signal;

use super::assemble::{Assembled, Plan, USER_DATA, Users};
use super::bundle::{self, Places};
use super::console::{self, Console};
use super::engine::{Engine, Entry, Live, lock};
use super::fault::{Context as _, blocking, failed, joined};
use super::files::Gate;
use super::images::Init as ImageInit;
use super::process::{Process, ProcessId};
use super::revert::Revert;
use super::state::{self, Init, Record, RunState, Slot, remove_dir, write_json};
use super::{disk, exec, namespace, watch};
use crate::domain::ids::ContainerId;
use crate::runtime::{ContainerSpec, Created, ExecSpec, RuntimeError, RuntimeEvent, Started};

/// How long a killed process may take to be gone: it may hang in the kernel for a moment.
const KILL: Duration = Duration::from_secs(10);

/// How long the init may take to become the image's program, on the busiest machine.
const BECOME: Duration = Duration::from_secs(10);
/// How long an init may take until it listens to its stop signal.
const LISTENS: Duration = Duration::from_secs(2);

const CREATE: &str = "could not make the container";
const START: &str = "could not start the container";
const STOP: &str = "could not stop the container";
const DELETE: &str = "could not remove the container";

impl Engine {
    /// Makes disk and record, in a place aside, and moves them where they belong when whole.
    pub(super) async fn create(
        self: &Arc<Self>,
        spec: &ContainerSpec,
    ) -> Result<Created, RuntimeError> {
        if let Some(entry) = self.entry(&spec.id) {
            let slot = lock(&entry.record).slot;
            return Ok(Created {
                ipv4: self.network.address(slot.0),
            });
        }
        let mut revert = Revert::new();
        let slot = self.reserve()?;
        let engine = Arc::clone(self);
        revert.add(move || async move { engine.release(slot) });
        let staged = self
            .layout
            .staging()
            .join(format!("{}-{}", spec.id, slot.0));
        let undone = staged.clone();
        revert.add(move || async move {
            if let Err(error) = blocking(move || remove_dir(&undone).or_fail(CREATE)).await {
                tracing::error!(%error, "could not remove a half-made container");
            }
        });
        let engine = Arc::clone(self);
        let spec = spec.clone();
        let made = blocking(move || engine.make(&spec, slot, &staged)).await;
        let entry = match made {
            Ok(record) => Arc::new(Entry::new(record, Some(Instant::now()))),
            Err(error) => {
                revert.undo().await;
                return Err(error);
            }
        };
        self.insert(entry);
        revert.success();
        Ok(Created {
            ipv4: self.network.address(slot.0),
        })
    }

    fn make(
        &self,
        spec: &ContainerSpec,
        slot: Slot,
        staged: &std::path::Path,
    ) -> Result<Record, RuntimeError> {
        disk::check_reserve(self.layout.data())?;
        let image = self.images.open(&spec.image)?;
        let (argv, stop_signal) = match image.init {
            ImageInit::Own { argv, stop_signal } => (Some(argv), stop_signal),
            ImageInit::Fallback if bundle::fallback_init().is_some() => (None, libc::SIGTERM),
            ImageInit::Fallback => {
                return Err(RuntimeError::Unavailable(
                    "images without an init need tini; apt-get install tini".into(),
                ));
            }
        };
        let record = Record {
            spec: spec.clone(),
            slot,
            rootfs: image.rootfs,
            init: Init {
                argv,
                stop_signal,
                env: image.env,
            },
            user_data_done: false,
        };
        remove_dir(staged).or_fail(CREATE)?;
        state::make_dir(staged, 0o700).or_fail(CREATE)?;
        disk::make(
            &self.layout.templates(),
            spec.disk_gb,
            &staged.join("disk.img"),
        )?;
        write_json(&staged.join("container.json"), &record, false).or_fail(CREATE)?;
        let place = self.layout.container(&spec.id);
        fs::rename(staged, &place).or_fail(CREATE)?;
        // Its start need not wait for the disk. Should the machine lose its power before, the job that
        // asked for the container finds none, and makes it again.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = state::sync(&place.join("container.json")) {
                tracing::warn!(place = %place.display(), %error, "a record may not be on the disk yet");
            }
        });
        Ok(record)
    }

    /// Starts it, or confirms that it runs.
    pub(super) async fn start(
        self: &Arc<Self>,
        spec: &ContainerSpec,
    ) -> Result<Started, RuntimeError> {
        let entry = self.existing(&spec.id)?;
        let _action = entry.action.lock().await;
        if let Some(live) = entry.live() {
            return Ok(self.started(&entry, live.state.started_at));
        }
        // One that died a moment ago and has not been cleared away yet.
        if lock(&entry.live).is_some() || self.layout.run_dir(&entry.id).exists() {
            self.clear(&entry).await?;
        }
        self.adopt_spec(&entry, spec).await?;

        let mut revert = Revert::new();
        let (engine, undone) = (Arc::clone(self), Arc::clone(&entry));
        revert.add(move || async move {
            if let Err(error) = engine.clear(&undone).await {
                tracing::error!(id = %undone.id, %error, "could not undo a start");
            }
        });
        match self.launch(&entry).await {
            Ok(live) => {
                revert.success();
                let live = Arc::new(live);
                *lock(&entry.live) = Some(Arc::clone(&live));
                watch::death(self, &entry, &live);
                self.run_user_data(&entry, &live).await;
                Ok(self.started(&entry, live.state.started_at))
            }
            Err(error) => {
                revert.undo().await;
                Err(error)
            }
        }
    }

    /// Limits may have changed since it was made; a disk can only grow. Its name and image stay.
    async fn adopt_spec(&self, entry: &Entry, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let mut record = entry.record();
        let known = &mut record.spec;
        if known.disk_gb < spec.disk_gb {
            let (disk, gib) = (self.layout.disk(&entry.id), spec.disk_gb);
            blocking(move || disk::grow(&disk, gib)).await?;
            known.disk_gb = spec.disk_gb;
        } else if known.cpu_cores == spec.cpu_cores && known.memory_mb == spec.memory_mb {
            return Ok(());
        }
        known.cpu_cores = spec.cpu_cores;
        known.memory_mb = spec.memory_mb;
        self.save(entry, record).await
    }

    /// Replaces a container's record, on the disk first.
    async fn save(&self, entry: &Entry, record: Record) -> Result<(), RuntimeError> {
        let path = self.layout.record(&entry.id);
        let written = record.clone();
        blocking(move || write_json(&path, &written, true).or_fail(START)).await?;
        *lock(&entry.record) = record;
        Ok(())
    }

    /// The steps of a start. What a failed one leaves, [`Engine::clear`] removes.
    async fn launch(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Live, RuntimeError> {
        let slot = lock(&entry.record).slot;
        let begin = Instant::now();
        self.network.prepare(slot.0).await?;
        let prepared = begin.elapsed();
        let (engine, record) = (Arc::clone(self), entry.record());
        let (pid, assembled) =
            joined(tokio::task::spawn_blocking(move || engine.build(&record)).await)?;
        let built = begin.elapsed();
        self.network.attach(slot.0, pid).await?;
        let attached = begin.elapsed();
        let (engine, id) = (Arc::clone(self), entry.id.clone());
        let live = blocking(move || engine.release_init(&id, pid, assembled)).await;
        let released = begin.elapsed();
        tracing::debug!(?prepared, ?built, ?attached, ?released, "launched");
        live
    }

    /// Builds the sandbox: mounts, and among them the runtime's `create`. Its init waits.
    fn build(&self, record: &Record) -> Result<(i32, Assembled), RuntimeError> {
        let users = Users::begin(record.slot).or_fail(START)?;
        let id = &record.spec.id;
        let run_dir = self.layout.run_dir(id);
        let bundle = run_dir.join("bundle");
        let plan = Plan {
            record: record.clone(),
            dir: run_dir.join("mnt"),
            disk: self.layout.disk(id),
            address: self.network.address(record.slot.0),
            nameservers: self.network.nameservers(),
        };
        state::make_dir(&run_dir, 0o711).or_fail(START)?;
        state::make_dir(&bundle, 0o700).or_fail(START)?;
        state::make_dir(&plan.dir, 0o711).or_fail(START)?;
        // Outside the private mounts it stays empty; but runc's `exec` goes there first.
        state::make_dir(&plan.rootfs(), 0o711).or_fail(START)?;
        let (rootfs, console) = (plan.rootfs(), plan.console());
        let places = Places {
            rootfs: &rootfs,
            console: &console,
            cgroup: self.layout.cgroup(id),
        };
        let spec = bundle::spec(record, &self.host, &places).map_err(|e| failed(START, e))?;
        let spec = serde_json::to_vec(&spec).map_err(|e| failed(START, e))?;
        fs::write(bundle.join("config.json"), spec).or_fail(START)?;

        let pid_file = run_dir.join("pid");
        let (bundle, pid_arg) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
        let args = [
            "create",
            "--bundle",
            &bundle,
            "--pid-file",
            &pid_arg,
            id.as_str(),
        ];
        let assembled = namespace::on_own_thread("hzel-start", || {
            namespace::enter_private_mounts(self.oci.hides())?;
            let assembled = plan.assemble(users)?;
            let output: OwnedFd = assembled.console.try_clone()?.into();
            self.oci
                .call_here(&args, Some(output))
                .map_err(std::io::Error::other)?;
            Ok(assembled)
        })
        .or_fail(START)?;
        let pid = fs::read_to_string(&pid_file).or_fail(START)?;
        let pid = pid.trim().parse().map_err(|e| failed(START, e))?;
        Ok((pid, assembled))
    }

    /// Lets the init run and writes down that it does.
    fn release_init(
        &self,
        id: &ContainerId,
        pid: i32,
        assembled: Assembled,
    ) -> Result<Live, RuntimeError> {
        let init = ProcessId::of(pid).or_fail(START)?;
        let process = init
            .open()
            .or_fail(START)?
            .ok_or_else(|| failed(START, "it is gone"))?;
        let waiting = process.program();
        self.oci
            .call(&["start", id.as_str()])
            .map_err(|e| failed(START, e))?;
        // The runtime answers before the init has become the image's program; until then nothing
        // can be run in the container, and that program may still turn out not to exist.
        let end = Instant::now() + BECOME;
        while process.alive() && process.program() == waiting && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
        let mut console = Console::new(assembled.console, self.layout.console(id));
        if !process.alive() {
            console.collect().or_fail(START)?;
            let said = console::tail(&self.layout.console(id), 5).unwrap_or_default();
            return Err(failed(START, format!("its init ended at once: {said}")));
        }
        let state = RunState {
            init,
            started_at: Utc::now(),
            console: assembled.console_id,
            boot_id: state::boot_id().or_fail(START)?,
        };
        write_json(&self.layout.run_state(id), &state, false).or_fail(START)?;
        Ok(Live {
            process,
            state,
            console: std::sync::Mutex::new(Some(console)),
            files: Gate::default(),
        })
    }

    /// The tenant's script: once in the container's life, its output on the console.
    async fn run_user_data(self: &Arc<Self>, entry: &Arc<Entry>, live: &Arc<Live>) {
        let mut record = entry.record();
        let Some(script) = record
            .spec
            .user_data
            .clone()
            .filter(|_| !record.user_data_done)
        else {
            return;
        };
        record.user_data_done = true;
        // Written down before: rather not at all than twice.
        if let Err(error) = self.save(entry, record.clone()).await {
            tracing::error!(id = %entry.id, %error, "could not note the first script's start");
            return;
        }
        let argv = if script.starts_with("#!") {
            vec![USER_DATA.to_owned()]
        } else {
            vec!["/bin/sh".to_owned(), USER_DATA.to_owned()]
        };
        let spec = ExecSpec {
            exec_id: format!("user-data-{}", entry.id),
            argv,
            cwd: None,
            env: Vec::new(),
            user: None,
        };
        let pid = live.process.id.pid;
        let log = self.layout.console(&entry.id);
        match exec::start(&self.oci, &self.host, entry, pid, spec).await {
            Ok(exec) => drop(tokio::spawn(log_user_data(exec, log))),
            Err(error) => note(
                &log,
                &format!("hzel: could not run the first script: {error}\n"),
            ),
        }
    }

    /// Ends it: politely, then by force.
    pub(super) async fn stop(
        self: &Arc<Self>,
        id: &ContainerId,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let entry = self.existing(id)?;
        let _action = entry.action.lock().await;
        let live = lock(&entry.live).clone();
        let Some(live) = live else { return Ok(()) };
        if !grace.is_zero() {
            let signal = lock(&entry.record).init.stop_signal;
            // One that has only just begun may not listen yet, and would never hear it.
            let until = Instant::now() + LISTENS.min(grace);
            while live.process.alive() && !live.process.catches(signal) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.ask_to_end(&entry, &live.process, signal)
                .or_fail(STOP)?;
            live.process.ended_within(grace).await.or_fail(STOP)?;
        }
        self.end(&entry, &live).await
    }

    fn ask_to_end(&self, entry: &Entry, process: &Process, signal: i32) -> std::io::Result<()> {
        match Signal::from_named_raw(signal) {
            Some(signal) => process.signal(signal),
            // A real-time signal, such as systemd's: not one pidfd_send_signal's wrapper names.
            None => self
                .oci
                .call(&["kill", entry.id.as_str(), &signal.to_string()])
                .map_err(std::io::Error::other),
        }
    }

    /// Kills what is left, clears away and tells of the death. The caller holds `entry.action`.
    pub(super) async fn end(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        live: &Live,
    ) -> Result<(), RuntimeError> {
        live.process.signal(Signal::KILL).or_fail(STOP)?;
        if !live.process.ended_within(KILL).await.or_fail(STOP)? {
            return Err(RuntimeError::Timeout("killing the container"));
        }
        self.clear(entry).await?;
        // Nobody may be listening.
        let _unheard = self.events.send(RuntimeEvent::Died {
            id: entry.id.clone(),
        });
        Ok(())
    }

    /// Removes all that there is only while it runs, whatever state that is in.
    pub(super) async fn clear(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<(), RuntimeError> {
        let slot = lock(&entry.record).slot;
        let live = lock(&entry.live).clone();
        let (engine, id) = (Arc::clone(self), entry.id.clone());
        let clearing = blocking(move || {
            if let Some(live) = live {
                live.files.close();
                if let Some(console) = lock(&live.console).as_mut()
                    && let Err(error) = console.collect()
                {
                    tracing::warn!(%id, %error, "could not keep the end of the console");
                }
            }
            engine.clear_processes(&id)
        });
        let (cleared, detached) = tokio::join!(clearing, self.network.detach(slot.0));
        cleared?;
        detached?;
        *lock(&entry.live) = None;
        Ok(())
    }

    /// Kills and removes what the OCI runtime and the kernel have of a container.
    pub(super) fn clear_processes(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let group = self.layout.cgroup(id);
        self.cgroups.kill_all(&group);
        if self.layout.oci().join(id.as_str()).exists() {
            self.oci
                .call(&["delete", "--force", id.as_str()])
                .or_else(|refusal| {
                    // Half-made, it may be unreadable to the runtime itself.
                    tracing::warn!(%id, %refusal, "the OCI runtime could not remove a container");
                    remove_dir(&self.layout.oci().join(id.as_str()))
                })
                .or_fail(STOP)?;
        }
        self.cgroups.remove(&group);
        remove_dir(&self.layout.run_dir(id)).or_fail(STOP)
    }

    /// Kills it and removes all there is of it.
    pub(super) async fn delete(self: &Arc<Self>, id: &ContainerId) -> Result<(), RuntimeError> {
        let Some(entry) = self.entry(id) else {
            return Ok(());
        };
        let _action = entry.action.lock().await;
        let live = lock(&entry.live).clone();
        match live {
            Some(live) => self.end(&entry, &live).await?,
            None if self.layout.run_dir(id).exists() => self.clear(&entry).await?,
            None => {}
        }
        let slot = lock(&entry.record).slot;
        let (container, trash) = (
            self.layout.container(id),
            self.layout.trash().join(id.as_str()),
        );
        let aside = trash.clone();
        blocking(move || match fs::rename(&container, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).or_fail(DELETE)
            }
            _ => Ok(()),
        })
        .await?;
        // From here on it is gone. Giving a big disk's blocks back takes a while, for which nobody
        // need wait; should we be killed, the next start does it.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = remove_dir(&trash) {
                tracing::error!(dir = %trash.display(), %error, "could not remove a disk");
            }
        });
        self.forget(id);
        self.release(slot);
        Ok(())
    }
}

/// Keeps a line for the tenant to read.
fn note(log: &std::path::Path, text: &str) {
    if let Err(error) = console::append(log, text.as_bytes()) {
        tracing::warn!(log = %log.display(), %error, "could not write to a console's log");
    }
}

async fn log_user_data(mut exec: crate::runtime::Exec, log: std::path::PathBuf) {
    while let Some((_, bytes)) = exec.output.recv().await {
        let log = log.clone();
        let written =
            blocking(move || console::append(&log, &bytes).or_fail("could not log")).await;
        if let Err(error) = written {
            tracing::warn!(%error, "the first script's output is lost");
        }
    }
    let said = match exec.exit.await {
        Ok(Ok(status)) if status.code == 0 => return,
        Ok(Ok(status)) => format!("hzel: the first script ended with code {}\n", status.code),
        Ok(Err(error)) => format!("hzel: {error}\n"),
        Err(_) => return,
    };
    let noted = blocking(move || {
        note(&log, &said);
        Ok(())
    });
    if let Err(error) = noted.await {
        tracing::warn!(%error, "the first script's end is not logged");
    }
}
