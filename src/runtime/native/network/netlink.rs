//! A small blocking rtnetlink client: one socket, one request at a time, every answer waited for.
//!
//! Blocking on purpose: the kernel answers these requests before `send` returns, so an
//! asynchronous connection would only add a task that has to outlive the runtime it was spawned
//! on; and a socket that belongs to another network namespace must be opened by a thread that
//! has entered it. To add a request, build its message and call [`Netlink::ask`].

use std::io;
use std::net::Ipv4Addr;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

/// Marks routes as ours, in `/etc/iproute2/rt_protos` terms a number nobody else claims.
pub const OUR_PROTOCOL: RouteProtocol = RouteProtocol::Other(104);

/// The length of a netlink header, and the alignment of messages in a datagram.
const HEADER: usize = 16;
const ALIGN: usize = 4;

/// A connection to the kernel's routing tables of the network namespace it was opened in.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without this every refusal carries the whole request back.
        socket.set_cap_ack(true)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends one request and collects the answers; a refusal is the error the kernel named.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some(length) = message_length(rest) {
                let (one, tail) = rest.split_at(length);
                rest = tail
                    .get(padding(length).min(tail.len())..)
                    .unwrap_or_default();
                // A link of a kind this library cannot read is none of ours: skip it.
                let Ok(answer) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) else {
                    continue;
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        answers.push(inner);
                        if !dump && flags & NLM_F_ACK == 0 {
                            return Ok(answers);
                        }
                    }
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }

    /// Makes a veth pair: `name` here, `peer` in the network namespace `netns`, both down.
    pub fn add_veth(&mut self, name: &str, peer: &str, netns: i32, mtu: u32) -> io::Result<()> {
        let mut other = LinkUnspec::new_with_name(peer)
            .setns_by_fd(netns)
            .mtu(mtu)
            .build();
        other.header.flags = LinkFlags::empty();
        let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(other)))
            .build();
        self.ask(
            RouteNetlinkMessage::NewLink(link),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        )?;
        Ok(())
    }

    /// The index of the link `name`.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Switches a link on.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let link = LinkUnspec::new_with_index(index).up().build();
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK)?;
        Ok(())
    }

    /// Removes the link `name`, and with it its peer, its addresses and its routes.
    pub fn delete_link(&mut self, name: &str) -> io::Result<()> {
        let link = LinkUnspec::new_with_name(name).build();
        self.ask(RouteNetlinkMessage::DelLink(link), NLM_F_ACK)?;
        Ok(())
    }

    /// The names of all links that can be read.
    pub fn links(&mut self) -> io::Result<Vec<String>> {
        let answers = self.ask(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
        )?;
        let name = |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => {
                link.attributes
                    .into_iter()
                    .find_map(|attribute| match attribute {
                        LinkAttribute::IfName(name) => Some(name),
                        _ => None,
                    })
            }
            _ => None,
        };
        Ok(answers.into_iter().filter_map(name).collect())
    }

    /// The MTU of a link, in bytes.
    pub fn mtu(&mut self, index: u32) -> io::Result<Option<u32>> {
        let query = LinkUnspec::new_with_index(index).build();
        let answers = self.ask(RouteNetlinkMessage::GetLink(query), 0)?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => {
                link.attributes
                    .into_iter()
                    .find_map(|attribute| match attribute {
                        LinkAttribute::Mtu(mtu) => Some(mtu),
                        _ => None,
                    })
            }
            _ => None,
        }))
    }

    /// Gives a link the address, alone in its network.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, scope: Scope) -> io::Result<()> {
        let mut message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address, 32)
            .build();
        message.header.scope = match scope {
            Scope::Link => AddressScope::Link,
            Scope::Universe => AddressScope::Universe,
        };
        self.ask(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )?;
        Ok(())
    }

    /// Adds or replaces a route.
    pub fn set_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.ask(
            RouteNetlinkMessage::NewRoute(route),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )?;
        Ok(())
    }

    /// All IPv4 routes of all tables, the local addresses' own included.
    pub fn delete_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::DelRoute(route), NLM_F_ACK)?;
        Ok(())
    }

    /// All of them.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let answers = self.ask(RouteNetlinkMessage::GetRoute(query), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => Some(Route::from(&route)),
                _ => None,
            })
            .collect())
    }
}

/// How far an address or route is meant to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Link,
    Universe,
}

/// What of a route matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: Ipv4Addr,
    pub prefix: u8,
    /// The index of the link it leaves by; none for unreachable ones.
    pub link: Option<u32>,
    /// The lower, the better.
    pub metric: u32,
    /// Whether it carries [`OUR_PROTOCOL`].
    pub ours: bool,
    pub unicast: bool,
}

impl From<&RouteMessage> for Route {
    fn from(message: &RouteMessage) -> Self {
        let mut route = Self {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: message.header.destination_prefix_length,
            link: None,
            metric: 0,
            ours: message.header.protocol == OUR_PROTOCOL,
            unicast: message.header.kind == RouteType::Unicast,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    route.destination = *address;
                }
                RouteAttribute::Oif(index) => route.link = Some(*index),
                RouteAttribute::Priority(metric) => route.metric = *metric,
                _ => {}
            }
        }
        route
    }
}

/// A route to one address, directly over a link; packets from this machine carry `source`.
pub fn direct_route(to: Ipv4Addr, link: u32, source: Option<Ipv4Addr>) -> RouteMessage {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to, 32)
        .output_interface(link)
        .scope(RouteScope::Link)
        .protocol(OUR_PROTOCOL);
    if let Some(source) = source {
        route = route.pref_source(source);
    }
    route.build()
}

/// The route to everywhere else over a gateway that is on the link whatever the addresses say.
pub fn default_route(gateway: Ipv4Addr, link: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .output_interface(link)
        .onlink()
        .build()
}

/// A route that refuses a whole network, but what has a route of its own.
pub fn unreachable_route(network: Ipv4Addr, prefix: u8) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network, prefix)
        .kind(RouteType::Unreachable)
        .protocol(OUR_PROTOCOL)
        .build()
}

/// The length of the first message in a datagram, if one is whole.
fn message_length(datagram: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (length >= HEADER && length <= datagram.len()).then_some(length)
}

/// The bytes that follow a message of that length up to the next one.
fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGN) - length
}
