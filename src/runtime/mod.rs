//! What a container engine must do for hzel: the [`Runtime`] trait and its types.
//!
//! The domain decides *what* should be; a runtime makes it so and reports facts. A driver knows no
//! database, no user and no HTTP. To add one, implement [`Runtime`] in a folder of its own beside
//! [`native`] and name it in `app.rs`; every multi-step action must undo itself when a step fails
//! (see [`native::revert`]), and every failure must be one of [`RuntimeError`]'s named kinds.

mod files;
pub mod native;
mod source;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::domain::ids::ContainerId;

pub use self::files::{
    FileArchive, FileError, FileInfo, FileKind, FileReader, FileTree, FileWriter, ListRange,
    Listing, MAX_LISTED, MAX_PATH, NewAttributes,
};

/// Everything a driver needs to make and start a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerSpec {
    /// Whose it is and where its files lie: the database's id.
    pub id: ContainerId,
    /// The name inside, an RFC 1123 label.
    pub hostname: String,
    /// The name of an image that [`Runtime::prepare_image`] has made.
    pub image: String,
    /// Whole CPUs.
    pub cpu_cores: u32,
    /// MiB.
    pub memory_mb: u32,
    /// GiB.
    pub disk_gb: u32,
    /// Public keys for root's `authorized_keys`, one a line; may be empty.
    pub ssh_keys: Vec<String>,
    /// A script run as root at the first start, after the init is up.
    pub user_data: Option<String>,
}

/// What [`Runtime::create`] decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The address, if the driver knows it before the start.
    pub ipv4: Option<Ipv4Addr>,
}

/// What [`Runtime::start`] confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// When the init began to run.
    pub started_at: DateTime<Utc>,
    /// The address other machines of this host reach it at.
    pub ipv4: Option<Ipv4Addr>,
}

/// What is so, whatever the database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Its init runs.
    Running(Started),
    /// Made, but no init runs.
    Stopped,
    /// The driver has nothing of that id.
    Missing,
}

/// A measurement of a running container; a stopped one has only its disk's numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// CPU time used since the start, in microseconds; a rate needs two readings.
    pub cpu_usage_us: u64,
    pub memory_used_bytes: u64,
    pub memory_limit_bytes: u64,
    pub disk_used_bytes: u64,
    pub disk_limit_bytes: u64,
    /// Received by the container.
    pub network_rx_bytes: u64,
    /// Sent by the container.
    pub network_tx_bytes: u64,
    pub processes: u64,
    pub uptime: Duration,
}

/// A process to run inside a running container.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    /// Names this run; [`Runtime::kill_exec`] finds its processes by it, even after a restart of
    /// the server.
    pub exec_id: String,
    /// The program, resolved with the container's PATH, and its arguments.
    pub argv: Vec<String>,
    /// Absolute; the user's home if none.
    pub cwd: Option<String>,
    /// Added to the defaults (PATH, HOME, USER, LANG).
    pub env: Vec<(String, String)>,
    /// A name or a numeric id of the container's own user database; root if none.
    pub user: Option<String>,
}

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// 0 to 255; 128 + n when signal n ended it.
    pub code: i32,
}

/// A running process. Dropping it leaves the process alone; [`Runtime::kill_exec`] ends it.
#[derive(Debug)]
pub struct Exec {
    /// Output in order within a stream, through a bounded channel: a slow reader slows the
    /// process, and neither grows memory. Closed once all that was written before the exit is read.
    pub output: mpsc::Receiver<(Stream, Bytes)>,
    /// Resolves when the process itself ended, whether or not children keep its pipes open.
    pub exit: oneshot::Receiver<Result<ExitStatus, RuntimeError>>,
}

/// How big a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub cols: u16,
    pub rows: u16,
}

/// A process to run inside a running container on a terminal of its own.
#[derive(Debug, Clone)]
pub struct TerminalSpec {
    /// As [`ExecSpec::exec_id`].
    pub exec_id: String,
    /// The program and its arguments; the user's login shell if none.
    pub argv: Option<Vec<String>>,
    /// As [`ExecSpec::user`].
    pub user: Option<String>,
    /// Added to the defaults of [`ExecSpec::env`] and TERM, SHELL.
    pub env: Vec<(String, String)>,
    pub size: TerminalSize,
}

/// The near end of a terminal in a container. Dropping it hangs up: its processes are told by
/// SIGHUP, and the first of them is killed if it does not end by that.
pub struct Terminal {
    /// What is printed; ends when nothing in the container has the terminal any more.
    pub output: Pin<Box<dyn AsyncRead + Send>>,
    /// What is typed; waits while nobody reads it.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    pub window: Box<dyn TerminalWindow>,
    /// Resolves when the first process itself has ended, whether or not others still have the
    /// terminal.
    pub ended: oneshot::Receiver<()>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

/// What can be done to a terminal beside reading and writing.
#[async_trait]
pub trait TerminalWindow: Send + Sync {
    /// Gives it another size, and tells its processes (SIGWINCH).
    async fn resize(&self, size: TerminalSize) -> Result<(), RuntimeError>;
}

/// Something that happened without being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The init of a container ended, by itself or by our doing.
    Died { id: ContainerId },
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// Made from the machine's own package sources.
    Default,
    /// A registry reference such as `docker.io/library/debian:12`.
    Oci(String),
    /// A root file system as a tar file, plain or compressed with gzip or zstd.
    Tarball(PathBuf),
}

/// What became of [`Runtime::prepare_image`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedImage {
    pub size_bytes: u64,
    /// What the image says of itself, such as `Debian GNU/Linux 12 (bookworm)`.
    pub description: String,
}

/// How far an image is; called often, from any thread.
pub type ImageProgress = Arc<dyn Fn(&str, u8) + Send + Sync>;

/// One thing `hzel doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked at, such as `user namespaces`.
    pub name: &'static str,
    pub level: FindingLevel,
    /// What was found.
    pub detail: String,
    /// How to mend it, a command where there is one; empty when all is well.
    pub remedy: String,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingLevel {
    Ok,
    /// Works, with less.
    Warning,
    /// Containers cannot run.
    Broken,
}

/// A container that the engine has and its caller does not know of: perhaps the database is another
/// one than it was made with, or an older copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    pub id: ContainerId,
    pub hostname: String,
    /// When it is removed, if nobody claims it before.
    pub until: DateTime<Utc>,
}

/// What [`Runtime::reconcile`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// What of each known container is so.
    pub facts: Vec<(ContainerId, Fact)>,
    /// Unknown ones that are kept for the time being, as they are.
    pub unclaimed: Vec<Unclaimed>,
    /// Leftovers that were removed: ids of containers and names of devices, rules, directories.
    pub removed: Vec<String>,
}

/// Why a driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine as a whole cannot work; the text says what is missing and how to mend it.
    #[error("the container engine is unavailable: {0}")]
    Unavailable(String),
    /// No such image is prepared.
    #[error("image {0} is not available")]
    ImageMissing(String),
    /// The image cannot be made or used; the text is for people.
    #[error("image {name} cannot be used: {reason}")]
    ImageBroken { name: String, reason: String },
    /// The host's disk is (nearly) full.
    #[error("the host has no room for this: {0}")]
    NoSpace(String),
    /// Nothing of that id.
    #[error("no such container")]
    NotFound,
    /// It must run for this.
    #[error("the container is not running")]
    NotRunning,
    /// The process could not be started in the container (no such program, user or directory).
    #[error("could not run: {0}")]
    CannotRun(String),
    /// It did not happen within the time.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// Anything else: `what` is for people, `cause` for the log.
    #[error("{what}")]
    Failed { what: &'static str, cause: String },
}

/// What an engine can do beyond the trait's core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// CPU and memory can change while it runs.
    pub live_limits: bool,
    /// [`Metrics`] are read without running anything inside.
    pub metrics: bool,
}

/// A container engine. All methods may be called at once, from any task; calls about one container
/// are put in order by the caller.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// `native` or `incus`.
    fn name(&self) -> &'static str;
    fn capabilities(&self) -> Capabilities;

    /// Looks at the machine: everything that could keep containers from working.
    async fn examine(&self) -> Vec<Finding>;
    /// Cheap: can containers be made now? The readiness probe calls it.
    async fn ready(&self) -> Result<(), RuntimeError>;

    /// Makes `name` from `source`, replacing an older one only when the new one is whole.
    async fn prepare_image(
        &self,
        name: &str,
        source: &ImageSource,
        progress: ImageProgress,
    ) -> Result<PreparedImage, RuntimeError>;
    /// Whether `name` is whole and can be used.
    async fn has_image(&self, name: &str) -> Result<bool, RuntimeError>;
    /// Removes `name`; not an error when there is none. The caller knows that nobody uses it.
    async fn remove_image(&self, name: &str) -> Result<(), RuntimeError>;

    /// Makes the disk and reserves address and uid range. Again on an existing one: the same answer.
    async fn create(&self, spec: &ContainerSpec) -> Result<Created, RuntimeError>;
    /// Starts it and confirms that its init runs. Of a running one: the same answer.
    async fn start(&self, spec: &ContainerSpec) -> Result<Started, RuntimeError>;
    /// Sends the init's stop signal, then kills it when `grace` is over (at once when zero).
    /// Not an error when it is stopped already.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError>;
    /// Kills it and removes all there is of it. Not an error when there is nothing.
    async fn delete(&self, id: &ContainerId) -> Result<(), RuntimeError>;
    /// What is so.
    async fn fact(&self, id: &ContainerId) -> Result<Fact, RuntimeError>;

    async fn metrics(&self, id: &ContainerId) -> Result<Metrics, RuntimeError>;
    /// The last `lines` lines of the init's console, newest last, of this start and those before.
    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<String, RuntimeError>;

    /// Starts a process in a running container.
    async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<Exec, RuntimeError>;
    /// Starts a process in a running container on a terminal of its own: one of the container's,
    /// and its process's controlling one.
    async fn open_terminal(
        &self,
        id: &ContainerId,
        spec: TerminalSpec,
    ) -> Result<Terminal, RuntimeError>;
    /// Ends every process of that run, children that left its session included. Not an error when
    /// there are none.
    async fn kill_exec(&self, id: &ContainerId, exec_id: &str) -> Result<(), RuntimeError>;

    /// The files of a running container.
    async fn files(&self, id: &ContainerId) -> Result<Box<dyn FileTree>, RuntimeError>;

    /// Tells of deaths as they happen.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;
    /// At start and now and then: takes up what still runs of `known`, reports what is so, and
    /// removes what belongs to none of them (half-made ones, mounts, devices, rules, directories).
    /// A whole container that is not known is kept for long before it is removed.
    async fn reconcile(&self, known: &[ContainerId]) -> Result<Reconciled, RuntimeError>;
    /// Every now and then: puts back what others have taken from the machine that containers need
    /// (an administrator reloads the firewall), and gives up what nothing uses any more.
    async fn upkeep(&self) -> Result<(), RuntimeError>;
    /// The server ends: with no container left, gives back what the engine itself took of the
    /// machine (addresses, rules, groups). Containers and all they need stay.
    async fn close(&self) -> Result<(), RuntimeError>;
}
