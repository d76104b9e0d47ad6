//! Where a path leads. Everything here runs as the container's root ([`super::super::tenant`]), and
//! the kernel resolves each path within the container's own root, links and `..` included.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use chrono::{DateTime, Utc};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, fstatfs,
    openat, openat2, readlinkat, statat, statx,
};
use rustix::io::Errno;

use crate::runtime::{FileError, FileInfo, FileKind, RuntimeError};

/// `f_type` of the two file systems that a container keeps files on: its disk, and memory.
const OVERLAY: u64 = 0x794c_7630;
const TMPFS: u64 = 0x0102_1994;
/// How often a resolution is tried that a rename elsewhere has disturbed.
const TRIES: usize = 64;
/// Links that are followed by hand, as many as the kernel follows.
const LINKS: usize = 40;

/// What a failed system call means to who asked.
pub(super) fn told(error: Errno) -> FileError {
    match error {
        Errno::NOENT => FileError::NotFound,
        Errno::NOTDIR => FileError::NotDirectory,
        Errno::EXIST => FileError::Exists,
        Errno::ISDIR => FileError::IsDirectory,
        Errno::NOTEMPTY => FileError::NotEmpty,
        Errno::LOOP => FileError::BadLink,
        Errno::NAMETOOLONG => FileError::Invalid("a name on this path is too long"),
        Errno::INVAL => FileError::Invalid("the container's system does not take this"),
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::OPNOTSUPP => FileError::Denied,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => FileError::NoSpace,
        Errno::XDEV => FileError::CrossDevice,
        Errno::BUSY | Errno::TXTBSY => FileError::InUse,
        other => RuntimeError::Failed {
            what: "could not work with the container's files",
            cause: io::Error::from(other).to_string(),
        }
        .into(),
    }
}

/// Opens `path` below `root` without opening what it leads to: nothing happens to a device or a
/// pipe by it, and nothing waits.
pub(super) fn point_at(
    root: BorrowedFd<'_>,
    path: &str,
    more: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..TRIES {
        match openat2(root, path, flags, Mode::empty(), within) {
            // Somebody renamed a directory on the way, and `..` may not be trusted.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    openat2(root, path, flags, Mode::empty(), within)
}

/// Opens what `fd` points at, which is this very file, whatever has its name by now.
pub(super) fn open_pointed(fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // Without O_NONBLOCK the open of a pipe or a lease would wait; without O_NOCTTY that of a
    // terminal would make it ours.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, own_name(fd), flags, Mode::empty())
}

/// A name of an open file for calls that take only names. `/proc` is the server's here.
pub(super) fn own_name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

pub(super) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        _ => FileKind::Device,
    }
}

/// That the file lies on storage of the container's: `/proc`, `/sys` and their like are answered by
/// the kernel at the moment of reading, and what is written there is a command to it.
pub(super) fn require_storage(fd: BorrowedFd<'_>) -> Result<(), FileError> {
    let found = fstatfs(fd).map_err(told)?.f_type;
    if [OVERLAY, TMPFS].contains(&found.cast_unsigned()) {
        Ok(())
    } else {
        Err(FileError::NotStorage)
    }
}

/// That it is a file, a directory or a link.
pub(super) fn require_stored(stat: &Stat) -> Result<FileKind, FileError> {
    let kind = kind_of(stat);
    if kind.is_stored() {
        Ok(kind)
    } else {
        Err(FileError::Special(kind))
    }
}

/// What is shown of a file.
pub(super) fn info(name: &[u8], stat: &Stat, target: Option<Vec<u8>>) -> FileInfo {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    FileInfo {
        name: text(name),
        kind: kind_of(stat),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: DateTime::from_timestamp(stat.st_mtime, nanos)
            .unwrap_or(DateTime::<Utc>::UNIX_EPOCH),
        target: target.as_deref().map(text),
        tag: format!(
            "{:x}-{:x}-{:x}-{:x}",
            stat.st_dev,
            stat.st_ino,
            stat.st_size,
            i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec)
        ),
    }
}

/// A name in a directory, whether or not there is something of that name.
#[derive(Debug)]
pub(super) struct Place {
    pub dir: OwnedFd,
    pub name: CString,
}

impl Place {
    /// Where `path` would have its entry: the directory above it, links followed, and its last
    /// name, not followed. The directory is on storage.
    pub(super) fn of(root: BorrowedFd<'_>, path: &str) -> Result<Self, FileError> {
        let (above, name) = split(path)?;
        let dir = point_at(root, above, OFlags::DIRECTORY).map_err(told)?;
        require_storage(dir.as_fd())?;
        Ok(Self {
            dir,
            name: CString::new(name)
                .map_err(|_| FileError::Invalid("a NUL cannot be in a path"))?,
        })
    }

    /// The same, but where the last name is a link, the place that it leads to: what a program
    /// that writes to `path` would write to.
    pub(super) fn followed(root: BorrowedFd<'_>, path: &str) -> Result<Self, FileError> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let place = Self::of(root, &path)?;
            match place.stat()? {
                Some(stat) if kind_of(&stat) == FileKind::Symlink => {
                    let target = readlinkat(&place.dir, &place.name, Vec::new()).map_err(told)?;
                    let target = target
                        .into_string()
                        .map_err(|_| FileError::Invalid("a link's target is not UTF-8"))?;
                    path = if target.starts_with('/') {
                        target
                    } else {
                        let (above, _) = split(&path)?;
                        format!("{above}/{target}")
                    };
                    if path.len() > crate::runtime::MAX_PATH {
                        return Err(FileError::BadLink);
                    }
                }
                _ => return Ok(place),
            }
        }
        Err(FileError::BadLink)
    }

    /// That nothing is mounted there. Whose mounts they are the kernel knows only of a caller among
    /// them, and we are not: it would let `/proc` be moved away.
    pub(super) fn require_no_mount(&self) -> Result<(), FileError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = statx(&self.dir, &self.name, flags, StatxFlags::TYPE).map_err(told)?;
        if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            Err(FileError::InUse)
        } else {
            Ok(())
        }
    }

    /// What has the name, if anything has.
    pub(super) fn stat(&self) -> Result<Option<Stat>, FileError> {
        match statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }
}

/// The directory above a path, and its last name.
pub(super) fn split(path: &str) -> Result<(&str, &str), FileError> {
    let trimmed = path.trim_end_matches('/');
    let (above, name) = trimmed
        .rsplit_once('/')
        .ok_or(FileError::Invalid("this is the root directory"))?;
    if name == "." || name == ".." {
        return Err(FileError::Invalid("the path must end in a name"));
    }
    Ok((if above.is_empty() { "/" } else { above }, name))
}

/// What a link in `dir` points to.
pub(super) fn target_of(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let target = readlinkat(dir, name, Vec::new()).ok()?;
    Some(target.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_last_name() {
        assert_eq!(split("/etc/passwd").unwrap(), ("/etc", "passwd"));
        assert_eq!(split("/etc/").unwrap(), ("/", "etc"));
        assert_eq!(split("//a//b//").unwrap(), ("//a/", "b"));
        for path in ["/", "//", "/a/..", "/a/.", "/a/../"] {
            assert!(matches!(split(path), Err(FileError::Invalid(_))), "{path}");
        }
    }
}
