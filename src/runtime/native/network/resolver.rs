//! Which name servers containers ask.
//!
//! A container can reach whatever this machine reaches, but not this machine's loopback, where
//! systemd-resolved and dnsmasq listen. So: the machine's own servers where they are elsewhere;
//! else what systemd-resolved asks in turn; else the gateway's port 53, which the rules of
//! [`super::rules`] lead to the resolver on the loopback.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Where the machine says whom it asks.
const OWN: &str = "/etc/resolv.conf";
/// What systemd-resolved asks, when [`OWN`] only names its stub.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// The C library reads no more of them.
const MOST: usize = 3;

/// How names are resolved in containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolver {
    /// By these servers, which containers reach by themselves.
    Servers(Vec<Ipv4Addr>),
    /// By a resolver that listens on this loopback address of the machine.
    Loopback(Ipv4Addr),
    /// Not at all: the machine names no server that containers could reach.
    None,
}

impl Resolver {
    /// Looks at this machine.
    pub fn of_this_machine() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self::decide(&read(OWN), &read(UPSTREAM))
    }

    /// Decides by the contents of the two files, either of which may be empty.
    fn decide(own: &str, upstream: &str) -> Self {
        let named = servers(own);
        let mut reachable: Vec<Ipv4Addr> = [&named, &servers(upstream)]
            .into_iter()
            .map(|list| list.iter().filter_map(reachable).collect::<Vec<_>>())
            .find(|list| !list.is_empty())
            .unwrap_or_default();
        reachable.truncate(MOST);
        if !reachable.is_empty() {
            return Self::Servers(reachable);
        }
        named
            .iter()
            .find_map(|address| match address {
                IpAddr::V4(address) if address.is_loopback() => Some(*address),
                // Resolvers that listen on ::1 listen on 127.0.0.1 too.
                IpAddr::V6(address) if address.is_loopback() => Some(Ipv4Addr::LOCALHOST),
                _ => None,
            })
            .map_or(Self::None, Self::Loopback)
    }
}

/// The `nameserver` lines of a resolv.conf.
fn servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
        })
        .collect()
}

/// The address, if a container can send to it: containers have no IPv6.
fn reachable(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => {
            Some(*address)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_elsewhere_are_used_as_they_are() {
        let own = "# made by dhcp\nsearch example.net\nnameserver 10.255.255.53\n\
                   nameserver fe80::1%eth0\nnameserver 127.0.0.1\nnameserver 192.0.2.1\n";
        assert_eq!(
            Resolver::decide(own, ""),
            Resolver::Servers(vec![[10, 255, 255, 53].into(), [192, 0, 2, 1].into()])
        );
    }

    #[test]
    fn a_stub_gives_way_to_what_it_asks() {
        assert_eq!(
            Resolver::decide("nameserver 127.0.0.53\n", "nameserver 192.0.2.9\n"),
            Resolver::Servers(vec![[192, 0, 2, 9].into()])
        );
    }

    #[test]
    fn a_resolver_on_the_loopback_is_led_to() {
        assert_eq!(
            Resolver::decide("nameserver 127.0.0.1\n", ""),
            Resolver::Loopback(Ipv4Addr::LOCALHOST)
        );
        assert_eq!(
            Resolver::decide("nameserver ::1\n", ""),
            Resolver::Loopback(Ipv4Addr::LOCALHOST)
        );
        assert_eq!(Resolver::decide("", ""), Resolver::None);
        assert_eq!(
            Resolver::decide("nameserver 2001:db8::1\n", ""),
            Resolver::None
        );
    }

    #[test]
    fn no_more_than_the_c_library_reads() {
        let own = "nameserver 192.0.2.1\n".repeat(5);
        let Resolver::Servers(list) = Resolver::decide(&own, "") else {
            panic!("no servers")
        };
        assert_eq!(list.len(), MOST);
    }
}
