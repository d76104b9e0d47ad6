//! What is removed from the store: whole images, generations that nobody uses any more, and what
//! builds left behind.
//!
//! To have one more kind of thing removed: find it under `.lock`, `bury` it there, and `dispose` of
//! it when the lock is given back, as it may be 10,000 files.

use std::io;
use std::path::{Path, PathBuf};

use super::build::is_abandoned;
use super::name::ImageName;
use super::problem::Problem;
use super::{BUILD, GENERATION, ImageStore, blocking, generations, read_record};
use crate::runtime::RuntimeError;

impl ImageStore {
    /// Removes an image with all its generations; not an error when there is none.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when files cannot be removed. What is out of sight by then is tried
    /// again by the next collection.
    pub async fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        let Ok(sound) = ImageName::parse(name) else {
            return Ok(());
        };
        let store = self.clone();
        let removed = blocking(move || {
            let directory = store.directory.join(sound.as_str());
            if !directory.exists() {
                return Ok(());
            }
            // Out of sight at once; what a crash leaves of it then is a leftover like any other.
            let grave = {
                let _one_at_a_time = store.lock()?;
                store.bury(&directory)?
            };
            Ok(dispose(&grave)?)
        });
        removed.await.map_err(|problem| problem.of(name))
    }

    /// Removes the generations that are neither present nor in `used`, and names them. What cannot
    /// be removed is logged, and tried again the next time.
    ///
    /// At any time: a container in the making may be missing in `used`, and keeps its generation all
    /// the same. Under `.lock` no generation gives way to another; those held by then are spared, and
    /// whoever opens an image after that finds the present one.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the store cannot be read.
    pub async fn collect(&self, used: &[PathBuf]) -> Result<Vec<String>, RuntimeError> {
        let store = self.clone();
        let used = used.to_vec();
        blocking(move || store.collect_now(&used))
            .await
            .map_err(|problem| problem.of("*"))
    }

    fn collect_now(&self, used: &[PathBuf]) -> Result<Vec<String>, Problem> {
        let mut removed = self.sweep()?;
        if !self.directory.is_dir() {
            return Ok(removed);
        }
        let mut graves = Vec::new();
        {
            let _one_at_a_time = self.lock()?;
            let held = self.held();
            for shelf in self.shelves()? {
                for rootfs in &shelf.generations {
                    let in_use =
                        *rootfs == shelf.present || used.contains(rootfs) || held.contains(rootfs);
                    if !in_use {
                        let name = format!("{}/{}", shelf.name, name_of(rootfs));
                        graves.extend(self.try_to_bury(name, rootfs));
                    }
                }
            }
        }
        removed.extend(graves.into_iter().filter_map(disposed));
        Ok(removed)
    }

    /// The images whose records can be read; others are left for people to look at.
    fn shelves(&self) -> io::Result<Vec<Shelf>> {
        let mut shelves = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let directory = entry?.path();
            let name = name_of(&directory);
            if name.starts_with('.') || !directory.is_dir() {
                continue;
            }
            let Ok(Some(record)) = read_record(&directory) else {
                continue;
            };
            let rootfs = |generation| directory.join(format!("{GENERATION}{generation}"));
            shelves.push(Shelf {
                present: rootfs(record.generation),
                generations: generations(&directory)?.into_iter().map(rootfs).collect(),
                name,
            });
        }
        Ok(shelves)
    }

    /// Takes a directory of the store out of sight; where it is now.
    fn bury(&self, directory: &Path) -> io::Result<PathBuf> {
        let grave = self.unused_name();
        std::fs::rename(directory, &grave)?;
        Ok(grave)
    }

    fn try_to_bury(&self, name: String, directory: &Path) -> Option<(String, PathBuf)> {
        match self.bury(directory) {
            Ok(grave) => Some((name, grave)),
            Err(cause) => {
                tracing::warn!(%cause, name, "an image that nobody uses stays");
                None
            }
        }
    }

    /// Removes the directories of builds that nobody works on, and names them.
    pub(super) fn sweep(&self) -> Result<Vec<String>, Problem> {
        if !self.directory.is_dir() {
            return Ok(Vec::new());
        }
        let mut abandoned = Vec::new();
        {
            // One that begins has its directory before its lock.
            let _one_at_a_time = self.lock()?;
            for entry in std::fs::read_dir(&self.directory)? {
                let path = entry?.path();
                let name = name_of(&path);
                if name.starts_with(BUILD) && is_abandoned(&path) {
                    abandoned.push((name, path));
                }
            }
        }
        Ok(abandoned.into_iter().filter_map(disposed).collect())
    }
}

/// An image's directory.
struct Shelf {
    name: String,
    /// The generation that containers are made from now.
    present: PathBuf,
    generations: Vec<PathBuf>,
}

/// Removes a directory that is out of sight.
fn dispose(grave: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(grave) {
        // Somebody else's sweep was faster.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// [`dispose`] of what is called `name`, which is answered if it is gone.
fn disposed((name, grave): (String, PathBuf)) -> Option<String> {
    match dispose(&grave) {
        Ok(()) => Some(name),
        // A killed build's last program still writes: the next sweep has it.
        Err(cause) => {
            tracing::warn!(%cause, name, "what is left of an image stays");
            None
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
