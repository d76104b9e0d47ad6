//! What an engine does with the files of a running container: the [`FileTree`] trait, which
//! [`super::Runtime::files`] answers with.
//!
//! Paths are absolute, of at most [`MAX_PATH`] bytes and without NUL; they mean what they mean to a
//! process in the container, links included. Owners and modes are the container's own. To add an
//! operation, add a method here and to each driver; it acts with no more rights than the
//! container's root has.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::RuntimeError;

/// Longest path, in bytes, as the kernel has it.
pub const MAX_PATH: usize = 4096;
/// Most entries of a directory that are listed at once.
pub const MAX_LISTED: usize = 10_000;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Device,
    Fifo,
    Socket,
}

impl FileKind {
    /// The word for it, in the API and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Device => "device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }

    /// Whether its content is bytes or names that can be kept; the others talk to somebody.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        matches!(self, Self::File | Self::Directory | Self::Symlink)
    }
}

/// A name and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Bytes that are not UTF-8 are shown as replacement characters.
    pub name: String,
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// The lower twelve bits: permissions, set-id bits, sticky bit.
    pub mode: u32,
    /// Of the container.
    pub uid: u32,
    /// Of the container.
    pub gid: u32,
    pub modified: DateTime<Utc>,
    /// Where a symbolic link points to.
    pub target: Option<String>,
    /// Changes with the content: device, inode, size and time of change, for an `ETag`.
    pub tag: String,
}

/// Which of a directory's entries, in the order of their names' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRange {
    /// The name before the first; empty for all.
    pub after: Vec<u8>,
    /// At most so many, and never more than [`MAX_LISTED`].
    pub most: usize,
}

impl Default for ListRange {
    fn default() -> Self {
        Self {
            after: Vec::new(),
            most: MAX_LISTED,
        }
    }
}

/// A piece of a directory, in the order of the names' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<FileInfo>,
    /// The name that the next piece comes after, if there is one.
    pub next: Option<Vec<u8>>,
}

/// Owner, by the container's ids, and mode. Without a word about it a new file belongs to root, and one
/// that is replaced keeps what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewAttributes {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// The lower twelve bits.
    pub mode: Option<u32>,
}

/// Why an operation on a file did not happen.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Also where something on the way is not a directory.
    #[error("there is no such file or directory")]
    NotFound,
    #[error("this name is taken")]
    Exists,
    #[error("this is a directory")]
    IsDirectory,
    #[error("this is not a directory")]
    NotDirectory,
    #[error("the directory is not empty")]
    NotEmpty,
    /// A device, a FIFO or a socket.
    #[error("this is neither file nor directory but a {}", .0.as_str())]
    Special(FileKind),
    /// It lies on a file system such as `/proc`, which is no storage.
    #[error("this belongs to the kernel, not to the container's disk")]
    NotStorage,
    /// Links go round in a circle, or through one of `/proc`'s that lead elsewhere.
    #[error("the links on this path lead nowhere")]
    BadLink,
    /// The kernel does not take such a name, owner or combination.
    #[error("{0}")]
    Invalid(&'static str),
    /// Read-only, immutable, or protected in the container itself.
    #[error("the container does not allow this: it is read-only or protected")]
    Denied,
    #[error("the container's disk is full")]
    NoSpace,
    /// The two ends of a move.
    #[error("the two lie on different file systems")]
    CrossDevice,
    /// A mount point, or a program that runs.
    #[error("this is in use in the container")]
    InUse,
    #[error("the directories lie too deep in each other")]
    TooDeep,
    /// What is wrong with where something is to be moved to, rather than with the thing.
    #[error("the new place: {0}")]
    Destination(Box<FileError>),
    /// More at once than one container may have.
    #[error("too many files of this container are being transferred")]
    TooMany,
    /// The engine's own failures; not running is among them.
    #[error(transparent)]
    Engine(#[from] RuntimeError),
}

/// The files of one container, as long as it runs: afterwards everything fails with
/// [`RuntimeError::NotRunning`].
#[async_trait]
pub trait FileTree: Send + Sync {
    /// What a path leads to, links followed.
    async fn stat(&self, path: &str) -> Result<FileInfo, FileError>;
    /// A piece of a directory's entries; links among them are not followed.
    async fn list(&self, path: &str, range: ListRange) -> Result<Listing, FileError>;
    /// A regular file's content.
    async fn open(&self, path: &str) -> Result<(FileInfo, Box<dyn FileReader>), FileError>;
    /// A tar of a directory or a file, without what is mounted below it.
    async fn archive(&self, path: &str) -> Result<Box<dyn FileArchive>, FileError>;
    /// Makes or replaces a regular file when [`FileWriter::finish`] is called, and not before.
    /// Without another being given, a new one has the mode 0644, and one that is replaced keeps its
    /// own.
    async fn create(
        &self,
        path: &str,
        attributes: NewAttributes,
    ) -> Result<Box<dyn FileWriter>, FileError>;
    /// Makes a directory of mode 0755, with `parents` those above it too, and then one that is
    /// there is no error.
    async fn make_dir(&self, path: &str, parents: bool) -> Result<(), FileError>;
    /// Renames what has the name, not what a link leads to; with `overwrite` over what is there.
    async fn rename(&self, from: &str, to: &str, overwrite: bool) -> Result<(), FileError>;
    /// Removes what has the name, not what a link leads to; with `recursive` all that is in it.
    async fn remove(&self, path: &str, recursive: bool) -> Result<(), FileError>;
    /// Sets the lower twelve bits of the mode, links followed.
    async fn chmod(&self, path: &str, mode: u32) -> Result<(), FileError>;
}

/// An open file.
#[async_trait]
pub trait FileReader: Send {
    /// At most `length` bytes from `offset`; none at the end.
    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, FileError>;
}

/// A tar that is made while it is read.
#[async_trait]
pub trait FileArchive: Send {
    /// The next piece, of bounded size; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, FileError>;
}

/// A file in the making, which nobody sees; dropping it leaves nothing behind.
#[async_trait]
pub trait FileWriter: Send {
    /// Adds to its end.
    async fn write(&mut self, bytes: Bytes) -> Result<(), FileError>;
    /// Gives it its name.
    async fn finish(self: Box<Self>) -> Result<FileInfo, FileError>;
}
