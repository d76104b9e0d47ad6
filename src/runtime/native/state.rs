//! What the engine remembers, and where: containers on the disk, running ones on tmpfs.
//!
//! ```text
//! <data>/native/lock, instance
//!               templates/ext4-<GiB>.img      empty disks to copy
//!               staging/, trash/              half-made and half-removed ones; emptied at start
//!               containers/<id>/{container.json, disk.img, console.log}
//! /run/hzel/<instance>/oci/                   the OCI runtime's own state
//!                      <id>/{run.json, pid, bundle/, mnt/}
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::process::ProcessId;
use crate::domain::ids::ContainerId;
use crate::runtime::ContainerSpec;

/// Ids per container: as many as a normal system has.
pub(super) const IDS: u32 = 65_536;
/// Where the containers' ids begin on the host: far above what `/etc/subuid` and the uid ranges of
/// other container engines use.
const FIRST_ID: u32 = 0x3000_0000;
/// The last slot whose ids still fit below 2^31, where some tools take ids for negative.
const LAST_SLOT: u32 = (0x7fff_0000 - FIRST_ID) / IDS - 1;

/// Names one of the ranges of ids and addresses on this host; a container keeps its own for life,
/// because its disk holds files of these ids.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub(super) struct Slot(pub u32);

impl Slot {
    /// The smallest slot that is not taken; `None` when all are.
    pub(super) fn first_free(taken: &std::collections::BTreeSet<Slot>) -> Option<Self> {
        (1..=LAST_SLOT).map(Slot).find(|slot| !taken.contains(slot))
    }

    /// The host's uid (and gid) of the container's root.
    pub(super) fn base_id(self) -> u32 {
        FIRST_ID + self.0 * IDS
    }
}

/// The init of a container, fixed when it was made: the image may change or go, its disk does not.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Init {
    /// `None`: the image has no init; a small one of the host's is used.
    pub argv: Option<Vec<String>>,
    pub stop_signal: i32,
    /// The environment the image asks for.
    pub env: Vec<(String, String)>,
}

/// `container.json`: all that is known of a container while it does not run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Record {
    pub spec: ContainerSpec,
    pub slot: Slot,
    /// The image's tree that lies under this container's.
    pub rootfs: PathBuf,
    pub init: Init,
    /// Whether `user_data` was started; it is never started twice.
    pub user_data_done: bool,
}

/// `run.json`: a running container. Written once its init runs; without it, whatever there is of
/// the container is half-made and removed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct RunState {
    pub init: ProcessId,
    pub started_at: DateTime<Utc>,
    /// Device and inode of the console's file, to recognise it in the tenant's own tree.
    pub console: (u64, u64),
    /// The boot this ran in: `/run` may survive a reboot on a host where it is no tmpfs.
    pub boot_id: String,
}

/// Where things lie.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    data: PathBuf,
    run: PathBuf,
    /// Four hexadecimal digits that tell this installation from others on the machine.
    pub instance: String,
}

impl Layout {
    /// `data` is `<data_dir>/native`.
    pub(super) fn new(data: PathBuf, instance: String) -> Self {
        let run = Path::new("/run/hzel").join(&instance);
        Self {
            data,
            run,
            instance,
        }
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    pub(super) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.data.join("staging")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    pub(super) fn record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("container.json")
    }

    pub(super) fn disk(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("disk.img")
    }

    pub(super) fn console(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("console.log")
    }

    pub(super) fn oci(&self) -> PathBuf {
        self.run.join("oci")
    }

    pub(super) fn run_dir(&self, id: &ContainerId) -> PathBuf {
        self.run.join(id.as_str())
    }

    pub(super) fn run_state(&self, id: &ContainerId) -> PathBuf {
        self.run_dir(id).join("run.json")
    }

    /// The path of the container's cgroup below the controllers' roots.
    pub(super) fn cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.cgroup_parent())
    }

    /// The cgroup all containers of this installation are in.
    pub(super) fn cgroup_parent(&self) -> String {
        format!("/hzel-{}", self.instance)
    }

    /// Makes the directories. Those on the way to a container's tree can be passed, not listed, by
    /// anyone: the container's root is nobody on the host and must get through.
    pub(super) fn prepare(&self) -> io::Result<()> {
        for dir in [
            self.containers(),
            self.staging(),
            self.trash(),
            self.templates(),
        ] {
            make_dir(&dir, 0o700)?;
        }
        make_dir(Path::new("/run/hzel"), 0o711)?;
        make_dir(&self.run, 0o711)?;
        make_dir(&self.oci(), 0o700)
    }
}

/// Makes a directory of that mode, with those above it; not an error when it is there.
pub(super) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)?;
    // Whatever the server's umask is.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes a JSON file so that a reader sees the old or the new one, whole, also after a crash.
/// `durable` waits until it is on the disk: needless on tmpfs.
pub(super) fn write_json<T: serde::Serialize>(
    path: &Path,
    value: &T,
    durable: bool,
) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if durable && let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Waits until a file, and the names that lead to it from two directories above, are on the disk. One
/// that has been removed meanwhile need not be.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    for place in path.ancestors().take(3) {
        match fs::File::open(place) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a JSON file; `None` when there is none.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a directory with all in it; not an error when there is none.
pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The kernel's name for this boot.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// The installation's four digits, made at first use.
pub(super) fn instance(data: &Path) -> io::Result<String> {
    let path = data.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) if is_instance(text.trim()) => Ok(text.trim().to_owned()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} must hold four hexadecimal digits", path.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = format!("{:04x}", rand::random::<u16>());
            let mut file = fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(made.as_bytes())?;
            file.sync_all()?;
            Ok(made)
        }
        Err(error) => Err(error),
    }
}

fn is_instance(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_smallest_free_slot_is_taken() {
        assert_eq!(Slot::first_free(&BTreeSet::new()), Some(Slot(1)));
        let taken = BTreeSet::from([Slot(1), Slot(2), Slot(4)]);
        assert_eq!(Slot::first_free(&taken), Some(Slot(3)));
    }

    #[test]
    fn slots_do_not_share_ids() {
        assert_eq!(Slot(2).base_id() - Slot(1).base_id(), IDS);
        assert!(
            Slot(LAST_SLOT)
                .base_id()
                .checked_add(IDS)
                .is_some_and(|end| end <= 0x7fff_ffff)
        );
    }

    #[test]
    fn json_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &[1_u8, 2], true).unwrap();
        write_json(&path, &[3_u8], false).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_instance_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let made = instance(dir.path()).unwrap();
        assert_eq!(instance(dir.path()).unwrap(), made);
        fs::write(dir.path().join("instance"), "../x").unwrap();
        assert!(instance(dir.path()).is_err());
    }
}
