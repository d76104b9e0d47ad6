//! The containers' network: routed, without a bridge.
//!
//! Each container has a veth pair. Its end is `eth0` with one address of the installation's
//! [`Subnet`] and nothing beside it: all goes to the gateway `169.254.1.1`, which is the other end.
//! This machine routes that one address to the link and, strictly, only takes that address from
//! it. So neighbours share no segment, there is no ARP or MAC to spoof, and the rules in
//! [`rules`] need not know a single container. Between the containers and the world it
//! masquerades; IPv6 is off on the links.
//!
//! What [`Network::ensure`] changes on the machine: `net.ipv4.ip_forward` is switched on and left
//! on, the installation's nftables table is written, two rules go into Docker's chain for
//! administrators where Docker is installed, and the whole block gets an `unreachable` route, so
//! that a packet to an address without a container ends here and that a second installation
//! chooses another block. While its server runs, a lock below `/run/hzel-blocks` says the same.
//!
//! Everything that belongs to an installation carries its four letters in its name: links
//! `hz1a2b-<slot>`, table `hzel_1a2b`.

pub(super) mod block;
mod claim;
pub(super) mod netlink;
pub(super) mod resolver;
mod rules;
pub(super) mod subnet;
pub(super) mod sysctl;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use self::claim::Claim;
use self::netlink::{Netlink, Scope};
use self::resolver::Resolver;
use self::subnet::Subnet;
use crate::runtime::RuntimeError;

/// Where every container sends what is not for itself.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link's name inside.
const INSIDE: &str = "eth0";
/// What links carry when this machine has no default route to take it from.
const USUAL_MTU: u32 = 1500;
/// How often a link that is being removed is looked for.
const GONE_POLL: Duration = Duration::from_millis(1);

/// The network of one installation; cheap to clone.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instance: String,
    subnet: Subnet,
    /// Keeps other installations from choosing the same; none where locks cannot be made.
    _claim: Option<Claim>,
    /// Of the default route's link at the last [`Network::ensure`]; 0 before.
    mtu: AtomicU32,
}

impl Network {
    /// Takes up the block remembered in `data_dir/native`, or chooses one and remembers it.
    /// Changes nothing on the machine.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when every block is in use here;
    /// [`RuntimeError::Failed`] when the file cannot be read or written.
    pub async fn new(instance: &str, data_dir: &Path) -> Result<Self, RuntimeError> {
        let instance = instance.to_owned();
        let file = block::file_in(data_dir);
        blocking(move || {
            let (subnet, claim) = block::take_up(&file, &instance)?;
            Ok(Self(Arc::new(Inner {
                instance,
                subnet,
                _claim: claim,
                mtu: AtomicU32::new(0),
            })))
        })
        .await
    }

    /// The block of addresses.
    #[cfg(test)]
    fn subnet(&self) -> Subnet {
        self.0.subnet
    }

    /// Makes the machine a router for the containers (see the module); again and again the same.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when the machine cannot do it.
    pub async fn ensure(&self) -> Result<(), RuntimeError> {
        let inner = Arc::clone(&self.0);
        let resolver = blocking(move || {
            if sysctl::read("net/ipv4/ip_forward") != "1" {
                sysctl::write("net/ipv4/ip_forward", "1").map_err(|cause| {
                    tracing::error!(%cause, "cannot switch forwarding on");
                    RuntimeError::Unavailable(
                        "net.ipv4.ip_forward is off and cannot be switched on here; run \
                         sysctl -w net.ipv4.ip_forward=1"
                            .into(),
                    )
                })?;
            }
            let mut host = Netlink::open().map_err(failed)?;
            inner
                .mtu
                .store(uplink_mtu(&mut host).map_err(failed)?, Ordering::Relaxed);
            let whole = netlink::unreachable_route(inner.subnet.network(), subnet::PREFIX);
            host.set_route(whole).map_err(failed)?;
            Ok(Resolver::of_this_machine())
        })
        .await?;
        rules::apply(&rules::Rules {
            table: self.table(),
            links: self.0.prefix(),
            subnet: self.0.subnet,
            gateway: GATEWAY,
            resolver,
        })
        .await
    }

    /// [`Self::ensure`], should somebody have undone it: a firewall that is reloaded begins by
    /// removing every table, ours too, and Docker comes with a firewall of its own.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn uphold(&self) -> Result<(), RuntimeError> {
        let forwards = sysctl::read("net/ipv4/ip_forward") == "1";
        if forwards && rules::are_there(&self.table()).await? {
            return rules::admit_in_docker(&self.0.prefix()).await;
        }
        tracing::warn!(
            "the containers' packet filter or forwarding was taken away; it is set again"
        );
        self.ensure().await
    }

    /// Takes back what [`Self::ensure`] did for this installation alone; forwarding stays on, for
    /// others may have come to need it.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the kernel refuses.
    pub async fn withdraw(&self) -> Result<(), RuntimeError> {
        rules::withdraw(&self.table(), &self.0.prefix()).await?;
        let network = self.0.subnet.network();
        blocking(move || {
            let mut host = Netlink::open().map_err(failed)?;
            let whole = netlink::unreachable_route(network, subnet::PREFIX);
            match host.delete_route(whole) {
                Err(cause) if cause.raw_os_error() != Some(libc::ESRCH) => Err(failed(cause)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// The address of the container in `slot`, which counts from 1; none when the block is
    /// exhausted.
    #[must_use]
    pub fn address(&self, slot: u32) -> Option<Ipv4Addr> {
        self.0.subnet.address(slot)
    }

    /// What a container's resolv.conf must name; empty when this machine names none that
    /// containers could reach.
    #[must_use]
    pub fn nameservers(&self) -> Vec<IpAddr> {
        match Resolver::of_this_machine() {
            Resolver::Servers(list) => list.into_iter().map(IpAddr::V4).collect(),
            Resolver::Loopback(_) => vec![IpAddr::V4(GATEWAY)],
            Resolver::None => Vec::new(),
        }
    }

    /// Removes what an earlier container of the slot left, so that [`Self::attach`] need not.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the kernel refuses.
    pub async fn prepare(&self, slot: u32) -> Result<(), RuntimeError> {
        self.detach(slot).await
    }

    /// Gives the network namespace of process `pid` its `eth0`, with address and routes, up. A
    /// link of that slot that is left from before is replaced.
    ///
    /// # Errors
    /// [`RuntimeError::NotRunning`] when there is no such process; [`RuntimeError::Failed`] when
    /// the kernel refuses or the process has this machine's own network.
    pub async fn attach(&self, slot: u32, pid: i32) -> Result<(), RuntimeError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.attach(slot, pid)).await
    }

    /// Removes the slot's link. Not an error when there is none.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the kernel refuses.
    pub async fn detach(&self, slot: u32) -> Result<(), RuntimeError> {
        let name = self.0.link(slot);
        let mut removal = {
            let name = name.clone();
            tokio::task::spawn_blocking(move || {
                let mut host = Netlink::open()?;
                remove(&mut host, &name)
            })
        };
        // The kernel answers only after a barrier of some 30 ms that is about its own memory. The
        // name is free, and nothing gets through, long before: that is what is waited for.
        let probe = Netlink::open().map_err(failed)?;
        loop {
            match tokio::time::timeout(GONE_POLL, &mut removal).await {
                Ok(ended) => {
                    return ended
                        .map_err(|cause| failed(io::Error::other(cause)))?
                        .map_err(failed);
                }
                Err(_) if probe.index(&name).is_err_and(|cause| is_gone(&cause)) => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// Bytes received and sent, as the container sees it, since its start.
    ///
    /// # Errors
    /// [`RuntimeError::NotRunning`] when the slot has no link.
    pub async fn counters(&self, slot: u32) -> Result<(u64, u64), RuntimeError> {
        // Two reads from memory, and no waiting for the lock that makes and removes links, as a
        // netlink request would: not worth another thread.
        let name = self.0.link(slot);
        let read = |counter: &str| -> Result<u64, RuntimeError> {
            let path = format!("/sys/class/net/{name}/statistics/{counter}");
            let text = std::fs::read_to_string(path).map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => RuntimeError::NotRunning,
                _ => failed(cause),
            })?;
            text.trim()
                .parse()
                .map_err(|cause| failed(io::Error::other(cause)))
        };
        // What this machine sends into the link is what the container receives.
        Ok((read("tx_bytes")?, read("rx_bytes")?))
    }

    /// Removes the links of this installation whose slot nobody knows, and names them.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when the kernel refuses.
    pub async fn sweep(&self, known_slots: &[u32]) -> Result<Vec<String>, RuntimeError> {
        let known: HashSet<String> = known_slots.iter().map(|slot| self.0.link(*slot)).collect();
        let prefix = self.0.prefix();
        blocking(move || {
            let mut host = Netlink::open().map_err(failed)?;
            let mut removed = host.links().map_err(failed)?;
            removed.retain(|name| name.starts_with(&prefix) && !known.contains(name));
            for name in &removed {
                remove(&mut host, name).map_err(failed)?;
            }
            Ok(removed)
        })
        .await
    }

    /// The name of our nftables table.
    fn table(&self) -> String {
        format!("hzel_{}", self.0.instance)
    }
}

impl Inner {
    /// What all names of our links begin with.
    fn prefix(&self) -> String {
        prefix(&self.instance)
    }

    /// The name of this machine's end of a slot's link: at most 15 bytes, as slots that have an
    /// address have five digits.
    fn link(&self, slot: u32) -> String {
        format!("{}{slot}", self.prefix())
    }

    fn attach(&self, slot: u32, pid: i32) -> Result<(), RuntimeError> {
        let address = self
            .subnet
            .address(slot)
            .ok_or_else(|| failed(io::Error::other(format!("slot {slot} has no address"))))?;
        let netns =
            std::fs::File::open(format!("/proc/{pid}/ns/net")).map_err(|cause| {
                match cause.kind() {
                    io::ErrorKind::NotFound => RuntimeError::NotRunning,
                    _ => failed(cause),
                }
            })?;
        if is_ours(&netns).map_err(failed)? {
            return Err(failed(io::Error::other(
                "the process has the machine's own network",
            )));
        }
        let name = self.link(slot);
        let mut host = Netlink::open().map_err(failed)?;
        let mtu = match self.mtu.load(Ordering::Relaxed) {
            0 => uplink_mtu(&mut host).map_err(failed)?,
            mtu => mtu,
        };
        let add = |host: &mut Netlink| host.add_veth(&name, INSIDE, netns.as_raw_fd(), mtu);
        match add(&mut host) {
            Err(cause) if cause.raw_os_error() == Some(libc::EEXIST) => {
                remove(&mut host, &name)
                    .and_then(|()| add(&mut host))
                    .map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let connected = connect_outside(&mut host, &name, address)
            .and_then(|()| in_network_of(netns.as_fd(), || connect_inside(address)));
        connected.map_err(|cause| {
            if let Err(cause) = remove(&mut host, &name) {
                tracing::warn!(link = name, %cause, "a half-made link is left");
            }
            failed(cause)
        })
    }
}

/// Sets up this machine's end of a link.
fn connect_outside(host: &mut Netlink, name: &str, address: Ipv4Addr) -> io::Result<()> {
    let v4 =
        |setting: &str, value| sysctl::write(&format!("net/ipv4/conf/{name}/{setting}"), value);
    v4("forwarding", "1")?;
    v4("rp_filter", "1")?;
    v4("accept_redirects", "0")?;
    v4("send_redirects", "0")?;
    v4("accept_source_route", "0")?;
    // Only for the resolver on the loopback, which the packet filter then singles out.
    let to_loopback = matches!(Resolver::of_this_machine(), Resolver::Loopback(_));
    v4("route_localnet", if to_loopback { "1" } else { "0" })?;
    // Before it is up: it then never has a link-local address. A kernel may have no IPv6 at all.
    match sysctl::write(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1") {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let link = host.index(name)?;
    host.add_address(link, GATEWAY, Scope::Link)?;
    host.up(link)?;
    host.set_route(netlink::direct_route(address, link, Some(GATEWAY)))
}

/// Sets up the container's end; the calling thread is in its network namespace.
fn connect_inside(address: Ipv4Addr) -> io::Result<()> {
    let mut inside = Netlink::open()?;
    let loopback = inside.index("lo")?;
    inside.up(loopback)?;
    let link = inside.index(INSIDE)?;
    inside.add_address(link, address, Scope::Universe)?;
    inside.up(link)?;
    inside.set_route(netlink::direct_route(GATEWAY, link, None))?;
    inside.set_route(netlink::default_route(GATEWAY, link))
}

/// Runs `work` on a thread that enters the namespace and ends there: no thread of a pool can ever
/// be left in a container's network.
fn in_network_of<F>(netns: std::os::fd::BorrowedFd<'_>, work: F) -> io::Result<()>
where
    F: FnOnce() -> io::Result<()> + Send,
{
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
                work()
            })?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// Whether a network namespace is the one this thread is in.
fn is_ours(netns: &std::fs::File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = std::fs::metadata("/proc/thread-self/ns/net")?;
    let theirs = netns.metadata()?;
    Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
}

/// Removes a link if it is there.
fn remove(host: &mut Netlink, name: &str) -> io::Result<()> {
    // Asking for the index first is far cheaper than a refused removal, which takes the lock
    // that links are made under.
    match host.index(name) {
        Err(cause) if is_gone(&cause) => return Ok(()),
        other => other?,
    };
    match host.delete_link(name) {
        Err(cause) if is_gone(&cause) => Ok(()),
        other => other,
    }
}

/// Whether an error says that there is no such link.
fn is_gone(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::ENODEV | libc::ENXIO | libc::ENOENT)
    )
}

/// The MTU of the link that leads everywhere else.
fn uplink_mtu(host: &mut Netlink) -> io::Result<u32> {
    let routes = host.routes()?;
    let uplink = routes
        .iter()
        .filter(|route| route.prefix == 0 && route.unicast && route.link.is_some())
        .min_by_key(|route| route.metric);
    let Some(index) = uplink.and_then(|route| route.link) else {
        return Ok(USUAL_MTU);
    };
    Ok(host.mtu(index)?.unwrap_or(USUAL_MTU))
}

/// What the names of an installation's links begin with.
fn prefix(instance: &str) -> String {
    format!("hz{instance}-")
}

/// Runs what asks the kernel on a thread that may wait.
async fn blocking<T, F>(work: F) -> Result<T, RuntimeError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, RuntimeError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|cause| failed(io::Error::other(cause)))?
}

fn failed(cause: io::Error) -> RuntimeError {
    RuntimeError::Failed {
        what: "the container's network could not be set up",
        cause: cause.to_string(),
    }
}
