//! Private mount namespaces and a user namespace to map ids by, made by threads of the server.
//!
//! A thread has a mount namespace of its own once it has unshared `CLONE_FS`, and what it spawns
//! inherits it (`posix_spawn` forks the calling thread). So a container's mounts need no helper
//! program: a fresh thread makes them, spawns the OCI runtime among them and ends; with it goes the
//! namespace, and whatever was mounted lives on only inside the container. A killed server leaves
//! nothing either, since its threads die with it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::state::{IDS, Slot};

/// Runs `work` on a thread of its own, because what it does to the thread cannot be taken back.
pub(super) fn on_own_thread<T: Send>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other(format!("the {name} thread failed"))))
    })
}

/// Gives the calling thread, and whatever it spawns, a copy of the mount namespace from which no
/// change gets out. Only for threads that end soon: see [`on_own_thread`].
pub(super) fn enter_private_mounts(hide: Option<&Path>) -> io::Result<()> {
    // SAFETY: unsharing CLONE_FS and CLONE_NEWNS changes what paths mean to this thread alone;
    // no Rust object depends on the mount namespace or working directory of its thread.
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS)?;
    }
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    hide.map_or(Ok(()), out_of_sight)
}

/// Takes a mount out of sight. What lies under it is the host's, and a runtime that sees no control
/// groups there makes plain directories of their names: they go into memory of this namespace's own.
fn out_of_sight(path: &Path) -> io::Result<()> {
    unmount(path, UnmountFlags::DETACH)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("tmpfs", path, "tmpfs", flags, c"size=4m,mode=700")?)
}

/// A lasting mount namespace like the host's but without the mount `hide`.
///
/// It follows the host's mounts and unmounts where the host shares them (as systemd does), so that
/// it does not keep a disk busy that the operator unmounts.
pub(super) fn pin_without(hide: &Path) -> io::Result<OwnedFd> {
    on_own_thread("hzel-pin", || {
        // SAFETY: as in `enter_private_mounts`; the thread ends here.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS)?;
        }
        mount_change(
            "/",
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        )?;
        out_of_sight(hide)?;
        Ok(std::fs::File::open("/proc/thread-self/ns/mnt")?.into())
    })
}

/// Runs `work` among the mounts of `namespace`, or where we are if there is none.
pub(super) fn within<T: Send>(
    namespace: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(namespace) = namespace else {
        return work();
    };
    on_own_thread("hzel-call", || {
        // SAFETY: as in `enter_private_mounts`.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::FS)?;
        }
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
        work()
    })
}

/// A user namespace that maps a slot's ids, held open by a child that does nothing.
pub(super) struct UserNamespace {
    fd: OwnedFd,
}

impl UserNamespace {
    /// Makes one for `slot`.
    pub(super) fn new(slot: Slot) -> io::Result<Self> {
        let child = Sleeper::new()?;
        let map = format!("0 {} {IDS}", slot.base_id());
        std::fs::write(format!("/proc/{}/gid_map", child.pid), &map)?;
        std::fs::write(format!("/proc/{}/uid_map", child.pid), &map)?;
        let fd = std::fs::File::open(format!("/proc/{}/ns/user", child.pid))?.into();
        Ok(Self { fd })
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A child in a user namespace of its own that sleeps until it is dropped.
struct Sleeper {
    pid: libc::pid_t,
}

/// Stack of the sleeping child; it only makes two system calls.
const STACK: usize = 16 * 1024;

impl Sleeper {
    fn new() -> io::Result<Self> {
        extern "C" fn sleep(_: *mut libc::c_void) -> libc::c_int {
            // SAFETY: plain system calls without pointers. The signal at the parent's death makes
            // sure that a killed server leaves no sleeper behind.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        }
        let mut stack = vec![0_u128; STACK / size_of::<u128>()];
        let top = stack.as_mut_ptr_range().end;
        // Without CLONE_VM: the child has a copy of the memory, so its stack may go when this
        // function returns, and nothing it does can be seen here.
        // SAFETY: `top` is the aligned end of a live buffer; `sleep` calls only async-signal-safe
        // functions, as the child of a threaded process must, and never returns.
        let pid = unsafe {
            libc::clone(
                sleep,
                top.cast(),
                libc::CLONE_NEWUSER | libc::SIGCHLD,
                std::ptr::null_mut(),
            )
        };
        if pid < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { pid })
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // SAFETY: the pid is our own unreaped child's, so it cannot have been reused; the status
        // may be null.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, std::ptr::null_mut(), 0) < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
    }
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Makes a detached mount read-only, without devices, its files' owners shifted as `users` says.
pub(super) fn shift_owners(mount: BorrowedFd<'_>, users: &UserNamespace) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users.fd.as_raw_fd()).unwrap_or(u64::MAX),
    };
    // SAFETY: the path is an empty C string, `attr` lives through the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
