//! A container's disk: a sparse file with an ext4 file system of its own.
//!
//! It is mounted through a loop device that frees itself with its last user, so a dead container
//! leaves neither mount nor device. Empty file systems are copied from a template of the same size:
//! only the few blocks that hold anything, which takes a tenth of making one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{SeekFrom, seek};
use rustix::mount::{MountFlags, mount};

use super::fault::{Context as _, failed};
use crate::runtime::RuntimeError;

const GIB: u64 = 1 << 30;
const MAKE: &str = "could not make the container's disk";

/// Refuses when too little of the host's disk is free: sparse disks promise more than there is, and
/// a full host would break all containers at once.
pub(super) fn check_reserve(dir: &Path) -> Result<(), RuntimeError> {
    let stat = rustix::fs::statvfs(dir).or_fail("could not look at the host's disk")?;
    let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    let reserve = GIB.max(total / 20);
    if free < reserve {
        return Err(RuntimeError::NoSpace(format!(
            "{} MiB are free where containers are kept, and {} MiB are kept in reserve",
            free >> 20,
            reserve >> 20
        )));
    }
    Ok(())
}

/// Makes `disk`, an empty file system of `gib` GiB.
pub(super) fn make(templates: &Path, gib: u32, disk: &Path) -> Result<(), RuntimeError> {
    let template = template(templates, gib)?;
    copy_sparse(&template, disk).or_fail(MAKE)
}

/// The empty file system of that size, made when it is needed first.
fn template(dir: &Path, gib: u32) -> Result<PathBuf, RuntimeError> {
    let path = dir.join(format!("ext4-{gib}.img"));
    if path.exists() {
        return Ok(path);
    }
    // A name of its own for each maker: two may be at it at once, and the last rename wins.
    let new = dir.join(format!("ext4-{gib}.{:08x}.new", rand::random::<u32>()));
    let result = format(&new, gib).and_then(|()| fs::rename(&new, &path).or_fail(MAKE));
    if result.is_err() {
        drop(fs::remove_file(&new));
    }
    result.map(|()| path)
}

fn format(path: &Path, gib: u32) -> Result<(), RuntimeError> {
    let file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path);
    file.and_then(|file| file.set_len(u64::from(gib) * GIB))
        .or_fail(MAKE)?;
    // No blocks for root: the tenant is root. A small journal: it is written on the host in full.
    // Room to grow to 1 TiB or 16 times, rather than 1024 times: it is copied with each disk.
    let grow = (1 << 28).max(u64::from(gib) * (GIB / 4096) * 16);
    let output = Command::new("mkfs.ext4")
        .args([
            "-q", "-F", "-m", "0", "-b", "4096", "-J", "size=32", "-L", "hzel", "-E",
        ])
        .arg(format!(
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard,resize={grow}"
        ))
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing_tool("mkfs.ext4", &error))?;
    if !output.status.success() {
        return Err(failed(MAKE, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

fn missing_tool(tool: &str, error: &io::Error) -> RuntimeError {
    if error.kind() == io::ErrorKind::NotFound {
        RuntimeError::Unavailable(format!("{tool} is missing; apt-get install e2fsprogs"))
    } else {
        failed(MAKE, format!("{tool}: {error}"))
    }
}

/// Copies a file's data and leaves its holes.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(to)?;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match seek(&from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(&from, SeekFrom::Hole(start))?;
        copy_range(&from, &to, start, at)?;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut write) = (start, start);
    while read < end {
        let left = usize::try_from(end - read).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Some file systems cannot; then by hand.
            Err(_) => return copy_by_hand(from, to, read, end),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    let mut at = start;
    while at < end {
        let part = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        from.read_exact_at(&mut buffer[..part], at)?;
        to.write_all_at(&buffer[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// How much of the host's disk a container's disk takes, and how much it may.
pub(super) fn allocated(disk: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(disk)?;
    Ok((metadata.blocks() * 512, metadata.len()))
}

/// Mounts a disk at `target` in the calling thread's mount namespace. A file system that does not
/// mount is repaired once.
pub(super) fn mount_disk(disk: &Path, target: &Path) -> io::Result<()> {
    match try_mount(disk, target) {
        Err(error) if damaged(&error) => {
            check(disk, &[])?;
            try_mount(disk, target)
        }
        other => other,
    }
}

/// Errors by which ext4 refuses a damaged file system.
fn damaged(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EUCLEAN | libc::EIO | libc::EBADMSG | libc::ESTALE)
    )
}

fn try_mount(disk: &Path, target: &Path) -> io::Result<()> {
    let (device, _open) = attach(disk)?;
    // noinit_itable: the inode tables are zero because the file is sparse; the kernel would fill
    // them in the background, 300 MB of the host's for 18 GiB.
    mount(
        &device,
        target,
        "ext4",
        MountFlags::NODEV,
        Some(c"discard,noinit_itable"),
    )?;
    Ok(())
}

/// Makes a disk that is not mounted bigger.
pub(super) fn grow(disk: &Path, gib: u32) -> Result<(), RuntimeError> {
    let what = "could not grow the container's disk";
    fs::OpenOptions::new()
        .write(true)
        .open(disk)
        .and_then(|file| file.set_len(u64::from(gib) * GIB))
        .or_fail(what)?;
    // It refuses a file system that has not been looked at since it was mounted.
    check(disk, &["-f"]).or_fail(what)?;
    let output = Command::new("resize2fs")
        .arg(disk)
        .stdin(Stdio::null())
        .output()
        .or_fail(what)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(what, String::from_utf8_lossy(&output.stderr)))
    }
}

fn check(disk: &Path, options: &[&str]) -> io::Result<()> {
    let mut command = Command::new("e2fsck");
    let output = command
        .arg("-p")
        .args(options)
        .arg(disk)
        .stdin(Stdio::null())
        .output()?;
    // 0: clean, 1: mended. More: left broken, or it could not run.
    match output.status.code() {
        Some(0 | 1) => Ok(()),
        _ => Err(io::Error::other(format!(
            "e2fsck could not repair {}: {}{}",
            disk.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// How often to lose the race for a free device to others.
const ATTEMPTS: u32 = 64;

/// Puts a loop device over `disk`. It frees itself once nobody has it open or mounted, so the
/// handle must be kept until it is mounted.
fn attach(disk: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let file = fs::OpenOptions::new().read(true).write(true).open(disk)?;
    let control = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: the request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        match configure(&device, &file, LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO)
            .or_else(|error| without_direct_io(error, &device, &file))
        {
            Ok(()) => return Ok((path, device.into())),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "no free loop device",
    ))
}

/// Not every file system can do direct IO (tmpfs for one).
fn without_direct_io(error: io::Error, device: &File, file: &File) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINVAL) => configure(device, file, LO_FLAGS_AUTOCLEAR),
        _ => Err(error),
    }
}

fn configure(device: &File, file: &File, flags: u32) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_fd().as_raw_fd()).unwrap_or(u32::MAX),
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `config` is laid out as the kernel's struct and lives through the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.write_all_at(b"tail", (64 << 20) - 4).unwrap();
        copy_sparse(&from, &to).unwrap();
        let (taken, size) = allocated(&to).unwrap();
        assert_eq!(size, 64 << 20);
        assert!(taken < 1 << 20, "{taken} bytes");
        let mut tail = [0; 4];
        File::open(&to)
            .unwrap()
            .read_exact_at(&mut tail, (64 << 20) - 4)
            .unwrap();
        assert_eq!(&tail, b"tail");
    }

    #[test]
    fn the_reserve_is_kept() {
        // Whatever the machine has free, its root is either above the reserve or the text says so.
        if let Err(error) = check_reserve(Path::new("/")) {
            assert!(error.to_string().contains("MiB are free"), "{error}");
        }
    }
}
