//! Terminals in a container: a process on a pseudoterminal of the container's own, started by the
//! OCI runtime, whose master end comes to us through a socket.
//!
//! The runtime does not stay: the process belongs to the machine's init then, and its end is seen
//! through a pidfd. When the server is killed the kernel hangs up, as when a line drops.

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use oci_spec::runtime::BoxBuilder;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat, major, minor};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::cgroup::stats;
use super::engine::{Engine, lock};
use super::exec::{Seat, UnderWay, refusal};
use super::fault::{Context as _, blocking, failed};
use super::kill;
use super::process::{Process, ProcessId};
use super::tree::Tree;
use crate::domain::ids::ContainerId;
use crate::runtime::{
    ExecSpec, RuntimeError, Terminal, TerminalSize, TerminalSpec, TerminalWindow,
};

const OPEN: &str = "could not open a terminal in the container";
/// What the pages' terminal understands.
const TERM: &str = "xterm-256color";
/// Used where the user database names no shell that is there.
const ANY_SHELL: &str = "/bin/sh";
/// Shells that are login shells by `-l`. The runtime takes a program's path as its name, so the
/// old way, a name that begins with a hyphen, is not open to us.
const LOGIN: [&str; 12] = [
    "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "ksh93", "mksh", "sh", "tcsh", "zsh",
];
/// How long the first process may take to end after a hang-up.
const HANG_UP: Duration = Duration::from_secs(5);
/// How young a process must be at a hang-up for it not to have been told.
const NEWBORN: Duration = Duration::from_secs(1);
/// How often it is told, and how long it is left alone between.
const HANG_UPS: u32 = 30;
const BETWEEN: Duration = Duration::from_millis(100);
/// In what the kernel counts the times of birth of processes, on every machine.
const TICK: Duration = Duration::from_millis(10);
/// The kernel's device `/dev/ptmx`: what every master is.
const PTMX: (u32, u32) = (5, 2);

/// Opens one in a running container.
pub(super) async fn open(
    engine: &Arc<Engine>,
    id: &ContainerId,
    spec: TerminalSpec,
) -> Result<Terminal, RuntimeError> {
    let (entry, live) = engine.running(id)?;
    let run = UnderWay::new(&entry, &spec.exec_id);
    let init = lock(&entry.record).init.clone();
    let places = Places::new(&engine.layout.run_dir(id));
    let (cgroups, group) = (engine.cgroups.clone(), engine.layout.cgroup(id));
    let engine = Arc::clone(engine);
    let (master, process) = blocking(move || {
        let process = describe(&engine, live.process.id.pid, &init.env, &spec)?;
        let listener = UnixListener::bind(&places.socket).or_fail(OPEN)?;
        engine
            .oci
            .exec_on_terminal(entry.id.as_str(), &process, &places.socket, &places.pid)
            .map_err(|error| refusal(&error.0))?;
        // It has sent it before it came back.
        listener.set_nonblocking(true).or_fail(OPEN)?;
        let master = receive(&listener).or_fail(OPEN)?;
        check(&master)?;
        tcsetwinsize(&master, winsize(spec.size)).or_fail(OPEN)?;
        let process = find(&places.pid, &spec.exec_id).or_fail(OPEN)?;
        drop(run);
        Ok((master, process))
    })
    .await?;
    let master = Arc::new(Master::new(master).or_fail(OPEN)?);
    Ok(Terminal {
        output: Box::pin(Output(Arc::clone(&master))),
        input: Box::pin(Input(Arc::clone(&master))),
        window: Box::new(Window(master)),
        ended: follow(process, move |leader, since| {
            for _ in 0..HANG_UPS {
                if hang_up_newborn(&cgroups.processes(&group), leader, since) == 0 {
                    break;
                }
                std::thread::sleep(BETWEEN);
            }
        }),
    })
}

/// Where the runtime leaves what it has for us; removed when it is read. The container's own run
/// directory goes with the container, so a killed server leaves nothing for good.
struct Places {
    socket: PathBuf,
    pid: PathBuf,
}

impl Places {
    fn new(dir: &Path) -> Self {
        let name = format!("tty-{:08x}", rand::random::<u32>());
        Self {
            socket: dir.join(format!("{name}.sock")),
            pid: dir.join(format!("{name}.pid")),
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for path in [&self.socket, &self.pid] {
            // It may not have come to be.
            let _absent = fs::remove_file(path);
        }
    }
}

/// The OCI description of the process, in JSON.
fn describe(
    engine: &Engine,
    pid: i32,
    image_env: &[(String, String)],
    spec: &TerminalSpec,
) -> Result<Vec<u8>, RuntimeError> {
    let seat = Seat::of(pid, spec.user.as_deref())?;
    let shell = shell(&seat.tree, seat.identity.shell.as_deref());
    let mut env = vec![
        ("TERM".to_owned(), TERM.to_owned()),
        ("COLORTERM".to_owned(), "truecolor".to_owned()),
        ("SHELL".to_owned(), shell.to_owned()),
    ];
    env.extend(spec.env.iter().cloned());
    let spec_here = ExecSpec {
        exec_id: spec.exec_id.clone(),
        argv: spec.argv.clone().unwrap_or_else(|| login(shell)),
        cwd: None,
        env,
        user: spec.user.clone(),
    };
    let mut process = seat.process(&engine.host, image_env, &spec_here)?;
    let size = BoxBuilder::default()
        .height(u64::from(spec.size.rows))
        .width(u64::from(spec.size.cols))
        .build()
        .map_err(|error| failed(OPEN, error))?;
    process
        .set_terminal(Some(true))
        .set_console_size(Some(size));
    serde_json::to_vec(&process).map_err(|error| failed(OPEN, error))
}

/// The user's shell, if it is there to be run.
fn shell<'a>(tree: &Tree, wanted: Option<&'a str>) -> &'a str {
    wanted
        .filter(|path| path.starts_with('/') && tree.is_program(path))
        .unwrap_or(ANY_SHELL)
}

/// The command line of a login shell.
fn login(shell: &str) -> Vec<String> {
    let name = shell.rsplit('/').next().unwrap_or_default();
    let mut argv = vec![shell.to_owned()];
    if LOGIN.contains(&name) {
        argv.push("-l".to_owned());
    }
    argv
}

/// Takes the descriptor that a runtime has sent.
fn receive(listener: &UnixListener) -> io::Result<OwnedFd> {
    let (socket, _) = listener.accept()?;
    // Runtimes send the terminal's name along, which says nothing to us.
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut name)];
    recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("the OCI runtime sent no terminal"))
}

/// That it is a terminal's master: runtimes open the container's `/dev/ptmx`, which its root may
/// have replaced by anything.
fn check(master: &OwnedFd) -> Result<(), RuntimeError> {
    let stat = fstat(master).or_fail(OPEN)?;
    if (major(stat.st_rdev), minor(stat.st_rdev)) == PTMX {
        return Ok(());
    }
    Err(RuntimeError::CannotRun(
        "the container's /dev/ptmx is not the kernel's".into(),
    ))
}

/// The process whose number the runtime wrote down; none when it has ended already.
fn find(pid_file: &Path, exec_id: &str) -> io::Result<Option<Process>> {
    let pid = fs::read_to_string(pid_file)?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let Ok(id) = ProcessId::of(pid) else {
        return Ok(None);
    };
    let found = id.open()?;
    // Should it have ended at once and its number be another's by now.
    Ok(found.filter(|_| kill::is_of(pid, exec_id)))
}

/// Tells of the process's end; when nobody listens any more, which is a hang-up, sees to it, and
/// calls `after` with the process's number and the time of the hang-up.
fn follow(
    process: Option<Process>,
    after: impl FnOnce(i32, Duration) + Send + 'static,
) -> oneshot::Receiver<()> {
    let (mut sender, ended) = oneshot::channel();
    tokio::spawn(async move {
        if let Some(process) = process {
            tokio::select! {
                ended = process.ended() => if let Err(error) = ended {
                    tracing::error!(%error, "cannot watch a terminal's process");
                },
                () = sender.closed() => {
                    let since = uptime();
                    match process.ended_within(HANG_UP).await {
                        Ok(true) => {}
                        Ok(false) | Err(_) => if let Err(error) = process.signal(Signal::KILL) {
                            tracing::warn!(%error, "a terminal's process could not be killed");
                        },
                    }
                    let leader = process.id.pid;
                    drop(tokio::task::spawn_blocking(move || after(leader, since)));
                },
            }
        }
        // Nobody may be listening any more.
        let _unheard = sender.send(());
    });
    ended
}

/// Since the machine's start.
fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or_default())
}

/// Passes a hang-up on to what the session's shell was just starting: a shell that is told in the
/// middle of a fork does not pass it on to the child, which has no terminal yet for the kernel to
/// know it by. What is older was told, or is meant to stay. Until the child has become its program
/// it has the shell's handler, which lets it pass too: so it is told again while it is there. How
/// many there were.
fn hang_up_newborn(pids: &[i32], leader: i32, since: Duration) -> usize {
    let since = since.saturating_sub(NEWBORN).as_millis() / TICK.as_millis();
    let mut found = 0;
    for (pid, stat) in stats(pids) {
        if stat.session != leader || pid == leader || u128::from(stat.start_time) < since {
            continue;
        }
        found += 1;
        let start_time = stat.start_time;
        let told = match (ProcessId { pid, start_time }).open() {
            Ok(Some(process)) => process.signal(Signal::HUP),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "a terminal's last process could not be told of its end");
        }
    }
    found
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// The master end, asynchronously.
struct Master(AsyncFd<OwnedFd>);

impl Master {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        // SAFETY: an owned descriptor of its own, which nothing else closes or replaces.
        Ok(Self(unsafe { AsyncFd::register(fd) }?))
    }
}

struct Output(Arc<Master>);

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.0.poll_read_ready(task))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *room)?)) {
                Ok(Ok(read)) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // The kernel's way of saying that nothing has the other end any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

struct Input(Arc<Master>);

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.0.poll_write_ready(task))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Window(Arc<Master>);

#[async_trait]
impl TerminalWindow for Window {
    async fn resize(&self, size: TerminalSize) -> Result<(), RuntimeError> {
        tcsetwinsize(self.0.0.get_ref().as_fd(), winsize(size))
            .or_fail("could not resize the terminal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_knows_it_is_a_login_shell() {
        assert_eq!(login("/bin/bash"), ["/bin/bash", "-l"]);
        assert_eq!(login("/usr/sbin/nologin"), ["/usr/sbin/nologin"]);
    }

    #[test]
    fn a_shell_that_is_not_there_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(shell(&tree, Some("/bin/fish")), ANY_SHELL);
        assert_eq!(shell(&tree, None), ANY_SHELL);
    }

    #[test]
    fn only_a_master_is_taken_for_one() {
        let ptmx: OwnedFd = fs::File::open("/dev/ptmx").unwrap().into();
        assert!(check(&ptmx).is_ok());
        let other: OwnedFd = fs::File::open("/dev/null").unwrap().into();
        assert!(check(&other).is_err());
    }
}
