//! A reflector that lies: what it must not achieve with the configuration that `underpass config example` shows,
//! nor where the operator's ranges are far too wide.

use super::*;
use crate::config::{Config, example_in_full, parse};

/// Interfaces of the gateway: loopback, rack, clients.
const OWN: [&str; 5] = ["127.0.0.1/8", "172.20.0.20/24", "198.51.100.1/24", "fd00:20::20/64", "fe80::20/64"];
const REFLECTOR: &str = "172.20.0.11";

type Change = fn(&mut Attributes);
/// Name, prefix, how the attributes differ from honest ones, and why it is refused.
type Case = (&'static str, &'static str, Change, Option<Refusal>);

fn honest(_: &mut Attributes) {}

fn example() -> Config {
    let parsed = parse(&example_in_full());
    assert_eq!(parsed.problems, []);
    parsed.config
}

/// What the example would be with careless ranges, for both families.
fn careless() -> Config {
    let mut config = example();
    let bgp = config.bgp.as_mut().unwrap();
    let range = |text: &str, min, max| PrefixRange { prefix: prefix(text), min, max };
    bgp.import.prefixes = vec![range("0.0.0.0/0", 8, 32), range("::/0", 16, 128)];
    bgp.import.next_hops.push(prefix("fd00:20::/64"));
    bgp.import.own_blocks = vec![prefix("10.233.70.0/26")];
    bgp.import.encapsulated = vec![prefix("10.233.128.0/18")];
    bgp.peers[0].families = vec![Family::Ipv4, Family::Ipv6];
    config.datapath.as_mut().unwrap().service_ranges = vec![prefix("10.233.0.0/18")];
    config
}

/// The RIB of that configuration with the reflector up.
fn lab(config: &Config) -> Lab {
    let bgp = config.bgp.as_ref().unwrap();
    let service_ranges = &config.datapath.as_ref().unwrap().service_ranges;
    let now = Instant::now();
    let own = OWN.iter().map(|text| text.parse::<IpNet>().unwrap()).collect();
    let mut lab = Lab { rib: Rib::new(RibConfig::new(bgp, service_ranges), own, now), now };
    let peer = &bgp.peers[0];
    assert_eq!(peer.address.to_string(), REFLECTOR);
    let reflector = PeerInfo {
        peer: peer.address,
        local_router_id: bgp.router_id,
        local_address: bgp.router_id.into(),
        families: peer.families.clone(),
        ..session(11)
    };
    lab.handle(RibEvent::PeerUp(reflector));
    lab
}

fn announce(lab: &mut Lab, list: Vec<Nlri>, change: Change) {
    let family = Family::of(list[0].prefix.addr());
    let mut attributes = Attributes::clone(&attributes(match family {
        Family::Ipv4 => "172.20.0.12",
        Family::Ipv6 => "fd00:20::12",
    }));
    change(&mut attributes);
    let peer = REFLECTOR.parse().unwrap();
    lab.handle(RibEvent::Update { peer, withdrawn: vec![], announced: Some((Arc::new(attributes), list)) });
}

fn check(config: &Config, cases: &[Case]) {
    for (name, text, change, expected) in cases {
        let mut lab = lab(config);
        announce(&mut lab, vec![Nlri { prefix: prefix(text), path_id: 0 }], *change);
        let refused: Vec<(Refusal, u64)> = lab.rib.filtered().iter().map(|(r, n)| (*r, *n)).collect();
        assert_eq!(refused, expected.iter().map(|reason| (*reason, 1)).collect::<Vec<_>>(), "{name}");
        assert_eq!(lab.rib.selected(&prefix(text)).is_none(), expected.is_some(), "{name}");
    }
}

#[test]
fn the_example_lets_in_what_it_is_for_and_nothing_else() {
    use Refusal::{
        AsLoop, ClusterLoop, DefaultRoute, FamilyNotNegotiated, Martian, NextHopOutside, NextHopOwn,
        OriginatorLoop, PrefixNotAllowed,
    };
    let us = Ipv4Addr::new(172, 20, 0, 20);
    assert_eq!(example().bgp.unwrap().router_id, us);
    check(
        &example(),
        &[
            ("a pod block", "10.233.65.0/26", honest, None),
            ("the service range", "10.233.0.0/18", honest, None),
            ("the default route", "0.0.0.0/0", honest, Some(DefaultRoute)),
            ("half of the default route", "128.0.0.0/1", honest, Some(Martian)),
            ("a quarter of it", "64.0.0.0/2", honest, Some(Martian)),
            ("an eighth of it", "32.0.0.0/3", honest, Some(PrefixNotAllowed)),
            (
                "the IPv6 default route",
                "::/0",
                |a| a.next_hop = "172.20.0.12".parse().unwrap(),
                Some(FamilyNotNegotiated),
            ),
            ("a node", "172.20.0.5/32", honest, Some(PrefixNotAllowed)),
            ("the nodes' network", "172.20.0.0/24", honest, Some(PrefixNotAllowed)),
            ("around the nodes' network", "172.16.0.0/12", honest, Some(PrefixNotAllowed)),
            ("our own address", "172.20.0.20/32", honest, Some(PrefixNotAllowed)),
            ("a network of ours", "198.51.100.0/24", honest, Some(PrefixNotAllowed)),
            ("a service", "10.233.0.1/32", honest, Some(PrefixNotAllowed)),
            ("all pods at once", "10.233.64.0/18", honest, Some(PrefixNotAllowed)),
            ("the internet's 8.8.8.0/24", "8.8.8.0/24", honest, Some(PrefixNotAllowed)),
            ("loopback", "127.0.0.0/8", honest, Some(Martian)),
            (
                "a pod block through us",
                "10.233.65.0/26",
                |a| a.next_hop = "172.20.0.20".parse().unwrap(),
                Some(NextHopOwn),
            ),
            (
                "a pod block through another network of ours",
                "10.233.65.0/26",
                |a| a.next_hop = "198.51.100.1".parse().unwrap(),
                Some(NextHopOutside),
            ),
            (
                "a pod block through the internet",
                "10.233.65.0/26",
                |a| a.next_hop = "192.0.2.1".parse().unwrap(),
                Some(NextHopOutside),
            ),
            (
                "a pod block through itself",
                "10.233.65.0/26",
                |a| a.next_hop = "10.233.65.1".parse().unwrap(),
                Some(NextHopOutside),
            ),
            (
                "a pod block through loopback",
                "10.233.65.0/26",
                |a| a.next_hop = "127.0.0.1".parse().unwrap(),
                Some(NextHopOutside),
            ),
            (
                "an IPv6 next hop",
                "10.233.65.0/26",
                |a| a.next_hop = "fd00:20::1".parse().unwrap(),
                Some(NextHopOutside),
            ),
            (
                "our AS in the path",
                "10.233.65.0/26",
                |a| a.as_path = vec![AsSegment::Sequence(vec![65001, 64512])],
                Some(AsLoop),
            ),
            (
                "our announcement come back",
                "10.233.65.0/26",
                |a| a.originator_id = Some(Ipv4Addr::new(172, 20, 0, 20)),
                Some(OriginatorLoop),
            ),
            (
                "our cluster",
                "10.233.65.0/26",
                |a| a.cluster_list = vec![Ipv4Addr::new(172, 20, 0, 20)],
                Some(ClusterLoop),
            ),
        ],
    );
}

#[test]
fn the_caps_of_the_example_hold() {
    let mut lab = lab(&example());
    let paths = (0..40).map(|path_id| Nlri { prefix: prefix("10.233.64.0/24"), path_id });
    announce(&mut lab, paths.collect(), honest);
    assert_eq!(*lab.rib.filtered(), [(Refusal::MaxPathsPerPrefix, 8)].into());

    let mut lab = self::lab(&example());
    let base = u32::from(Ipv4Addr::new(10, 233, 64, 0));
    let prefixes = (0..16_384)
        .map(|host| (base + host, 32))
        .chain((0..4000).map(|pair| (base + 2 * pair, 31)))
        .map(|(address, length)| IpNet::new(Ipv4Addr::from(address).into(), length).unwrap());
    announce(&mut lab, prefixes.map(|prefix| Nlri { prefix, path_id: 0 }).collect(), honest);
    assert_eq!(*lab.rib.filtered(), [(Refusal::MaxPrefixes, 384)].into());
    assert_eq!(lab.rib.selected_routes().len(), 20_000);
}

#[test]
fn ranges_for_everything_open_nothing_that_is_protected() {
    use Refusal::{
        DefaultRoute, EncapsulatedPool, Martian, NextHopFamily, NextHopInsidePrefix, NextHopOutside,
        NextHopOwn, OwnBlock, OwnNetwork, PrefixNotAllowed, ServiceAddress, UnderlayAddress,
    };
    check(
        &careless(),
        &[
            ("a pod block", "10.233.65.0/26", honest, None),
            ("anything else", "8.8.8.0/24", honest, None),
            ("around an own block", "10.233.70.0/25", honest, None),
            ("IPv6", "2001:db8::/48", honest, None),
            ("the default route", "0.0.0.0/0", honest, Some(DefaultRoute)),
            ("the IPv6 default route", "::/0", honest, Some(DefaultRoute)),
            ("half of the default route", "0.0.0.0/1", honest, Some(Martian)),
            ("an eighth of the default route", "32.0.0.0/3", honest, Some(PrefixNotAllowed)),
            ("a node", "172.20.0.5/32", honest, Some(UnderlayAddress)),
            ("a node of another rack", "173.20.0.5/32", honest, Some(UnderlayAddress)),
            ("our own address", "172.20.0.20/32", honest, Some(UnderlayAddress)),
            ("half of the nodes' network", "172.20.0.0/25", honest, Some(UnderlayAddress)),
            ("the nodes' network", "172.20.0.0/24", honest, Some(UnderlayAddress)),
            ("around the other rack's network", "173.16.0.0/12", honest, Some(UnderlayAddress)),
            ("the IPv6 address of a node", "fd00:20::5/128", honest, Some(UnderlayAddress)),
            ("a service", "10.233.0.1/32", honest, Some(ServiceAddress)),
            ("the service range", "10.233.0.0/18", honest, Some(ServiceAddress)),
            ("around the service range", "10.233.0.0/17", honest, Some(ServiceAddress)),
            ("a network of ours", "198.51.100.0/24", honest, Some(OwnNetwork)),
            ("a client of ours", "198.51.100.7/32", honest, Some(OwnNetwork)),
            ("the own block", "10.233.70.0/26", honest, Some(OwnBlock)),
            ("inside of the own block", "10.233.70.9/32", honest, Some(OwnBlock)),
            ("the encapsulated pool", "10.233.128.0/18", honest, Some(EncapsulatedPool)),
            ("a block of the encapsulated pool", "10.233.130.0/26", honest, Some(EncapsulatedPool)),
            ("around the encapsulated pool", "10.233.128.0/17", honest, Some(EncapsulatedPool)),
            ("this network", "0.0.0.0/8", honest, Some(Martian)),
            ("loopback", "127.0.0.0/8", honest, Some(Martian)),
            ("a resolver on loopback", "127.0.0.53/32", honest, Some(Martian)),
            ("the metadata service", "169.254.169.254/32", honest, Some(Martian)),
            ("around the metadata service", "169.0.0.0/8", honest, Some(Martian)),
            ("multicast", "224.0.0.0/4", honest, Some(Martian)),
            ("reserved", "240.0.0.0/4", honest, Some(Martian)),
            ("broadcast", "255.255.255.255/32", honest, Some(Martian)),
            ("IPv6 loopback", "::1/128", honest, Some(Martian)),
            ("the unspecified address", "::/128", honest, Some(Martian)),
            ("IPv4-mapped addresses", "::ffff:10.0.0.0/104", honest, Some(Martian)),
            ("link-local addresses", "fe80::/64", honest, Some(Martian)),
            ("IPv6 multicast", "ff02::/16", honest, Some(Martian)),
            ("through us", "8.8.8.0/24", |a| a.next_hop = "172.20.0.20".parse().unwrap(), Some(NextHopOwn)),
            (
                "through loopback",
                "8.8.8.0/24",
                |a| a.next_hop = "127.0.0.1".parse().unwrap(),
                Some(NextHopOutside),
            ),
            (
                "through the other family",
                "8.8.8.0/24",
                |a| a.next_hop = "fd00:20::12".parse().unwrap(),
                Some(NextHopFamily),
            ),
        ],
    );
    let mut inside = careless();
    inside.bgp.as_mut().unwrap().import.next_hops.push(prefix("8.8.0.0/16"));
    inside.bgp.as_mut().unwrap().import.prefixes.push(PrefixRange {
        prefix: prefix("8.8.0.0/16"),
        min: 16,
        max: 32,
    });
    let through_itself: Change = |a| a.next_hop = "8.8.8.8".parse().unwrap();
    check(&inside, &[("through itself", "8.8.8.0/24", through_itself, Some(NextHopInsidePrefix))]);
}

#[test]
fn a_range_that_is_meant_for_it_opens_a_protected_network() {
    let mut config = careless();
    let import = &mut config.bgp.as_mut().unwrap().import;
    let meant = ["172.20.0.64/26", "10.233.0.0/18", "198.51.100.128/25", "173.16.0.0/12", "169.0.0.0/8"];
    for text in meant {
        let prefix = prefix(text);
        import.prefixes.push(PrefixRange { prefix, min: prefix.prefix_len(), max: 32 });
    }
    check(
        &config,
        &[
            ("nodes of ours behind another", "172.20.0.64/27", honest, None),
            ("the service range", "10.233.0.0/18", honest, None),
            ("part of our network", "198.51.100.128/26", honest, None),
            ("around the other rack, as listed", "173.16.0.0/12", honest, None),
            ("around the metadata service, as listed", "169.0.0.0/8", honest, None),
            ("the rest of the nodes", "172.20.0.0/26", honest, Some(Refusal::UnderlayAddress)),
            ("around the other rack, not as listed", "173.20.0.0/16", honest, Some(Refusal::UnderlayAddress)),
            ("the rest of our network", "198.51.100.0/26", honest, Some(Refusal::OwnNetwork)),
            ("the metadata service", "169.254.169.254/32", honest, Some(Refusal::Martian)),
        ],
    );
}

#[test]
fn a_network_that_comes_up_takes_its_prefixes_back() {
    let mut lab = lab(&careless());
    announce(&mut lab, vec![Nlri { prefix: prefix("203.0.113.0/25"), path_id: 0 }], honest);
    assert_eq!(lab.next_hops("203.0.113.0/25"), ["172.20.0.12"]);
    let own =
        |more: &[&str]| OWN.iter().chain(more).map(|text| text.parse::<IpNet>().unwrap()).collect::<Own>();
    assert_eq!(names(&lab.rib.set_own(own(&["203.0.113.1/24"]))), ["203.0.113.0/25"]);
    assert_eq!(lab.next_hops("203.0.113.0/25"), [""; 0]);
    assert_eq!(names(&lab.rib.set_own(own(&[]))), ["203.0.113.0/25"]);
    assert_eq!(lab.next_hops("203.0.113.0/25"), ["172.20.0.12"]);
}

#[test]
fn the_reflector_itself_may_be_the_next_hop_unless_that_is_refused() {
    let through_it: Change = |a| a.next_hop = REFLECTOR.parse().unwrap();
    let mut config = example();
    check(&config, &[("by default", "10.233.65.0/26", through_it, None)]);
    config.bgp.as_mut().unwrap().peers[0].next_hop_peer = NextHopPeer::Refuse;
    check(&config, &[("refused", "10.233.65.0/26", through_it, Some(Refusal::NextHopPeer))]);
}
