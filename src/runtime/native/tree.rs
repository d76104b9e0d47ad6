//! Reading and writing files in a container's tree from the host.
//!
//! The tenant owns the tree: any name may be a link out of it or a pipe that never answers. So
//! every path is resolved by the kernel within the tree, links included, and only regular files
//! are read or written.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fchmod, fchown,
    fstat, mkdirat, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

/// The root of a container's file system.
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// `root` is a path of the host that the tenant has no say in.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: openat(rustix::fs::CWD, root, flags, Mode::empty())?,
        })
    }

    /// The tree a running process sees.
    pub(super) fn of_process(pid: i32) -> io::Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/root")))
    }

    fn resolve(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            within,
        )
    }

    /// A regular file's content, at most `limit` bytes of it; `None` when there is no such file.
    pub(super) fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
        let fd = match self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::from(fd).take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Whether the path leads to a directory.
    pub(super) fn is_dir(&self, path: &str) -> bool {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Whether the path leads to a file that someone may run.
    pub(super) fn is_program(&self, path: &str) -> bool {
        let stat = self
            .resolve(path, OFlags::PATH)
            .and_then(|found| fstat(&found));
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o111 != 0
        })
    }

    /// Opens exactly the file with that device and inode number for reading and changing; `None`
    /// when the path leads to another.
    pub(super) fn open_known(&self, path: &str, known: (u64, u64)) -> io::Result<Option<File>> {
        let fd = self.resolve(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&fd)?;
        Ok(((stat.st_dev, stat.st_ino) == known).then(|| File::from(fd)))
    }

    /// Writes a file that belongs to `owner`, with the directories above it, replacing whatever
    /// has the name.
    pub(super) fn write(&self, path: &str, bytes: &[u8], mode: u32, owner: u32) -> io::Result<()> {
        let (dir, name) = path.rsplit_once('/').ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.make_dir(dir, 0o755, owner)?;
        let new = format!(".hzel-{:016x}", rand::random::<u64>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat(&dir, &new, flags, Mode::from_raw_mode(0o600))?);
        let result = file
            .write_all(bytes)
            .and_then(|()| own(&file, mode, owner))
            .and_then(|()| renameat(&dir, &new, &dir, name).map_err(Into::into));
        if result.is_err() {
            let _absent = unlinkat(&dir, &new, AtFlags::empty());
        }
        result
    }

    /// Makes a directory and those above it, for `owner`; one that is there stays as it is.
    pub(super) fn make_dir(&self, path: &str, mode: u32, owner: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let path = path.trim_matches('/');
        match self.resolve(if path.is_empty() { "." } else { path }, flags) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(Into::into),
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let above = self.make_dir(above, 0o755, owner)?;
        match mkdirat(&above, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
                chownat(
                    &above,
                    name,
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
                // Whatever the server's umask is.
                chmodat(&above, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.resolve(path, flags)?)
    }
}

fn own(file: &File, mode: u32, owner: u32) -> io::Result<()> {
    fchown(
        file.as_fd(),
        Some(Uid::from_raw(owner)),
        Some(Gid::from_raw(owner)),
    )?;
    fchmod(file.as_fd(), Mode::from_raw_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn owner() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn links_do_not_lead_out() {
        let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path(), inside.path().join("etc")).unwrap();
        symlink("../../../../../../..", inside.path().join("up")).unwrap();
        let tree = Tree::open(inside.path()).unwrap();
        assert_eq!(tree.read("/etc/secret", 10).unwrap(), None);
        assert!(tree.is_dir("/up"));
        assert!(tree.write("/etc/secret", b"mine", 0o644, owner()).is_err());
        assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"x");
    }

    #[test]
    fn what_is_written_is_read_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        tree.write("/root/.ssh/authorized_keys", b"a key", 0o600, owner())
            .unwrap();
        assert_eq!(
            tree.read("/root/.ssh/authorized_keys", 2).unwrap().unwrap(),
            b"a "
        );
        let mode = std::fs::metadata(dir.path().join("root/.ssh/authorized_keys")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(dir.path().join("root/.ssh"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn a_pipe_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(tree.read("/passwd", 10).unwrap(), None);
    }
}
