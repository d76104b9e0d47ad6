//! Processes that are not our children: naming them so that a reused pid is never mistaken for
//! them, waiting for and signalling them through pidfds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process by number and time of birth; together they are unique until the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct ProcessId {
    pub pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

impl ProcessId {
    /// Names the process that has `pid` now.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_time: start_time(pid)?,
        })
    }

    /// A handle on exactly this process; `None` when it is gone.
    pub(super) fn open(self) -> io::Result<Option<Process>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only now that the pidfd pins the process can the comparison not be overtaken.
        match start_time(self.pid) {
            Ok(found) if found == self.start_time => Ok(Some(Process { id: self, fd })),
            _ => Ok(None),
        }
    }
}

/// A pinned process.
#[derive(Debug)]
pub(super) struct Process {
    pub id: ProcessId,
    fd: OwnedFd,
}

impl Process {
    /// Whether it has not ended yet.
    pub(super) fn alive(&self) -> bool {
        let mut poll = [rustix::event::PollFd::new(
            &self.fd,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(0))
    }

    /// Which program it runs, by device and inode; none when it is gone.
    pub(super) fn program(&self) -> Option<(u64, u64)> {
        let metadata = std::fs::metadata(format!("/proc/{}/exe", self.id.pid)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    /// Whether it has a handler for that signal: a first process of a pid namespace never sees one
    /// that it has none for. Unknown is yes.
    pub(super) fn catches(&self, signal: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id.pid));
        let caught = status.ok().and_then(|text| {
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
        caught.is_none_or(|mask| mask & (1 << (signal - 1).clamp(0, 63)) != 0)
    }

    /// Sends a signal; not an error when it is gone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.fd.as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> io::Result<()> {
        let fd = self.fd.try_clone()?;
        // SAFETY: an owned descriptor of its own, which nothing else closes or replaces.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        fd.readable().await?.retain_ready();
        Ok(())
    }

    /// Waits for its end, at most so long; says whether it ended.
    pub(super) async fn ended_within(&self, time: Duration) -> io::Result<bool> {
        match tokio::time::timeout(time, self.ended()).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(!self.alive()),
        }
    }
}

/// When the process with this pid was born.
fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&stat)
        .map(|stat| stat.start_time)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat"))
}

/// The fields of `/proc/PID/stat` that are of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub start_time: u64,
}

/// The name of the program, the second field, may hold spaces and parentheses: count from its end.
pub(super) fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_shift_the_fields() {
        let text = "42 (a) b (c) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 987 0 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                parent: 7,
                group: 8,
                session: 9,
                start_time: 987
            }
        );
    }

    #[test]
    fn a_reused_pid_is_not_the_process() {
        let own = ProcessId::of(std::process::id().cast_signed()).unwrap();
        assert!(own.open().unwrap().unwrap().alive());
        let other = ProcessId {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(other.open().unwrap().is_none());
    }

    #[tokio::test]
    async fn the_end_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id().cast_signed()).unwrap();
        let process = id.open().unwrap().unwrap();
        assert!(
            !process
                .ended_within(Duration::from_millis(5))
                .await
                .unwrap()
        );
        process.signal(Signal::KILL).unwrap();
        assert!(process.ended_within(Duration::from_secs(5)).await.unwrap());
        child.wait().unwrap();
        assert!(id.open().unwrap().is_none());
    }
}
