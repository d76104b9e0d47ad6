//! The block of addresses that one installation gives to its containers: how it is chosen, and
//! which container has which.

use std::net::Ipv4Addr;

use super::netlink::Route;

/// The part of an address that names its network: every block is a /16.
pub const PREFIX: u8 = 16;
/// Addresses given out in each /24: all but `.0` and `.255`, which some software takes for a
/// network's own.
const PER_ROW: u32 = 254;
const ROWS: u32 = 256;

/// A /16 of private addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet(u8, u8);

impl Subnet {
    /// What may be chosen, best first: the upper half of 10/8, where few put anything, then the
    /// middle of 172.16/12.
    fn candidates() -> impl Iterator<Item = Self> {
        (209..=254)
            .map(|second| Self(10, second))
            .chain((20..=29).map(|second| Self(172, second)))
    }

    /// Those that share no address with a route, an address or a name server of this machine, best
    /// first. Last come those that only have the `unreachable` route of an installation whose
    /// containers do not run: it may be gone for good, and nobody would ever remove that route.
    pub fn suitable<'a>(
        routes: &'a [Route],
        avoid: &'a [Ipv4Addr],
    ) -> impl Iterator<Item = Self> + 'a {
        let fits = move |candidate: Self, left_over: bool| {
            let mut marked = false;
            let free = routes
                .iter()
                .filter(|route| candidate.overlaps(route.destination, route.prefix))
                .all(|route| {
                    marked = true;
                    route.ours && !route.unicast
                });
            let asked = avoid.iter().any(|address| candidate.overlaps(*address, 32));
            free && !asked && marked == left_over
        };
        let fresh = Self::candidates().filter(move |candidate| fits(*candidate, false));
        fresh.chain(Self::candidates().filter(move |candidate| fits(*candidate, true)))
    }

    /// Reads the form that [`std::fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let network: Ipv4Addr = text.strip_suffix("/16")?.parse().ok()?;
        let [first, second, 0, 0] = network.octets() else {
            return None;
        };
        network.is_private().then_some(Self(first, second))
    }

    /// The block's first address.
    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0, self.1, 0, 0)
    }

    /// The address of the container in `slot`, which counts from 1; none when there are too many.
    pub fn address(self, slot: u32) -> Option<Ipv4Addr> {
        let position = slot.checked_sub(1)?;
        let row = position / PER_ROW;
        if row >= ROWS {
            return None;
        }
        let offset = row * 256 + position % PER_ROW + 1;
        Some(Ipv4Addr::from(u32::from(self.network()) + offset))
    }

    /// Whether a network has an address of this block. The route to everywhere has not: it is
    /// what is left when nothing else fits.
    pub fn overlaps(self, network: Ipv4Addr, prefix: u8) -> bool {
        if prefix == 0 {
            return false;
        }
        let shared = 32 - u32::from(prefix.min(PREFIX));
        (u32::from(network) >> shared) == (u32::from(self.network()) >> shared)
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{PREFIX}", self.network())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: [u8; 4], prefix: u8) -> Route {
        Route {
            destination: destination.into(),
            prefix,
            link: Some(2),
            metric: 0,
            ours: false,
            unicast: true,
        }
    }

    fn choose(routes: &[Route], avoid: &[Ipv4Addr]) -> Option<Subnet> {
        Subnet::suitable(routes, avoid).next()
    }

    #[test]
    fn the_first_free_block_is_chosen() {
        assert_eq!(choose(&[], &[]), Some(Subnet(10, 209)));
        assert_eq!(
            choose(&[route([0, 0, 0, 0], 0)], &[]),
            Some(Subnet(10, 209))
        );
        assert_eq!(
            choose(&[route([10, 209, 7, 0], 24)], &[]),
            Some(Subnet(10, 210))
        );
        assert_eq!(
            choose(&[route([10, 208, 0, 0], 14)], &[]),
            Some(Subnet(10, 212))
        );
        assert_eq!(
            choose(&[], &[[10, 209, 0, 53].into()]),
            Some(Subnet(10, 210))
        );
    }

    #[test]
    fn a_machine_that_routes_all_of_ten_gets_another() {
        let routes = [route([10, 0, 0, 0], 8), route([172, 20, 3, 1], 32)];
        assert_eq!(choose(&routes, &[]), Some(Subnet(172, 21)));
        let all = [route([10, 0, 0, 0], 8), route([172, 16, 0, 0], 12)];
        assert_eq!(choose(&all, &[]), None);
    }

    #[test]
    fn what_gone_installations_left_is_taken_last() {
        let mark = |second| Route {
            ours: true,
            unicast: false,
            link: None,
            ..route([10, second, 0, 0], 16)
        };
        let container = Route {
            ours: true,
            ..route([10, 209, 0, 1], 32)
        };
        let found: Vec<Subnet> =
            Subnet::suitable(&[mark(209), mark(210), container], &[]).collect();
        assert_eq!(found.first(), Some(&Subnet(10, 211)));
        assert_eq!(found.last(), Some(&Subnet(10, 210)));
        assert!(!found.contains(&Subnet(10, 209)), "its containers run");
        assert_eq!(found.len(), Subnet::candidates().count() - 1);
    }

    #[test]
    fn every_slot_has_an_address_of_its_own() {
        let subnet = Subnet(10, 209);
        assert_eq!(subnet.address(0), None);
        assert_eq!(subnet.address(1), Some([10, 209, 0, 1].into()));
        assert_eq!(subnet.address(254), Some([10, 209, 0, 254].into()));
        assert_eq!(subnet.address(255), Some([10, 209, 1, 1].into()));
        assert_eq!(
            subnet.address(PER_ROW * ROWS),
            Some([10, 209, 255, 254].into())
        );
        assert_eq!(subnet.address(PER_ROW * ROWS + 1), None);
        assert_eq!(subnet.address(u32::MAX), None);
    }

    #[test]
    fn it_is_remembered_as_text() {
        let subnet = Subnet(10, 240);
        assert_eq!(Subnet::parse(&subnet.to_string()), Some(subnet));
        for bad in [
            "",
            "10.240.0.0",
            "10.240.1.0/16",
            "8.8.0.0/16",
            "10.240.0.0/24",
        ] {
            assert_eq!(Subnet::parse(bad), None, "{bad}");
        }
    }
}
