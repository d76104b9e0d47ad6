//! The kernel, its devices and the disk.

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::CapabilitySet;

use super::super::namespace::{UserNamespace, shift_owners};
use super::super::state::Slot;
use super::{broken, ok, program, text, warning};
use crate::runtime::Finding;

/// Since then an overlay takes layers whose owners are shifted.
const KERNEL: (u32, u32) = (5, 19);
/// What a first container and its image take, with room to breathe.
const COMFORTABLE: u64 = 10 << 30;

/// All checks of this kind.
pub fn examine(data_dir: &Path) -> Vec<Finding> {
    vec![
        privileges(),
        kernel(),
        user_namespaces(),
        shifted_owners(data_dir),
        file_system("overlay file system", "overlay"),
        loop_devices(),
        disk_images(),
        control_groups(),
        system_call_filter(),
        disk_space(data_dir),
    ]
}

fn privileges() -> Finding {
    const NAME: &str = "privileges";
    if !rustix::process::geteuid().is_root() {
        return broken(
            NAME,
            "hzel does not run as root",
            "run it as root: sudo hzel serve",
        );
    }
    let needed = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    ];
    let has = rustix::thread::capabilities(None).map(|sets| sets.effective);
    let lacks: Vec<&str> = needed
        .iter()
        .filter(|(capability, _)| !has.is_ok_and(|has| has.contains(*capability)))
        .map(|(_, name)| *name)
        .collect();
    if lacks.is_empty() {
        return ok(NAME, "root");
    }
    broken(
        NAME,
        format!("root, but without {}", lacks.join(", ")),
        "start hzel outside of a container, without CapabilityBoundingSet= in its unit",
    )
}

fn kernel() -> Finding {
    const NAME: &str = "kernel";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    match version(&release) {
        Some(found) if found >= KERNEL => ok(NAME, release),
        _ => broken(
            NAME,
            format!("{release}; {}.{} or newer is needed", KERNEL.0, KERNEL.1),
            "install a newer one (Ubuntu 22.04: apt-get install linux-generic-hwe-22.04; Debian: \
             upgrade to 12 or newer) and restart the machine",
        ),
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn user_namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    if !Path::new("/proc/self/ns/user").exists() {
        return broken(
            NAME,
            "this kernel has none",
            "use a kernel with CONFIG_USER_NS, as all distributions' are",
        );
    }
    match text("/proc/sys/user/max_user_namespaces").parse::<u64>() {
        Ok(0) => broken(
            NAME,
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=65536, and the same in a file of /etc/sysctl.d",
        ),
        Ok(most) => ok(NAME, format!("up to {most}")),
        Err(_) => ok(NAME, "without a limit"),
    }
}

/// Not by the kernel's version: the file system of the data directory must be able to, too.
fn shifted_owners(data_dir: &Path) -> Finding {
    const NAME: &str = "idmapped mounts";
    let directory = existing(data_dir);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tried = UserNamespace::new(Slot(1)).and_then(|users| {
        let tree = open_tree(rustix::fs::CWD, directory, flags)?;
        shift_owners(tree.as_fd(), &users)
    });
    match tried {
        Ok(()) => ok(NAME, format!("work in {}", directory.display())),
        Err(cause) => broken(
            NAME,
            format!("do not work in {}: {cause}", directory.display()),
            "keep the data directory (HZEL_DATA_DIR) on ext4, XFS or Btrfs, and run hzel as root",
        ),
    }
}

/// A path's nearest directory that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}

fn file_system(name: &'static str, wanted: &str) -> Finding {
    let has = |list: &str| {
        list.lines()
            .any(|line| line.split_whitespace().last() == Some(wanted))
    };
    if has(&text("/proc/filesystems")) {
        return ok(name, "there");
    }
    if is_module(wanted) {
        return ok(name, "there, loaded when it is needed");
    }
    broken(
        name,
        format!("this kernel has no {wanted}"),
        format!("modprobe {wanted}, or use a kernel that has it, as all distributions' have"),
    )
}

/// Whether the running kernel can load a module when it needs it.
fn is_module(name: &str) -> bool {
    let uname = rustix::system::uname();
    let list = format!(
        "/lib/modules/{}/modules.dep",
        uname.release().to_string_lossy()
    );
    let file = format!("/{name}.ko");
    text(&list).lines().any(|line| {
        line.split(':')
            .next()
            .is_some_and(|path| path.contains(&file))
    })
}

fn loop_devices() -> Finding {
    const NAME: &str = "loop devices";
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
    {
        Ok(_) => ok(NAME, "can be made"),
        Err(_) if is_module("loop") => broken(
            NAME,
            "the module loop is not loaded",
            "modprobe loop, and echo loop > /etc/modules-load.d/loop.conf",
        ),
        Err(cause) => broken(
            NAME,
            format!("/dev/loop-control: {cause}"),
            "run hzel where it may use loop devices (not in a container without them)",
        ),
    }
}

fn disk_images() -> Finding {
    const NAME: &str = "ext4";
    let missing: Vec<&str> = ["mkfs.ext4", "e2fsck"]
        .into_iter()
        .filter(|name| program(name).is_none())
        .collect();
    if !missing.is_empty() {
        return broken(
            NAME,
            format!("{} is missing", missing.join(" and ")),
            "apt-get install e2fsprogs",
        );
    }
    file_system(NAME, "ext4")
}

fn control_groups() -> Finding {
    const NAME: &str = "control groups";
    const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
    let root = Path::new("/sys/fs/cgroup");
    let unified = text("/sys/fs/cgroup/cgroup.controllers");
    let kind = match (
        unified.is_empty(),
        root.join("unified/cgroup.procs").exists(),
    ) {
        (false, _) => "version 2",
        (true, true) => "version 1 beside version 2",
        (true, false) => "version 1",
    };
    let has = |name: &str| {
        root.join(name).join("cgroup.procs").exists()
            || unified.split_whitespace().any(|it| it == name)
    };
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return ok(NAME, format!("{kind}, with {}", NEEDED.join(", ")));
    }
    broken(
        NAME,
        format!("{kind}, without {}", missing.join(", ")),
        "start the kernel without cgroup_disable=, and with cgroup_enable=memory where memory is \
         missing (Raspberry Pi: in /boot/firmware/cmdline.txt)",
    )
}

fn system_call_filter() -> Finding {
    const NAME: &str = "seccomp";
    if text("/proc/sys/kernel/seccomp/actions_avail").contains("errno") {
        return ok(NAME, "there");
    }
    broken(
        NAME,
        "this kernel cannot filter system calls",
        "use a kernel with CONFIG_SECCOMP_FILTER, as all distributions' are",
    )
}

fn disk_space(data_dir: &Path) -> Finding {
    const NAME: &str = "disk space";
    let directory = existing(data_dir);
    let stat = match rustix::fs::statvfs(directory) {
        Ok(stat) => stat,
        Err(cause) => {
            let detail = format!("{}: {cause}", directory.display());
            return warning(NAME, detail, "check that HZEL_DATA_DIR can be read");
        }
    };
    let gib = |bytes: u64| bytes / (1 << 30);
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let whole = stat.f_blocks.saturating_mul(stat.f_frsize);
    let detail = format!(
        "{} of {} GiB are free at {}",
        gib(free),
        gib(whole),
        directory.display()
    );
    let remedy = "free some space, or move HZEL_DATA_DIR to a larger disk";
    if super::super::disk::check_reserve(directory).is_err() {
        broken(
            NAME,
            format!("{detail}: too few to make containers"),
            remedy,
        )
    } else if free < COMFORTABLE {
        warning(NAME, detail, remedy)
    } else {
        ok(NAME, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.0-105-generic"), Some((5, 15)));
        assert_eq!(version("6.18"), Some((6, 18)));
        assert_eq!(version("custom"), None);
        assert!(version("6.1").unwrap() > KERNEL);
        assert!(version("5.4.0").unwrap() < KERNEL);
    }

    #[test]
    fn the_nearest_directory_is_found() {
        assert_eq!(
            existing(Path::new("/proc/no/such/thing")),
            Path::new("/proc")
        );
        assert_eq!(existing(Path::new("/")), Path::new("/"));
    }
}
