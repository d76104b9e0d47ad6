//! The packet filter: one nftables table for each installation, written whole by every
//! [`apply`], so that what was there before does not matter.
//!
//! Its rules name links by their prefix and addresses by the block, never a single container:
//! starting one costs no change here. A container reaches what is outside and the gateway's
//! answer to `ping`, but neither its neighbours, nor this machine's services on any address, nor
//! the link-local network, where clouds serve this machine's own credentials.
//!
//! An `accept` here does not overrule another table's `drop`. Docker sets the policy of the
//! `FORWARD` chain to `DROP` and leaves a chain, `DOCKER-USER`, to administrators: [`apply`] puts
//! two accepting rules for our links there. Other firewalls (ufw, firewalld) are left alone;
//! `hzel doctor` names the rule they need.

use std::net::Ipv4Addr;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::resolver::Resolver;
use super::subnet::Subnet;
use crate::runtime::RuntimeError;

/// Open connections one container may have through this machine, whose table of them all share.
const CONNECTIONS: u32 = 16_384;

/// What the rules are about.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The table's name.
    pub table: String,
    /// What the names of our links begin with.
    pub links: String,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    pub resolver: Resolver,
}

/// What not every kernel has; without the first, the links' `rp_filter` has to do.
#[derive(Debug, Clone, Copy)]
struct Features {
    /// Looking up the route back to a packet's source (`nft_fib_inet`).
    route_lookup: bool,
    /// Counting connections by source (`nft_connlimit`).
    connection_limit: bool,
}

impl Rules {
    /// The whole table as a script that replaces it in one transaction.
    fn script(&self, features: Features) -> String {
        let Self {
            table,
            links,
            subnet,
            gateway,
            ..
        } = self;
        let spoofed = if features.route_lookup {
            "fib saddr . iif oif missing drop"
        } else {
            ""
        };
        let (counts, too_many) = if features.connection_limit {
            (
                "set connections { type ipv4_addr; size 65535; flags dynamic; }".to_owned(),
                format!(
                    "ct state new add @connections {{ ip saddr ct count over {CONNECTIONS} }} drop"
                ),
            )
        } else {
            (String::new(), String::new())
        };
        let (to_resolver, resolver_through, resolver_chain) = match &self.resolver {
            Resolver::Servers(list) => {
                let list = list
                    .iter()
                    .map(Ipv4Addr::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                let rule = format!("ip daddr {{ {list} }} meta l4proto {{ tcp, udp }} th dport 53");
                (
                    format!("{rule} accept"),
                    format!("{rule} accept"),
                    String::new(),
                )
            }
            Resolver::Loopback(address) => (
                // Only what was led there: a packet sent to the loopback itself is dropped.
                format!(
                    "ct status dnat ip daddr {address} meta l4proto {{ tcp, udp }} th dport 53 accept"
                ),
                String::new(),
                format!(
                    "chain resolver {{\n\
                     type nat hook prerouting priority dstnat; policy accept;\n\
                     iifname \"{links}*\" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {address}\n\
                     }}"
                ),
            ),
            Resolver::None => (String::new(), String::new(), String::new()),
        };
        format!(
            "table inet {table}
delete table inet {table}
table inet {table} {{
{counts}
chain prerouting {{
type filter hook prerouting priority raw; policy accept;
iifname \"{links}*\" jump from_container
}}
chain from_container {{
meta nfproto != ipv4 drop
ip saddr != {subnet} drop
{spoofed}
}}
{resolver_chain}
chain input {{
type filter hook input priority filter - 5; policy accept;
iifname \"{links}*\" jump to_host
}}
chain to_host {{
ct state established,related accept
icmp type echo-request accept
{to_resolver}
drop
}}
chain forward {{
type filter hook forward priority filter - 5; policy accept;
iifname \"{links}*\" jump to_outside
oifname \"{links}*\" jump to_container
}}
chain to_outside {{
oifname \"{links}*\" drop
ct state invalid drop
ct state established,related accept
{resolver_through}
ip daddr 169.254.0.0/16 drop
{too_many}
accept
}}
chain to_container {{
ct state established,related accept
drop
}}
chain postrouting {{
type nat hook postrouting priority srcnat; policy accept;
ip saddr {subnet} oifname != \"{links}*\" masquerade
}}
}}
"
        )
    }
}

/// Replaces our table by one that follows these rules.
///
/// # Errors
/// [`RuntimeError::Unavailable`] when `nft` is missing, or the kernel cannot do what isolation
/// needs.
pub async fn apply(rules: &Rules) -> Result<(), RuntimeError> {
    let attempts = [
        Features {
            route_lookup: true,
            connection_limit: true,
        },
        Features {
            route_lookup: true,
            connection_limit: false,
        },
        Features {
            route_lookup: false,
            connection_limit: false,
        },
    ];
    let mut refusal = String::new();
    for features in attempts {
        // Without the lookup only strict reverse path filtering keeps a container from using a
        // neighbour's address, and a global 2 makes every link's 1 a loose one.
        if !features.route_lookup && super::sysctl::read("net/ipv4/conf/all/rp_filter") == "2" {
            return Err(RuntimeError::Unavailable(
                "the kernel cannot look up routes in nftables, and net.ipv4.conf.all.rp_filter \
                 is 2; load the module nft_fib_inet, or set the latter to 1"
                    .into(),
            ));
        }
        match run_nft(&rules.script(features)).await? {
            Ok(()) => {
                if !(features.route_lookup && features.connection_limit) {
                    tracing::warn!(?features, %refusal, "the kernel's nftables lacks a feature");
                }
                return admit_in_docker(&rules.links).await;
            }
            Err(said) => refusal = said,
        }
    }
    tracing::error!(%refusal, "nft refuses the rules");
    Err(RuntimeError::Unavailable(
        "the kernel refuses the packet filter's rules (nftables with NAT and connection \
         tracking is needed; see the log)"
            .into(),
    ))
}

/// Whether our table is there. It is replaced as a whole, by nobody but us.
///
/// # Errors
/// [`RuntimeError::Unavailable`] when `nft` is missing.
pub async fn are_there(table: &str) -> Result<bool, RuntimeError> {
    Ok(run_nft(&format!("list table inet {table}\n"))
        .await?
        .is_ok())
}

/// Removes our table, and what was let through Docker's firewall. Not an error when there is none.
///
/// # Errors
/// [`RuntimeError::Failed`] when `nft` does not run.
pub async fn withdraw(table: &str, links: &str) -> Result<(), RuntimeError> {
    // Made first, so that there is one to delete.
    let script = format!("table inet {table} {{}}\ndelete table inet {table}\n");
    if let Err(said) = run_nft(&script).await? {
        tracing::warn!(said, "the packet filter's rules stay");
    }
    if matches!(iptables(&["-n", "-L", "DOCKER-USER"]).await, Ok(true)) {
        for rule in docker_rules(&format!("{links}+")) {
            let arguments = [&["-D", "DOCKER-USER"], rule.as_slice()].concat();
            // One that is not there is gone already.
            let _absent = iptables(&arguments).await;
        }
    }
    Ok(())
}

/// Runs a script; the inner error is what `nft` said.
async fn run_nft(script: &str) -> Result<Result<(), String>, RuntimeError> {
    let failed = |cause: std::io::Error| RuntimeError::Failed {
        what: "the packet filter could not be set",
        cause: format!("nft: {cause}"),
    };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => RuntimeError::Unavailable(
                "nft is missing; install it: apt-get install nftables".into(),
            ),
            _ => failed(cause),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Lets our links through Docker's firewall, in the chain that Docker leaves to administrators.
pub(super) async fn admit_in_docker(links: &str) -> Result<(), RuntimeError> {
    // Docker needs iptables itself: no iptables, or no such chain, is no Docker.
    if !matches!(iptables(&["-n", "-L", "DOCKER-USER"]).await, Ok(true)) {
        return Ok(());
    }
    for rule in docker_rules(&format!("{links}+")) {
        let with = |action: &'static str| [&[action, "DOCKER-USER"], rule.as_slice()].concat();
        let present = iptables(&with("-C")).await;
        if matches!(present, Ok(false)) {
            let inserted = iptables(&with("-I")).await;
            if !matches!(inserted, Ok(true)) {
                return Err(RuntimeError::Failed {
                    what: "the packet filter could not be set",
                    cause: format!("iptables -I DOCKER-USER: {inserted:?}"),
                });
            }
        }
    }
    Ok(())
}

/// What goes out of our links, and what answers it.
fn docker_rules(links: &str) -> [Vec<&str>; 2] {
    let back = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT";
    [
        vec!["-i", links, "-j", "ACCEPT"],
        ["-o", links].into_iter().chain(back.split(' ')).collect(),
    ]
}

/// Whether `iptables` agrees; it waits for its lock, which Docker may hold.
async fn iptables(arguments: &[&str]) -> std::io::Result<bool> {
    let status = Command::new("iptables")
        .args(["-w", "5"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(resolver: Resolver) -> String {
        let subnet = Subnet::suitable(&[], &[]).next().unwrap();
        let rules = Rules {
            table: "hzel_1a2b".into(),
            links: "hz1a2b-".into(),
            subnet,
            gateway: [169, 254, 1, 1].into(),
            resolver,
        };
        rules.script(Features {
            route_lookup: true,
            connection_limit: true,
        })
    }

    /// The order matters: nothing may be accepted before neighbours are dropped.
    #[test]
    fn neighbours_are_dropped_before_anything_is_accepted() {
        let script = rules(Resolver::None);
        let chain = script.split("chain to_outside").nth(1).unwrap();
        assert!(chain.find("oifname \"hz1a2b-*\" drop").unwrap() < chain.find("accept").unwrap());
    }

    #[test]
    fn name_servers_are_reached_wherever_they_are() {
        let script = rules(Resolver::Servers(vec![[169, 254, 169, 253].into()]));
        let server = script.find("ip daddr { 169.254.169.253 }").unwrap();
        assert!(server < script.find("ip daddr 169.254.0.0/16 drop").unwrap());
        let script = rules(Resolver::Loopback(Ipv4Addr::LOCALHOST));
        assert!(script.contains("dnat ip to 127.0.0.1"));
        assert!(script.contains("ct status dnat ip daddr 127.0.0.1"));
    }

    #[test]
    fn braces_balance() {
        let script = rules(Resolver::Loopback(Ipv4Addr::LOCALHOST));
        assert_eq!(script.matches('{').count(), script.matches('}').count());
    }
}
