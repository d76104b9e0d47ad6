//! Calling the OCI runtime binary: `crun`, `runc`, or any other with the same command line. To teach it
//! the ways of one more, give it a [`Kind`].
//!
//! Only the standard verbs are used, so gVisor's `runsc` or Kata can be named instead. A verb's
//! errors are read from the runtime's own log, which keeps them apart from a program's output.

use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::namespace;
use crate::runtime::RuntimeError;

/// Which OCI runtime to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OciRuntimeChoice {
    /// The first of `crun` and `runc` that works.
    #[default]
    Auto,
    /// A program's name, looked up in PATH, or its path.
    Path(PathBuf),
}

/// Where a package manager or an operator puts runtimes; a service's PATH may lack some.
const PLACES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// How long any verb may take, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the unified hierarchy is mounted on a host that has both kinds of cgroups.
const HYBRID: &str = "/sys/fs/cgroup/unified";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Crun,
    Runc,
    Other,
}

/// A runtime that was found and answered.
#[derive(Debug, Clone)]
pub struct OciRuntime {
    path: PathBuf,
    pub(super) kind: Kind,
    /// What it says of itself, one line.
    pub version: String,
    state: PathBuf,
    /// The mounts it is called among, where it cannot bear the host's.
    mounts: Option<Arc<OwnedFd>>,
    /// What is executed in its place, as long as it is the same.
    copy: Option<Arc<SealedCopy>>,
}

impl OciRuntime {
    /// Finds one. `state` is where it keeps what it knows of its containers.
    ///
    /// # Errors
    /// `Unavailable`, naming what to install, when there is none that answers.
    pub fn find(choice: &OciRuntimeChoice, state: PathBuf) -> Result<Self, RuntimeError> {
        let wanted: Vec<&Path> = match choice {
            OciRuntimeChoice::Auto => vec![Path::new("crun"), Path::new("runc")],
            OciRuntimeChoice::Path(path) => vec![path],
        };
        let mut reasons = Vec::new();
        for name in wanted {
            let Some(path) = locate(name) else {
                reasons.push(format!("{} is not installed", name.display()));
                continue;
            };
            match version(&path) {
                Ok(version) => {
                    let kind = Kind::of(&version);
                    return Ok(Self {
                        copy: SealedCopy::of(&path, kind).map(Arc::new),
                        path,
                        kind,
                        version,
                        state,
                        mounts: None,
                    });
                }
                Err(error) => reasons.push(format!("{} does not run ({error})", path.display())),
            }
        }
        Err(RuntimeError::Unavailable(format!(
            "no OCI runtime: {}; apt-get install crun",
            reasons.join(", ")
        )))
    }

    /// What to hide from it: crun refuses a host with both kinds of cgroups, and works with the
    /// first kind when it does not see the second.
    pub(super) fn hides(&self) -> Option<&'static Path> {
        let hybrid = Path::new(HYBRID);
        (self.kind == Kind::Crun && hybrid.join("cgroup.procs").exists()).then_some(hybrid)
    }

    /// Makes the mounts it is called among, if it needs any of its own.
    pub(super) fn pin_mounts(&mut self) -> io::Result<()> {
        if let Some(hidden) = self.hides() {
            self.mounts = Some(Arc::new(namespace::pin_without(hidden)?));
        }
        Ok(())
    }

    /// A command line up to the verb. Nothing of the server's environment goes along.
    fn command(&self, log: &Log) -> Command {
        let copy = self.copy.as_ref().filter(|copy| copy.is_of(&self.path));
        let mut command = match copy {
            Some(copy) => copy.command(),
            None => Command::new(&self.path),
        };
        command
            .arg0(&self.path)
            .env_clear()
            .env("PATH", PLACES.join(":"))
            .current_dir("/");
        command.arg("--root").arg(&self.state);
        command
            .arg("--log")
            .arg(&log.path)
            .args(["--log-format", "json"]);
        command
    }

    /// Calls a verb among the mounts of the calling thread and waits for it. Its own standard
    /// streams become those of what it starts.
    pub(super) fn call_here(&self, args: &[&str], output: Option<OwnedFd>) -> Result<(), Refusal> {
        let mut log = Log::new()?;
        let mut command = self.command(&log);
        command.args(args).stdin(nothing_to_read()?);
        match output {
            Some(output) => {
                command.stdout(output.try_clone()?).stderr(output);
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        let begin = Instant::now();
        let mut child = command.spawn()?;
        let Some(status) = wait_at_most(&mut child, PATIENCE)? else {
            child.kill()?;
            child.wait()?;
            return Err(Refusal(format!(
                "{} does not come to an end",
                self.path.display()
            )));
        };
        tracing::debug!(verb = args[0], took = ?begin.elapsed(), "called the OCI runtime");
        if status.success() {
            return Ok(());
        }
        Err(Refusal(log.error().unwrap_or_else(|| {
            format!("{} {status}", self.path.display())
        })))
    }

    /// Calls a verb and waits for it. Blocks.
    pub(super) fn call(&self, args: &[&str]) -> Result<(), Refusal> {
        let mounts = self.mounts.as_ref().map(|fd| fd.as_fd());
        let mut refusal = None;
        namespace::within(mounts, || {
            refusal = self.call_here(args, None).err();
            Ok(())
        })?;
        refusal.map_or(Ok(()), Err)
    }

    /// Calls `exec` for the process described by `process`, which has a terminal of its own, and
    /// comes back once it runs. The terminal's master is sent to the socket `console`; the
    /// process's number is written to `pid_file`. Blocks.
    pub(super) fn exec_on_terminal(
        &self,
        id: &str,
        process: &[u8],
        console: &Path,
        pid_file: &Path,
    ) -> Result<(), Refusal> {
        let description = Log::holding(process)?;
        let [description, console, pid_file] =
            [description.path.as_path(), console, pid_file].map(|path| path.to_string_lossy());
        let args = [
            "exec",
            "--detach",
            "--console-socket",
            &console,
            "--pid-file",
            &pid_file,
            "--process",
            &description,
            id,
        ];
        let mounts = self.mounts.as_ref().map(|fd| fd.as_fd());
        let mut refusal = None;
        namespace::within(mounts, || {
            // Before the process has its terminal, it has these streams; so no device of the
            // host's, see `nothing_to_read`.
            let said = memfd_create(c"hzel-said", MemfdFlags::CLOEXEC)?;
            refusal = self.call_here(&args, Some(said)).err();
            Ok(())
        })?;
        refusal.map_or(Ok(()), Err)
    }

    /// Starts `exec` of the process described by `process` and leaves it running. Must be called
    /// within the async runtime.
    pub(super) fn spawn_exec(
        &self,
        id: &str,
        process: &[u8],
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> io::Result<Running> {
        let log = Log::new()?;
        let description = Log::holding(process)?;
        let mut command = tokio::process::Command::from(self.command(&log));
        command
            .arg("exec")
            .arg("--process")
            .arg(&description.path)
            .arg(id);
        command
            .stdin(nothing_to_read()?)
            .stdout(stdout)
            .stderr(stderr);
        let mounts = self.mounts.as_ref().map(|fd| fd.as_fd());
        let handle = tokio::runtime::Handle::current();
        let child = namespace::within(mounts, || {
            let _context = handle.enter();
            command.spawn()
        })?;
        Ok(Running {
            child,
            log,
            _description: description,
        })
    }
}

/// An `exec` under way.
pub(super) struct Running {
    pub child: tokio::process::Child,
    pub log: Log,
    /// Read by the runtime some time after its start, through this process's descriptors.
    _description: Log,
}

/// The program's file in memory, sealed for ever.
///
/// `crun` and `runc` never run from a file that a container could write to through `/proc`: they make
/// such a copy of themselves at every call, and start once more from it, unless they find that they run
/// from one already. Made once, it saves each call that second start: a fifth of an `exec`.
#[derive(Debug)]
struct SealedCopy {
    file: std::fs::File,
    of: Identity,
}

/// What tells a file from the one that an upgrade puts in its place: device, inode, size, and the
/// time of its last change in seconds and nanoseconds.
type Identity = (u64, u64, u64, i64, i64);

/// The seals by which the two know their copy: no more, no less.
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

impl SealedCopy {
    /// `None` where there is nothing to gain, or where the copy does not run: a script finds nothing at
    /// its path, and a host may forbid to run what is in memory.
    fn of(path: &Path, kind: Kind) -> Option<Self> {
        if kind == Kind::Other {
            return None;
        }
        let copy = Self::make(path)
            .inspect_err(|error| tracing::debug!(%error, "no copy of the OCI runtime"))
            .ok()?;
        let answer = copy
            .command()
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        answer
            .is_ok_and(|answer| answer.status.success())
            .then_some(copy)
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut from = std::fs::File::open(path)?;
        let of = identity(&from.metadata()?);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = std::fs::File::from(memfd_create(c"hzel-oci-runtime", flags)?);
        io::copy(&mut from, &mut file)?;
        fchmod(&file, Mode::from_raw_mode(0o755))?;
        fcntl_add_seals(&file, SEALS)?;
        Ok(Self { file, of })
    }

    /// Whether the file at `path` is still the one that was copied.
    fn is_of(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| identity(&found) == self.of)
    }

    /// Found by the child itself, among its own descriptors, and closed as it starts.
    fn command(&self) -> Command {
        Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

fn identity(metadata: &std::fs::Metadata) -> Identity {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

/// Waits for a child; `None` when it has not ended in time.
fn wait_at_most(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut poll = [PollFd::new(&ended, PollFlags::IN)];
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut poll, Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Kind {
    fn of(version: &str) -> Self {
        match version.split([' ', '\n']).next() {
            Some("crun") => Self::Crun,
            Some("runc") => Self::Runc,
            _ => Self::Other,
        }
    }
}

/// Standard input for what runs inside: a pipe at its end. Not the host's `/dev/null`: a runtime gives
/// its container's root whatever the standard streams are, and that device is everybody's.
fn nothing_to_read() -> io::Result<OwnedFd> {
    let (reader, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok(reader)
}

fn locate(name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return name.is_file().then(|| name.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(PLACES.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

fn version(path: &Path) -> io::Result<String> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Why a verb failed, in the runtime's words.
#[derive(Debug)]
pub(super) struct Refusal(pub String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A file in memory that a child opens through our `/proc` entry: no descriptor is inherited, so
/// none can leak into a container, and a killed server leaves no file.
#[derive(Debug)]
pub(super) struct Log {
    file: std::fs::File,
    path: PathBuf,
}

impl Log {
    fn new() -> io::Result<Self> {
        let file = std::fs::File::from(memfd_create(c"hzel-oci", MemfdFlags::CLOEXEC)?);
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            file.as_fd().as_raw_fd()
        );
        Ok(Self {
            file,
            path: path.into(),
        })
    }

    fn holding(bytes: &[u8]) -> io::Result<Self> {
        let mut log = Self::new()?;
        io::Write::write_all(&mut log.file, bytes)?;
        Ok(log)
    }

    /// The last error the runtime logged.
    pub(super) fn error(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        self.file
            .by_ref()
            .take(1 << 20)
            .read_to_string(&mut text)
            .ok()?;
        last_error(&text)
    }
}

fn last_error(log: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    log.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .find(|line| matches!(line.level.as_str(), "error" | "fatal"))
        .map(|line| line.msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_counts() {
        let log = concat!(
            "{\"msg\":\"slow\",\"level\":\"warning\",\"time\":\"t\"}\n",
            "{\"msg\":\"no such file\",\"level\":\"error\",\"time\":\"t\"}\n",
            "not json\n",
        );
        assert_eq!(last_error(log).as_deref(), Some("no such file"));
        assert_eq!(last_error(""), None);
    }

    #[test]
    fn kinds_are_told_by_their_version() {
        assert_eq!(Kind::of("crun version 1.8.1"), Kind::Crun);
        assert_eq!(Kind::of("runc version 1.1.5+ds1"), Kind::Runc);
        assert_eq!(Kind::of("runsc version release-2024"), Kind::Other);
    }

    #[test]
    fn the_copy_runs_and_is_given_up_with_its_original() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crun");
        std::fs::copy("/bin/true", &path).unwrap();
        let copy = SealedCopy::of(&path, Kind::Crun).unwrap();
        assert!(copy.command().status().unwrap().success());
        assert!(copy.is_of(&path));
        assert!(SealedCopy::of(&path, Kind::Other).is_none());
        let sealed = io::Write::write(&mut &copy.file, b"other");
        assert_eq!(
            sealed.unwrap_err().kind(),
            io::ErrorKind::PermissionDenied,
            "nobody changes it"
        );
        // As a package manager does it.
        let newer = dir.path().join("newer");
        std::fs::copy("/bin/false", &newer).unwrap();
        std::fs::rename(newer, &path).unwrap();
        assert!(!copy.is_of(&path));
        // A script needs its file.
        std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        assert!(SealedCopy::of(&path, Kind::Runc).is_none());
    }

    #[test]
    fn a_missing_runtime_says_what_to_install() {
        let choice = OciRuntimeChoice::Path("/nonexistent/crun".into());
        let error = OciRuntime::find(&choice, PathBuf::new()).unwrap_err();
        assert!(
            error.to_string().contains("apt-get install crun"),
            "{error}"
        );
    }
}
