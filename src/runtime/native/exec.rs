//! Running processes in a container: starting them by the OCI runtime, passing their output on,
//! and telling what could not be started from what failed by itself.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::runtime::{Process, UserBuilder};
use rustix::fs::{Uid, fchown};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::bundle::{self, Host};
use super::confine::tag_of;
use super::engine::{Entry, lock};
use super::fault::{Context as _, blocking, failed};
use super::oci_runtime::{OciRuntime, Running};
use super::tree::Tree;
use super::users::Identity;
use crate::runtime::{Exec, ExecSpec, ExitStatus, RuntimeError, Stream};

/// The variable by which a run's processes are found again.
pub(super) const MARK: &str = "HZEL_EXEC_ID";
/// How much is read at once.
const CHUNK: usize = 32 * 1024;
/// How many chunks wait for a slow reader before the process has to.
const WAITING: usize = 16;
/// Longest user database that is read.
const DATABASE: u64 = 4 << 20;

const RUN: &str = "could not run the process in the container";

/// Starts a process in the container whose init has `pid`.
pub(super) async fn start(
    oci: &OciRuntime,
    host: &Host,
    entry: &Arc<Entry>,
    pid: i32,
    spec: ExecSpec,
) -> Result<Exec, RuntimeError> {
    let (stdout_ours, stdout) = output_pipe().or_fail(RUN)?;
    let (stderr_ours, stderr) = output_pipe().or_fail(RUN)?;
    let (oci, host, id) = (oci.clone(), host.clone(), entry.id.to_string());
    let (init, base) = {
        let record = lock(&entry.record);
        (record.init.clone(), record.slot.base_id())
    };
    let run = UnderWay::new(entry, &spec.exec_id);
    let running = blocking(move || {
        let seat = Seat::of(pid, spec.user.as_deref())?;
        let process = seat.process(&host, &init.env, &spec)?;
        // So that it can open /dev/stdout and /dev/stderr, which lead to these pipes.
        let owner = base.checked_add(process.user().uid()).map(Uid::from_raw);
        for pipe in [&stdout, &stderr] {
            fchown(pipe, owner, None).or_fail(RUN)?;
        }
        let process = serde_json::to_vec(&process).map_err(|error| failed(RUN, error))?;
        oci.spawn_exec(&id, &process, stdout, stderr).or_fail(RUN)
    })
    .await?;
    Ok(attend(running, run, stdout_ours, stderr_ours))
}

/// Who a process runs as, and the tree it finds its things in.
pub(super) struct Seat {
    pub tree: Tree,
    pub identity: Identity,
}

impl Seat {
    /// The seat of `user` (root if none) in the container whose init has `pid`, by the container's
    /// own user database.
    pub(super) fn of(pid: i32, user: Option<&str>) -> Result<Self, RuntimeError> {
        let tree = Tree::of_process(pid).or_fail(RUN)?;
        let text = |path: &str| -> Result<String, RuntimeError> {
            let bytes = tree.read(path, DATABASE).or_fail(RUN)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let wanted = user.unwrap_or("root");
        let identity = Identity::find(wanted, &text("/etc/passwd")?, &text("/etc/group")?)
            .ok_or_else(|| RuntimeError::CannotRun(format!("there is no user {wanted}")))?;
        Ok(Self { tree, identity })
    }

    /// The OCI description of a process here.
    pub(super) fn process(
        &self,
        host: &Host,
        image_env: &[(String, String)],
        spec: &ExecSpec,
    ) -> Result<Process, RuntimeError> {
        check(spec)?;
        let identity = &self.identity;
        let cwd = directory(&self.tree, spec.cwd.as_deref(), &identity.home)?;
        let mut env = bundle::default_env(image_env);
        let own = [
            ("HOME", &identity.home),
            ("USER", &identity.name),
            ("LOGNAME", &identity.name),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.clone()));
        let mark = (MARK.to_owned(), spec.exec_id.clone());
        for (name, value) in own
            .into_iter()
            .chain(spec.env.iter().cloned())
            .chain([mark])
        {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        }
        let user = UserBuilder::default()
            .uid(identity.uid)
            .gid(identity.gid)
            .additional_gids(identity.groups.clone())
            .build();
        let tag = Some(tag_of(&spec.exec_id));
        user.and_then(|user| bundle::process(host, spec.argv.clone(), &env, cwd, user, tag))
            .map_err(|error| failed(RUN, error))
    }
}

/// A run as long as the OCI runtime attends to it, in the list of its container's.
pub(super) struct UnderWay {
    entry: Arc<Entry>,
    exec_id: String,
}

impl UnderWay {
    pub(super) fn new(entry: &Arc<Entry>, exec_id: &str) -> Self {
        lock(&entry.runs).push(exec_id.to_owned());
        Self {
            entry: Arc::clone(entry),
            exec_id: exec_id.to_owned(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut runs = lock(&self.entry.runs);
        if let Some(at) = runs.iter().position(|run| *run == self.exec_id) {
            runs.swap_remove(at);
        }
    }
}

/// What the kernel could not take.
fn check(spec: &ExecSpec) -> Result<(), RuntimeError> {
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(RuntimeError::CannotRun("no program is named".into()));
    }
    let texts = spec
        .argv
        .iter()
        .chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if texts.chain(&spec.cwd).any(|text| text.contains('\0')) {
        return Err(RuntimeError::CannotRun(
            "a NUL character cannot be passed".into(),
        ));
    }
    if spec
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err(RuntimeError::CannotRun(
            "a variable's name is empty or has a =".into(),
        ));
    }
    Ok(())
}

fn directory<'a>(
    tree: &Tree,
    wanted: Option<&'a str>,
    home: &'a str,
) -> Result<&'a str, RuntimeError> {
    match wanted {
        Some(cwd) if !cwd.starts_with('/') => Err(RuntimeError::CannotRun(format!(
            "the directory {cwd} is not absolute"
        ))),
        Some(cwd) if !tree.is_dir(cwd) => Err(RuntimeError::CannotRun(format!(
            "there is no directory {cwd}"
        ))),
        Some(cwd) => Ok(cwd),
        // A user whose home is missing starts at the root, as login does.
        None if home.starts_with('/') && tree.is_dir(home) => Ok(home),
        None => Ok("/"),
    }
}

/// A pipe of which only our end waits asynchronously: the process has a normal one.
fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(ours)?, theirs))
}

/// Passes output and end on, from a task that goes on when nobody listens any more: a process must
/// not hang or die because a viewer left.
fn attend(running: Running, run: UnderWay, stdout: pipe::Receiver, stderr: pipe::Receiver) -> Exec {
    let (output, receiver) = mpsc::channel(WAITING);
    let (exit_sender, exit) = oneshot::channel();
    let ended = CancellationToken::new();
    for (pipe, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
        tokio::spawn(pump(pipe, stream, output.clone(), ended.clone()));
    }
    tokio::spawn(async move {
        let mut running = running;
        let result = running.child.wait().await;
        drop(run);
        ended.cancel();
        // Nobody may be waiting any more.
        let _unheard = exit_sender.send(outcome(result, &mut running));
    });
    Exec {
        output: receiver,
        exit,
    }
}

fn outcome(
    result: io::Result<std::process::ExitStatus>,
    running: &mut Running,
) -> Result<ExitStatus, RuntimeError> {
    let status = result.or_fail(RUN)?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(255);
    if code != 0
        && let Some(error) = running.log.error()
    {
        return Err(refusal(&error));
    }
    Ok(ExitStatus { code })
}

/// What the runtime says when it could not start a program, in a sentence for people.
pub(super) fn refusal(error: &str) -> RuntimeError {
    let lower = error.to_lowercase();
    if lower.contains("not found") || lower.contains("no such file") {
        RuntimeError::CannotRun("there is no such program".into())
    } else if lower.contains("permission denied") {
        RuntimeError::CannotRun("the program may not be run (permission denied)".into())
    } else if lower.contains("open executable") || lower.contains("is a directory") {
        RuntimeError::CannotRun("this is not a program".into())
    } else if lower.contains("exec format error") {
        RuntimeError::CannotRun("the program is not one this machine can run".into())
    } else if lower.contains("argument list too long") {
        RuntimeError::CannotRun("the arguments are too long".into())
    } else if lower.contains("resource temporarily unavailable") {
        RuntimeError::CannotRun("the container has reached its limit of processes".into())
    } else if lower.contains("not running") || lower.contains("does not exist") {
        RuntimeError::NotRunning
    } else if lower.contains("setresuid") || lower.contains("setresgid") {
        RuntimeError::CannotRun("there is no such user".into())
    } else {
        // Its words are for the log; that it did not begin is for whoever asked.
        tracing::warn!(error, "the OCI runtime could not start a program");
        RuntimeError::CannotRun("the program could not be started".into())
    }
}

/// Reads a pipe until its end, or, once the process has ended, what was in it by then.
async fn pump(
    pipe: pipe::Receiver,
    stream: Stream,
    output: mpsc::Sender<(Stream, Bytes)>,
    ended: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => break,
            ready = pipe.readable() => if ready.is_err() { return },
        }
        let mut chunk = vec![0; CHUNK];
        match pipe.try_read(&mut chunk) {
            Ok(0) => return,
            Ok(read) => {
                chunk.truncate(read);
                // Nobody reads any more: the process goes on, its output goes nowhere.
                let _unread = output.send((stream, chunk.into())).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    let mut left = waiting(&pipe);
    while left > 0 {
        let mut chunk = vec![0; left.min(CHUNK)];
        // Not by tokio, which only reads what it has been told of by now.
        match rustix::io::read(pipe.as_fd(), &mut chunk) {
            Ok(0) => return,
            Ok(read) => {
                left -= read;
                chunk.truncate(read);
                let _unread = output.send((stream, chunk.into())).await;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// How many bytes are in the pipe. Children of the ended process may go on writing: they are not
/// waited for.
fn waiting(pipe: &pipe::Receiver) -> usize {
    let waiting = rustix::io::ioctl_fionread(pipe.as_fd()).unwrap_or_default();
    usize::try_from(waiting).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn spec(argv: &[&str]) -> ExecSpec {
        ExecSpec {
            exec_id: "x".into(),
            argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
            cwd: None,
            env: Vec::new(),
            user: None,
        }
    }

    #[test]
    fn what_the_kernel_cannot_take_is_refused() {
        assert!(check(&spec(&["true"])).is_ok());
        assert!(check(&spec(&[])).is_err());
        assert!(check(&spec(&["a\0b"])).is_err());
        let named = |name: &str| ExecSpec {
            env: vec![(name.into(), "1".into())],
            ..spec(&["a"])
        };
        assert!(check(&named("A")).is_ok());
        assert!(check(&named("A=B")).is_err());
    }

    #[test]
    fn the_runtimes_words_become_sentences() {
        let text = "executable file `x` not found in $PATH: No such file or directory";
        assert!(matches!(refusal(text), RuntimeError::CannotRun(_)));
        assert!(matches!(refusal("not running"), RuntimeError::NotRunning));
        // Its own words are never shown.
        let other = refusal("something else").to_string();
        assert!(!other.contains("something else"), "{other}");
    }

    #[tokio::test]
    async fn after_the_end_only_what_was_written_is_read() {
        let (ours, theirs) = output_pipe().unwrap();
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let ended = CancellationToken::new();
        let mut writer = std::fs::File::from(theirs);
        writer.write_all(b"all of it").unwrap();
        ended.cancel();
        // The write end stays open, as a child that was left behind holds it.
        pump(ours, Stream::Stdout, sender, ended).await;
        assert_eq!(receiver.recv().await.unwrap().1, "all of it");
        assert!(receiver.recv().await.is_none());
    }

    #[tokio::test]
    async fn nobody_listening_does_not_stop_the_writer() {
        let (ours, theirs) = output_pipe().unwrap();
        let (sender, receiver) = mpsc::channel(WAITING);
        drop(receiver);
        let pump = tokio::spawn(pump(ours, Stream::Stderr, sender, CancellationToken::new()));
        tokio::task::spawn_blocking(move || {
            std::fs::File::from(theirs).write_all(&vec![b'x'; 4 << 20])
        })
        .await
        .unwrap()
        .unwrap();
        pump.await.unwrap();
    }
}
