use std::collections::BTreeSet;

use super::super::model::Origin;
use super::super::policy::Settings;
use super::*;
use crate::config::model::PrefixRange;

fn import() -> Import {
    let range = |prefix: &str, min, max| PrefixRange { prefix: prefix.parse().unwrap(), min, max };
    Import {
        prefixes: vec![
            range("10.233.64.0/18", 24, 32),
            range("10.233.0.0/18", 18, 18),
            range("fd00:10::/32", 64, 128),
        ],
        next_hops: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
        own_blocks: vec!["10.233.71.64/26".parse().unwrap()],
        ..Import::default()
    }
}

const CONFIGURED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 201);

fn guards(import: &Import) -> Guards<'_> {
    Guards { import, service_ranges: &[], next_hop_peer: NextHopPeer::Accept, router_id: CONFIGURED }
}

fn session() -> PeerInfo {
    PeerInfo {
        peer: "10.0.0.1".parse().unwrap(),
        external: false,
        remote_as: 64512,
        local_as: 64512,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        local_router_id: Ipv4Addr::new(10, 0, 0, 200),
        local_address: "10.0.0.9".parse().unwrap(),
        families: vec![Family::Ipv4, Family::Ipv6],
        extended_next_hop: false,
        forwarding_preserved: vec![],
    }
}

fn attributes(change: impl FnOnce(&mut Attributes)) -> Attributes {
    let mut attributes = Attributes {
        origin: Origin::Igp,
        as_path: vec![AsSegment::Sequence(vec![65001])],
        next_hop: "10.0.0.5".parse().unwrap(),
        med: None,
        local_pref: Some(100),
        originator_id: Some(Ipv4Addr::new(10, 0, 0, 5)),
        cluster_list: vec![Ipv4Addr::new(244, 0, 0, 1)],
        communities: vec![],
        large_communities: vec![],
        settings: Settings::default(),
    };
    change(&mut attributes);
    attributes
}

#[test]
fn shared_attributes() {
    let cases: Vec<(&str, Attributes, Result<(), Refusal>)> = vec![
        ("of another node", attributes(|_| {}), Ok(())),
        (
            "our AS in the sequence",
            attributes(|a| a.as_path = vec![AsSegment::Sequence(vec![65001, 64512])]),
            Err(Refusal::AsLoop),
        ),
        (
            "our AS in a set",
            attributes(|a| a.as_path.push(AsSegment::Set(vec![1, 64512]))),
            Err(Refusal::AsLoop),
        ),
        (
            "our AS in a confederation sequence",
            attributes(|a| a.as_path.insert(0, AsSegment::ConfedSequence(vec![64512]))),
            Err(Refusal::AsLoop),
        ),
        (
            "ORIGINATOR_ID is the session's identifier",
            attributes(|a| a.originator_id = Some(Ipv4Addr::new(10, 0, 0, 200))),
            Err(Refusal::OriginatorLoop),
        ),
        (
            "ORIGINATOR_ID is the configured identifier",
            attributes(|a| a.originator_id = Some(CONFIGURED)),
            Err(Refusal::OriginatorLoop),
        ),
        (
            "our identifier in CLUSTER_LIST",
            attributes(|a| a.cluster_list.push(CONFIGURED)),
            Err(Refusal::ClusterLoop),
        ),
        (
            "next hop outside of the underlay",
            attributes(|a| a.next_hop = "192.0.2.1".parse().unwrap()),
            Err(Refusal::NextHopOutside),
        ),
    ];
    for (name, given, expected) in cases {
        assert_eq!(guards(&import()).check_attributes(&given, &session()), expected, "{name}");
    }
}

#[test]
fn prefixes_with_their_next_hop() {
    type Case<'a> = (&'a str, Import, PeerInfo, &'a str, &'a str, Result<(), Refusal>);
    use Refusal::{
        DefaultRoute, FamilyNotNegotiated, NextHopFamily, NextHopInsidePrefix, OwnBlock, PrefixNotAllowed,
    };
    let v4_only = PeerInfo { families: vec![Family::Ipv4], ..session() };
    let mut inside = import();
    inside.prefixes = vec![PrefixRange { prefix: "10.0.0.0/8".parse().unwrap(), min: 8, max: 32 }];
    inside.next_hops = vec!["10.0.0.0/8".parse().unwrap()];
    let cases: Vec<Case<'_>> = vec![
        ("pod block", import(), session(), "10.233.70.0/26", "10.0.0.5", Ok(())),
        ("shortest allowed", import(), session(), "10.233.70.0/24", "10.0.0.5", Ok(())),
        ("longest allowed", import(), session(), "10.233.70.1/32", "10.0.0.5", Ok(())),
        ("service range", import(), session(), "10.233.0.0/18", "10.0.0.5", Ok(())),
        ("too short", import(), session(), "10.233.64.0/18", "10.0.0.5", Err(PrefixNotAllowed)),
        ("one bit too short", import(), session(), "10.233.70.0/23", "10.0.0.5", Err(PrefixNotAllowed)),
        (
            "too long in the service range",
            import(),
            session(),
            "10.233.1.0/24",
            "10.0.0.5",
            Err(PrefixNotAllowed),
        ),
        ("covers the range", import(), session(), "10.0.0.0/8", "10.0.0.5", Err(PrefixNotAllowed)),
        ("outside", import(), session(), "192.0.2.0/24", "10.0.0.5", Err(PrefixNotAllowed)),
        ("own block", import(), session(), "10.233.71.64/26", "10.0.0.5", Err(OwnBlock)),
        ("inside an own block", import(), session(), "10.233.71.70/32", "10.0.0.5", Err(OwnBlock)),
        ("covers an own block", import(), session(), "10.233.71.0/24", "10.0.0.5", Ok(())),
        ("beside an own block", import(), session(), "10.233.71.0/26", "10.0.0.5", Ok(())),
        ("IPv6", import(), session(), "fd00:10:1::/64", "fd00::5", Ok(())),
        ("family not negotiated", import(), v4_only, "fd00:10:1::/64", "fd00::5", Err(FamilyNotNegotiated)),
        ("IPv6 prefix, IPv4 next hop", import(), session(), "fd00:10:1::/64", "10.0.0.5", Err(NextHopFamily)),
        ("next hop inside", inside, session(), "10.0.0.0/24", "10.0.0.5", Err(NextHopInsidePrefix)),
        ("default route", import(), session(), "0.0.0.0/0", "10.0.0.5", Err(DefaultRoute)),
        ("IPv6 default route", import(), session(), "::/0", "fd00::5", Err(DefaultRoute)),
    ];
    for (name, import, session, prefix, next_hop, expected) in cases {
        let (prefix, next_hop) = (prefix.parse().unwrap(), next_hop.parse().unwrap());
        let got = guards(&import).check_prefix(prefix, next_hop, &session);
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn default_route_needs_a_range_of_its_own() {
    let cases = [
        ("everything, any length", 0, 32, Err(Refusal::DefaultRoute)),
        ("everything but the default route", 8, 32, Err(Refusal::DefaultRoute)),
        ("the default route alone", 0, 0, Ok(())),
    ];
    for (name, min, max, expected) in cases {
        let mut import = import();
        import.prefixes = vec![PrefixRange { prefix: "0.0.0.0/0".parse().unwrap(), min, max }];
        let got = guards(&import).check_prefix(
            "0.0.0.0/0".parse().unwrap(),
            "10.0.0.5".parse().unwrap(),
            &session(),
        );
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn labels_are_unique_and_complete() {
    let labels: BTreeSet<&str> = Refusal::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels.len(), Refusal::ALL.len());
    assert!(labels.iter().all(|label| label.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    let sorted: BTreeSet<Refusal> = Refusal::ALL.into_iter().collect();
    assert!(sorted.into_iter().eq(Refusal::ALL), "in the order of the declaration, each once");
}
