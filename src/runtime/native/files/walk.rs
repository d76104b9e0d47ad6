//! Going through a directory and all below it, one entry at a time: for archives, which are made
//! while they are sent, and for removals.
//!
//! A tenant decides how deep and how wide a tree is. So there is no recursion, and a bounded number
//! of open directories; names are read from the kernel a few at a time.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use super::place::{kind_of, told};
use crate::runtime::{FileError, FileKind};

/// How many directories deep; each costs the server an open file.
const DEPTH: usize = 64;

/// What a walk comes to.
pub(super) enum Step {
    /// A directory, before what is in it, or anything else.
    Entry { stat: Stat, path: Vec<u8> },
    /// A directory again, after all that was in it.
    Left,
    /// There is nothing more.
    End,
}

struct Level {
    dir: Dir,
    /// Its name in the level above; empty at the top.
    name: CString,
    /// Length of the path down to here.
    path: usize,
}

/// A walk through a directory.
pub(super) struct Walk {
    levels: Vec<Level>,
    /// The path of the level, and of the entry last given.
    path: Vec<u8>,
    /// An entry that was given and is a directory: to be gone into.
    next: Option<CString>,
}

/// Opens a directory below `dir` that is no link and nothing that is mounted there.
fn enter(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, name, flags, Mode::empty(), within)
}

impl Walk {
    /// Through `dir`, whose paths begin with `name`.
    pub(super) fn new(dir: OwnedFd, name: &[u8]) -> Result<Self, FileError> {
        let path = name.to_vec();
        Ok(Self {
            levels: vec![Level {
                dir: Dir::new(dir).map_err(told)?,
                name: CString::default(),
                path: path.len(),
            }],
            path,
            next: None,
        })
    }

    /// The directory that the last entry given is in.
    pub(super) fn dir(&self) -> Result<BorrowedFd<'_>, FileError> {
        let level = self.levels.last().ok_or(FileError::NotFound)?;
        level.dir.fd().map_err(told)
    }

    /// Goes one step on. A directory that is given is gone into next.
    pub(super) fn step(&mut self) -> Result<Step, FileError> {
        if let Some(name) = self.next.take() {
            match enter(self.dir()?, &name) {
                Ok(dir) => {
                    if self.levels.len() >= DEPTH {
                        return Err(FileError::TooDeep);
                    }
                    self.levels.push(Level {
                        dir: Dir::new(dir).map_err(told)?,
                        name,
                        path: self.path.len(),
                    });
                }
                // Mounted there, or by now gone or replaced by something else: not gone into.
                Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(told(error)),
            }
        }
        loop {
            let Some(level) = self.levels.last_mut() else {
                return Ok(Step::End);
            };
            let Some(entry) = level.dir.read() else {
                return Ok(Step::Left);
            };
            let entry = entry.map_err(told)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match statat(
                level.dir.fd().map_err(told)?,
                name,
                AtFlags::SYMLINK_NOFOLLOW,
            ) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(told(error)),
            };
            self.path.truncate(level.path);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            if kind_of(&stat) == FileKind::Directory {
                self.next = Some(name.to_owned());
            }
            return Ok(Step::Entry {
                stat,
                path: self.path.clone(),
            });
        }
    }

    /// After [`Step::Left`]: goes up again. The name of the directory that was left, to be looked
    /// up in [`Walk::dir`]; none at the top.
    pub(super) fn leave(&mut self) -> Option<CString> {
        let left = self.levels.pop()?;
        (!self.levels.is_empty()).then_some(left.name)
    }

    /// The last part of the path of the entry last given.
    pub(super) fn name(&self) -> Result<CString, FileError> {
        let name = self.path.rsplit(|&byte| byte == b'/').next();
        CString::new(name.unwrap_or_default()).map_err(|_| FileError::NotFound)
    }

    /// Where the link last given points to.
    pub(super) fn target(&self) -> Result<Vec<u8>, FileError> {
        let target = readlinkat(self.dir()?, self.name()?, Vec::new());
        Ok(target.map_err(told)?.into_bytes())
    }
}

/// Removes a directory with all that is in it, until `stop` says so.
pub(super) fn remove_all(
    above: BorrowedFd<'_>,
    name: &CStr,
    stop: impl Fn() -> bool,
) -> Result<(), FileError> {
    let dir = enter(above, name).map_err(|error| match error {
        // Something is mounted there.
        Errno::XDEV => FileError::InUse,
        error => told(error),
    })?;
    let mut walk = Walk::new(dir, b"")?;
    loop {
        if stop() {
            return Err(crate::runtime::RuntimeError::NotRunning.into());
        }
        match walk.step()? {
            Step::Entry { stat, .. } if kind_of(&stat) == FileKind::Directory => {}
            Step::Entry { .. } => {
                unlink(walk.dir()?, &walk.name()?, AtFlags::empty())?;
            }
            Step::Left => match walk.leave() {
                Some(left) => unlink(walk.dir()?, &left, AtFlags::REMOVEDIR)?,
                None => break,
            },
            Step::End => break,
        }
    }
    unlink(above, name, AtFlags::REMOVEDIR)
}

/// Removes a name; not an error when somebody else has.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), FileError> {
    match unlinkat(dir, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(told(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_walk_comes_to_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("a/link")).unwrap();
        let mut walk = Walk::new(open(dir.path()), b"top").unwrap();
        let mut seen = Vec::new();
        loop {
            match walk.step().unwrap() {
                Step::Entry { path, .. } => seen.push(String::from_utf8(path).unwrap()),
                Step::Left => drop(walk.leave()),
                Step::End => break,
            }
        }
        seen.sort();
        assert_eq!(
            seen,
            [
                "top/a",
                "top/a/b",
                "top/a/b/c",
                "top/a/b/file",
                "top/a/link"
            ]
        );
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        std::fs::create_dir_all(dir.path().join("tree/deep/er")).unwrap();
        std::fs::write(dir.path().join("tree/deep/file"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("tree/link")).unwrap();
        remove_all(open(dir.path()).as_fd(), c"tree", || false).unwrap();
        assert!(!dir.path().join("tree").exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn a_bottomless_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().join("tree");
        for _ in 0..DEPTH + 5 {
            path.push("d");
        }
        std::fs::create_dir_all(&path).unwrap();
        let result = remove_all(open(dir.path()).as_fd(), c"tree", || false);
        assert!(matches!(result, Err(FileError::TooDeep)));
    }
}
