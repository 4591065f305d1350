//! Lengths that contradict each other, prefixes that cannot be read, mandatory attributes that are missing.

use super::case::{Case, Kind, PREFIX, PREFIX_BYTES, accepted, reset, withdrawn};
use super::harness::{AS_PATH, NEXT_HOP, ORIGIN};

const MANDATORY: &[&[u8]] = &[ORIGIN, AS_PATH, NEXT_HOP];

pub fn cases() -> Vec<Case> {
    [sections(), last_attribute(), prefixes(), path_identifiers(), missing()].concat()
}

fn sections() -> Vec<Case> {
    let clause = "RFC 7606 §3 (b)";
    let case = |name, body: &[u8]| Case::raw(name, clause, body, reset(&[&[3, 1]]));
    let attributes = MANDATORY.concat();
    let claimed = u8::try_from(attributes.len() + PREFIX_BYTES.len() + 1).expect("short attributes");
    vec![
        case("withdrawn routes that end outside", &[0, 9, 0, 0]),
        case("withdrawn routes of 65535 octets", &[0xff, 0xff, 0, 0]),
        case("withdrawn routes that leave one octet", &[0, 3, 16, 10, 64, 0]),
        case("attributes that end outside", &[0, 0, 0, 1]),
        case("attributes of 65535 octets", &[0, 0, 0xff, 0xff, 0x40, 1, 1, 0]),
        case("attributes that end outside by one octet", &{
            [&[0, 0, 0, claimed][..], &attributes, PREFIX_BYTES].concat()
        }),
        Case::raw(
            "attributes cut short: what follows is no prefix",
            "RFC 7606 §5.3",
            // The section ends inside of NEXT_HOP; 0/0, 0/0, 16.0.0.0/5 and ten bits in one octet follow.
            &[&[0, 0, 0, claimed - 7][..], &attributes, PREFIX_BYTES].concat(),
            reset(&[&[3, 10, 10, 64]]),
        ),
    ]
}

fn last_attribute() -> Vec<Case> {
    let clause = "RFC 7606 §4";
    let case = |name, attribute: &[u8]| Case::with(name, clause, attribute, withdrawn());
    vec![
        case("last attribute ends outside", &[0x80, 4, 9, 0]),
        case("last attribute has no value", &[0x80, 4, 4]),
        case("last attribute ends outside, length in two octets", &[0x90, 4, 0xff, 0xff, 0]),
        case("unknown last attribute ends outside", &[0xc0, 99, 200, 0]),
        case("one octet after the last attribute", &[0x80]),
        case("two octets after the last attribute", &[0x80, 4]),
        case("three octets where the length has two", &[0x90, 4, 0]),
        case("zero octet after the last attribute", &[0]),
        Case::new(
            "last attribute ends outside, and nothing is announced",
            "RFC 7606 §5.2",
            (PREFIX_BYTES, &[&[0x80, 4, 9, 0]], &[]),
            reset(&[&[3, 1]]),
        ),
    ]
}

fn prefixes() -> Vec<Case> {
    let clause = "RFC 7606 §5.3";
    let announced = |name, nlri: &[u8], data: &[u8]| {
        Case::new(name, clause, (&[], MANDATORY, nlri), reset(&[&[3, 10], data]))
    };
    let taken_back = |name, withdrawn: &[u8], data: &[u8]| {
        Case::new(name, clause, (withdrawn, &[], &[]), reset(&[&[3, 10], data]))
    };
    vec![
        announced("prefix length 33", &[33, 10, 0, 0, 0, 0], &[33, 10, 0, 0, 0, 0]),
        announced("prefix length 255", &[255, 10], &[255, 10]),
        announced("prefix that ends outside", &[24, 10, 64], &[24, 10, 64]),
        announced("prefix without an address", &[8], &[8]),
        announced("prefix that ends outside after a good one", &[16, 10, 64, 32, 10, 0, 0], &[32, 10, 0, 0]),
        taken_back("withdrawn prefix length 33", &[33, 10, 0, 0, 0, 0], &[33, 10, 0, 0, 0, 0]),
        taken_back("withdrawn prefix that ends outside", &[16, 10], &[16, 10]),
        taken_back("withdrawn prefix that ends outside after a good one", &[8, 11, 32, 1], &[32, 1]),
        Case::new("host bits", "RFC 4271 §4.3", (&[], MANDATORY, &[12, 10, 0xff]), accepted())
            .announces(&["10.240.0.0/12"]),
        Case::new("prefix length 0", "RFC 4271 §4.3", (&[], MANDATORY, &[0]), accepted())
            .announces(&["0.0.0.0/0"]),
        Case::new(
            "the same prefix withdrawn and announced",
            "RFC 4271 §4.3",
            (PREFIX_BYTES, MANDATORY, PREFIX_BYTES),
            accepted(),
        )
        .withdraws(&[PREFIX])
        .announces(&[PREFIX]),
    ]
}

fn path_identifiers() -> Vec<Case> {
    let clause = "RFC 7911 §3, RFC 7606 §5.3";
    let case = |name, nlri: &[u8], data: &[u8]| {
        Case::new(name, clause, (&[], MANDATORY, nlri), reset(&[&[3, 10], data])).on(Kind::AddPath)
    };
    vec![
        Case::new("path identifier", clause, (&[], MANDATORY, &[0, 0, 0, 7, 16, 10, 64]), accepted())
            .announces(&[PREFIX])
            .path_id(7)
            .on(Kind::AddPath),
        Case::new(
            "path identifier, and a bad ORIGIN",
            "RFC 7606 §7.1",
            (&[], &[&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP], &[0, 0, 0, 7, 16, 10, 64]),
            withdrawn(),
        )
        .announces(&[PREFIX])
        .path_id(7)
        .on(Kind::AddPath),
        case("prefix without its path identifier", PREFIX_BYTES, PREFIX_BYTES),
        case("path identifier without a prefix", &[0, 0, 0, 7], &[0, 0, 0, 7]),
        case(
            "prefix length 33 after a path identifier",
            &[0, 0, 0, 7, 33, 1, 2, 3, 4, 5],
            &[33, 1, 2, 3, 4, 5],
        ),
        case("prefix that ends outside after a path identifier", &[0, 0, 0, 7, 24, 10], &[24, 10]),
    ]
}

fn missing() -> Vec<Case> {
    let clause = "RFC 7606 §3 (d)";
    let case = |name, attributes: &[&[u8]]| Case::body(name, clause, attributes, withdrawn());
    vec![
        case("no ORIGIN", &[AS_PATH, NEXT_HOP]),
        case("no AS_PATH", &[ORIGIN, NEXT_HOP]),
        case("no NEXT_HOP", &[ORIGIN, AS_PATH]),
        case("no attributes at all", &[]),
        case("no NEXT_HOP, but one in MP_REACH_NLRI for IPv6", &[ORIGIN, AS_PATH, super::case::REACH])
            .announces(&[PREFIX, super::case::REACH_PREFIX]),
        Case::new("attributes and no prefixes", "RFC 7606 §5.2", (&[], MANDATORY, &[]), accepted()),
    ]
}
