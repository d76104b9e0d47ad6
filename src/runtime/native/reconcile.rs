//! Making sense of what an earlier server left: running containers are taken up again, everything
//! half-made is removed. A whole container that nobody knows of is somebody's data all the same: it
//! is kept for long. To look after one more thing, add it to [`Engine::reconcile`], or, where others
//! on the machine may take it away at any time, to [`Engine::upkeep`].

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::Cgroups;
use super::console::Console;
use super::engine::{Engine, Entry, Live, lock};
use super::fault::{Context as _, blocking};
use super::files::Gate;
use super::process::ProcessId;
use super::state::{Record, RunState, boot_id, read_json, remove_dir, write_json};
use super::tree::Tree;
use super::watch;
use crate::domain::ids::ContainerId;
use crate::runtime::{Reconciled, RuntimeError, Unclaimed};

/// One made so recently may not have been known yet when the caller listed what it knows.
const YOUNG: Duration = Duration::from_secs(60);
/// Beside a container's record: since when nobody has known of it.
const UNCLAIMED: &str = "unclaimed.json";

impl Engine {
    /// At the end: without a container there is nothing to keep addresses, rules and groups for.
    pub(super) async fn close(&self) -> Result<(), RuntimeError> {
        if self.has_containers() {
            return Ok(());
        }
        self.network.withdraw().await?;
        let (cgroups, group) = (self.cgroups.clone(), self.layout.cgroup_parent());
        let run = self.layout.run().to_owned();
        blocking(move || {
            cgroups.remove(&group);
            remove_dir(&run).or_fail("could not remove the engine's run directory")
        })
        .await
    }

    /// At start: stops what an earlier server was in the middle of, reads what there is, takes up
    /// what runs and clears away what half-runs.
    pub(super) async fn take_up(self: &Arc<Self>) -> Result<(), RuntimeError> {
        let engine = Arc::clone(self);
        let records = blocking(move || {
            engine.end_orphaned_calls();
            engine.empty_side_places();
            Ok(engine.read_records())
        })
        .await?;
        for record in records {
            let entry = Arc::new(Entry::new(record, None));
            self.insert(Arc::clone(&entry));
            if !self.layout.run_dir(&entry.id).exists() {
                continue;
            }
            let (engine, known) = (Arc::clone(self), Arc::clone(&entry));
            if let Some(live) = blocking(move || Ok(engine.find_running(&known))).await? {
                let live = Arc::new(live);
                *lock(&entry.live) = Some(Arc::clone(&live));
                watch::death(self, &entry, &live);
            } else if let Err(error) = self.clear(&entry).await {
                tracing::error!(id = %entry.id, %error, "could not clear away a half-made start");
            }
        }
        Ok(())
    }

    /// Kills calls of the OCI runtime that outlived the server that made them: they would go on
    /// making what we are about to clear away. Processes that run in containers go on.
    fn end_orphaned_calls(&self) {
        let root = self.layout.oci();
        for _ in 0..50 {
            let orphans: Vec<i32> = pids().filter(|&pid| is_call(pid, &root)).collect();
            if orphans.is_empty() {
                return;
            }
            for pid in orphans.into_iter().filter_map(Pid::from_raw) {
                // Gone meanwhile: as wished.
                let _gone = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        tracing::error!("calls of the OCI runtime by an earlier server do not end");
    }

    fn empty_side_places(&self) {
        for dir in [
            self.layout.staging(),
            self.layout.trash(),
            self.layout.templates(),
        ] {
            for path in entries_of(&dir) {
                let whole = path.extension().is_some_and(|extension| extension == "img");
                if whole && dir == self.layout.templates() {
                    continue;
                }
                let removed = if path.is_dir() {
                    remove_dir(&path)
                } else {
                    fs::remove_file(&path)
                };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "could not remove a leftover");
                }
            }
        }
    }

    fn read_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for dir in entries_of(&self.layout.containers()) {
            let path = dir.join("container.json");
            let named = dir.file_name().and_then(|name| name.to_str());
            match read_json::<Record>(&path) {
                Ok(Some(record)) if named == Some(record.spec.id.as_str()) => records.push(record),
                Ok(_) => tracing::error!(path = %path.display(), "not a container's record"),
                // The machine lost its power in the moment in which it was made: only then is a
                // record there and not yet written.
                Err(_) if fs::metadata(&path).is_ok_and(|found| found.len() == 0) => {
                    tracing::warn!(path = %path.display(), "a container that was never made is removed");
                    if let Err(error) = remove_dir(&dir) {
                        tracing::error!(path = %path.display(), %error, "could not remove it");
                    }
                }
                // Never remove what cannot be read: a newer version may have written it.
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot be read"),
            }
        }
        records
    }

    /// A container that an earlier server started and that still runs.
    fn find_running(&self, entry: &Entry) -> Option<Live> {
        let state: RunState = match read_json(&self.layout.run_state(&entry.id)) {
            Ok(state) => state?,
            Err(error) => {
                tracing::error!(id = %entry.id, %error, "the state of a container is unreadable");
                return None;
            }
        };
        if boot_id().ok()? != state.boot_id {
            return None;
        }
        let process = ProcessId::open(state.init).ok()??;
        let here = Cgroups::holds(&self.layout.cgroup(&entry.id), state.init.pid);
        if !process.alive() || !here {
            return None;
        }
        self.cgroups.thaw(&self.layout.cgroup(&entry.id));
        let log = self.layout.console(&entry.id);
        let console = Tree::of_process(state.init.pid)
            .and_then(|tree| tree.open_known("/dev/console", state.console))
            .ok()
            .flatten()
            .map(|source| Console::resume(source, log));
        if console.is_none() {
            tracing::warn!(id = %entry.id, "the console of a running container is not to be found");
        }
        Some(Live {
            process,
            state,
            console: std::sync::Mutex::new(console),
            files: Gate::default(),
        })
    }

    /// Puts back the rules that keep containers apart, should they be gone.
    pub(super) async fn upkeep(&self) -> Result<(), RuntimeError> {
        if self.has_containers() {
            self.network.uphold().await?;
        }
        Ok(())
    }

    /// Removes what belongs to none of `known`, and says what is so.
    pub(super) async fn reconcile(
        self: &Arc<Self>,
        known: &[ContainerId],
    ) -> Result<Reconciled, RuntimeError> {
        let claimed: HashSet<ContainerId> = known.iter().cloned().collect();
        let engine = Arc::clone(self);
        let unclaimed = blocking(move || Ok(engine.unclaimed(&claimed))).await?;
        let mut removed = Vec::new();
        let (kept, over): (Vec<_>, Vec<_>) = unclaimed
            .into_iter()
            .partition(|container| container.until > Utc::now());
        for container in over {
            match self.delete(&container.id).await {
                Ok(()) => removed.push(format!("container {}", container.id)),
                Err(error) => {
                    tracing::error!(id = %container.id, %error, "could not remove a container that nobody claims");
                }
            }
        }
        let engine = Arc::clone(self);
        removed.extend(blocking(move || Ok(engine.sweep())).await?);
        self.network.ensure().await?;
        removed.extend(self.network.sweep(&self.slots()).await?);
        let used: Vec<_> = self
            .entries()
            .iter()
            .map(|entry| lock(&entry.record).rootfs.clone())
            .collect();
        removed.extend(self.images.collect(&used).await?);
        let facts = known.iter().map(|id| (id.clone(), self.fact(id))).collect();
        Ok(Reconciled {
            facts,
            unclaimed: kept,
            removed,
        })
    }

    /// Marks what is not among `claimed` with the time at which that was seen first, and takes the
    /// mark from what is.
    fn unclaimed(&self, claimed: &HashSet<ContainerId>) -> Vec<Unclaimed> {
        let mut unclaimed = Vec::new();
        for entry in self.entries() {
            let mark = self.layout.container(&entry.id).join(UNCLAIMED);
            if claimed.contains(&entry.id) {
                if let Err(error) = fs::remove_file(&mark)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::error!(id = %entry.id, %error, "could not mark a container as claimed");
                }
                continue;
            }
            if entry.made.is_some_and(|made| made.elapsed() < YOUNG) {
                continue;
            }
            // What cannot be read or written counts from now on: rather too long than too short.
            let now = Utc::now();
            let since = match read_json(&mark) {
                Ok(Some(since)) => since,
                _ => {
                    if let Err(error) = write_json(&mark, &now, true) {
                        tracing::error!(id = %entry.id, %error, "could not mark a container that nobody claims");
                    }
                    now
                }
            };
            unclaimed.push(Unclaimed {
                id: entry.id.clone(),
                hostname: lock(&entry.record).spec.hostname.clone(),
                until: since + self.keep_unclaimed,
            });
        }
        unclaimed
    }

    /// Removes run state and processes of containers that are not there at all.
    fn sweep(&self) -> Vec<String> {
        let group = self.layout.cgroup_parent();
        let mut names: HashSet<String> = self.cgroups.children(&group).into_iter().collect();
        for dir in [self.layout.run().to_owned(), self.layout.oci()] {
            names.extend(
                entries_of(&dir).filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())),
            );
        }
        let mut removed = Vec::new();
        for name in names {
            let Ok(id) = name.parse::<ContainerId>() else {
                continue;
            };
            if self.entry(&id).is_some() {
                continue;
            }
            match self.clear_processes(&id) {
                Ok(()) => removed.push(format!("run state of {id}")),
                Err(error) => tracing::error!(%id, %error, "could not remove a leftover"),
            }
        }
        removed
    }
}

fn entries_of(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn pids() -> impl Iterator<Item = i32> {
    entries_of(Path::new("/proc")).filter_map(|path| path.file_name()?.to_str()?.parse().ok())
}

/// Whether a process is a call of the OCI runtime for this installation, other than `exec`.
fn is_call(pid: i32, root: &Path) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| names_call(&line, root))
}

fn names_call(line: &[u8], root: &Path) -> bool {
    let args: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    let ours = args
        .windows(2)
        .any(|pair| pair[0] == b"--root" && pair[1] == root.as_os_str().as_encoded_bytes());
    // The verb, not an argument of that name: ours always stands after these options.
    ours && args
        .iter()
        .skip_while(|arg| **arg != b"--log-format")
        .nth(2)
        != Some(&&b"exec"[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_programs_in_containers() {
        let root = Path::new("/run/hzel/1a2b/oci");
        let line = |verb: &str, root: &str| {
            format!("crun\0--root\0{root}\0--log\0/x\0--log-format\0json\0{verb}\0id\0")
        };
        assert!(names_call(
            line("create", "/run/hzel/1a2b/oci").as_bytes(),
            root
        ));
        assert!(!names_call(
            line("exec", "/run/hzel/1a2b/oci").as_bytes(),
            root
        ));
        assert!(!names_call(
            line("create", "/run/hzel/ffff/oci").as_bytes(),
            root
        ));
        assert!(!names_call(b"/sbin/init\0", root));
    }
}
