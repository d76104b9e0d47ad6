//! The whole of it in network namespaces of the test's own: one that plays the machine, and one
//! for each container. Needs root and `nft`; without, there is nothing to see.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command};

use rustix::thread::UnshareFlags;

use super::*;

/// A process in a network namespace of its own.
struct Container(Child);

impl Container {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "60"])
            .spawn()
            .unwrap();
        let container = Self(child);
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        // It is there before it has its own.
        while std::fs::read_link(format!("/proc/{}/ns/net", container.pid())).ok()
            == Some(ours.clone())
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        container
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    /// Does something inside.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let mut result = None;
        in_network_of(netns.as_fd(), || {
            result = Some(work());
            Ok(())
        })
        .unwrap();
        result.unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Runs a test on a thread that has a machine's network for itself; not at all where that is not
/// possible.
fn on_a_machine_of_its_own(test: impl AsyncFnOnce(Network) + Send) {
    let able = rustix::process::geteuid().is_root()
        && Command::new("nft").arg("--version").output().is_ok();
    if !able {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: only this thread, and those it starts, get another network namespace.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut host = Netlink::open().unwrap();
                let lo = host.index("lo").unwrap();
                host.up(lo).unwrap();
                let network = Network::new("beef", directory.path()).await.unwrap();
                network.ensure().await.unwrap();
                network.ensure().await.unwrap();
                test(network).await;
            });
        });
    });
}

fn links() -> Vec<String> {
    let mut links = Netlink::open().unwrap().links().unwrap();
    links.retain(|name| name.starts_with("hz"));
    links.sort();
    links
}

/// Whether a datagram sent by `from` to `to` arrives at `socket`.
fn arrives(from: &Container, to: Ipv4Addr, socket: &UdpSocket) -> bool {
    let port = socket.local_addr().unwrap().port();
    socket
        .set_read_timeout(Some(Duration::from_millis(150)))
        .unwrap();
    from.run(|| {
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        // A refusal is as good as silence.
        sender.send_to(b"x", (to, port)).ok();
    });
    socket.recv(&mut [0; 8]).is_ok()
}

#[test]
fn links_come_and_go() {
    on_a_machine_of_its_own(async |network| {
        let (one, two) = (Container::new(), Container::new());
        network.prepare(1).await.unwrap();
        network.attach(1, one.pid()).await.unwrap();
        network.attach(2, two.pid()).await.unwrap();
        // Again: a leftover is replaced, in another container too.
        network.attach(2, two.pid()).await.unwrap();
        network.detach(1).await.unwrap();
        network.attach(1, one.pid()).await.unwrap();
        assert_eq!(links(), ["hzbeef-1", "hzbeef-2"]);
        assert_eq!(network.sweep(&[1]).await.unwrap(), ["hzbeef-2"]);
        network.detach(2).await.unwrap();
        network.detach(1).await.unwrap();
        assert!(links().is_empty());
        let gone = network.attach(3, i32::MAX).await;
        assert!(matches!(gone, Err(RuntimeError::NotRunning)), "{gone:?}");
        // This thread's network is what plays the machine's.
        let here = rustix::thread::gettid().as_raw_nonzero().get();
        let own = network.attach(3, here).await;
        assert!(matches!(own, Err(RuntimeError::Failed { .. })), "{own:?}");
        assert!(links().is_empty());
    });
}

#[test]
fn a_container_reaches_neither_its_neighbour_nor_the_machine() {
    on_a_machine_of_its_own(async |network| {
        let (one, two) = (Container::new(), Container::new());
        network.attach(1, one.pid()).await.unwrap();
        network.attach(2, two.pid()).await.unwrap();
        let address = network.address(2).unwrap();
        let neighbour = two.run(|| UdpSocket::bind((address, 0)).unwrap());
        let machine = UdpSocket::bind("0.0.0.0:0").unwrap();
        let service = two.run(|| TcpListener::bind((address, 0)).unwrap());

        // The machine reaches its containers.
        machine
            .send_to(b"x", neighbour.local_addr().unwrap())
            .unwrap();
        neighbour.recv(&mut [0; 8]).unwrap();
        std::net::TcpStream::connect(service.local_addr().unwrap()).unwrap();

        assert!(!arrives(&one, address, &neighbour));
        assert!(!arrives(&one, GATEWAY, &machine));
        // By a route of its own through the gateway, and from an address that is not its own.
        one.run(|| {
            let mut inside = Netlink::open().unwrap();
            let link = inside.index(INSIDE).unwrap();
            inside
                .set_route(netlink::direct_route(address, link, None))
                .unwrap();
            inside
                .add_address(link, network.address(9).unwrap(), Scope::Universe)
                .unwrap();
        });
        assert!(!arrives(&one, address, &neighbour));
        assert!(!arrives(&one, GATEWAY, &machine));
    });
}

#[test]
fn the_resolver_on_the_loopback_answers_and_nothing_else_there_does() {
    on_a_machine_of_its_own(async |network| {
        let one = Container::new();
        network.attach(1, one.pid()).await.unwrap();
        sysctl::write("net/ipv4/conf/hzbeef-1/route_localnet", "1").unwrap();
        let rules = rules::Rules {
            table: network.table(),
            links: network.0.prefix(),
            subnet: network.subnet(),
            gateway: GATEWAY,
            resolver: Resolver::Loopback(Ipv4Addr::LOCALHOST),
        };
        rules::apply(&rules).await.unwrap();
        let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
        resolver
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asker = one.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        asker
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        asker.send_to(b"question", (GATEWAY, 53)).unwrap();
        let mut buffer = [0; 16];
        let (_, from) = resolver.recv_from(&mut buffer).unwrap();
        resolver.send_to(b"answer", from).unwrap();
        assert_eq!(
            asker.recv_from(&mut buffer).unwrap().1,
            (GATEWAY, 53).into()
        );

        assert!(!arrives(&one, GATEWAY, &other));
        // Straight to this machine's loopback, out of the container by a route of its own.
        one.run(|| {
            let mut inside = Netlink::open().unwrap();
            let link = inside.index(INSIDE).unwrap();
            let victim = Ipv4Addr::new(127, 9, 9, 9);
            inside
                .set_route(netlink::direct_route(victim, link, None))
                .unwrap();
            sysctl::write("net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        });
        let victim = UdpSocket::bind("127.9.9.9:0").unwrap();
        assert!(!arrives(&one, Ipv4Addr::new(127, 9, 9, 9), &victim));
        assert!(!arrives(&one, Ipv4Addr::new(127, 9, 9, 9), &resolver));
    });
}

#[test]
fn the_block_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let first = Network::new("beef", directory.path()).await.unwrap();
        let again = Network::new("beef", directory.path()).await.unwrap();
        assert_eq!(first.subnet(), again.subnet());
        assert_eq!(block::remembered_in(directory.path()), Some(first.subnet()));
        std::fs::write(
            block::file_in(directory.path()),
            "{\"subnet\":\"8.8.0.0/16\"}",
        )
        .unwrap();
        assert!(Network::new("beef", directory.path()).await.is_err());
    });
}
