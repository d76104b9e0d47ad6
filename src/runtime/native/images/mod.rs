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
//! To add a source, add its variant to [`ImageSource`] and what makes its `rootfs` to `make`.

mod apt;
mod default;
mod init;
mod name;
mod oci;
mod problem;
mod size;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

pub use self::init::Init;
use self::name::ImageName;
use self::problem::Problem;
use self::unpack::{Archive, Watch};
use crate::runtime::{ImageProgress, ImageSource, PreparedImage, RuntimeError};

/// What a build's directory begins with; no image's name does.
const BUILD: &str = ".new-";
/// What a generation's directory begins with.
const GENERATION: &str = "rootfs.";
/// How often unpacking tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

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

    /// Makes an image, and puts it in the place of an older one only when it is whole. Dropping
    /// the future abandons it.
    ///
    /// # Errors
    /// [`RuntimeError::ImageBroken`] when the source is at fault; [`RuntimeError::NoSpace`];
    /// [`RuntimeError::Unavailable`] when a program is missing.
    pub async fn prepare(
        &self,
        name: &str,
        source: &ImageSource,
        progress: ImageProgress,
    ) -> Result<PreparedImage, RuntimeError> {
        let sound = ImageName::parse(name)?;
        let made = self
            .make(&sound, source, &progress)
            .await
            .map_err(|it| it.of(name))?;
        progress("ready", 100);
        Ok(made)
    }

    async fn make(
        &self,
        name: &ImageName,
        source: &ImageSource,
        progress: &ImageProgress,
    ) -> Result<PreparedImage, Problem> {
        let store = self.clone();
        let sweeper = self.clone();
        let build = blocking(move || {
            for left in sweeper.sweep()? {
                tracing::info!(directory = left, "removed an unfinished image");
            }
            Build::begin(&store.directory)
        })
        .await?;
        let filled = Self::fill(&build.directory, source, progress).await;
        progress("checking", 96);
        let store = self.clone();
        let name = name.clone();
        blocking(move || {
            let made = filled.and_then(|env| store.install(&name, &build.directory, env));
            // Before it is answered, whatever the answer: a command that ends now leaves nothing.
            build.remove();
            made
        })
        .await
    }

    /// Makes `work/rootfs` from a source; the environment its maker wants.
    async fn fill(
        work: &Path,
        source: &ImageSource,
        progress: &ImageProgress,
    ) -> Result<Vec<(String, String)>, Problem> {
        unpack::room(work, 0)?;
        match source {
            ImageSource::Default => {
                default::build(work, progress).await?;
                Ok(Vec::new())
            }
            ImageSource::Oci(reference) => {
                let pulled = oci::pull(reference, work, progress).await?;
                unpack_all(work, pulled.layers, 60, progress).await?;
                Ok(pulled.env)
            }
            ImageSource::Tarball(path) => {
                let archive = Archive {
                    file: path.clone(),
                    whiteouts: false,
                };
                unpack_all(work, vec![archive], 1, progress).await?;
                Ok(Vec::new())
            }
        }
    }

    /// Takes a finished build's tree as the new generation.
    fn install(
        &self,
        name: &ImageName,
        work: &Path,
        env: Vec<(String, String)>,
    ) -> Result<PreparedImage, Problem> {
        let rootfs = work.join("rootfs");
        if !init::has_shell(&rootfs) {
            return Err(Problem::Broken(
                "it has no /bin/sh, without which nothing can be started in a box".into(),
            ));
        }
        // Its own top directory is a container's `/`: everybody must get through.
        std::fs::set_permissions(&rootfs, PermissionsExt::from_mode(0o755))?;
        let description = describe(&rootfs);
        let size_bytes = size::size(&rootfs)?;
        let init = Init::of(&rootfs, init::machine_is_pure_v2());
        // Whole on disk before it is named: a record must never outlive a crash that its files
        // do not.
        rustix::fs::syncfs(File::open(&rootfs)?)?;

        let directory = self.directory.join(name.as_str());
        make_directory(&directory)?;
        let _one_at_a_time = self.lock()?;
        let generation = generations(&directory)?
            .into_iter()
            .max()
            .unwrap_or_default()
            + 1;
        std::fs::rename(&rootfs, directory.join(format!("{GENERATION}{generation}")))?;
        let record = Record {
            generation,
            init,
            env,
            description: description.clone(),
            size_bytes,
        };
        write_record(&directory, &record)?;
        Ok(PreparedImage {
            size_bytes,
            description,
        })
    }

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
    fn sweep(&self) -> Result<Vec<String>, Problem> {
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

/// A build's directory, removed when this is dropped.
#[derive(Debug)]
struct Build {
    directory: PathBuf,
    /// Held by its lock.
    _lock: File,
}

impl Build {
    fn begin(store: &Path) -> Result<Self, Problem> {
        make_directory(store)?;
        let store = ImageStore::new(store.to_owned());
        let directory = store.unused_name();
        let _one_at_a_time = store.lock()?;
        make_directory(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::create_dir(directory.join("rootfs"))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }
}

impl Build {
    /// Removes it now.
    fn remove(self) {
        // What stays is tried again when it is dropped, and by the next sweep.
        if let Err(cause) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(%cause, directory = %self.directory.display(), "not removed at once");
        }
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if !self.directory.exists() {
            return;
        }
        // It may be 10,000 files, and this may be a thread that must not wait.
        let directory = self.directory.clone();
        let spawned = std::thread::Builder::new()
            .name("image-rm".into())
            .spawn(move || {
                // Again when what was writing there has just been told to stop.
                for _ in 0..20 {
                    match std::fs::remove_dir_all(&directory) {
                        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        _ => return,
                    }
                }
            });
        if let Err(cause) = spawned {
            tracing::warn!(%cause, "an unfinished image is left to the next sweep");
        }
    }
}

/// Whether nobody holds the lock of a build's directory.
fn is_abandoned(directory: &Path) -> bool {
    match File::open(directory.join("lock")) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // Being removed, or a removed image: no build works there.
        Err(_) => true,
    }
}

/// Unpacks archives into `work/rootfs`, telling from `from` percent on how far it is.
async fn unpack_all(
    work: &Path,
    archives: Vec<Archive>,
    from: u8,
    progress: &ImageProgress,
) -> Result<(), Problem> {
    /// Tells the thread that nobody waits any more.
    struct Abandon(Arc<Watch>);
    impl Drop for Abandon {
        fn drop(&mut self) {
            self.0.abandoned.store(true, Ordering::Relaxed);
        }
    }

    let watch = Arc::new(Watch::default());
    let abandon = Abandon(Arc::clone(&watch));
    let lengths = archives
        .iter()
        .map(|it| std::fs::metadata(&it.file).map_or(0, |it| it.len()));
    let total: u64 = lengths.sum();
    let root = work.join("rootfs");
    let mut running = std::pin::pin!(blocking(move || unpack::unpack(&root, &archives, &watch)));
    let width = u64::from(95 - from);
    loop {
        if let Ok(ended) = tokio::time::timeout(TELL_EVERY, &mut running).await {
            return ended;
        }
        let read = abandon.0.read.load(Ordering::Relaxed);
        let done = width * read.min(total) / total.max(1);
        progress("unpacking", from + u8::try_from(done).unwrap_or_default());
    }
}

/// What an image says it is.
fn describe(rootfs: &Path) -> String {
    const MOST: usize = 100;
    ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .filter_map(|path| init::read_inside(rootfs, path))
        .find_map(|text| os_release(&text, "PRETTY_NAME"))
        .map_or_else(
            || "Linux".to_owned(),
            |text| {
                text.chars()
                    .filter(|c| !c.is_control())
                    .take(MOST)
                    .collect()
            },
        )
}

/// A value of an `os-release` file.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
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
