//! `NEXT_HOP`, `MULTI_EXIT_DISC`, `LOCAL_PREF`, `ATOMIC_AGGREGATE`, AGGREGATOR, `ORIGINATOR_ID` and `CLUSTER_LIST`.

use super::case::{Case, Kept, Kind, Outcome, REACH, SHORT_AS_PATH, accepted, discarded, kept, withdrawn};
use super::harness::{AS_PATH, NEXT_HOP, ORIGIN};

pub fn cases() -> Vec<Case> {
    [next_hop(), preference(), aggregate(), reflection()].concat()
}

fn next_hop() -> Vec<Case> {
    let (length, address) = ("RFC 7606 §7.3", "RFC 4271 §6.3");
    let with = |name, clause, attribute: &[u8], outcome| {
        Case::body(name, clause, &[ORIGIN, AS_PATH, attribute], outcome)
    };
    let beside = |name, clause, attribute: &[u8], outcome| {
        Case::new(name, clause, (&[], &[ORIGIN, AS_PATH, attribute, REACH], &[]), outcome)
            .announces(&[super::case::REACH_PREFIX])
    };
    vec![
        with("NEXT_HOP without a value", length, &[0x40, 3, 0], withdrawn()),
        with("NEXT_HOP of three octets", length, &[0x40, 3, 3, 10, 0, 0], withdrawn()),
        with("NEXT_HOP of five octets", length, &[0x40, 3, 5, 10, 0, 0, 5, 0], withdrawn()),
        with("NEXT_HOP of sixteen octets", length, &[&[0x40, 3, 16][..], &[1; 16]].concat(), withdrawn()),
        with("NEXT_HOP 0.0.0.0", address, &[0x40, 3, 4, 0, 0, 0, 0], withdrawn()),
        with("NEXT_HOP 127.0.0.1", address, &[0x40, 3, 4, 127, 0, 0, 1], withdrawn()),
        with("NEXT_HOP 224.0.0.5", address, &[0x40, 3, 4, 224, 0, 0, 5], withdrawn()),
        with("NEXT_HOP 255.255.255.255", address, &[0x40, 3, 4, 255, 255, 255, 255], withdrawn()),
        with("NEXT_HOP 192.0.2.1", address, &[0x40, 3, 4, 192, 0, 2, 1], kept(Kept::NextHop([192, 0, 2, 1]))),
        beside("NEXT_HOP 0.0.0.0 beside IPv6 alone", "RFC 4760 §3", &[0x40, 3, 4, 0, 0, 0, 0], accepted()),
        beside("NEXT_HOP of three octets beside IPv6 alone", length, &[0x40, 3, 3, 10, 0, 0], withdrawn()),
    ]
}

fn preference() -> Vec<Case> {
    let (med, preference) = ("RFC 7606 §7.4", "RFC 7606 §7.5");
    let local =
        |name, attribute: &[u8]| Case::with(name, preference, attribute, withdrawn()).external(discarded());
    vec![
        Case::with("MULTI_EXIT_DISC without a value", med, &[0x80, 4, 0], withdrawn()),
        Case::with("MULTI_EXIT_DISC of three octets", med, &[0x80, 4, 3, 0, 0, 1], withdrawn()),
        Case::with("MULTI_EXIT_DISC of five octets", med, &[0x80, 4, 5, 0, 0, 0, 1, 0], withdrawn()),
        Case::with("MULTI_EXIT_DISC 7", med, &[0x80, 4, 4, 0, 0, 0, 7], kept(Kept::Med(7))),
        local("LOCAL_PREF without a value", &[0x40, 5, 0]),
        local("LOCAL_PREF of three octets", &[0x40, 5, 3, 0, 0, 1]),
        local("LOCAL_PREF of five octets", &[0x40, 5, 5, 0, 0, 0, 1, 0]),
        Case::with("LOCAL_PREF 200", preference, &[0x40, 5, 4, 0, 0, 0, 200], kept(Kept::LocalPref(200)))
            .external(accepted()),
        Case::body("no LOCAL_PREF", "RFC 4271 §5.1.5", &[ORIGIN, AS_PATH, NEXT_HOP], accepted()),
    ]
}

fn aggregate() -> Vec<Case> {
    let (atomic, aggregator, zero) = ("RFC 7606 §7.6", "RFC 7606 §7.7", "RFC 7607 §2");
    let short = |name, clause, attribute: &[u8], outcome: Outcome| {
        Case::body(name, clause, &[ORIGIN, SHORT_AS_PATH, NEXT_HOP, attribute], outcome).on(Kind::TwoOctet)
    };
    vec![
        Case::with("ATOMIC_AGGREGATE", atomic, &[0x40, 6, 0], accepted()),
        Case::with("ATOMIC_AGGREGATE of one octet", atomic, &[0x40, 6, 1, 0], discarded()),
        Case::with("ATOMIC_AGGREGATE of four octets", atomic, &[0x40, 6, 4, 0, 0, 0, 0], discarded()),
        Case::with("AGGREGATOR", aggregator, &[0xc0, 7, 8, 0, 0, 0xfc, 1, 10, 0, 0, 1], accepted()),
        Case::with("AGGREGATOR without a value", aggregator, &[0xc0, 7, 0], discarded()),
        Case::with(
            "AGGREGATOR of six octets where AS numbers have four",
            aggregator,
            &[0xc0, 7, 6, 0xfc, 1, 10, 0, 0, 1],
            discarded(),
        ),
        Case::with(
            "AGGREGATOR of nine octets",
            aggregator,
            &[0xc0, 7, 9, 0, 0, 0xfc, 1, 10, 0, 0, 1, 0],
            discarded(),
        ),
        Case::with("AGGREGATOR of AS 0", zero, &[0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 1], discarded()),
        short("AGGREGATOR in two octets", aggregator, &[0xc0, 7, 6, 0xfc, 1, 10, 0, 0, 1], accepted()),
        short(
            "AGGREGATOR of eight octets where AS numbers have two",
            aggregator,
            &[0xc0, 7, 8, 0, 0, 0xfc, 1, 10, 0, 0, 1],
            discarded(),
        ),
        short("AGGREGATOR of AS 0 in two octets", zero, &[0xc0, 7, 6, 0, 0, 10, 0, 0, 1], discarded()),
    ]
}

fn reflection() -> Vec<Case> {
    let (originator, clusters) = ("RFC 7606 §7.9", "RFC 7606 §7.10");
    let bad = |name, clause, attribute: &[u8]| {
        Case::with(name, clause, attribute, withdrawn()).external(discarded())
    };
    vec![
        bad("ORIGINATOR_ID without a value", originator, &[0x80, 9, 0]),
        bad("ORIGINATOR_ID of three octets", originator, &[0x80, 9, 3, 10, 0, 0]),
        bad("ORIGINATOR_ID of eight octets", originator, &[0x80, 9, 8, 10, 0, 0, 1, 10, 0, 0, 2]),
        Case::with(
            "ORIGINATOR_ID",
            originator,
            &[0x80, 9, 4, 10, 0, 0, 3],
            kept(Kept::Originator([10, 0, 0, 3])),
        )
        .external(accepted()),
        bad("CLUSTER_LIST without a value", clusters, &[0x80, 10, 0]),
        bad("CLUSTER_LIST of three octets", clusters, &[0x80, 10, 3, 1, 1, 1]),
        bad("CLUSTER_LIST of six octets", clusters, &[0x80, 10, 6, 1, 1, 1, 1, 2, 2]),
        Case::with(
            "CLUSTER_LIST of two",
            clusters,
            &[0x80, 10, 8, 1, 1, 1, 1, 2, 2, 2, 2],
            kept(Kept::Clusters(&[[1, 1, 1, 1], [2, 2, 2, 2]])),
        )
        .external(accepted()),
    ]
}
