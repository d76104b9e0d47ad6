//! The files by which a layer removes what layers below it made.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::remove;
use crate::runtime::native::images::problem::Problem;

/// What a whiteout file removes.
#[derive(Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// One file or directory.
    One(PathBuf),
    /// All that a directory has.
    Contents(PathBuf),
    /// Nothing: bookkeeping of the file system the layer was made on.
    Nothing,
}

/// Whether a path in a layer is a whiteout, and of what.
pub fn whiteout(path: &Path) -> Option<Whiteout> {
    let name = path.file_name()?.as_bytes().strip_prefix(b".wh.")?;
    let directory = path.parent()?;
    Some(match name {
        b".wh..opq" => Whiteout::Contents(directory.to_owned()),
        // Never a way up: a name is one component, but these two are not names of files.
        b"" | b"." | b".." => Whiteout::Nothing,
        other if other.starts_with(b".wh.") => Whiteout::Nothing,
        other => Whiteout::One(directory.join(OsStr::from_bytes(other))),
    })
}

impl Whiteout {
    /// Removes it but for what is in `own`, which this layer made itself.
    pub fn apply(&self, own: &HashSet<PathBuf>) -> Result<(), Problem> {
        match self {
            Self::Nothing => Ok(()),
            Self::One(path) => remove_others(path, own),
            Self::Contents(directory) => {
                let entries = match std::fs::read_dir(directory) {
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
                    Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => return Ok(()),
                    other => other?,
                };
                for entry in entries {
                    remove_others(&directory.join(entry?.file_name()), own)?;
                }
                Ok(())
            }
        }
    }
}

/// Removes a path but for what is in `own`, which also has the directories above all it has.
fn remove_others(path: &Path, own: &HashSet<PathBuf>) -> Result<(), Problem> {
    if !own.contains(path) {
        return remove(path);
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        for entry in std::fs::read_dir(path)? {
            remove_others(&path.join(entry?.file_name()), own)?;
        }
    }
    Ok(())
}
