//! One running shell: its output goes through a [`Ring`] to however many viewers, its input comes
//! from all of them.
//!
//! With viewers, output is read from the terminal only as fast as the slowest of them takes it, so
//! that none misses a byte; one that takes nothing for [`STALLED`] is let go. Without viewers it is
//! read on, and the ring keeps the last of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::SessionName;
use super::ring::{Ring, whole};
use crate::app::Clock;
use crate::auth::actor::Caller;
use crate::domain::ids::ContainerId;
use crate::domain::time::Time;
use crate::runtime::{Terminal, TerminalSize};

/// Bytes of output that are kept for who comes back.
pub const REPLAY: usize = 256 * 1024;
/// How long a viewer may take nothing while output waits for it.
const STALLED: Duration = Duration::from_secs(10);
/// How long input waits for a program that reads none.
const DEAF: Duration = Duration::from_secs(10);
/// Most bytes of one message to a viewer.
const CHUNK: usize = 32 * 1024;
/// Most bytes of one piece of input, and how many pieces wait for a program that does not read.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 16;
/// How long the rest of a character is waited for before what there is of it goes on.
const CUT: Duration = Duration::from_millis(50);
/// After the shell's end, how long to look for the last of its output while something it left
/// behind still has the terminal.
const LAST: Duration = Duration::from_millis(100);
/// And how much of it at most: more than the kernel holds back.
const LAST_BYTES: usize = 1024 * 1024;
/// Less room than this is none: reading byte by byte would cost more than waiting.
const LEAST_ROOM: usize = 4096;
/// Viewers of one shell.
const VIEWERS: usize = 16;

/// Why a shell is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself.
    Exited,
    /// Its container stopped.
    Stopped,
    /// Nobody looked at it for too long.
    Idle,
    /// It had no name, and its only viewer has gone.
    Left,
    /// Its user had it ended.
    Asked,
    /// Its user may not use the container any more.
    Withdrawn,
    /// The server ends.
    Server,
}

impl Ending {
    /// As the audit log has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Stopped => "container stopped",
            Self::Idle => "idle",
            Self::Left => "left",
            Self::Asked => "ended",
            Self::Withdrawn => "access withdrawn",
            Self::Server => "server stopped",
        }
    }
}

/// What a viewer is to be shown next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Output: whole characters, where it is UTF-8.
    Output(Bytes),
    /// Someone gave the terminal another size.
    Resized(TerminalSize),
    /// The shell is over, and all of its output was shown.
    Ended(Ending),
    /// This viewer was too slow and has been let go.
    TooSlow,
}

/// See the module.
pub struct Shell {
    /// Names it for the engine and the audit log.
    pub id: String,
    pub container: ContainerId,
    /// Who opened it, by the credential of then.
    pub caller: Caller,
    /// None when it ends with its only viewer.
    pub session: Option<SessionName>,
    pub opened_at: Time,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Rung for viewers: there is more, or it is over.
    more: watch::Sender<()>,
    /// Rung for the reader: a viewer has taken something, came or went.
    room: Notify,
    input: mpsc::Sender<Bytes>,
    size: watch::Sender<(TerminalSize, u64)>,
}

struct State {
    ring: Ring,
    viewers: HashMap<u64, Seat>,
    next_viewer: u64,
    /// Since when nobody looks.
    alone_since: Option<(Instant, Time)>,
    /// Why it is to end.
    asked: Option<Ending>,
    ended: Option<Ending>,
}

/// How far one viewer is.
struct Seat {
    at: u64,
    /// When it last took something, or something began to wait for it.
    moved: Instant,
}

/// What a list shows of a shell.
#[derive(Debug, Clone)]
pub struct Summary {
    pub id: String,
    pub session: Option<SessionName>,
    pub opened_at: Time,
    pub viewers: usize,
    /// Since when nobody looks.
    pub alone_since: Option<Time>,
    pub size: TerminalSize,
}

/// The reading end of a shell whose [`Shell::run`] is to be spawned.
pub(super) struct Lines {
    terminal: Terminal,
    input: mpsc::Receiver<Bytes>,
    size: watch::Receiver<(TerminalSize, u64)>,
}

impl Shell {
    pub(super) fn new(
        id: String,
        container: ContainerId,
        caller: Caller,
        session: Option<SessionName>,
        clock: Arc<dyn Clock>,
        terminal: Terminal,
        size: TerminalSize,
    ) -> (Arc<Self>, Lines) {
        let now = Time::from(clock.now());
        let (input, typed) = mpsc::channel(PIECES);
        let (size, sizes) = watch::channel((size, 0));
        let shell = Self {
            id,
            container,
            caller,
            session,
            opened_at: now,
            clock,
            state: Mutex::new(State {
                ring: Ring::new(REPLAY, CHUNK),
                viewers: HashMap::new(),
                next_viewer: 0,
                alone_since: Some((Instant::now(), now)),
                asked: None,
                ended: None,
            }),
            more: watch::Sender::new(()),
            room: Notify::new(),
            input,
            size,
        };
        let lines = Lines {
            terminal,
            input: typed,
            size: sizes,
        };
        (Arc::new(shell), lines)
    }

    /// Nothing that is done under this lock can panic half-way, so a poisoned one is sound.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new viewer, who has seen everything up to `since`; none when the shell is over or has too
    /// many.
    pub(super) fn attach(self: &Arc<Self>, since: Option<u64>) -> Attached {
        let more = self.more.subscribe();
        let mut size = self.size.subscribe();
        size.mark_unchanged();
        let mut state = self.state();
        if state.ended.is_some() || state.asked.is_some() {
            return Attached::Over;
        }
        if state.viewers.len() >= VIEWERS {
            return Attached::Full;
        }
        let (at, end) = (state.ring.begin(since), state.ring.end());
        let key = state.next_viewer;
        state.next_viewer += 1;
        let moved = Instant::now();
        state.viewers.insert(key, Seat { at, moved });
        state.alone_since = None;
        drop(state);
        self.room.notify_one();
        Attached::Here(Viewer {
            shell: Arc::clone(self),
            key,
            begin: at,
            replay: end - at,
            at,
            more,
            size,
            cut: None,
        })
    }

    /// Types: waits while earlier input has not been read; says whether it was taken.
    pub async fn type_in(&self, bytes: Bytes) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE));
            match self.input.send_timeout(piece, DEAF).await {
                Ok(()) => {}
                // Over: its end is told elsewhere.
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return true,
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return false,
            }
        }
        true
    }

    /// Gives the terminal another size; all viewers hear of it.
    pub fn resize(&self, size: TerminalSize) {
        self.size
            .send_modify(|(current, count)| (*current, *count) = (size, *count + 1));
    }

    /// A viewer has seen everything up to that offset.
    pub fn seen(&self, viewer: u64, offset: u64) {
        let mut state = self.state();
        let end = state.ring.end();
        if let Some(seat) = state.viewers.get_mut(&viewer)
            && offset > seat.at
        {
            seat.at = offset.min(end);
            seat.moved = Instant::now();
        }
        drop(state);
        self.room.notify_one();
    }

    /// Has it ended; the first reason counts.
    pub(super) fn end(&self, why: Ending) {
        self.state().asked.get_or_insert(why);
        self.room.notify_one();
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().ended.is_some()
    }

    pub(super) fn summary(&self) -> Summary {
        let state = self.state();
        Summary {
            id: self.id.clone(),
            session: self.session.clone(),
            opened_at: self.opened_at,
            viewers: state.viewers.len(),
            alone_since: state.alone_since.map(|(_, at)| at),
            size: self.size.borrow().0,
        }
    }

    /// Passes output and input on until the shell is over; says why it is. `idle` is how long it
    /// lives without viewers.
    pub(super) async fn run(self: &Arc<Self>, lines: Lines, idle: Duration) -> Ending {
        let Lines {
            terminal,
            input: mut typed,
            size: mut sizes,
        } = lines;
        let Terminal {
            mut output,
            mut input,
            window,
            mut ended,
        } = terminal;
        let typing = async move {
            while let Some(piece) = typed.recv().await {
                if input.write_all(&piece).await.is_err() {
                    break;
                }
            }
            // The other end is gone; that it is over is seen by its process.
            std::future::pending::<()>().await;
        };
        tokio::pin!(typing);
        let mut chunk = vec![0; CHUNK];
        let (mut exited, mut open, mut last) = (false, true, LAST_BYTES);
        loop {
            let (room, until) = match self.pace(idle, exited) {
                Pace::End(why) => return why,
                Pace::Go { room, until } => (room, until),
            };
            if exited && (!open || last == 0) {
                return Ending::Exited;
            }
            let room = room.min(CHUNK).min(last);
            tokio::select! {
                read = output.read(&mut chunk[..room]), if room > 0 && open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(read) => {
                        self.print(&chunk[..read]);
                        if exited {
                            last -= read;
                        }
                    }
                },
                // Only after what was read until now, so that nothing printed before is lost.
                _ = &mut ended, if !exited => exited = true,
                () = &mut typing => {}
                () = self.room.notified() => {}
                changed = sizes.changed() => if changed.is_ok() {
                    let (size, _) = *sizes.borrow_and_update();
                    if let Err(error) = window.resize(size).await {
                        tracing::debug!(%error, "a terminal was not resized");
                    }
                },
                () = sleep_until(until) => if exited && room > 0 {
                    return Ending::Exited;
                },
            }
        }
    }

    /// Lets go of who has stalled, and says how much may be read now and when to look again.
    fn pace(&self, idle: Duration, exited: bool) -> Pace {
        let mut state = self.state();
        if let Some(why) = state.asked {
            return Pace::End(why);
        }
        let now = Instant::now();
        let end = state.ring.end();
        let full = |at: u64| end - at > (REPLAY - LEAST_ROOM) as u64;
        let before = state.viewers.len();
        state
            .viewers
            .retain(|_, seat| !full(seat.at) || now < seat.moved + STALLED);
        if state.viewers.len() < before {
            self.more.send_replace(());
            if state.viewers.is_empty() {
                state.alone_since = Some((now, self.clock.now().into()));
            }
        }
        let far = || now + Duration::from_secs(3600);
        if let Some((since, _)) = state.alone_since {
            // To one without a name nobody can come back.
            if self.session.is_none() && state.next_viewer > 0 {
                return Pace::End(Ending::Left);
            }
            if now >= since + idle {
                return Pace::End(Ending::Idle);
            }
        }
        let behind = state.viewers.values().map(|seat| end - seat.at).max();
        let behind = usize::try_from(behind.unwrap_or_default()).unwrap_or(usize::MAX);
        let room = REPLAY.saturating_sub(behind);
        let room = if room < LEAST_ROOM { 0 } else { room };
        let stalls = state.viewers.values().filter(|seat| full(seat.at));
        let stalls = stalls.map(|seat| seat.moved + STALLED).min();
        let lonely = state.alone_since.map(|(since, _)| since + idle);
        let mut until = stalls.into_iter().chain(lonely).min().unwrap_or_else(far);
        if exited && room > 0 {
            until = until.min(now + LAST);
        }
        Pace::Go { room, until }
    }

    fn print(&self, bytes: &[u8]) {
        let mut state = self.state();
        let (end, now) = (state.ring.end(), Instant::now());
        for seat in state.viewers.values_mut().filter(|seat| seat.at == end) {
            seat.moved = now;
        }
        state.ring.push(bytes);
        drop(state);
        self.more.send_replace(());
    }

    /// Tells the viewers that it is over.
    pub(super) fn close(&self, why: Ending) {
        self.state().ended = Some(why);
        self.more.send_replace(());
    }
}

/// What came of [`Shell::attach`].
pub(super) enum Attached {
    Here(Viewer),
    /// It is over, or about to be.
    Over,
    /// It has as many viewers as it may.
    Full,
}

enum Pace {
    Go { room: usize, until: Instant },
    End(Ending),
}

/// Someone who looks at a shell; leaves when it is dropped.
pub struct Viewer {
    shell: Arc<Shell>,
    key: u64,
    /// The offset of the first byte that it will be shown.
    pub begin: u64,
    /// How many of the bytes that it will be shown were printed before it came.
    pub replay: u64,
    /// The offset of what it is given next.
    at: u64,
    more: watch::Receiver<()>,
    size: watch::Receiver<(TerminalSize, u64)>,
    /// Since when the beginning of a character waits for its rest.
    cut: Option<Instant>,
}

impl Viewer {
    #[must_use]
    pub fn shell(&self) -> &Arc<Shell> {
        &self.shell
    }

    /// What to show next; for output, call [`Shell::seen`] when that is done.
    pub async fn next(&mut self) -> Shown {
        loop {
            if self.size.has_changed().unwrap_or(false) {
                return Shown::Resized(self.size.borrow_and_update().0);
            }
            self.more.mark_unchanged();
            if let Some(shown) = self.look() {
                return shown;
            }
            let cut = async {
                match self.cut {
                    Some(since) => sleep_until(since + CUT).await,
                    None => std::future::pending().await,
                }
            };
            // Both senders live as long as the shell, which this viewer holds.
            tokio::select! {
                _ = self.more.changed() => {}
                _ = self.size.changed() => return Shown::Resized(self.size.borrow().0),
                () = cut => {}
            }
        }
    }

    fn look(&mut self) -> Option<Shown> {
        let state = self.shell.state();
        if !state.viewers.contains_key(&self.key) {
            return Some(Shown::TooSlow);
        }
        let mut bytes = state.ring.read(self.at, CHUNK);
        if bytes.is_empty() {
            self.cut = None;
            return state.ended.map(Shown::Ended);
        }
        let whole = whole(&bytes);
        if whole > 0 {
            bytes.truncate(whole);
        } else {
            let since = *self.cut.get_or_insert_with(Instant::now);
            if state.ended.is_none() && Instant::now() < since + CUT {
                return None;
            }
        }
        self.cut = None;
        self.at += bytes.len() as u64;
        Some(Shown::Output(bytes.into()))
    }

    /// What [`Shell::seen`] knows this viewer by.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The offset behind what it was given.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Resolves when this viewer has been let go for its slowness.
    pub async fn let_go(&self) {
        let mut more = self.more.clone();
        loop {
            more.mark_unchanged();
            if !self.shell.state().viewers.contains_key(&self.key) {
                return;
            }
            // The sender lives as long as the shell, which this viewer holds.
            let _there = more.changed().await;
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut state = self.shell.state();
        state.viewers.remove(&self.key);
        if state.viewers.is_empty() && state.alone_since.is_none() {
            state.alone_since = Some((Instant::now(), self.shell.clock.now().into()));
        }
        drop(state);
        self.shell.room.notify_one();
    }
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
