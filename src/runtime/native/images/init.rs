//! Which program of an image is its first process, and how it is told to stop.
//!
//! To recognise one more init, add it to [`recognise`].

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Where most images have their init.
const USUAL: &str = "/sbin/init";
/// Where [`super::default`] puts its own.
pub const OURS: &str = "/usr/local/sbin/hzel-init";
/// What OpenRC's presence is told by: busybox's init is of no use without the services.
const OPENRC: &str = "/sbin/openrc";

/// How a container of an image begins and ends.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Run this as PID 1; the stop signal ends it gracefully.
    Own { argv: Vec<String>, stop_signal: i32 },
    /// It has none of its own: a small one of the machine's is used.
    Fallback,
}

impl Init {
    /// Looks into an image; `pure_v2` is whether the machine has nothing but cgroup version 2.
    pub fn of(rootfs: &Path, pure_v2: bool) -> Self {
        if resolve(rootfs, OURS).is_some() {
            return Self::Own {
                argv: vec![OURS.into()],
                stop_signal: libc::SIGTERM,
            };
        }
        let Some(program) = resolve(rootfs, USUAL) else {
            return Self::Fallback;
        };
        recognise(&program, resolve(rootfs, OPENRC).is_some(), pure_v2)
    }
}

/// Decides by what `/sbin/init` turns out to be.
fn recognise(program: &Path, openrc: bool, pure_v2: bool) -> Init {
    let own = |stop_signal| Init::Own {
        argv: vec![USUAL.into()],
        stop_signal,
    };
    match program
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
    {
        // On mixed cgroups it wants to mount what a container cannot.
        "systemd" if pure_v2 => own(libc::SIGRTMIN() + 3),
        "systemd" => Init::Fallback,
        // Its table starts terminals that are not there, and services only through OpenRC.
        "busybox" if openrc => own(libc::SIGUSR2),
        "busybox" | "tini" | "dumb-init" | "sh" | "dash" | "bash" => Init::Fallback,
        "openrc-init" => own(libc::SIGTERM),
        // System V's: what its table does for Ctrl-Alt-Del, an orderly shutdown everywhere.
        _ => own(libc::SIGINT),
    }
}

/// Whether an image has a shell, without which hzel can start nothing in it.
pub fn has_shell(rootfs: &Path) -> bool {
    resolve(rootfs, "/bin/sh").is_some()
}

/// The beginning of a text file of an image.
pub fn read_inside(rootfs: &Path, path: &str) -> Option<String> {
    const MOST: u64 = 64 << 10;
    // Not to be held up by a pipe.
    let file = open_inside(rootfs, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let mut text = Vec::new();
    std::fs::File::from(file)
        .take(MOST)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Opens a path of an image, links resolved as a container would resolve them.
fn open_inside(rootfs: &Path, path: &str, flags: OFlags) -> Option<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(rootfs, directory, Mode::empty()).ok()?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how).ok()
}

/// Where inside an image the path of an executable leads to.
fn resolve(rootfs: &Path, path: &str) -> Option<PathBuf> {
    let file = open_inside(rootfs, path, OFlags::PATH)?;
    let found = rustix::fs::fstat(&file).ok()?;
    let mode = found.st_mode;
    if rustix::fs::FileType::from_raw_mode(mode) != rustix::fs::FileType::RegularFile
        || mode & 0o111 == 0
    {
        return None;
    }
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Whether this machine has nothing but cgroup version 2, as systemd inside needs it.
pub fn machine_is_pure_v2() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup")
        .is_ok_and(|stat| stat.f_type == rustix::fs::FsWord::from(CGROUP2_MAGIC))
}

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: u32 = 0x6367_7270;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn inits_are_told_by_what_they_are() {
        let stop = |path: &str, openrc, pure_v2| match recognise(Path::new(path), openrc, pure_v2) {
            Init::Own { stop_signal, .. } => Some(stop_signal),
            Init::Fallback => None,
        };
        assert_eq!(
            stop("/r/lib/systemd/systemd", false, true),
            Some(libc::SIGRTMIN() + 3)
        );
        assert_eq!(stop("/r/lib/systemd/systemd", false, false), None);
        assert_eq!(stop("/r/bin/busybox", true, false), Some(libc::SIGUSR2));
        assert_eq!(stop("/r/bin/busybox", false, false), None);
        assert_eq!(stop("/r/sbin/init", false, false), Some(libc::SIGINT));
    }

    #[test]
    fn links_are_followed_inside_the_image_only() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("usr/sbin")).unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        // Out of the image this would lead to a program of the machine.
        symlink("../../../../../../bin/sh", root.join("usr/sbin/init")).unwrap();
        assert_eq!(Init::of(root, true), Init::Fallback);
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/sh"), "").unwrap();
        assert!(!has_shell(root), "not executable");
        std::fs::set_permissions(root.join("bin/sh"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(has_shell(root));
        assert_eq!(
            resolve(root, "/sbin/init").unwrap().file_name().unwrap(),
            "sh"
        );
    }
}
