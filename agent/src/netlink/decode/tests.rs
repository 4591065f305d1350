//! Messages as the kernel sends them.

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as Nud,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop as Hop, RouteNextHopFlags,
    RouteType as Kind,
};
use netlink_packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleMessage};

use super::{Decoder, Event, Placement, message_type as t};
use crate::netlink::model::{NeighbourState, Route, RouteType, Rule, RuleAction};
use crate::netlink::text;

fn bytes(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn address(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

fn route_message(destination: &str, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let prefix: ipnet::IpNet = destination.parse().expect("a prefix");
    let mut message = RouteMessage::default();
    message.header.address_family =
        if prefix.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = prefix.prefix_len();
    message.header.table = 254;
    message.header.protocol = 4.into();
    message.header.kind = Kind::Unicast;
    message.attributes.push(RouteAttribute::Destination(prefix.addr().into()));
    message.attributes.extend(attributes);
    message
}

fn route(message: &RouteMessage) -> Option<Route> {
    match Decoder::default().decode(t::NEWROUTE, 0, &bytes(message)).expect("readable") {
        Some(Event::Route(route, _)) => Some(route),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn hop(ifindex: u32, weight: u8, attributes: Vec<RouteAttribute>) -> Hop {
    let mut hop = Hop::default();
    hop.interface_index = ifindex;
    hop.hops = weight - 1;
    hop.attributes = attributes;
    hop
}

fn gateway(text: &str) -> RouteAttribute {
    RouteAttribute::Gateway(address(text).into())
}

#[test]
fn routes() {
    for (name, attributes, expected) in [
        ("by a gateway", vec![gateway("1.1.1.1"), RouteAttribute::Oif(2)], "10.1.0.0/24 via 1.1.1.1 dev 2"),
        ("on-link", vec![RouteAttribute::Oif(2), RouteAttribute::Priority(7)], "10.1.0.0/24 dev 2 metric 7"),
        (
            "a large table",
            vec![RouteAttribute::Oif(2), RouteAttribute::Table(1000)],
            "10.1.0.0/24 dev 2 table 1000",
        ),
        (
            "by IPv6",
            vec![RouteAttribute::Via(address("fe80::1").into()), RouteAttribute::Oif(2)],
            "10.1.0.0/24 via fe80::1 dev 2",
        ),
        (
            "MTU",
            vec![RouteAttribute::Oif(2), RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)])],
            "10.1.0.0/24 dev 2 mtu 1400",
        ),
        ("a nexthop object", vec![RouteAttribute::NhId(5)], "10.1.0.0/24 nhid 5"),
        (
            "multipath",
            vec![RouteAttribute::MultiPath(vec![
                hop(3, 2, vec![gateway("1.1.1.3")]),
                hop(2, 255, vec![gateway("1.1.1.2")]),
            ])],
            "10.1.0.0/24 nexthop via 1.1.1.3 dev 3 weight 2 nexthop via 1.1.1.2 dev 2 weight 255",
        ),
    ] {
        assert_eq!(route(&route_message("10.1.0.0/24", attributes)), Some(text::route(expected)), "{name}");
    }
}

#[test]
fn types_flags_and_families() {
    let mut message = route_message("10.1.0.0/24", Vec::new());
    for (kind, expected) in [
        (Kind::BlackHole, RouteType::Blackhole),
        (Kind::Unreachable, RouteType::Unreachable),
        (Kind::Prohibit, RouteType::Prohibit),
        (Kind::Throw, RouteType::Throw),
        (Kind::Local, RouteType::Local),
        (Kind::Other(77), RouteType::Unknown(77)),
    ] {
        message.header.kind = kind;
        assert_eq!(route(&message).map(|route| route.kind), Some(expected));
    }

    let mut message = route_message("10.1.0.0/24", vec![gateway("1.1.1.1"), RouteAttribute::Oif(2)]);
    message.header.flags = RouteFlags::Dead | RouteFlags::Linkdown | RouteFlags::Onlink;
    let hop = route(&message).expect("a route").next_hops.remove(0);
    assert!(hop.dead && hop.link_down && hop.on_link);

    let mut member = self::hop(2, 1, vec![gateway("1.1.1.1")]);
    member.flags = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    let hop = route(&route_message("10.1.0.0/24", vec![RouteAttribute::MultiPath(vec![member])]))
        .expect("a route")
        .next_hops
        .remove(0);
    assert!(hop.dead && hop.link_down && !hop.on_link);

    message.header.flags = RouteFlags::Cloned;
    assert_eq!(route(&message), None, "a cached route is none");
    message.header.flags = RouteFlags::empty();
    message.header.address_family = AddressFamily::Mpls;
    assert_eq!(Decoder::default().decode(t::NEWROUTE, 0, &bytes(&message)).expect("readable"), None);

    let both = |hops| {
        route(&route_message("fd00::/64", vec![RouteAttribute::MultiPath(hops)]))
            .expect("a route")
            .next_hops
            .clone()
    };
    let (one, other) = (self::hop(2, 1, vec![gateway("fe80::1")]), self::hop(3, 1, vec![gateway("fe80::1")]));
    assert_eq!(both(vec![one.clone(), other.clone()]), both(vec![other, one]), "IPv6 starts anywhere");
}

#[test]
fn what_may_matter_and_is_not_understood_is_marked() {
    let plain = || vec![gateway("1.1.1.1"), RouteAttribute::Oif(2)];
    let with = |attribute| {
        route(&route_message("10.1.0.0/24", plain().into_iter().chain([attribute]).collect()))
            .expect("a route")
    };
    for (name, attribute, unsupported) in [
        ("an unknown attribute", RouteAttribute::Other(DefaultNla::new(99, vec![1, 2, 3, 4])), true),
        ("a mangled one", RouteAttribute::Other(DefaultNla::new(6, vec![1])), true),
        ("a locked MTU", RouteAttribute::Metrics(vec![RouteMetric::Lock(4), RouteMetric::Mtu(1400)]), true),
        ("a locked window", RouteAttribute::Metrics(vec![RouteMetric::Lock(8)]), false),
        ("an expiry", RouteAttribute::Expires(30), false),
        ("padding", RouteAttribute::Other(DefaultNla::new(24, Vec::new())), false),
    ] {
        assert_eq!(with(attribute).unsupported, unsupported, "{name}");
    }
    // RTA_ENCAP_TYPE and RTA_ENCAP, by themselves and in a member of a multipath route.
    let encap = || RouteAttribute::Other(DefaultNla::new(21, vec![2, 0]));
    assert!(with(encap()).next_hops[0].encapsulated);
    let member = hop(2, 1, vec![gateway("1.1.1.1"), encap()]);
    let route =
        route(&route_message("10.1.0.0/24", vec![RouteAttribute::MultiPath(vec![member])])).expect("a route");
    assert!(route.unsupported || route.next_hops[0].encapsulated);
}

#[test]
fn placement_comes_from_the_flags() {
    let message = bytes(&route_message("10.1.0.0/24", vec![RouteAttribute::Oif(2)]));
    // NLM_F_REPLACE 0x100, NLM_F_EXCL 0x200, NLM_F_CREATE 0x400, NLM_F_APPEND 0x800
    for (flags, expected) in [
        (0x600, Placement::Sole),
        (0x400, Placement::First),
        (0xc00, Placement::Last),
        (0x100, Placement::Replace),
        (0x500, Placement::Replace),
    ] {
        let Some(Event::Route(_, placement)) =
            Decoder::default().decode(t::NEWROUTE, flags, &message).expect("readable")
        else {
            panic!("no route")
        };
        assert_eq!(placement, expected, "{flags:#x}");
    }
}

fn rule(change: impl FnOnce(&mut RuleMessage)) -> Rule {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = Action::ToTable;
    message.header.table = 254;
    message.attributes = vec![RuleAttribute::Priority(10), RuleAttribute::SuppressPrefixLen(u32::MAX)];
    change(&mut message);
    match Decoder::default().decode(t::NEWRULE, 0, &bytes(&message)).expect("readable") {
        Some(Event::Rule(rule)) => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules() {
    let with = |attribute: RuleAttribute| rule(|message| message.attributes.push(attribute));
    let known = |text: &str| text::state(text).rules.remove(0);
    for (found, expected) in [
        (rule(|_| {}), "rule 10 lookup 254"),
        (with(RuleAttribute::Table(1000)), "rule 10 lookup 1000"),
        (with(RuleAttribute::Iifname("eth0".into())), "rule 10 iif eth0 lookup 254"),
        (with(RuleAttribute::Oifname("eth0".into())), "rule 10 oif eth0 lookup 254"),
        (with(RuleAttribute::L3MDev(true)), "rule 10 l3mdev lookup 254"),
        (with(RuleAttribute::FwMark(5)), "rule 10 fwmark 5/4294967295 lookup 254"),
        (with(RuleAttribute::FwMask(3)), "rule 10 fwmark 0/3 lookup 254"),
        (with(RuleAttribute::SuppressPrefixLen(0)), "rule 10 suppress 0 lookup 254"),
        (with(RuleAttribute::SuppressIfGroup(u32::MAX)), "rule 10 lookup 254"),
        (with(RuleAttribute::SuppressIfGroup(7)), "rule 10 suppress_group lookup 254"),
        (rule(|message| message.header.flags = RuleFlags::Invert), "rule 10 not lookup 254"),
        (rule(|message| message.header.action = Action::Blackhole), "rule 10 blackhole"),
        (rule(|message| message.header.action = Action::Other(4)), "rule 10 action 4"),
        (
            rule(|message| {
                message.header.action = Action::Goto;
                message.attributes.push(RuleAttribute::Goto(99));
            }),
            "rule 10 goto 99",
        ),
        (
            rule(|message| {
                (message.header.src_len, message.header.dst_len) = (16, 24);
                message.attributes.push(RuleAttribute::Source(address("10.1.0.0")));
                message.attributes.push(RuleAttribute::Destination(address("10.2.0.0")));
            }),
            "rule 10 from 10.1.0.0/16 to 10.2.0.0/24 lookup 254",
        ),
    ] {
        assert_eq!(found, known(expected), "{expected}");
    }
}

#[test]
fn selectors_that_only_packets_decide() {
    let other = |change: fn(&mut RuleMessage)| rule(change).has_other_selector;
    assert!(!other(|_| {}));
    assert!(!other(|message| message.attributes.push(RuleAttribute::Protocol(4.into()))));
    assert!(
        !other(|message| message.attributes.push(RuleAttribute::Other(DefaultNla::new(18, Vec::new())))),
        "padding"
    );
    assert!(other(|message| message.header.tos = 16));
    assert!(other(|message| message.attributes.push(RuleAttribute::IpProtocol(6.into()))));
    assert!(other(|message| message.attributes.push(RuleAttribute::TunId(5))));
    assert!(
        other(|message| message.attributes.push(RuleAttribute::Other(DefaultNla::new(25, vec![8])))),
        "FRA_DSCP"
    );
    assert_eq!(
        rule(|message| message.header.action = Action::Goto).action,
        RuleAction::Unknown(2),
        "goto nowhere"
    );
}

#[test]
fn links_and_addresses() {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".into()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7]),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Controller(9),
        LinkAttribute::Link(3),
    ];
    let Some(Event::Link(link)) =
        Decoder::default().decode(t::NEWLINK, 0, &bytes(&message)).expect("readable")
    else {
        panic!("no link")
    };
    assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "eth0", 1500));
    assert_eq!((link.mac, link.master, link.lower), (Some([2, 0, 0, 0, 0, 7]), Some(9), Some(3)));
    assert!(link.up && link.carrier && !link.loopback);

    message.attributes[1] = LinkAttribute::Address(vec![0; 6]);
    let Some(Event::Link(link)) =
        Decoder::default().decode(t::NEWLINK, 0, &bytes(&message)).expect("readable")
    else {
        panic!("no link")
    };
    assert_eq!(link.mac, None, "loopback's");

    assert_eq!(
        Decoder::default().decode(t::DELLINK, 0, &bytes(&message)).expect("readable"),
        Some(Event::LinkGone(7))
    );
    message.header.interface_family = AddressFamily::Bridge;
    assert_eq!(
        Decoder::default().decode(t::DELLINK, 0, &bytes(&message)).expect("readable"),
        None,
        "left its bridge, not the machine"
    );

    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = 7;
    message.header.prefix_len = 31;
    message.attributes =
        vec![AddressAttribute::Address(address("10.0.0.1")), AddressAttribute::Local(address("10.0.0.0"))];
    let Some(Event::Address(found)) =
        Decoder::default().decode(t::NEWADDR, 0, &bytes(&message)).expect("readable")
    else {
        panic!("no address")
    };
    assert_eq!((found.ifindex, found.address.to_string().as_str()), (7, "10.0.0.0/31"));
}

#[test]
fn neighbours() {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 2;
    message.header.kind = Kind::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into())),
        NeighbourAttribute::LinkLayerAddress(vec![6, 0, 0, 0, 0, 1]),
    ];
    for (nud, expected) in [
        (Nud::Reachable, NeighbourState::Valid),
        (Nud::Stale, NeighbourState::Valid),
        (Nud::Delay, NeighbourState::Valid),
        (Nud::Probe, NeighbourState::Valid),
        (Nud::Permanent, NeighbourState::Valid),
        (Nud::Noarp, NeighbourState::Valid),
        (Nud::Incomplete, NeighbourState::Incomplete),
        (Nud::None, NeighbourState::Incomplete),
        (Nud::Failed, NeighbourState::Failed),
    ] {
        message.header.state = nud;
        let Some(Event::Neighbour(entry)) =
            Decoder::default().decode(t::NEWNEIGH, 0, &bytes(&message)).expect("readable")
        else {
            panic!("no entry")
        };
        assert_eq!((entry.state, entry.mac), (expected, Some([6, 0, 0, 0, 0, 1])), "{nud:?}");
    }
    message.header.flags = NeighbourFlags::Proxy;
    assert_eq!(
        Decoder::default().decode(t::NEWNEIGH, 0, &bytes(&message)).expect("readable"),
        None,
        "answers for others"
    );
    message.header.flags = NeighbourFlags::empty();
    message.header.kind = Kind::Multicast;
    assert_eq!(Decoder::default().decode(t::NEWNEIGH, 0, &bytes(&message)).expect("readable"), None);
}

#[test]
fn settings_and_nexthop_objects() {
    let attribute = |kind: u8| [8, 0, kind, 0, 1, 0, 0, 0];
    let message = |family: u8, kinds: &[u8]| -> Vec<u8> {
        [family, 0, 0, 0].into_iter().chain(kinds.iter().flat_map(|kind| attribute(*kind))).collect()
    };
    for (name, message, expected) in [
        ("rp_filter", message(2, &[1, 3]), Some(Event::Settings { linkdown: false })),
        ("linkdown", message(2, &[1, 7]), Some(Event::Settings { linkdown: true })),
        ("all of a new interface", message(2, &[1, 2, 3, 7]), Some(Event::Settings { linkdown: false })),
        ("IPv6", message(10, &[1, 2]), Some(Event::Settings { linkdown: false })),
        ("IPv6 linkdown", message(10, &[1, 7]), Some(Event::Settings { linkdown: true })),
        ("MPLS", message(28, &[1, 2]), None),
    ] {
        assert_eq!(
            Decoder::default().decode(t::NEWNETCONF, 0, &message).expect("readable"),
            expected,
            "{name}"
        );
    }
    assert_eq!(
        Decoder::default().decode(t::DELNEXTHOP, 0, &[2, 0, 0, 0]).expect("readable"),
        Some(Event::NexthopObject(None))
    );
    let id = [&[0; 8][..], &8_u16.to_ne_bytes(), &1_u16.to_ne_bytes(), &7_u32.to_ne_bytes()].concat();
    assert_eq!(
        Decoder::default().decode(t::NEWNEXTHOP, 0, &id).expect("readable"),
        Some(Event::NexthopObject(Some(7)))
    );
}

#[test]
fn garbage_is_an_error_or_nothing_never_a_panic() {
    let messages = [
        (
            t::NEWROUTE,
            bytes(&route_message(
                "10.1.0.0/24",
                vec![RouteAttribute::MultiPath(vec![hop(2, 1, vec![gateway("1.1.1.1")])])],
            )),
        ),
        (t::NEWRULE, {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            message.attributes = vec![RuleAttribute::Iifname("eth0".into()), RuleAttribute::Priority(1)];
            bytes(&message)
        }),
        (t::NEWLINK, {
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::IfName("eth0".into()), LinkAttribute::Mtu(1500)];
            bytes(&message)
        }),
    ];
    for (kind, message) in messages {
        for length in 0..message.len() {
            let _ = Decoder::default().decode(kind, 0, &message[..length]);
        }
        for at in 0..message.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut mangled = message.clone();
                mangled[at] = value;
                let _ = Decoder::default().decode(kind, 0, &mangled);
            }
        }
    }
}
