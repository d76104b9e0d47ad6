//! The default image: this machine's own distribution, release and package sources, made small
//! by `mmdebstrap`, with what a person expects of a box: a network, `ssh`, an editor, `sudo`, and
//! services that start when their package is installed and again when the box starts.
//!
//! Its first process is a script of ours (`default/init`), not System V's or systemd: neither is
//! on both Debian and Ubuntu and works on every machine's cgroups, and all a box needs of it is to
//! run the packages' own `/etc/init.d` scripts, to take in orphans and to end in good order.
//!
//! To put in one more package, add it to `PACKAGES`; one more file, to `FILES`. The recipe stays in
//! this file, by whose text the tests know when to make their image anew.

mod output;

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use self::output::{Phase, explain};
use super::apt::{self, Source};
use super::problem::Problem;
use super::release;
use crate::runtime::ImageProgress;

/// What is installed beside the essential packages. `apt-utils` and `whiptail` keep package
/// installation in a box from complaining that it cannot ask questions.
const PACKAGES: &str = "apt-utils,ca-certificates,curl,iproute2,iputils-ping,less,nano,netbase,\
                        openssh-server,procps,sudo,whiptail";
/// Merges `/usr` before the packages come, which saves the package that would do it afterwards and
/// the whole of Perl with it. Newer releases of `mmdebstrap` have no such hook and need none.
const MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/maybe-merged-usr";
/// The longest a build may take, on the slowest mirror.
const LONGEST: Duration = Duration::from_secs(45 * 60);
/// How many of the last lines are kept for the log when it fails.
const KEPT_LINES: usize = 40;

/// What becomes of the machine's own files in the image: `(path, contents, mode)`.
const FILES: [(&str, &str, u32); 11] = [
    (
        "usr/local/sbin/hzel-init",
        include_str!("default/init"),
        0o755,
    ),
    (
        "usr/local/sbin/poweroff",
        include_str!("default/poweroff"),
        0o755,
    ),
    (
        "usr/local/sbin/halt",
        include_str!("default/poweroff"),
        0o755,
    ),
    (
        "usr/local/sbin/shutdown",
        include_str!("default/poweroff"),
        0o755,
    ),
    (
        "usr/local/sbin/reboot",
        include_str!("default/poweroff"),
        0o755,
    ),
    ("usr/sbin/runlevel", include_str!("default/runlevel"), 0o755),
    ("etc/default/locale", "LANG=C.UTF-8\n", 0o644),
    (
        "etc/fstab",
        "# A box has its one disk mounted before it starts.\n",
        0o644,
    ),
    ("etc/hostname", "box\n", 0o644),
    ("etc/hosts", "127.0.0.1 localhost\n", 0o644),
    // Empty: the first start fills it.
    ("etc/machine-id", "", 0o644),
];
/// Directories whose contents are left over from the build, or are made at each start.
const EMPTIED: [&str; 6] = [
    "dev",
    "run",
    "tmp",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/apt",
];
/// Files that would be the same in every box and must not be.
const REMOVED: [&str; 7] = [
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/resolv.conf",
    "var/lib/dbus/machine-id",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
    "etc/apt/sources.list",
];

/// The machine's distribution, as far as the build needs it.
#[derive(Debug, PartialEq, Eq)]
struct Distribution {
    /// `debian` or `ubuntu`.
    id: String,
    codename: String,
}

impl Distribution {
    fn of(os_release: &str) -> Option<Self> {
        let id = release::os_release(os_release, "ID")?;
        let codename = release::os_release(os_release, "VERSION_CODENAME")?;
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        (["debian", "ubuntu"].contains(&id.as_str()) && plain(&codename))
            .then_some(Self { id, codename })
    }
}

/// Builds it into `work/rootfs`.
pub async fn build(work: &Path, progress: &ImageProgress) -> Result<(), Problem> {
    progress("looking at the package sources", 0);
    let release = tokio::fs::read_to_string("/etc/os-release")
        .await
        .unwrap_or_default();
    let distribution = Distribution::of(&release).ok_or_else(|| {
        Problem::Missing(
            "the default image is made on Debian and Ubuntu only; set HZEL_IMAGE to a registry \
             reference or a root file system's tar file"
                .into(),
        )
    })?;
    let sources = apt::of_distribution(Path::new("/etc/apt"), &distribution.codename)?;
    if sources.is_empty() {
        return Err(Problem::Missing(format!(
            "/etc/apt has no package source of {} {}, from which the default image could be made",
            distribution.id, distribution.codename
        )));
    }
    let settings = settings().await?;
    let list = work.join("box.sources");
    let stanzas = sources
        .iter()
        .map(Source::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    tokio::fs::write(&list, &stanzas).await?;
    let rootfs = work.join("rootfs");

    bootstrap(&distribution, &settings, work, &rootfs, &list, progress).await?;

    progress("finishing", 94);
    let finish = Finish {
        distribution,
        sources,
        stanzas,
        settings,
    };
    tokio::task::spawn_blocking(move || finish.apply(&rootfs))
        .await
        .map_err(|cause| Problem::Failed(cause.to_string()))?
}

/// The machine's apt settings that decide whether packages are reached.
async fn settings() -> Result<Vec<String>, Problem> {
    let dump = Command::new("apt-config")
        .arg("dump")
        .stdin(Stdio::null())
        .output()
        .await?;
    Ok(apt::settings(&String::from_utf8_lossy(&dump.stdout)))
}

/// Runs `mmdebstrap`.
async fn bootstrap(
    distribution: &Distribution,
    settings: &[String],
    work: &Path,
    rootfs: &Path,
    list: &Path,
    progress: &ImageProgress,
) -> Result<(), Problem> {
    let missing =
        || Problem::Missing("mmdebstrap is missing; install it: apt-get install mmdebstrap".into());
    if !is_installed("mmdebstrap") {
        return Err(missing());
    }
    // In namespaces of its own: when it is killed, all that it started dies with it, and nothing
    // that it mounted stays. And killed it is when this process dies.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .args([
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
        ])
        .arg("--verbose")
        .arg(format!("--include={PACKAGES}"))
        .args(settings.iter().map(|setting| format!("--aptopt={setting}")))
        .args(
            Path::new(MERGED_USR)
                .is_dir()
                .then(|| format!("--hook-dir={MERGED_USR}")),
        )
        .arg(&distribution.codename)
        .args([rootfs, list])
        .env("TMPDIR", work)
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut phase = Phase::default();
    let mut tail = Vec::new();
    let lines = Lines::of(child.stdout.take(), child.stderr.take());
    let read = async {
        let Some((mut out, mut err)) = lines else {
            return Ok(());
        };
        loop {
            let line = tokio::select! {
                line = out.next_line() => line?,
                line = err.next_line() => line?,
                else => None,
            };
            let Some(line) = line else { break };
            if let Some((step, percent)) = phase.advance(&line) {
                progress(&step, percent);
            }
            if tail.len() == KEPT_LINES {
                tail.remove(0);
            }
            tail.push(line);
        }
        // One of the two ended; what is left of the other.
        while let Some(line) = err.next_line().await? {
            tail.push(line);
        }
        while out.next_line().await?.is_some() {}
        io::Result::Ok(())
    };
    tokio::time::timeout(LONGEST, read).await.map_err(|_| {
        Problem::Broken("it was not made within 45 minutes; are the mirrors reachable?".into())
    })??;
    let status = child.wait().await?;
    if status.success() {
        return Ok(());
    }
    tracing::error!(%status, output = tail.join("\n"), "mmdebstrap failed");
    Err(explain(&tail))
}

/// Whether a program is in the search path.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Both outputs of a process, a line at a time.
struct Lines;

type LinesOf<T> = tokio::io::Lines<BufReader<T>>;

impl Lines {
    fn of<O: AsyncRead + Unpin, E: AsyncRead + Unpin>(
        out: Option<O>,
        err: Option<E>,
    ) -> Option<(LinesOf<O>, LinesOf<E>)> {
        Some((BufReader::new(out?).lines(), BufReader::new(err?).lines()))
    }
}

/// What is done to the unpacked system.
struct Finish {
    distribution: Distribution,
    sources: Vec<Source>,
    stanzas: String,
    settings: Vec<String>,
}

impl Finish {
    fn apply(&self, rootfs: &Path) -> Result<(), Problem> {
        for path in REMOVED {
            remove(&rootfs.join(path))?;
        }
        for directory in EMPTIED {
            empty(&rootfs.join(directory))?;
        }
        empty(&rootfs.join("etc/apt/sources.list.d"))?;
        for key in std::fs::read_dir(rootfs.join("etc/ssh"))? {
            let key = key?;
            if key.file_name().to_string_lossy().starts_with("ssh_host_") {
                remove(&key.path())?;
            }
        }
        for (path, contents, mode) in FILES {
            put(rootfs, path, contents.as_bytes(), mode)?;
        }
        // What package scripts look for before they start a service.
        remove(&rootfs.join("usr/sbin/init"))?;
        symlink(super::init::OURS, rootfs.join("usr/sbin/init"))?;
        put(rootfs, "etc/resolv.conf", b"", 0o644)?;
        let list = format!("etc/apt/sources.list.d/{}.sources", self.distribution.id);
        put(rootfs, &list, self.stanzas.as_bytes(), 0o644)?;
        let kept: Vec<&str> = self
            .settings
            .iter()
            .filter(|setting| apt::is_for_boxes(setting))
            .map(String::as_str)
            .collect();
        if !kept.is_empty() {
            let text = format!("{}\n", kept.join("\n"));
            put(
                rootfs,
                "etc/apt/apt.conf.d/90machine",
                text.as_bytes(),
                0o644,
            )?;
        }
        // A machine may keep its distribution's keyring where no package puts it.
        let keyrings = self
            .sources
            .iter()
            .filter_map(|source| source.signed_by.as_deref());
        for path in keyrings
            .filter(|key| !key.contains("-----BEGIN"))
            .flat_map(|k| k.split([',', ' ']))
        {
            let Some(inside) = path.strip_prefix('/') else {
                continue;
            };
            if !rootfs.join(inside).exists() {
                put(rootfs, inside, &std::fs::read(path)?, 0o644)?;
            }
        }
        Ok(())
    }
}

/// Writes a file in place of whatever is there.
fn put(rootfs: &Path, path: &str, contents: &[u8], mode: u32) -> io::Result<()> {
    let path = rootfs.join(path);
    remove(&path)?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&path, contents)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))
}

/// Removes a file if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// Removes what a directory has, if it is there.
fn empty(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_and_ubuntu_are_known() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        let ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_CODENAME=noble\n";
        assert_eq!(Distribution::of(debian).unwrap().codename, "bookworm");
        assert_eq!(Distribution::of(ubuntu).unwrap().id, "ubuntu");
        assert_eq!(Distribution::of("ID=fedora\nVERSION_ID=42\n"), None);
        assert_eq!(Distribution::of("ID=debian\nVERSION_CODENAME=--x\n"), None);
        assert_eq!(Distribution::of(""), None);
    }
}
