//! Acting in a container's place: with the user and group ids, and the few capabilities, that its
//! root has there, and no more.
//!
//! The server is root of the host. Were it to walk a tenant's tree as such, every check forgotten
//! on the way would be the host's loss: `/proc/sys` and `/sys` are in that tree, permissions would
//! not hold, and files made there would be the host's. So nothing is checked by us that the kernel
//! checks better: what is done to a container's files is done by a process that *is* the
//! container's root, in the container's user namespace. Whatever path a tenant contrives, it leads
//! to what the tenant may do anyway; and owners are the container's own numbers without any
//! arithmetic of ours.
//!
//! A thread could change its ids and capabilities, but capabilities over the container's ids only,
//! not over the host's, are to be had in its user namespace alone, and that no thread of many can
//! enter. A helper program would need a protocol, and to be found and run for each call. What is
//! done instead is what `posix_spawn` does: [`Tenant::act`] makes a process that shares memory and
//! open files with the server while the thread that made it stands still, so that to the code that
//! runs in it nothing changes but who it is. It ends with that code, a fraction of a millisecond
//! later. It is in no namespace of the container's but the one for ids, so that nothing in the
//! container can see, signal or trace it.

use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use rustix::fs::{Gid, Mode, OFlags, Uid, openat};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space, set_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::process::Process;

/// Room for the code that acts; only what is touched of it costs memory.
const STACK: usize = 1 << 20;
/// A page that is never mapped, below the stack.
const GUARD: usize = 64 * 1024;

/// What of a root's rights work with files takes: over all files of the container, whoever owns
/// them. Each is one that root in the container has.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// A running container's root, with its view of the files. To be held for a moment only: it keeps
/// the container's disk mounted.
pub(super) struct Tenant {
    users: OwnedFd,
    root: OwnedFd,
}

impl Tenant {
    /// That of the container with that init; `None` when it has ended.
    pub(super) fn of(init: &Process) -> io::Result<Option<Self>> {
        let pid = init.id.pid;
        let open = |path: String, flags: OFlags| {
            openat(
                rustix::fs::CWD,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let users = open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY);
        let root = open(
            format!("/proc/{pid}/root"),
            OFlags::PATH | OFlags::DIRECTORY,
        );
        // If it lives now, the number was not another's when the files were opened.
        if !init.alive() {
            return Ok(None);
        }
        Ok(Some(Self {
            users: users?,
            root: root?,
        }))
    }

    /// Does `work` as the container's root; it is given the root of the container's files. What it
    /// opens stays open. It must not start threads or processes, nor wait for anyone.
    pub(super) fn act<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> T) -> io::Result<T> {
        let (users, root, server) = (self.users.as_fd(), self.root.as_fd(), getpid());
        as_other(|| {
            become_root_of(users, server)?;
            Ok(work(root))
        })
    }
}

/// Turns the calling process, a child of `server`, into the root of a user namespace.
fn become_root_of(users: BorrowedFd<'_>, server: Pid) -> io::Result<()> {
    move_into_link_name_space(users, Some(LinkNameSpaceType::User))?;
    set_thread_groups(&[])?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: CAPABILITIES,
            permitted: CAPABILITIES,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    // Modes are what is asked for, whatever the server's mask is; this process has one of its own.
    umask(Mode::empty());
    // A killed server takes this process along. A change of ids forgets the wish, so it comes last;
    // and the server may have been killed before.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(server) {
        Ok(())
    } else {
        Err(io::Error::other("the server was killed"))
    }
}

/// What the two sides hand each other.
struct Exchange<F, T> {
    work: Option<F>,
    result: Option<Result<io::Result<T>, Box<dyn Any + Send>>>,
}

/// Runs `work` in a process of its own that shares this one's memory and open files, and waits for
/// its end.
fn as_other<F, T>(work: F) -> io::Result<T>
where
    F: FnOnce() -> io::Result<T>,
{
    extern "C" fn start<F, T>(exchange: *mut libc::c_void) -> libc::c_int
    where
        F: FnOnce() -> io::Result<T>,
    {
        // SAFETY: it is the pointer that `as_other` passes, to a value of this very type, which
        // nobody else touches until this process has ended.
        let exchange = unsafe { &mut *exchange.cast::<Exchange<F, T>>() };
        if let Some(work) = exchange.work.take() {
            // A panic must not go on into the C code below; it does in the thread that waits.
            exchange.result = Some(catch_unwind(AssertUnwindSafe(work)));
        }
        0
    }
    let mut exchange = Exchange {
        work: Some(work),
        result: None,
    };
    spawn_and_wait(start::<F, T>, (&raw mut exchange).cast())?;
    match exchange.result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(io::Error::other("the acting process was killed")),
    }
}

/// Runs `start` on a stack of its own in a new process, and waits for its end.
fn spawn_and_wait(
    start: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    exchange: *mut libc::c_void,
) -> io::Result<()> {
    let stack = Stack::new()?;
    // The server's handlers of signals are not made for a second process in the same memory.
    let _quiet = NoSignals::begin()?;
    // No signal at its end: it is waited for here and nowhere else.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    // SAFETY: `stack.top()` is the aligned end of a live mapping, which outlives the process: with
    // CLONE_VFORK this call returns when it has ended. Until then this thread stands still, so the
    // process may use its thread-local storage and what `exchange` points to as if it were this
    // thread; other threads and it share memory as threads do, by the same locks. `start` neither
    // unwinds nor makes threads; when it returns, only this process ends, with no exit handlers.
    let pid = unsafe { libc::clone(start, stack.top(), flags, exchange) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    loop {
        // SAFETY: our own child, which nobody else waits for; the status may be null.
        let ended = unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
        if ended == pid {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A stack, with a page below it that faults instead of letting it run into something else.
struct Stack {
    base: *mut libc::c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice harms nobody.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the range lies within the mapping made above, which nothing uses yet.
        let opened = unsafe {
            libc::mprotect(
                base.byte_add(GUARD),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if opened < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// Its end, from which it grows down.
    fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(GUARD + STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this size; the process that used it has ended.
        unsafe { libc::munmap(self.base, GUARD + STACK) };
    }
}

/// Keeps signals from the calling thread, and from what it makes, until it is dropped.
struct NoSignals {
    before: libc::sigset_t,
}

impl NoSignals {
    fn begin() -> io::Result<Self> {
        let mut before = MaybeUninit::uninit();
        let mut all = MaybeUninit::uninit();
        // SAFETY: `all` is filled in before it is used; both live through the calls.
        let result = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
        };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: the call that succeeded has filled it in.
        let before = unsafe { before.assume_init() };
        Ok(Self { before })
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        // SAFETY: a mask that the same call gave; the old one is not asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn memory_and_files_are_shared_and_the_process_is_another() {
        let own = getpid();
        let noted = Mutex::new(Vec::new());
        let (pid, file) = as_other(|| {
            noted.lock().unwrap().push("here".to_owned());
            Ok((getpid(), std::fs::File::open("/dev/null")?))
        })
        .unwrap();
        assert_ne!(pid, own);
        assert_eq!(*noted.lock().unwrap(), ["here"]);
        assert!(file.metadata().is_ok());
    }

    #[test]
    fn errors_and_panics_come_back() {
        let error = as_other(|| std::fs::File::open("/no/such/file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let panic =
            std::panic::catch_unwind(|| as_other(|| -> io::Result<()> { panic!("on purpose") }));
        assert!(panic.is_err());
    }

    #[test]
    fn many_at_once_do_not_disturb_each_other() {
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                scope.spawn(move || {
                    for round in 0..200_u32 {
                        let text = as_other(|| Ok(format!("{thread}-{round}").repeat(100)));
                        assert_eq!(text.unwrap(), format!("{thread}-{round}").repeat(100));
                    }
                });
            }
        });
    }
}
