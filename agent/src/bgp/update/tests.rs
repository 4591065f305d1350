mod boundaries;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::bgp::testing::{OUR_AS, PEER, PEER_AS, message, received, update_body};
use crate::bgp::wire::{self, Encoding, Message};
use crate::rib::model::Origin;

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 10, 2, 2, 0, 0, 0xfc, 0x01, 0, 0, 0xfd, 0xe8]; // 64513 65000
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 5];
const MED: &[u8] = &[0x80, 4, 4, 0, 0, 0, 7];
const LOCAL_PREF: &[u8] = &[0x40, 5, 4, 0x80, 0, 0, 1];
const COMMUNITIES: &[u8] = &[0xc0, 8, 4, 0xfc, 0, 0, 9];
const ORIGINATOR: &[u8] = &[0x80, 9, 4, 10, 0, 0, 3];
const CLUSTERS: &[u8] = &[0x80, 10, 8, 1, 1, 1, 1, 2, 2, 2, 2];
/// 4200000000:1:2, 3:4:5, and the first again.
const LARGE: &[u8] = &[
    0xc0, 32, 36, 0xfa, 0x56, 0xea, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0xfa,
    0x56, 0xea, 0, 0, 0, 0, 1, 0, 0, 0, 2,
];
/// 10.64.1.0/26 and 10.64.2.0/24.
const NLRI: &[u8] = &[26, 10, 64, 1, 0, 24, 10, 64, 2];
/// `fd00:1::/48` via `fd00::5`.
const MP_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 48, 0xfd, 0, 0, 1, 0, 0,
];
/// `fd00:2::/48`.
const MP_UNREACH: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0xfd, 0, 0, 2, 0, 0];

type AttributeList = &'static [&'static [u8]];

/// What an IPv4 announcement must have.
const MANDATORY: AttributeList = &[ORIGIN, AS_PATH, NEXT_HOP];
/// All that are used.
const EVERY: AttributeList =
    &[ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, COMMUNITIES, ORIGINATOR, CLUSTERS, LARGE];

#[derive(Clone, Copy)]
struct Kind {
    external: bool,
    four_octet_as: bool,
    families: &'static [Family],
    add_path: &'static [Family],
    extended_next_hop: bool,
}

const EXTERNAL: Kind = Kind {
    external: true,
    four_octet_as: true,
    families: &[Family::Ipv4, Family::Ipv6],
    add_path: &[],
    extended_next_hop: false,
};
const INTERNAL: Kind = Kind { external: false, ..EXTERNAL };

fn run(kind: Kind, withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Result<Outcome, Notification> {
    let body = update_body(withdrawn, &attributes.concat(), nlri);
    let Ok(Message::Update(update)) = received(&message(2, &body)) else { panic!("an UPDATE") };
    let encoding = Encoding {
        four_octet_as: kind.four_octet_as,
        external: kind.external,
        families: kind.families,
        extended_next_hop: kind.extended_next_hop,
        add_path: kind.add_path,
    };
    let remote_as = if kind.external { PEER_AS } else { OUR_AS };
    let session = Session { peer: PEER, remote_as, external: kind.external };
    wire::parse(&update, encoding).and_then(|parsed| outcome(session, parsed))
}

fn nlri(prefix: &str) -> Nlri {
    Nlri { prefix: prefix.parse().unwrap(), path_id: 0 }
}

fn attributes() -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: vec![AsSegment::Sequence(vec![64513, 65000])],
        next_hop: Ipv4Addr::new(10, 0, 0, 5).into(),
        med: None,
        local_pref: None,
        originator_id: None,
        cluster_list: vec![],
        communities: vec![],
        large_communities: vec![],
        settings: Settings::default(),
    }
}

fn both() -> Vec<Nlri> {
    vec![nlri("10.64.1.0/26"), nlri("10.64.2.0/24")]
}

fn announce(attributes: Attributes, prefixes: Vec<Nlri>) -> RibEvent {
    RibEvent::Update { peer: PEER, withdrawn: vec![], announced: Some((Arc::new(attributes), prefixes)) }
}

fn withdraw(withdrawn: Vec<Nlri>) -> RibEvent {
    RibEvent::Update { peer: PEER, withdrawn, announced: None }
}

#[test]
fn well_formed_updates() {
    struct Case {
        name: &'static str,
        kind: Kind,
        withdrawn: &'static [u8],
        attributes: AttributeList,
        nlri: &'static [u8],
        expected: Vec<RibEvent>,
    }
    let full = Attributes {
        med: Some(7),
        local_pref: Some(0x8000_0001),
        originator_id: Some(Ipv4Addr::new(10, 0, 0, 3)),
        cluster_list: vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2)],
        communities: vec![0xfc00_0009],
        large_communities: vec![[3, 4, 5], [4_200_000_000, 1, 2]],
        ..attributes()
    };
    let seen_from_outside =
        Attributes { local_pref: None, originator_id: None, cluster_list: vec![], ..full.clone() };
    let v6 = Attributes { next_hop: "fd00::5".parse::<Ipv6Addr>().unwrap().into(), ..attributes() };
    let cases = [
        Case {
            name: "announced by an external peer",
            kind: EXTERNAL,
            withdrawn: &[],
            attributes: MANDATORY,
            nlri: NLRI,
            expected: vec![announce(attributes(), both())],
        },
        Case {
            name: "all attributes from an internal peer, LOCAL_PREF with its highest bit",
            kind: INTERNAL,
            withdrawn: &[],
            attributes: EVERY,
            nlri: NLRI,
            expected: vec![announce(full, both())],
        },
        Case {
            name: "three of them count for nothing from an external peer",
            kind: EXTERNAL,
            withdrawn: &[],
            attributes: EVERY,
            nlri: NLRI,
            expected: vec![announce(seen_from_outside, both())],
        },
        Case {
            name: "withdrawn only",
            kind: EXTERNAL,
            withdrawn: NLRI,
            attributes: &[],
            nlri: &[],
            expected: vec![withdraw(both())],
        },
        Case {
            name: "withdrawn and announced",
            kind: EXTERNAL,
            withdrawn: &[8, 11],
            attributes: MANDATORY,
            nlri: NLRI,
            expected: vec![RibEvent::Update {
                peer: PEER,
                withdrawn: vec![nlri("11.0.0.0/8")],
                announced: Some((Arc::new(attributes()), both())),
            }],
        },
        Case {
            name: "IPv6 needs no NEXT_HOP",
            kind: EXTERNAL,
            withdrawn: &[],
            attributes: &[ORIGIN, AS_PATH, MP_REACH],
            nlri: &[],
            expected: vec![announce(v6.clone(), vec![nlri("fd00:1::/48")])],
        },
        Case {
            name: "IPv6 withdrawn",
            kind: EXTERNAL,
            withdrawn: &[],
            attributes: &[MP_UNREACH],
            nlri: &[],
            expected: vec![withdraw(vec![nlri("fd00:2::/48")])],
        },
        Case {
            name: "both families in one message: two next hops, two events",
            kind: EXTERNAL,
            withdrawn: &[],
            attributes: &[ORIGIN, AS_PATH, NEXT_HOP, MP_REACH, MP_UNREACH],
            nlri: NLRI,
            expected: vec![
                RibEvent::Update {
                    peer: PEER,
                    withdrawn: vec![nlri("fd00:2::/48")],
                    announced: Some((Arc::new(attributes()), both())),
                },
                announce(v6, vec![nlri("fd00:1::/48")]),
            ],
        },
        Case {
            name: "several paths for a prefix",
            kind: Kind { add_path: &[Family::Ipv4], ..INTERNAL },
            withdrawn: &[0, 0, 0, 9, 8, 11],
            attributes: MANDATORY,
            nlri: &[0, 0, 0, 3, 16, 10, 64, 0, 0, 0, 4, 16, 10, 64],
            expected: vec![RibEvent::Update {
                peer: PEER,
                withdrawn: vec![Nlri { path_id: 9, ..nlri("11.0.0.0/8") }],
                announced: Some((
                    Arc::new(attributes()),
                    vec![
                        Nlri { path_id: 3, ..nlri("10.64.0.0/16") },
                        Nlri { path_id: 4, ..nlri("10.64.0.0/16") },
                    ],
                )),
            }],
        },
        Case {
            name: "two-octet AS with AS4_PATH merged in (RFC 6793)",
            kind: Kind { four_octet_as: false, ..EXTERNAL },
            withdrawn: &[],
            attributes: &[
                ORIGIN,
                &[0x40, 2, 6, 2, 2, 0xfc, 0x01, 0x5b, 0xa0],
                NEXT_HOP,
                &[0xc0, 17, 6, 2, 1, 0xfa, 0x56, 0xea, 0],
            ],
            nlri: &[8, 11],
            expected: vec![announce(
                Attributes { as_path: vec![AsSegment::Sequence(vec![64513, 4_200_000_000])], ..attributes() },
                vec![nlri("11.0.0.0/8")],
            )],
        },
        Case {
            name: "host bits are cleared",
            kind: EXTERNAL,
            withdrawn: &[],
            attributes: MANDATORY,
            nlri: &[12, 10, 0xff],
            expected: vec![announce(attributes(), vec![nlri("10.240.0.0/12")])],
        },
        Case {
            name: "a family that was not agreed on is left out",
            kind: Kind { families: &[Family::Ipv4], ..EXTERNAL },
            withdrawn: &[],
            attributes: &[ORIGIN, AS_PATH, MP_REACH],
            nlri: &[],
            expected: vec![],
        },
        Case {
            name: "IPv4 when only IPv6 was agreed on",
            kind: Kind { families: &[Family::Ipv6], ..EXTERNAL },
            withdrawn: NLRI,
            attributes: MANDATORY,
            nlri: NLRI,
            expected: vec![],
        },
    ];
    for case in cases {
        let outcome = run(case.kind, case.withdrawn, case.attributes, case.nlri).expect(case.name);
        assert_eq!(outcome.events, case.expected, "{}", case.name);
        assert_eq!(outcome.faults, [], "{}", case.name);
        assert!(!outcome.treated_as_withdraw, "{}", case.name);
        let ignored = if case.kind.external && case.attributes == EVERY { 3 } else { 0 };
        assert_eq!(outcome.ignored, ignored, "{}", case.name);
    }
}

#[test]
fn end_of_rib() {
    let cases: [(&str, AttributeList, Option<Family>); 4] = [
        ("IPv4", &[], Some(Family::Ipv4)),
        ("IPv6", &[&[0x80, 15, 3, 0, 2, 1]], Some(Family::Ipv6)),
        ("IPv4 as MP_UNREACH_NLRI", &[&[0x80, 15, 3, 0, 1, 1]], Some(Family::Ipv4)),
        ("attributes without prefixes are none", MANDATORY, None),
    ];
    for (name, attributes, expected) in cases {
        let outcome = run(EXTERNAL, &[], attributes, &[]).expect(name);
        assert_eq!(outcome.end_of_rib, expected, "{name}");
        let events: Vec<_> =
            expected.iter().map(|family| RibEvent::EndOfRib { peer: PEER, family: *family }).collect();
        assert_eq!(outcome.events, events, "{name}");
    }
}

#[test]
fn errors_that_withdraw_the_routes() {
    struct Case {
        name: &'static str,
        kind: Kind,
        attributes: AttributeList,
        subcode: u8,
    }
    let cases = [
        Case { name: "no ORIGIN", kind: EXTERNAL, attributes: &[AS_PATH, NEXT_HOP], subcode: 3 },
        Case { name: "no AS_PATH", kind: INTERNAL, attributes: &[ORIGIN, NEXT_HOP], subcode: 3 },
        Case { name: "no NEXT_HOP, external", kind: EXTERNAL, attributes: &[ORIGIN, AS_PATH], subcode: 3 },
        Case { name: "no NEXT_HOP, internal", kind: INTERNAL, attributes: &[ORIGIN, AS_PATH], subcode: 3 },
        Case {
            name: "ORIGIN 3",
            kind: EXTERNAL,
            attributes: &[&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP],
            subcode: 6,
        },
        Case {
            name: "ORIGIN of two octets",
            kind: EXTERNAL,
            attributes: &[&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP],
            subcode: 5,
        },
        Case {
            name: "AS_PATH segment that ends outside",
            kind: EXTERNAL,
            attributes: &[ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 0xfc, 0x01], NEXT_HOP],
            subcode: 11,
        },
        Case {
            name: "AS 0 in AS_PATH (RFC 7607)",
            kind: EXTERNAL,
            attributes: &[ORIGIN, &[0x40, 2, 10, 2, 2, 0, 0, 0xfc, 0x01, 0, 0, 0, 0], NEXT_HOP],
            subcode: 11,
        },
        Case {
            name: "AS_PATH of an external peer starts elsewhere",
            kind: EXTERNAL,
            attributes: &[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8], NEXT_HOP],
            subcode: 11,
        },
        Case {
            name: "AS_PATH of an external peer is empty",
            kind: EXTERNAL,
            attributes: &[ORIGIN, &[0x40, 2, 0], NEXT_HOP],
            subcode: 11,
        },
        Case {
            name: "NEXT_HOP 127.0.0.1",
            kind: EXTERNAL,
            attributes: &[ORIGIN, AS_PATH, &[0x40, 3, 4, 127, 0, 0, 1]],
            subcode: 8,
        },
        Case {
            name: "NEXT_HOP 224.0.0.1",
            kind: EXTERNAL,
            attributes: &[ORIGIN, AS_PATH, &[0x40, 3, 4, 224, 0, 0, 1]],
            subcode: 8,
        },
        Case {
            name: "NEXT_HOP of three octets",
            kind: EXTERNAL,
            attributes: &[ORIGIN, AS_PATH, &[0x40, 3, 3, 10, 0, 0]],
            subcode: 5,
        },
        Case {
            name: "COMMUNITIES of five octets",
            kind: EXTERNAL,
            attributes: &[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 8, 5, 1, 2, 3, 4, 5]],
            subcode: 5,
        },
        Case {
            name: "ORIGINATOR_ID of three octets, internal",
            kind: INTERNAL,
            attributes: &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 9, 3, 1, 2, 3]],
            subcode: 5,
        },
        Case {
            name: "ORIGIN with the flags of an optional attribute",
            kind: EXTERNAL,
            attributes: &[&[0x80, 1, 1, 0], AS_PATH, NEXT_HOP],
            subcode: 4,
        },
        Case {
            name: "last attribute ends outside",
            kind: EXTERNAL,
            attributes: &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 9, 0]],
            subcode: 1,
        },
    ];
    for case in cases {
        let outcome = run(case.kind, &[8, 11], case.attributes, NLRI).expect(case.name);
        assert!(outcome.treated_as_withdraw, "{}", case.name);
        let mut expected = vec![nlri("11.0.0.0/8")];
        expected.extend(both());
        assert_eq!(outcome.events, [withdraw(expected)], "{}", case.name);
        let fault = outcome.faults.iter().find(|fault| fault.withdraw).expect(case.name);
        assert_eq!((fault.notification.code, fault.notification.subcode), (3, case.subcode), "{}", case.name);
    }
}

#[test]
fn errors_that_leave_an_attribute_out() {
    let cases: [(&str, Kind, AttributeList); 4] = [
        ("AGGREGATOR of three octets", EXTERNAL, &[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 7, 3, 0, 0, 0]]),
        ("ATOMIC_AGGREGATE with a value", EXTERNAL, &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 6, 1, 0]]),
        (
            "LOCAL_PREF of three octets, external",
            EXTERNAL,
            &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 3, 0, 0, 0]],
        ),
        (
            "MED twice: the first counts",
            EXTERNAL,
            &[ORIGIN, AS_PATH, NEXT_HOP, MED, &[0x80, 4, 4, 0, 0, 0, 9]],
        ),
    ];
    for (name, kind, list) in cases {
        let outcome = run(kind, &[], list, NLRI).expect(name);
        let med = name.starts_with("MED").then_some(7);
        assert_eq!(outcome.events, [announce(Attributes { med, ..attributes() }, both())], "{name}");
        assert_eq!(outcome.faults.iter().map(|fault| fault.withdraw).collect::<Vec<_>>(), [false], "{name}");
    }
}

#[test]
fn errors_that_reset_the_session() {
    type Case = (&'static str, &'static [u8], AttributeList, &'static [u8], u8);
    let cases: [Case; 10] = [
        ("unknown well-known attribute", &[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 99, 1, 7]], NLRI, 2),
        (
            "the same beside a weaker error (RFC 7606 §3 (h))",
            &[],
            &[&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP, &[0x50, 99, 0, 1, 7]],
            NLRI,
            2,
        ),
        (
            "a bad attribute, and MP_REACH_NLRI without prefixes (RFC 7606 §5.2)",
            &[],
            &[
                &[0x40, 1, 1, 9],
                AS_PATH,
                &[0x80, 14, 21, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0],
            ],
            &[],
            6,
        ),
        ("prefix length 33", &[], MANDATORY, &[33, 10, 0, 0, 0, 0], 10),
        ("prefix that ends outside", &[], MANDATORY, &[24, 10, 0], 10),
        ("withdrawn prefix length 40", &[40, 1, 2, 3, 4, 5], &[], &[], 10),
        ("MP_REACH_NLRI twice", &[], &[ORIGIN, AS_PATH, MP_REACH, MP_REACH], &[], 1),
        ("MP_REACH_NLRI of two octets", &[], &[ORIGIN, AS_PATH, &[0x80, 14, 2, 0, 2]], &[], 9),
        ("IPv6 prefix length 200", &[], &[ORIGIN, AS_PATH, &[0x80, 15, 5, 0, 2, 1, 200, 1]], &[], 9),
        (
            "a bad attribute, and no prefixes to withdraw (RFC 7606 §5.2)",
            &[8, 11],
            &[&[0x40, 1, 1, 9]],
            &[],
            6,
        ),
    ];
    for (name, withdrawn, attributes, nlri, subcode) in cases {
        let reset = run(EXTERNAL, withdrawn, attributes, nlri).expect_err(name);
        assert_eq!((reset.code, reset.subcode), (3, subcode), "{name}: {reset}");
    }
}

#[test]
fn ipv4_prefixes_with_ipv6_next_hops_where_both_agreed() {
    let reach = [
        &[0x80, 14, 25, 0, 1, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0][..],
        &[24, 10, 233, 65],
    ]
    .concat();
    let attributes: [&[u8]; 3] = [&[0x40, 1, 1, 0], &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1], &reach];
    let agreed = run(Kind { extended_next_hop: true, ..EXTERNAL }, &[], &attributes, &[]).expect("accepted");
    assert_eq!(agreed.faults, []);
    let [RibEvent::Update { announced: Some((attributes_read, list)), .. }] = &agreed.events[..] else {
        panic!("an announcement, not {:?}", agreed.events)
    };
    assert_eq!(attributes_read.next_hop, "fd00::5".parse::<IpAddr>().unwrap());
    assert_eq!(list[..], [nlri("10.233.65.0/24")]);

    let reset = run(EXTERNAL, &[], &attributes, &[]).expect_err("not agreed on");
    assert_eq!((reset.code, reset.subcode), (3, 9), "RFC 7606 §7.11");
}
