//! What an installation has in the kernel and in the file system, found by the installation's name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub links: Vec<String>,
    pub tables: Vec<String>,
    pub loops: Vec<String>,
    pub mounts: Vec<String>,
    pub cgroups: Vec<PathBuf>,
    pub directories: Vec<PathBuf>,
}

impl Leftovers {
    /// All that belongs to the installation in `data_dir`, but for its image.
    pub fn of(data_dir: &Path) -> Self {
        let Ok(instance) = fs::read_to_string(data_dir.join("native/instance")) else {
            return Self::default();
        };
        let instance = instance.trim();
        let data = data_dir.to_string_lossy().into_owned();
        let names = |text: String, mark: &str| -> Vec<String> {
            text.lines()
                .filter(|line| line.contains(mark))
                .map(str::to_owned)
                .collect()
        };
        let lines = |program: &str, args: &[&str], mark: &str| -> Vec<String> {
            let mut command = Command::new(program);
            command.args(args);
            names(process::run(command, "").stdout, mark)
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            links: lines("ip", &["-o", "link"], &format!("hz{instance}-")),
            tables: lines("nft", &["list", "tables"], &format!("hzel_{instance}")),
            loops: lines("losetup", &["-n", "-O", "NAME,BACK-FILE"], &data),
            mounts: names(mounts, &data),
            cgroups: cgroups(instance),
            directories: entries(&data_dir.join("native/containers")),
        }
    }

    /// What only containers have: the installation's table and cgroup may stay while it runs.
    pub fn of_containers(data_dir: &Path) -> Self {
        let mut found = Self::of(data_dir);
        found.tables.clear();
        found.cgroups.retain(|path| {
            path.file_name()
                .is_some_and(|n| !n.to_string_lossy().starts_with("hzel-"))
        });
        found
    }

    /// Nothing of any container. Waits a little for what goes in the background.
    #[track_caller]
    pub fn assert_none(data_dir: &Path) {
        Self::assert_empty(|| Self::of_containers(data_dir));
    }

    /// Nothing at all, as after a clean end without containers.
    #[track_caller]
    pub fn assert_nothing(data_dir: &Path) {
        Self::assert_empty(|| Self::of(data_dir));
    }

    #[track_caller]
    fn assert_empty(look: impl Fn() -> Self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = look();
            if found == Self::default() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {found:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends what still runs and removes all of it: a failed test must not spoil the next.
    pub fn remove(data_dir: &Path) {
        let Ok(instance) = fs::read_to_string(data_dir.join("native/instance")) else {
            return;
        };
        let instance = instance.trim();
        for _ in 0..50 {
            let groups = cgroups(instance);
            if groups.is_empty() {
                break;
            }
            for group in groups.iter().rev() {
                let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
                    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                        // It may have ended by itself.
                        let _gone =
                            rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    }
                }
                let _busy = fs::remove_dir(group);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let found = Self::of(data_dir);
        for line in &found.links {
            let name = line.split([':', '@']).nth(1).unwrap_or_default().trim();
            let mut command = Command::new("ip");
            command.args(["link", "delete", name]);
            process::run(command, "");
        }
        // The installation's block of addresses, which the machine's routes keep for it.
        let block = fs::read_to_string(data_dir.join("native/network.json")).unwrap_or_default();
        if let Some(block) = block.split('"').find(|word| word.ends_with("/16")) {
            let mut command = Command::new("ip");
            command.args(["route", "delete", "unreachable", block]);
            process::run(command, "");
        }
        for line in &found.tables {
            let mut command = Command::new("nft");
            command.arg("delete").args(line.split_whitespace());
            process::run(command, "");
        }
        for line in &found.loops {
            let mut command = Command::new("losetup");
            command.args(["-d", line.split_whitespace().next().unwrap_or_default()]);
            process::run(command, "");
        }
        let _none = fs::remove_dir_all(Path::new("/run/hzel").join(instance));
    }
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(path).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

/// The host's own devices stay its own: an OCI runtime gives a container's root whatever standard
/// streams it is called with.
#[track_caller]
pub fn assert_devices_are_the_hosts() {
    use std::os::unix::fs::MetadataExt as _;
    for device in [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
    ] {
        let found = fs::metadata(device).unwrap_or_else(|error| panic!("{device}: {error}"));
        assert_eq!(found.uid(), 0, "{device} was given away");
        assert_eq!(found.mode() & 0o777, 0o666, "{device} has another mode");
    }
}

/// Parents before children.
fn cgroups(instance: &str) -> Vec<PathBuf> {
    let name = format!("hzel-{instance}");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup").join(&name)];
    for controller in entries(Path::new("/sys/fs/cgroup")) {
        open.push(controller.join(&name));
    }
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.is_symlink() {
            open.extend(entries(&path).into_iter().filter(|p| p.is_dir()));
            found.push(path);
        }
    }
    found.sort();
    found
}
