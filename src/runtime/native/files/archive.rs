//! A tar of a directory or a file, made piece by piece while it is read. Nothing of it is
//! kept but the piece at hand.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::place::{kind_of, open_pointed, told};
use super::walk::{Step, Walk};
use crate::runtime::{FileError, FileKind};

/// The unit of a tar.
const BLOCK: usize = 512;
/// How much is made at once.
pub(super) const PIECE: usize = 256 * 1024;

struct Content {
    file: OwnedFd,
    size: u64,
    left: u64,
}

/// What remains to be written of a tar.
pub(super) struct Archive {
    walk: Option<Walk>,
    /// The file whose content comes next.
    file: Option<Content>,
    /// What is ready.
    ready: Vec<u8>,
    ended: bool,
}

impl Archive {
    /// Of what `fd` points at; paths in it begin with `name`, which is empty for the root.
    pub(super) fn new(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Self, FileError> {
        let stat = fstat(fd).map_err(told)?;
        let mut archive = Self {
            walk: None,
            file: None,
            ready: Vec::new(),
            ended: false,
        };
        match kind_of(&stat) {
            FileKind::Directory => {
                let dir = open_pointed(fd, OFlags::RDONLY | OFlags::DIRECTORY).map_err(told)?;
                if !name.is_empty() {
                    archive.head(name, &stat, 0, None);
                }
                archive.walk = Some(Walk::new(dir, name)?);
            }
            FileKind::File => archive.begin_file(fd, name)?,
            special => return Err(FileError::Special(special)),
        }
        Ok(archive)
    }

    /// The next piece; empty at the end.
    pub(super) fn piece(&mut self) -> Result<Vec<u8>, FileError> {
        while self.ready.len() < PIECE && !self.ended {
            if self.file.is_some() {
                self.go_on_with_file()?;
            } else if !self.next_entry()? {
                // Two empty blocks end a tar.
                self.ready.resize(self.ready.len() + 2 * BLOCK, 0);
                self.ended = true;
            }
        }
        Ok(std::mem::take(&mut self.ready))
    }

    /// Whether there was one.
    fn next_entry(&mut self) -> Result<bool, FileError> {
        let Some(mut walk) = self.walk.take() else {
            return Ok(false);
        };
        match walk.step()? {
            Step::End => return Ok(false),
            Step::Left => {
                walk.leave();
            }
            Step::Entry { stat, path } => match kind_of(&stat) {
                FileKind::Directory => self.head(&path, &stat, 0, None),
                FileKind::Symlink => match walk.target() {
                    Ok(target) => self.head(&path, &stat, 0, Some(&target)),
                    Err(FileError::NotFound | FileError::Invalid(_)) => {}
                    Err(error) => return Err(error),
                },
                FileKind::File => {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let name = walk.name()?;
                    match openat(walk.dir()?, &name, flags, rustix::fs::Mode::empty()) {
                        Ok(fd) => self.begin_file(fd.as_fd(), &path)?,
                        Err(Errno::NOENT) => {}
                        Err(error) => return Err(told(error)),
                    }
                }
                // They mean nothing outside of this machine.
                FileKind::Device | FileKind::Fifo | FileKind::Socket => {}
            },
        }
        self.walk = Some(walk);
        Ok(true)
    }

    fn begin_file(&mut self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<(), FileError> {
        // It may have become something else since it was looked at; this is the thing itself.
        if kind_of(&fstat(fd).map_err(told)?) != FileKind::File {
            return Ok(());
        }
        let file = open_pointed(fd, OFlags::RDONLY).map_err(told)?;
        let stat = fstat(&file).map_err(told)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.head(path, &stat, size, None);
        if size > 0 {
            self.file = Some(Content {
                file,
                size,
                left: size,
            });
        }
        Ok(())
    }

    fn go_on_with_file(&mut self) -> Result<(), FileError> {
        let Some(Content { file, size, left }) = &mut self.file else {
            return Ok(());
        };
        let begin = self.ready.len();
        let room = PIECE.max(begin + BLOCK) - begin;
        let wanted = usize::try_from(*left).map_or(room, |left| left.min(room));
        self.ready.resize(begin + wanted, 0);
        let read = loop {
            match rustix::io::read(&*file, &mut self.ready[begin..]) {
                Err(Errno::INTR) => {}
                other => break other.map_err(told)?,
            }
        };
        // A file that became shorter meanwhile goes on with zeros: its length is said already.
        let done = if read == 0 { wanted } else { read };
        self.ready.truncate(begin + done);
        *left -= done as u64;
        if *left == 0 {
            let size = *size;
            self.file = None;
            self.pad(size);
        }
        Ok(())
    }

    /// Fills up the last block of something of that size.
    fn pad(&mut self, size: u64) {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        if over > 0 {
            self.ready.resize(self.ready.len() + BLOCK - over, 0);
        }
    }

    fn head(&mut self, path: &[u8], stat: &Stat, size: u64, target: Option<&[u8]>) {
        let kind = match kind_of(stat) {
            FileKind::Directory => EntryType::Directory,
            FileKind::Symlink => EntryType::Symlink,
            _ => EntryType::Regular,
        };
        let mut path = path.to_vec();
        if kind == EntryType::Directory {
            path.push(b'/');
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        header.set_size(size);
        let target = target.unwrap_or_default();
        self.long(EntryType::GNULongLink, target);
        self.long(EntryType::GNULongName, &path);
        let fields = header.as_old_mut();
        fill(&mut fields.linkname, target);
        fill(&mut fields.name, &path);
        header.set_cksum();
        self.ready.extend_from_slice(header.as_bytes());
    }

    /// A name that does not fit into the header goes before it as an entry of its own.
    fn long(&mut self, kind: EntryType, name: &[u8]) {
        if name.len() <= Header::new_gnu().as_old().name.len() {
            return;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        fill(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        self.ready.extend_from_slice(header.as_bytes());
        self.ready.extend_from_slice(name);
        self.ready.push(0);
        self.pad(name.len() as u64 + 1);
    }
}

/// As much of a name as fits.
fn fill(field: &mut [u8], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}
