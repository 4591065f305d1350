//! Attribute flags, attributes that come twice, and unknown ones (RFC 7606 §3 (c), (g); RFC 4271 §6.3).

use super::case::{Case, Kept, Kind, Outcome, SHORT_AS_PATH, accepted, discarded, kept, reset, withdrawn};
use super::harness::{AS_PATH, NEXT_HOP, ORIGIN};

pub fn cases() -> Vec<Case> {
    [wrong(), harmless(), twice(), unknown()].concat()
}

/// Each kind of attribute with the Optional or the Transitive bit of another.
fn wrong() -> Vec<Case> {
    let clause = "RFC 7606 §3 (c)";
    let list = |name, attributes: &[&[u8]]| Case::body(name, clause, attributes, withdrawn());
    let with = |name, attribute: &[u8]| Case::with(name, clause, attribute, withdrawn());
    let aggregator: &[u8] = &[8, 0, 0, 0xfc, 1, 10, 0, 0, 1];
    vec![
        list("ORIGIN as optional transitive", &[&[0xc0, 1, 1, 0], AS_PATH, NEXT_HOP]),
        list("ORIGIN as optional", &[&[0x80, 1, 1, 0], AS_PATH, NEXT_HOP]),
        list("ORIGIN without the Transitive bit", &[&[0, 1, 1, 0], AS_PATH, NEXT_HOP]),
        list("AS_PATH as optional transitive", &[ORIGIN, &[&[0xc0][..], &AS_PATH[1..]].concat(), NEXT_HOP]),
        list("AS_PATH without the Transitive bit", &[ORIGIN, &[&[0][..], &AS_PATH[1..]].concat(), NEXT_HOP]),
        list("NEXT_HOP as optional", &[ORIGIN, AS_PATH, &[&[0x80][..], &NEXT_HOP[1..]].concat()]),
        with("MULTI_EXIT_DISC as optional transitive", &[0xc0, 4, 4, 0, 0, 0, 7]),
        with("MULTI_EXIT_DISC as well-known", &[0x40, 4, 4, 0, 0, 0, 7]),
        with("LOCAL_PREF as optional transitive", &[0xc0, 5, 4, 0, 0, 0, 7]),
        with("LOCAL_PREF without the Transitive bit", &[0, 5, 4, 0, 0, 0, 7]),
        with("ATOMIC_AGGREGATE as optional transitive", &[0xc0, 6, 0]),
        with("ATOMIC_AGGREGATE as optional, with a value", &[0x80, 6, 1, 0]),
        with("AGGREGATOR as optional non-transitive", &[&[0x80, 7][..], aggregator].concat()),
        with("AGGREGATOR as well-known", &[&[0x40, 7][..], aggregator].concat()),
        with("COMMUNITIES as optional non-transitive", &[0x80, 8, 4, 0xfc, 0, 0, 9]),
        with("COMMUNITIES as well-known", &[0x40, 8, 4, 0xfc, 0, 0, 9]),
        with("ORIGINATOR_ID as optional transitive", &[0xc0, 9, 4, 10, 0, 0, 3]),
        with("ORIGINATOR_ID as well-known", &[0x40, 9, 4, 10, 0, 0, 3]),
        with("CLUSTER_LIST as optional transitive", &[0xc0, 10, 4, 1, 1, 1, 1]),
        with("EXTENDED COMMUNITIES as optional non-transitive", &[0x80, 16, 8, 0, 2, 0, 0, 0, 0, 0, 1]),
        with("IPv6 EXTENDED COMMUNITIES as well-known", &[&[0x40, 25, 20][..], &[1; 20]].concat()),
        with("LARGE_COMMUNITY as optional non-transitive", &[&[0x80, 32, 12][..], &[1; 12]].concat()),
        with("PMSI_TUNNEL as well-known", &[0x40, 22, 9, 0, 6, 0, 0, 0, 10, 0, 0, 1]),
        with("tunnel encapsulation as optional non-transitive", &[0x80, 23, 4, 0, 8, 0, 0]),
        list(
            "AS4_PATH as optional non-transitive",
            &[ORIGIN, SHORT_AS_PATH, NEXT_HOP, &[0x80, 17, 6, 2, 1, 0, 0, 0xfc, 1]],
        )
        .on(Kind::TwoOctet),
    ]
}

fn harmless() -> Vec<Case> {
    let (conflict, form) = ("RFC 7606 §3 (c)", "RFC 4271 §4.3");
    let origin = |name, clause, attribute: &[u8]| {
        Case::body(name, clause, &[attribute, AS_PATH, NEXT_HOP], accepted())
    };
    vec![
        origin("ORIGIN with the Partial bit", conflict, &[0x60, 1, 1, 0]),
        Case::with(
            "MULTI_EXIT_DISC with the Partial bit",
            conflict,
            &[0xa0, 4, 4, 0, 0, 0, 7],
            kept(Kept::Med(7)),
        ),
        Case::with(
            "ORIGINATOR_ID with the Partial bit",
            conflict,
            &[0xa0, 9, 4, 10, 0, 0, 3],
            kept(Kept::Originator([10, 0, 0, 3])),
        )
        .external(accepted()),
        Case::with(
            "CLUSTER_LIST with the Partial bit",
            conflict,
            &[0xa0, 10, 4, 1, 1, 1, 1],
            kept(Kept::Clusters(&[[1, 1, 1, 1]])),
        )
        .external(accepted()),
        Case::with(
            "COMMUNITIES with the Partial bit",
            form,
            &[0xe0, 8, 4, 0xfc, 0, 0, 9],
            kept(Kept::Communities(&[0xfc00_0009])),
        ),
        origin("ORIGIN with the four unused bits", form, &[0x4f, 1, 1, 0]),
        origin("ORIGIN with its length in two octets", form, &[0x50, 1, 0, 1, 0]),
        Case::with(
            "COMMUNITIES with its length in two octets",
            form,
            &[0xd0, 8, 0, 4, 0xfc, 0, 0, 9],
            kept(Kept::Communities(&[0xfc00_0009])),
        ),
        Case::with(
            "MULTI_EXIT_DISC of five octets with its length in two",
            "RFC 7606 §7.4",
            &[0x90, 4, 0, 5, 0, 0, 0, 1, 0],
            withdrawn(),
        ),
    ]
}

/// The first counts.
fn twice() -> Vec<Case> {
    let clause = "RFC 7606 §3 (g)";
    let first = |name, attributes: &[&[u8]], attribute| {
        let all = [&[ORIGIN, AS_PATH, NEXT_HOP], attributes].concat();
        Case::body(name, clause, &all, Outcome::Accepted(1, vec![attribute]))
    };
    vec![
        Case::with("ORIGIN twice", clause, &[0x40, 1, 1, 2], discarded()),
        Case::with("ORIGIN twice, the second malformed", clause, &[0x40, 1, 2, 0, 0], discarded()),
        Case::with("AS_PATH twice", clause, &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8], discarded()),
        Case::with("NEXT_HOP twice", clause, &[0x40, 3, 4, 192, 0, 2, 1], discarded()),
        Case::with("NEXT_HOP twice, the second malformed", clause, &[0x40, 3, 1, 0], discarded()),
        first("MULTI_EXIT_DISC twice", &[&[0x80, 4, 4, 0, 0, 0, 7], &[0x80, 4, 4, 0, 0, 0, 9]], Kept::Med(7)),
        first(
            "COMMUNITIES twice",
            &[&[0xc0, 8, 4, 0xfc, 0, 0, 9], &[0xc0, 8, 4, 0xfc, 0, 0, 8]],
            Kept::Communities(&[0xfc00_0009]),
        ),
        Case::body(
            "MULTI_EXIT_DISC three times",
            clause,
            &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 4, 0, 0, 0, 7], &[0x80, 4, 0], &[0x80, 4, 0]],
            Outcome::Accepted(2, vec![Kept::Med(7)]),
        ),
        Case::body(
            "MULTI_EXIT_DISC twice, the first malformed",
            clause,
            &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 0], &[0x80, 4, 4, 0, 0, 0, 7]],
            Outcome::Withdrawn(1),
        ),
        Case::body(
            "unknown optional transitive attribute twice",
            clause,
            &[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 200, 1, 1], &[0xc0, 200, 1, 1]],
            discarded(),
        ),
        Case::with(
            "AS_PATH twice, the second with AS_SET",
            "RFC 9774 §3",
            &[0x40, 2, 6, 1, 1, 0, 0, 0xfd, 0xe8],
            Outcome::Withdrawn(1),
        ),
    ]
}

fn unknown() -> Vec<Case> {
    let (well_known, optional) = ("RFC 4271 §6.3", "RFC 4271 §5");
    let unknown =
        |name, attribute: &[u8]| Case::with(name, well_known, attribute, reset(&[&[3, 2], attribute]));
    vec![
        unknown("unknown well-known attribute", &[0x40, 99, 2, 1, 2]),
        unknown("unknown well-known attribute without a value", &[0x40, 99, 0]),
        unknown("unknown well-known attribute without the Transitive bit", &[0, 99, 1, 1]),
        unknown("unknown well-known attribute with its length in two octets", &[0x50, 99, 0, 1, 7]),
        unknown("well-known attribute 0", &[0x40, 0, 1, 1]),
        unknown("well-known attribute 255", &[0x40, 255, 1, 1]),
        Case::with("unknown optional transitive attribute", optional, &[0xc0, 99, 2, 1, 2], accepted()),
        Case::with("unknown optional transitive attribute, partial", optional, &[0xe0, 99, 0], accepted()),
        Case::with("unknown optional non-transitive attribute", optional, &[0x80, 99, 2, 1, 2], accepted()),
        Case::with("optional transitive attribute 0", optional, &[0xc0, 0, 0], accepted()),
    ]
}
