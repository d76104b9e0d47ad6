//! Putting a container's file system together, among mounts that only its own processes will see:
//! disk, image and overlay, and at the first start the files that make it this tenant's box.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::disk;
use super::namespace::{UserNamespace, shift_owners};
use super::state::{Record, Slot, make_dir};
use super::tree::Tree;

/// Room for the console's output between two collections: the tenant can fill only this.
const CONSOLE_ROOM: &std::ffi::CStr = c"mode=711,size=4m,nr_inodes=64";
/// The first line of a `resolv.conf` of ours, which is kept up to date while it stands there.
const RESOLV_MARK: &str = "# Written by hzel at every start; remove this line to keep your own.";
/// A file on the disk, outside the tree, that says the first start's files are written.
const FURNISHED: &str = "furnished";
/// Where the tenant's first script lies.
pub(super) const USER_DATA: &str = "/var/lib/hzel/user-data";

/// What is needed to put one together.
pub(super) struct Plan {
    pub record: Record,
    /// Empty directory that becomes the mount point of everything.
    pub dir: PathBuf,
    pub disk: PathBuf,
    pub address: Option<Ipv4Addr>,
    pub nameservers: Vec<IpAddr>,
}

/// The container's user namespace, which a thread of its own is making.
pub(super) struct Users(std::thread::JoinHandle<io::Result<UserNamespace>>);

impl Users {
    pub(super) fn begin(slot: Slot) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name("hzel-users".into());
        Ok(Self(thread.spawn(move || UserNamespace::new(slot))?))
    }

    fn join(self) -> io::Result<UserNamespace> {
        let failed = |_| Err(io::Error::other("the hzel-users thread failed"));
        self.0.join().unwrap_or_else(failed)
    }
}

/// What came of it, valid among the mounts of the thread that made it.
pub(super) struct Assembled {
    /// The console's file: what the init writes goes here.
    pub console: fs::File,
    /// Its device and inode number.
    pub console_id: (u64, u64),
}

impl Plan {
    /// The container's root directory.
    pub(super) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The console's file.
    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    /// Mounts everything in the calling thread's namespace, which must be a private one.
    /// `users` is on its way meanwhile: it and the disk wait for the kernel a while, and neither
    /// needs the other.
    pub(super) fn assemble(&self, users: Users) -> io::Result<Assembled> {
        mount(
            "tmpfs",
            &self.dir,
            "tmpfs",
            MountFlags::NODEV,
            Some(CONSOLE_ROOM),
        )?;
        let (disk, lower, rootfs) = (self.dir.join("disk"), self.dir.join("lower"), self.rootfs());
        for dir in [&disk, &lower, &rootfs] {
            make_dir(dir, 0o711)?;
        }
        disk::mount_disk(&self.disk, &disk)?;
        let users = users.join()?;
        self.mount_image(&lower, &users)?;
        self.mount_overlay(&disk, &lower, &rootfs)?;
        let tree = Tree::open(&rootfs)?;
        let furnished = disk.join(FURNISHED);
        if !furnished.exists() {
            self.furnish(&tree)?;
            fs::write(&furnished, "")?;
        }
        self.refresh_resolver(&tree)?;
        self.open_console()
    }

    /// The image's tree, with its owners shifted to the container's ids.
    fn mount_image(&self, at: &Path, users: &UserNamespace) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(rustix::fs::CWD, &self.record.rootfs, flags)?;
        shift_owners(tree.as_fd(), users)?;
        let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", rustix::fs::CWD, at, from_fd)?;
        Ok(())
    }

    fn mount_overlay(&self, disk: &Path, lower: &Path, at: &Path) -> io::Result<()> {
        let (upper, work) = (disk.join("upper"), disk.join("work"));
        make_dir(&work, 0o700)?;
        if !upper.exists() {
            let new = disk.join("upper.new");
            make_dir(&new, 0o755)?;
            let base = self.record.slot.base_id();
            chown(&new, Some(base), Some(base))?;
            fs::rename(new, &upper)?;
        }
        // redirect_dir: directories of the image can be renamed as on any file system. What it
        // stores can only be written by the host.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=on",
            lower.display(),
            upper.display(),
            work.display()
        );
        let options = std::ffi::CString::new(options)?;
        mount(
            "overlay",
            at,
            "overlay",
            MountFlags::NODEV,
            Some(options.as_c_str()),
        )?;
        Ok(())
    }

    /// Writes what makes it this tenant's box. No program of the tenant's has run yet.
    fn furnish(&self, tree: &Tree) -> io::Result<()> {
        let spec = &self.record.spec;
        let base = self.record.slot.base_id();
        let name = &spec.hostname;
        tree.write("/etc/hostname", format!("{name}\n").as_bytes(), 0o644, base)?;
        tree.write(
            "/etc/hosts",
            hosts(name, self.address).as_bytes(),
            0o644,
            base,
        )?;
        tree.write("/etc/resolv.conf", self.resolver().as_bytes(), 0o644, base)?;
        if !spec.ssh_keys.is_empty() {
            let keys = spec.ssh_keys.iter().map(|key| format!("{}\n", key.trim()));
            tree.make_dir("/root/.ssh", 0o700, base)?;
            let keys = keys.collect::<String>();
            tree.write("/root/.ssh/authorized_keys", keys.as_bytes(), 0o600, base)?;
        }
        if let Some(script) = &spec.user_data {
            tree.make_dir("/var/lib/hzel", 0o700, base)?;
            tree.write(USER_DATA, script.as_bytes(), 0o700, base)?;
        }
        Ok(())
    }

    /// Name servers change when the host moves; a file the tenant has made its own is left alone.
    fn refresh_resolver(&self, tree: &Tree) -> io::Result<()> {
        let wanted = self.resolver();
        let found = tree
            .read("/etc/resolv.conf", 64 * 1024)?
            .unwrap_or_default();
        let ours = found.is_empty() || found.starts_with(RESOLV_MARK.as_bytes());
        if ours && found != wanted.as_bytes() {
            tree.write(
                "/etc/resolv.conf",
                wanted.as_bytes(),
                0o644,
                self.record.slot.base_id(),
            )?;
        }
        Ok(())
    }

    fn resolver(&self) -> String {
        let servers = self
            .nameservers
            .iter()
            .map(|server| format!("nameserver {server}\n"));
        [format!("{RESOLV_MARK}\n")]
            .into_iter()
            .chain(servers)
            .collect()
    }

    fn open_console(&self) -> io::Result<Assembled> {
        let path = self.console();
        let console = fs::OpenOptions::new()
            .create_new(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path)?;
        let base = self.record.slot.base_id();
        chown(&path, Some(base), Some(base))?;
        let metadata = console.metadata()?;
        Ok(Assembled {
            console,
            console_id: (metadata.dev(), metadata.ino()),
        })
    }
}

fn hosts(name: &str, address: Option<Ipv4Addr>) -> String {
    let own = address.unwrap_or(Ipv4Addr::new(127, 0, 1, 1));
    format!("127.0.0.1\tlocalhost\n{own}\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_knows_its_own_name() {
        let text = hosts("web", Some(Ipv4Addr::new(10, 209, 0, 5)));
        assert!(text.contains("10.209.0.5\tweb\n"));
        assert!(hosts("web", None).contains("127.0.1.1\tweb\n"));
    }
}
