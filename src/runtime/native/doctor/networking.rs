//! Forwarding, filtering, addresses and names.

use std::path::Path;

use super::super::network::block::remembered_in;
use super::super::network::netlink::{Netlink, Route};
use super::super::network::resolver::Resolver;
use super::super::network::subnet::Subnet;
use super::super::network::sysctl;
use super::{broken, ok, output, program, text, warning};
use crate::runtime::Finding;

/// All checks of this kind.
pub fn examine(data_dir: &Path) -> Vec<Finding> {
    let subnet = remembered_in(data_dir);
    vec![
        packet_filter(),
        forwarding(),
        other_firewalls(subnet),
        addresses(subnet),
        names(),
    ]
}

fn packet_filter() -> Finding {
    const NAME: &str = "nftables";
    if program("nft").is_none() {
        return broken(NAME, "nft is missing", "apt-get install nftables");
    }
    match output("nft", &["--version"]) {
        Some(version) if output("nft", &["list", "tables"]).is_some() => ok(NAME, version.trim()),
        _ => broken(
            NAME,
            "nft does not work here",
            "run hzel as root, on a kernel with nftables (modprobe nf_tables)",
        ),
    }
}

fn forwarding() -> Finding {
    const NAME: &str = "forwarding";
    if sysctl::read("net/ipv4/ip_forward") == "1" {
        return ok(NAME, "on");
    }
    // Whether it may be written is told without writing it.
    let may = rustix::fs::access(
        "/proc/sys/net/ipv4/ip_forward",
        rustix::fs::Access::WRITE_OK,
    );
    match may {
        Ok(()) => ok(NAME, "off; hzel switches it on with the first container"),
        Err(_) => broken(
            NAME,
            "net.ipv4.ip_forward is off, and hzel may not switch it on",
            "sysctl -w net.ipv4.ip_forward=1, and the same in a file of /etc/sysctl.d",
        ),
    }
}

/// A chain that decides about forwarded packets.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    /// Docker's, with a chain in which we are let through.
    Docker,
    Ufw,
    Firewalld,
    /// Its table and chain.
    Unknown(String),
}

fn other_firewalls(subnet: Option<Subnet>) -> Finding {
    const NAME: &str = "other firewalls";
    let mut rules = output("nft", &["list", "ruleset"]).unwrap_or_default();
    if text("/proc/net/ip_tables_names")
        .lines()
        .any(|table| table == "filter")
    {
        // The older tables, which nft does not see.
        rules.push_str(&output("iptables-legacy", &["-S"]).unwrap_or_default());
    }
    let subnet = subnet.map_or_else(|| "the containers' subnet".to_owned(), |it| it.to_string());
    match obstacle(&rules) {
        None => ok(NAME, "none in the way"),
        Some(Obstacle::Docker) => ok(
            NAME,
            "Docker's; containers are let through its chain DOCKER-USER",
        ),
        Some(Obstacle::Ufw) => warning(
            NAME,
            "ufw drops what containers send to the outside",
            format!("ufw route allow from {subnet}"),
        ),
        Some(Obstacle::Firewalld) => warning(
            NAME,
            "firewalld may reject what containers send to the outside",
            format!(
                "firewall-cmd --permanent --zone=trusted --add-source={subnet} && firewall-cmd \
                 --reload"
            ),
        ),
        Some(Obstacle::Unknown(chain)) => warning(
            NAME,
            format!("{chain} drops what containers send to the outside, if no rule of it accepts"),
            format!(
                "add rules to it that accept what comes from {subnet}, and what is established \
                 back to it"
            ),
        ),
    }
}

/// Who else stands between containers and the outside, by all rules of the machine.
fn obstacle(rules: &str) -> Option<Obstacle> {
    // ufw first: it keeps its own chains where Docker's may be too, and does not let us through.
    if rules.contains("ufw-before-forward") || rules.contains("ufw-user-forward") {
        return Some(Obstacle::Ufw);
    }
    if rules
        .lines()
        .any(|line| line.trim() == "table inet firewalld {")
    {
        return Some(Obstacle::Firewalld);
    }
    let mut table = "";
    let mut chain = "";
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        }
        let nft = line.contains("hook forward") && line.contains("policy drop");
        let legacy = line == "-P FORWARD DROP";
        // What filters bridges or IPv6 alone is not on the containers' way.
        let elsewhere = nft && !(table.starts_with("ip ") || table.starts_with("inet "));
        if (nft || legacy) && !elsewhere && !table.starts_with("inet hzel_") {
            if rules.contains("DOCKER-USER") && (legacy || chain == "FORWARD") {
                return Some(Obstacle::Docker);
            }
            return Some(Obstacle::Unknown(if legacy {
                "the chain FORWARD of iptables".to_owned()
            } else {
                format!("the chain {chain} of table {table}")
            }));
        }
    }
    None
}

fn addresses(subnet: Option<Subnet>) -> Finding {
    const NAME: &str = "container addresses";
    let routes = match Netlink::open().and_then(|mut host| host.routes()) {
        Ok(routes) => routes,
        Err(cause) => {
            let remedy = "run hzel as root, outside of a container";
            return broken(NAME, format!("routes cannot be read: {cause}"), remedy);
        }
    };
    let Some(subnet) = subnet else {
        return match Subnet::suitable(&routes, &[]).next() {
            Some(subnet) => ok(NAME, format!("{subnet} is free")),
            None => broken(
                NAME,
                "this machine routes all private networks that hzel would choose from",
                "remove a route that is wider than it needs to be, such as one to all of 10.0.0.0/8",
            ),
        };
    };
    let foreign = |route: &&Route| !route.ours && subnet.overlaps(route.destination, route.prefix);
    match routes.iter().find(foreign) {
        None => ok(NAME, subnet.to_string()),
        Some(route) => warning(
            NAME,
            format!(
                "{subnet} overlaps a route to {}/{} that came later",
                route.destination, route.prefix
            ),
            "remove that route; or, with no container left, remove native/network.json in the \
             data directory and restart hzel",
        ),
    }
}

fn names() -> Finding {
    const NAME: &str = "name resolution";
    match Resolver::of_this_machine() {
        Resolver::Servers(list) => {
            let list = list
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            ok(NAME, format!("containers ask {list}"))
        }
        Resolver::Loopback(address) => ok(
            NAME,
            format!("containers are led to this machine's resolver at {address}"),
        ),
        Resolver::None => warning(
            NAME,
            "/etc/resolv.conf names no server that containers could ask over IPv4",
            "add a line such as: nameserver 9.9.9.9",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firewalls_are_told_apart() {
        let docker = "table ip filter {\n\tchain DOCKER-USER {\n\t}\n\tchain FORWARD {\n\t\t\
                      type filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert_eq!(obstacle(docker), Some(Obstacle::Docker));
        let legacy = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n";
        assert_eq!(obstacle(legacy), Some(Obstacle::Docker));
        let ufw = format!("{docker}\n\tchain ufw-before-forward {{\n\t}}\n");
        assert_eq!(obstacle(&ufw), Some(Obstacle::Ufw));
        assert_eq!(
            obstacle("table inet firewalld {\n}\n"),
            Some(Obstacle::Firewalld)
        );
        let own = "table inet mine {\n\tchain fwd {\n\t\ttype filter hook forward priority 0; \
                   policy drop;\n\t}\n}\n";
        assert_eq!(
            obstacle(own),
            Some(Obstacle::Unknown("the chain fwd of table inet mine".into()))
        );
    }

    #[test]
    fn what_is_not_on_the_way_is_not_in_the_way() {
        let chain = "chain f {\n type filter hook forward priority 0; policy drop;\n}\n}\n";
        for table in ["table ip6 filter {\n", "table bridge filter {\n"] {
            assert_eq!(obstacle(&format!("{table}{chain}")), None, "{table}");
        }
        let input = "table inet f {\nchain i {\n type filter hook input priority 0; policy drop;\n";
        assert_eq!(obstacle(input), None);
        assert_eq!(obstacle(""), None);
    }
}
