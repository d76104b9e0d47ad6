//! A file in the making. It has no name while it is written, so that neither a broken upload nor a
//! killed server leaves anything: the kernel forgets it with its last handle. Its name is given,
//! over the old file's, at once and when it is whole.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, linkat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::place::{Place, info, kind_of, own_name, require_stored, told};
use crate::runtime::{FileError, FileInfo, FileKind, NewAttributes};

/// Of a new file.
const MODE: u32 = 0o644;

/// See the module.
pub(super) struct Draft {
    file: OwnedFd,
    place: Place,
    attributes: NewAttributes,
    /// Its name for the time being, where the file system knows no files without one.
    named: Option<CString>,
}

impl Draft {
    /// Of the file at `path`, which need not be there. As the container's root.
    pub(super) fn new(
        root: BorrowedFd<'_>,
        path: &str,
        attributes: NewAttributes,
    ) -> Result<Self, FileError> {
        let place = Place::followed(root, path)?;
        if let Some(stat) = place.stat()?
            && require_stored(&stat)? == FileKind::Directory
        {
            return Err(FileError::IsDirectory);
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let (file, named) = match openat(&place.dir, c".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = passing_name()?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = openat(&place.dir, &name, flags, mode).map_err(told)?;
                (file, Some(name))
            }
            Err(error) => return Err(told(error)),
        };
        Ok(Self {
            file,
            place,
            attributes,
            named,
        })
    }

    /// Adds to its end.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(told(error)),
            }
        }
        Ok(())
    }

    /// Gives it owner, mode and name. As the container's root.
    pub(super) fn finish(&mut self) -> Result<FileInfo, FileError> {
        let old = self.place.stat()?;
        if let Some(stat) = &old
            && require_stored(stat)? == FileKind::Directory
        {
            return Err(FileError::IsDirectory);
        }
        // A link may have come in between; its own mode and owner say nothing.
        let old = old.filter(|stat| kind_of(stat) == FileKind::File);
        let uid = self.attributes.uid.or(old.as_ref().map(|old| old.st_uid));
        let gid = self.attributes.gid.or(old.as_ref().map(|old| old.st_gid));
        if uid.is_some() || gid.is_some() {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            fchown(&self.file, uid, gid).map_err(told)?;
        }
        let kept = old.map_or(MODE, |old| old.st_mode & 0o7777);
        let mode = self.attributes.mode.unwrap_or(kept);
        fchmod(&self.file, Mode::from_raw_mode(mode)).map_err(told)?;
        self.give_name()?;
        let stat = fstat(&self.file).map_err(told)?;
        Ok(info(self.place.name.as_bytes(), &stat, None))
    }

    fn give_name(&mut self) -> Result<(), FileError> {
        let Place { dir, name } = &self.place;
        if self.named.is_none() {
            match self.link(name) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(told(error)),
            }
            // Only a rename replaces a file at once.
            let passing = passing_name()?;
            self.link(&passing).map_err(told)?;
            self.named = Some(passing);
        }
        if let Some(passing) = &self.named {
            renameat(dir, passing, dir, name).map_err(told)?;
        }
        self.named = None;
        Ok(())
    }

    fn link(&self, name: &CString) -> rustix::io::Result<()> {
        linkat(
            rustix::fs::CWD,
            own_name(self.file.as_fd()),
            &self.place.dir,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = self.named.take() {
            // By the server itself; it is a name of ours, in a directory that is open.
            let _absent = unlinkat(&self.place.dir, name, AtFlags::empty());
        }
    }
}

/// A name that nobody has.
fn passing_name() -> Result<CString, FileError> {
    CString::new(format!(".hzel-upload-{:016x}", rand::random::<u64>()))
        .map_err(|_| FileError::Invalid("a NUL cannot be in a name"))
}
