//! The control groups of containers, of both kinds: finding their processes, freezing and killing
//! them, reading their counters. Made and limited by the OCI runtime; removed by whoever is last.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::process::{Stat, parse_stat};

const ROOT: &str = "/sys/fs/cgroup";
/// How long freezing may take before we go on without.
const FREEZE: Duration = Duration::from_millis(500);
/// How often to look again for processes that were forked while we were killing.
const ROUNDS: u32 = 200;

/// The host's control groups.
#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    root: PathBuf,
    /// Only the second kind.
    pub unified: bool,
}

/// What the counters of a control group say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub cpu_usage_us: u64,
    pub memory_bytes: u64,
    pub processes: u64,
}

impl Cgroups {
    pub(super) fn detect() -> Self {
        let root = PathBuf::from(ROOT);
        let unified = root.join("cgroup.controllers").exists();
        Self { root, unified }
    }

    /// Whether swap can be limited.
    pub(super) fn limits_swap(&self) -> bool {
        if !self.unified {
            return self
                .root
                .join("memory/memory.memsw.limit_in_bytes")
                .exists();
        }
        // The root of the hierarchy has no such file, all others do.
        fs::read_dir(&self.root).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| entry.path().join("memory.swap.max").exists())
        })
    }

    /// A group's directory under one controller.
    fn dir(&self, controller: &str, group: &str) -> PathBuf {
        let group = group.trim_start_matches('/');
        if self.unified {
            self.root.join(group)
        } else {
            self.root.join(controller).join(group)
        }
    }

    /// All directories of a group: one for each hierarchy.
    fn dirs(&self, group: &str) -> Vec<PathBuf> {
        let relative = group.trim_start_matches('/');
        if self.unified {
            let dir = self.root.join(relative);
            return if dir.exists() { vec![dir] } else { Vec::new() };
        }
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let mut dirs: Vec<PathBuf> = entries
            .flatten()
            // `cpu` is a link to `cpu,cpuacct` on some hosts: once is enough.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path().join(relative))
            .filter(|dir| dir.exists())
            .collect();
        dirs.sort();
        dirs
    }

    /// Whether a process is in that group or below it.
    pub(super) fn holds(group: &str, pid: i32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| in_group(&text, group))
    }

    /// All processes in the group and below.
    pub(super) fn processes(&self, group: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in self.dirs(group) {
            collect_processes(&dir, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills everything in the group, whatever it does to get away. Blocks, until all is gone or a
    /// bounded number of rounds is over.
    pub(super) fn kill_all(&self, group: &str) {
        if self.unified {
            // One write kills all at once, forks under way included (kernel 5.14).
            let _known_by_the_loop = fs::write(self.dir("", group).join("cgroup.kill"), "1");
        }
        for round in 0..ROUNDS {
            let pids = self.processes(group);
            if pids.is_empty() {
                return;
            }
            let _frozen = Frozen::new(self, group);
            kill_each(&self.processes(group));
            if round > 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        tracing::error!(group, "processes of a container do not end");
    }

    /// Lets a group go on that a killed server may have left standing still.
    pub(super) fn thaw(&self, group: &str) {
        drop(Frozen::of(self, group));
    }

    /// Removes an empty group with those below it, and says whether there was any.
    pub(super) fn remove(&self, group: &str) -> bool {
        let dirs = self.dirs(group);
        for dir in &dirs {
            if let Err(error) = remove_tree(dir) {
                tracing::warn!(dir = %dir.display(), %error, "could not remove a cgroup");
            }
        }
        !dirs.is_empty()
    }

    /// The groups right below `group`.
    pub(super) fn children(&self, group: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .dirs(group)
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flat_map(Iterator::flatten)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Reads the counters.
    pub(super) fn counters(&self, group: &str) -> io::Result<Counters> {
        let read = |controller: &str, file: &str| {
            fs::read_to_string(self.dir(controller, group).join(file))
        };
        let (cpu_usage_us, used, stat, inactive) = if self.unified {
            let cpu = read("", "cpu.stat")?;
            (
                field(&cpu, "usage_usec"),
                read("", "memory.current")?,
                read("", "memory.stat")?,
                "inactive_file",
            )
        } else {
            (
                number(&read("cpuacct", "cpuacct.usage")?) / 1000,
                read("memory", "memory.usage_in_bytes")?,
                read("memory", "memory.stat")?,
                "total_inactive_file",
            )
        };
        Ok(Counters {
            cpu_usage_us,
            // Pages of files that can be dropped at once are not in use.
            memory_bytes: number(&used).saturating_sub(field(&stat, inactive)),
            processes: number(&read("pids", "pids.current")?),
        })
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// The number after `name` in a file of `name number` lines.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| number(value))
        .unwrap_or_default()
}

/// Whether `/proc/PID/cgroup` names that group, or one below it, in any hierarchy.
fn in_group(text: &str, group: &str) -> bool {
    text.lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .any(|path| {
            path.strip_prefix(group)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

fn collect_processes(dir: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for child in child_dirs(dir) {
        collect_processes(&child, pids);
    }
}

fn child_dirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in child_dirs(dir) {
        remove_tree(&child)?;
    }
    // A group whose last process has just ended may be busy for a moment.
    for _ in 0..20 {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    fs::remove_dir(dir)
}

/// Sends SIGKILL to each.
pub(super) fn kill_each(pids: &[i32]) {
    for pid in pids.iter().filter_map(|&pid| Pid::from_raw(pid)) {
        // Gone meanwhile: as wished.
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// A group that stands still until this is dropped: nothing in it can fork while it is looked at.
/// Killed processes of a frozen group end when it thaws (first kind) or at once (second).
pub(super) struct Frozen {
    file: PathBuf,
    thaw: &'static str,
}

impl Frozen {
    pub(super) fn new(cgroups: &Cgroups, group: &str) -> Option<Self> {
        let dir = cgroups.dir("freezer", group);
        let frozen = Self::of(cgroups, group);
        fs::write(&frozen.file, if cgroups.unified { "1" } else { "FROZEN" }).ok()?;
        let end = Instant::now() + FREEZE;
        while !stands_still(cgroups.unified, &dir) && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
        Some(frozen)
    }

    /// Thaws when dropped.
    fn of(cgroups: &Cgroups, group: &str) -> Self {
        let dir = cgroups.dir("freezer", group);
        if cgroups.unified {
            Self {
                file: dir.join("cgroup.freeze"),
                thaw: "0",
            }
        } else {
            Self {
                file: dir.join("freezer.state"),
                thaw: "THAWED",
            }
        }
    }
}

fn stands_still(unified: bool, dir: &Path) -> bool {
    if unified {
        fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|text| field(&text, "frozen") == 1)
    } else {
        fs::read_to_string(dir.join("freezer.state")).is_ok_and(|text| text.trim() == "FROZEN")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, self.thaw)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(file = %self.file.display(), %error, "could not thaw a container");
        }
    }
}

/// What `/proc` says of each process that still exists.
pub(super) fn stats(pids: &[i32]) -> HashMap<i32, Stat> {
    pids.iter()
        .filter_map(|&pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&text)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "inactive_file_x 1\ninactive_file 42\n";
        assert_eq!(field(text, "inactive_file"), 42);
        assert_eq!(field(text, "missing"), 0);
    }

    #[test]
    fn a_group_is_not_its_namesake() {
        let text = "4:memory:/hzel-1a2b/abc\n0::/\n";
        assert!(in_group(text, "/hzel-1a2b/abc"));
        assert!(in_group("0::/hzel-1a2b/abc/init.scope\n", "/hzel-1a2b/abc"));
        assert!(!in_group(text, "/hzel-1a2b/ab"));
        assert!(!in_group(text, "/hzel-ffff/abc"));
    }
}
