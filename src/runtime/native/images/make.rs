//! How an image is made: a build fills a directory of its own from a source, and its tree becomes
//! the new generation when it is whole.
//!
//! To add a source, add its variant to [`ImageSource`] and what makes its `rootfs` to `fill`.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::build::Build;
use super::init::{self, Init};
use super::name::ImageName;
use super::problem::Problem;
use super::unpack::{self, Archive, Watch};
use super::{
    GENERATION, ImageStore, Record, blocking, default, generations, make_directory, oci, release,
    size, write_record,
};
use crate::runtime::{ImageProgress, ImageSource, PreparedImage, RuntimeError};

/// How often unpacking tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

impl ImageStore {
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
        let description = release::describe(&rootfs);
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
