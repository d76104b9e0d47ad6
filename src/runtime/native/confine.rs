//! What a process in a container may do: capabilities and resource limits, cut down to what this
//! host can give. To add a capability, show first that the kernel checks it against the user
//! namespace (`ns_capable`), and that no big part of the kernel opens up with it.

use std::collections::HashSet;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType,
};
use rustix::process::Resource;
use sha2::{Digest as _, Sha256};

/// What root in a container has. All of it counts only inside its user namespace.
///
/// Files and users: what `apt`, `useradd`, `sudo` and servers that drop their rights need.
/// `SysPtrace` lets root debug other users' processes of the container, `SysBoot` lets `poweroff`
/// end it, `AuditWrite` keeps `login` and `sshd` from stumbling, `NetRaw` is for `ping`.
///
/// Not given: `SysAdmin` and `NetAdmin`. They would be namespaced too, but open the kernel's mount
/// code and netfilter to the tenant, where the holes that lead out of containers are found. Nor
/// `Mknod`: the kernel refuses device nodes in a user namespace anyway.
const CAPABILITIES: [Capability; 15] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysPtrace,
];

/// The number of a capability in the kernel's masks.
fn number(capability: Capability) -> Option<u32> {
    Some(match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::NetBindService => 10,
        Capability::NetRaw => 13,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysBoot => 22,
        Capability::AuditWrite => 29,
        Capability::Setfcap => 31,
        _ => return None,
    })
}

/// The capabilities of a process of that user: others than root get theirs by set-user-id programs.
pub(super) fn capabilities(root: bool, bounding: u64) -> Result<LinuxCapabilities, OciSpecError> {
    let given: HashSet<Capability> = CAPABILITIES
        .into_iter()
        .filter(|&capability| number(capability).is_some_and(|n| bounding & (1 << n) != 0))
        .collect();
    let own = if root { given.clone() } else { HashSet::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(given)
        .effective(own.clone())
        .permitted(own)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
}

/// What this process may pass on at most, from its `/proc/PID/status`.
pub(super) fn bounding_set() -> u64 {
    // Without /proc nothing works anyway; then rather none than all.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_bounding_set(&status).unwrap_or_default()
}

fn parse_bounding_set(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Open files and core dumps as on a normal machine, at most what the host allows: raising a hard
/// limit needs a capability that the host may lack.
///
/// `tag`, from [`tag_of`], becomes the hard limit on real-time CPU time, which means nothing at such
/// a height. Limits pass to all descendants, whatever they do to their environment, name, session
/// or parent: a run's processes are known by it.
pub(super) fn limits(tag: Option<u64>) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let most = |resource| {
        rustix::process::getrlimit(resource)
            .maximum
            .unwrap_or(u64::MAX)
    };
    let files = most(Resource::Nofile).min(1 << 20);
    let mut limits = vec![
        limit(PosixRlimitType::RlimitNofile, files.min(1024), files)?,
        limit(PosixRlimitType::RlimitCore, 0, most(Resource::Core))?,
    ];
    if let Some(tag) = tag.filter(|&tag| most(Resource::Rttime) >= tag) {
        limits.push(limit(PosixRlimitType::RlimitRttime, tag, tag)?);
    }
    Ok(limits)
}

/// A number for a run's name: more microseconds than any CPU will run, and different for each.
pub(super) fn tag_of(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // Bit 61 makes it 73,000 years; below bit 63, as some tools read limits as signed.
    (u64::from_be_bytes(first) >> 3) | (1 << 61)
}

/// The tag in the text of `/proc/PID/limits`.
pub(super) fn parse_tag(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn limit(typ: PosixRlimitType, soft: u64, hard: u64) -> Result<PosixRlimit, OciSpecError> {
    PosixRlimitBuilder::default()
        .typ(typ)
        .soft(soft)
        .hard(hard)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_capability_gives_none() {
        let all = capabilities(true, u64::MAX).unwrap();
        assert_eq!(all.effective().as_ref().unwrap().len(), CAPABILITIES.len());
        let without = capabilities(true, !(1 << 22)).unwrap();
        assert!(
            !without
                .effective()
                .as_ref()
                .unwrap()
                .contains(&Capability::SysBoot)
        );
    }

    #[test]
    fn other_users_start_with_none() {
        let other = capabilities(false, u64::MAX).unwrap();
        assert!(other.effective().as_ref().unwrap().is_empty());
        assert!(!other.bounding().as_ref().unwrap().is_empty());
    }

    #[test]
    fn tags_differ_and_are_read_back() {
        assert_ne!(tag_of("a"), tag_of("b"));
        assert!(tag_of("a") >= 1 << 61 && tag_of("a") < 1 << 62);
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
            Max realtime timeout      42                   43                   us        \n";
        assert_eq!(parse_tag(text), Some(43));
        assert_eq!(
            parse_tag("Max realtime timeout  unlimited  unlimited  us"),
            None
        );
    }

    #[test]
    fn the_bounding_set_is_read() {
        assert_eq!(
            parse_bounding_set("Name:\tx\nCapBnd:\t00000000000000ff\n"),
            Some(0xff)
        );
        assert_eq!(parse_bounding_set("Name:\tx\n"), None);
    }
}
