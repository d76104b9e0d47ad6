//! The OCI bundle: the `config.json` by which the runtime builds a container's sandbox, and the
//! description of a process for `exec`. To give a container one more thing, add it to the list it
//! belongs to ([`mounts`], [`resources`], …).

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, Mount, MountBuilder, Process, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, User, UserBuilder,
};

use super::confine;
use super::seccomp;
use super::state::{IDS, Init, Record};

/// Where the small init is bound in containers whose image has none.
const FALLBACK_INIT: &str = "/run/.hzel-init";
/// The small init on the host: reaps orphans and passes signals on.
const HOST_INIT: &str = "/usr/bin/tini-static";
/// Where lxcfs shows a container its own limits instead of the host's numbers.
const LXCFS: &str = "/var/lib/lxcfs/proc";
/// Where programs are looked for in a container.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of a container's sandbox depends on the host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// Capabilities that can be passed on.
    pub bounding: u64,
    /// Only one kind of cgroups, the second: then a container can have a view of its own.
    pub unified: bool,
    /// Whether the host can limit swap.
    pub limits_swap: bool,
}

/// Where things of one start lie.
pub(super) struct Places<'a> {
    pub rootfs: &'a Path,
    /// The file that is the console.
    pub console: &'a Path,
    pub cgroup: String,
}

/// The whole `config.json`.
pub(super) fn spec(record: &Record, host: &Host, places: &Places) -> Result<Spec, OciSpecError> {
    SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path(places.rootfs)
                .readonly(false)
                .build()?,
        )
        .hostname(&record.spec.hostname)
        .mounts(mounts(record, host, places)?)
        .process(init_process(&record.init, host)?)
        .linux(linux(record, host, places)?)
        .build()
}

fn init_process(init: &Init, host: &Host) -> Result<Process, OciSpecError> {
    let argv = init.argv.clone().unwrap_or_else(|| {
        // The shell ends by the signal that tini passes on; until then it waits.
        let wait = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";
        [FALLBACK_INIT, "--", "/bin/sh", "-c", wait]
            .map(str::to_owned)
            .to_vec()
    });
    let mut env = default_env(&init.env);
    env.push(("container".to_owned(), "hzel".to_owned()));
    process(host, argv, &env, "/", root_user()?, None)
}

/// A process, confined like all others of its container; `tag` marks what it starts, see
/// [`confine::limits`].
pub(super) fn process(
    host: &Host,
    argv: Vec<String>,
    env: &[(String, String)],
    cwd: &str,
    user: User,
    tag: Option<u64>,
) -> Result<Process, OciSpecError> {
    let root = user.uid() == 0;
    ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(argv)
        .env(
            env.iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>(),
        )
        .cwd(cwd)
        .capabilities(confine::capabilities(root, host.bounding)?)
        .rlimits(confine::limits(tag)?)
        // sudo and su must work.
        .no_new_privileges(false)
        // Should the server itself be shielded from the OOM killer, containers are not.
        .oom_score_adj(own_oom_score().max(0))
        .build()
}

fn own_oom_score() -> i32 {
    std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn root_user() -> Result<User, OciSpecError> {
    UserBuilder::default().uid(0_u32).gid(0_u32).build()
}

/// The environment of every process: the image's, with a PATH and a language if it names none.
pub(super) fn default_env(image: &[(String, String)]) -> Vec<(String, String)> {
    let mut env = image.to_vec();
    for (name, value) in [("PATH", PATH), ("LANG", "C.UTF-8")] {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    env
}

fn mounts(record: &Record, host: &Host, places: &Places) -> Result<Vec<Mount>, OciSpecError> {
    let shm = format!("size={}m", (record.spec.memory_mb / 2).max(16));
    let run = format!("size={}m", (record.spec.memory_mb / 5).max(16));
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=1m"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "nodev", "noexec", "mode=1777", &shm],
        )?,
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        )?,
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        )?,
        // Emptied at every start, as programs that keep their pid files there expect.
        mount(
            "/run",
            "tmpfs",
            "tmpfs",
            &["nosuid", "nodev", "mode=755", &run],
        )?,
        bind("/dev/console", places.console, &[])?,
    ];
    if host.unified {
        // The sign of systemd: it alone manages groups, and is told to stop by a real-time signal.
        let systemd = record.init.stop_signal >= libc::SIGRTMIN();
        let access = if systemd { "rw" } else { "ro" };
        mounts.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        )?);
    }
    if record.init.argv.is_none() {
        mounts.push(bind(
            FALLBACK_INIT,
            Path::new(HOST_INIT),
            &["ro", "nosuid", "nodev"],
        )?);
    }
    for name in [
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
    ] {
        let source = Path::new(LXCFS).join(name);
        if source.exists() {
            mounts.push(bind(
                &format!("/proc/{name}"),
                &source,
                &["nosuid", "nodev"],
            )?);
        }
    }
    Ok(mounts)
}

fn mount(at: &str, typ: &str, source: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(at)
        .typ(typ)
        .source(source)
        .options(
            options
                .iter()
                .map(|&option| option.to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
}

fn bind(at: &str, source: &Path, options: &[&str]) -> Result<Mount, OciSpecError> {
    let options = ["bind"]
        .iter()
        .chain(options)
        .map(|&option| option.to_owned());
    MountBuilder::default()
        .destination(at)
        .typ("bind")
        .source(source)
        .options(options.collect::<Vec<_>>())
        .build()
}

fn linux(record: &Record, host: &Host, places: &Places) -> Result<Linux, OciSpecError> {
    let ids = || -> Result<LinuxIdMapping, OciSpecError> {
        LinuxIdMappingBuilder::default()
            .host_id(record.slot.base_id())
            .container_id(0_u32)
            .size(IDS)
            .build()
    };
    LinuxBuilder::default()
        .uid_mappings(vec![ids()?])
        .gid_mappings(vec![ids()?])
        // Lets everyone ping without rights; the range is in the container's own ids.
        .sysctl(std::collections::HashMap::from([(
            "net.ipv4.ping_group_range".to_owned(),
            format!("0 {}", IDS - 1),
        )]))
        .resources(resources(record, host)?)
        .cgroups_path(&places.cgroup)
        .namespaces(namespaces(host)?)
        .seccomp(seccomp::filter()?)
        .masked_paths(paths(&MASKED))
        .readonly_paths(paths(&READ_ONLY))
        .build()
}

/// What would tell of the host, or let a hole in the kernel be found.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What could change the host.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn paths(list: &[&str]) -> Vec<String> {
    list.iter().map(|&path| path.to_owned()).collect()
}

fn namespaces(host: &Host) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let mut types = vec![
        LinuxNamespaceType::User,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    if host.unified {
        types.push(LinuxNamespaceType::Cgroup);
    }
    types
        .into_iter()
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect()
}

/// How many processes and threads fit: more for bigger containers, never so many that a fork bomb
/// harms the host.
fn process_limit(memory_mb: u32) -> i64 {
    i64::from((memory_mb * 2).clamp(512, 16_384))
}

fn resources(record: &Record, host: &Host) -> Result<LinuxResources, OciSpecError> {
    let memory = i64::from(record.spec.memory_mb) << 20;
    let mut limit = LinuxMemoryBuilder::default().limit(memory);
    if host.limits_swap {
        // Memory and swap together: none of it may be swap.
        limit = limit.swap(memory);
    }
    let period = 100_000_u64;
    LinuxResourcesBuilder::default()
        .memory(limit.build()?)
        .cpu(
            LinuxCpuBuilder::default()
                .period(period)
                .quota(i64::from(record.spec.cpu_cores) * period.cast_signed())
                .build()?,
        )
        .pids(
            LinuxPidsBuilder::default()
                .limit(process_limit(record.spec.memory_mb))
                .build()?,
        )
        .devices(devices()?)
        .build()
}

/// None but the harmless ones: null, zero, full, random, urandom, tty, console, ptmx and ptys.
fn devices() -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let allow = |major: i64, minor: Option<i64>| {
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(major)
            .access("rwm");
        match minor {
            Some(minor) => rule.minor(minor).build(),
            None => rule.build(),
        }
    };
    Ok(vec![
        LinuxDeviceCgroupBuilder::default()
            .allow(false)
            .access("rwm")
            .build()?,
        allow(1, Some(3))?,
        allow(1, Some(5))?,
        allow(1, Some(7))?,
        allow(1, Some(8))?,
        allow(1, Some(9))?,
        allow(5, Some(0))?,
        allow(5, Some(1))?,
        allow(5, Some(2))?,
        allow(136, None)?,
    ])
}

/// What must be there on the host for the images without an init.
pub(super) fn fallback_init() -> Option<PathBuf> {
    let path = PathBuf::from(HOST_INIT);
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ContainerSpec;
    use crate::runtime::native::state::Slot;

    fn record() -> Record {
        Record {
            spec: ContainerSpec {
                id: "0190b5a0-0000-7000-8000-000000000001".parse().unwrap(),
                hostname: "box".into(),
                image: "default".into(),
                cpu_cores: 2,
                memory_mb: 512,
                disk_gb: 4,
                ssh_keys: Vec::new(),
                user_data: None,
            },
            slot: Slot(3),
            rootfs: "/images/x".into(),
            init: Init {
                argv: None,
                stop_signal: libc::SIGTERM,
                env: Vec::new(),
            },
            user_data_done: false,
        }
    }

    fn built(unified: bool) -> serde_json::Value {
        let host = Host {
            bounding: u64::MAX,
            unified,
            limits_swap: true,
        };
        let places = Places {
            rootfs: Path::new("/r"),
            console: Path::new("/c"),
            cgroup: "/hzel-abcd/x".into(),
        };
        serde_json::to_value(spec(&record(), &host, &places).unwrap()).unwrap()
    }

    #[test]
    fn the_sandbox_is_closed() {
        let spec = built(false);
        let linux = &spec["linux"];
        assert_eq!(linux["uidMappings"][0]["hostID"], Slot(3).base_id());
        assert_eq!(linux["uidMappings"][0]["size"], IDS);
        assert_eq!(linux["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        let namespaces: Vec<_> = linux["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ns| ns["type"].as_str().unwrap())
            .collect();
        for needed in ["user", "pid", "network", "ipc", "uts", "mount"] {
            assert!(namespaces.contains(&needed), "{needed}");
        }
        assert_eq!(linux["resources"]["memory"]["limit"], 512 << 20);
        assert_eq!(linux["resources"]["cpu"]["quota"], 200_000);
        assert_eq!(spec["process"]["args"][0], FALLBACK_INIT);
    }

    #[test]
    fn only_a_unified_host_shows_cgroups() {
        let has = |spec: &serde_json::Value| {
            spec["mounts"]
                .as_array()
                .unwrap()
                .iter()
                .any(|mount| mount["destination"] == "/sys/fs/cgroup")
        };
        assert!(has(&built(true)));
        assert!(!has(&built(false)));
    }

    #[test]
    fn the_images_path_wins() {
        let env = default_env(&[("PATH".into(), "/nix".into())]);
        assert_eq!(env.iter().filter(|(name, _)| name == "PATH").count(), 1);
        assert_eq!(env[0].1, "/nix");
    }
}
