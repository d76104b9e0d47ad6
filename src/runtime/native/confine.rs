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
pub(super) fn limits() -> Result<Vec<PosixRlimit>, OciSpecError> {
    let files = rustix::process::getrlimit(Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX);
    let cores = rustix::process::getrlimit(Resource::Core)
        .maximum
        .unwrap_or(u64::MAX);
    let files = files.min(1 << 20);
    Ok(vec![
        limit(PosixRlimitType::RlimitNofile, files.min(1024), files)?,
        limit(PosixRlimitType::RlimitCore, 0, cores)?,
    ])
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
    fn the_bounding_set_is_read() {
        assert_eq!(
            parse_bounding_set("Name:\tx\nCapBnd:\t00000000000000ff\n"),
            Some(0xff)
        );
        assert_eq!(parse_bounding_set("Name:\tx\n"), None);
    }
}
