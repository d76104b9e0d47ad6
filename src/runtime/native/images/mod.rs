//! The store of images: root file systems, each made whole beside the others and then renamed
//! into place.
//!
//! `<store>/<name>/image.json` names the present generation, a directory `rootfs.<n>` beside it.
//! Replacing an image makes a new generation and leaves the old one where it is, as the disks of
//! containers made from it are written over that one for as long as they live;
//! [`ImageStore::collect`] removes those that nobody uses any more. A build happens in
//! `<store>/.new-…`, whose `lock` is held as long as somebody works there, so that what a crash
//! left can be told from what another process is making. What is removed goes there first, without
//! that lock: what cannot be removed at once is a leftover, and tried again with the others.
//!
//! `<store>/.lock` is held by whoever changes what images there are. Who opens an image to make a
//! container of it holds that generation by its [`Image`].
//!
//! Here is the store itself, and how an image is opened; `make` makes images, and `collect` removes
//! them.
//!
//! To add a source, add its variant to [`crate::runtime::ImageSource`] and what makes its `rootfs`
//! to `make`.

mod apt;
mod build;
mod collect;
mod default;
mod init;
mod make;
mod name;
mod oci;
mod problem;
mod release;
mod size;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

pub use self::init::Init;
use self::name::ImageName;
use self::problem::Problem;
use crate::runtime::RuntimeError;

/// What a build's directory begins with; no image's name does.
const BUILD: &str = ".new-";
/// What a generation's directory begins with.
const GENERATION: &str = "rootfs.";

/// How long a generation is left alone after a container was made from it: the container's own
/// record, by which the generation is known to be used, is there by then.
const SETTLING: Duration = Duration::from_secs(600);

/// The images of one installation. Any number of processes may use the same store; one of them makes
/// containers from it and collects, by clones of one store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    directory: PathBuf,
    uses: Arc<Uses>,
    settling: Duration,
}

/// The generations that containers are being made from.
#[derive(Debug, Default)]
struct Uses(Mutex<HashMap<PathBuf, Use>>);

#[derive(Debug)]
struct Use {
    holders: usize,
    /// When the last of them was done.
    over: Instant,
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a generation from being collected while this lives, and for [`SETTLING`] after.
#[derive(Debug)]
struct Held {
    rootfs: PathBuf,
    uses: Arc<Uses>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(it) = self.uses.lock().get_mut(&self.rootfs) {
            it.holders = it.holders.saturating_sub(1);
            it.over = Instant::now();
        }
    }
}

/// An image that containers can start from. Its generation is not collected while this lives.
#[derive(Debug, Clone)]
pub struct Image {
    pub name: String,
    /// This generation's tree; stays as it is and where it is.
    pub rootfs: PathBuf,
    pub init: Init,
    /// What its maker wants set in every process.
    pub env: Vec<(String, String)>,
    /// What it says of itself, such as `Debian GNU/Linux 12 (bookworm)`.
    pub description: String,
    pub size_bytes: u64,
    _held: Arc<Held>,
}

/// `image.json`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Record {
    generation: u64,
    init: Init,
    env: Vec<(String, String)>,
    description: String,
    size_bytes: u64,
}

impl ImageStore {
    /// The store in `directory`, which is made when something is put in.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            uses: Arc::default(),
            settling: SETTLING,
        }
    }

    /// The image of that name.
    ///
    /// # Errors
    /// [`RuntimeError::ImageMissing`] when there is none; [`RuntimeError::ImageBroken`] when the
    /// store has been tampered with.
    pub fn open(&self, name: &str) -> Result<Image, RuntimeError> {
        let missing = || RuntimeError::ImageMissing(name.to_owned());
        // What cannot be a name is the name of no image.
        let sound = ImageName::parse(name).map_err(|_| missing())?;
        let directory = self.directory.join(sound.as_str());
        let broken = |reason: String| RuntimeError::ImageBroken {
            name: name.to_owned(),
            reason,
        };
        // Read and held under one lock: a collection sees it held, or is over before it is read.
        let mut uses = self.uses.lock();
        let record = match read_record(&directory) {
            Ok(Some(record)) => record,
            Ok(None) => return Err(missing()),
            Err(cause) => return Err(broken(format!("its record cannot be read: {cause}"))),
        };
        let rootfs = directory.join(format!("{GENERATION}{}", record.generation));
        if !rootfs.is_dir() {
            return Err(broken("its files are gone; make it again".into()));
        }
        uses.entry(rootfs.clone())
            .or_insert_with(|| Use {
                holders: 0,
                over: Instant::now(),
            })
            .holders += 1;
        drop(uses);
        let held = Arc::new(Held {
            rootfs: rootfs.clone(),
            uses: Arc::clone(&self.uses),
        });
        Ok(Image {
            name: name.to_owned(),
            rootfs,
            init: record.init,
            env: record.env,
            description: record.description,
            size_bytes: record.size_bytes,
            _held: held,
        })
    }

    /// The generations that containers are being made from, or were a moment ago.
    fn held(&self) -> HashSet<PathBuf> {
        let mut uses = self.uses.lock();
        uses.retain(|_, it| it.holders > 0 || it.over.elapsed() < self.settling);
        uses.keys().cloned().collect()
    }

    /// A path in the store that nothing has.
    fn unused_name(&self) -> PathBuf {
        self.directory
            .join(format!("{BUILD}{:016x}", rand::random::<u64>()))
    }

    /// Waits until nobody else changes what images there are.
    fn lock(&self) -> io::Result<File> {
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(self.directory.join(".lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }
}

/// The numbers of the generations in an image's directory.
fn generations(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(GENERATION)?.parse::<u64>().ok());
        found.extend(number);
    }
    Ok(found)
}

fn read_record(directory: &Path) -> io::Result<Option<Record>> {
    match std::fs::read(directory.join("image.json")) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Writes the record so that a crash leaves the old one or the new one.
fn write_record(directory: &Path, record: &Record) -> io::Result<()> {
    let new = directory.join("image.json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join("image.json"))?;
    File::open(directory)?.sync_all()
}

/// Makes a directory that only root gets into: images have set-user-id programs that are no
/// business of this machine's users.
fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Runs what waits for the disk on a thread that may.
async fn blocking<T, F>(work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Problem> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|cause| Problem::Failed(cause.to_string()))?
}
