//! `MP_REACH_NLRI` and `MP_UNREACH_NLRI` (RFC 7606 §5.3, §7.11, §7.12).

use super::case::{Case, Kept, Kind, Outcome, PREFIX, REACH, REACH_PREFIX, accepted, kept, reset, withdrawn};
use super::harness::{AS_PATH, NEXT_HOP, ORIGIN};

const NEXT_HOP_LENGTH: &str = "RFC 7606 §7.11";
/// RFC 7606 says that the session is reset; the subcode is of RFC 4760.
const SYNTAX: &str = "RFC 7606 §5.3, RFC 4760 §7";
/// `fd00::5`.
const VIA: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
/// `fd00:1::/48`.
const IPV6: &[u8] = &[48, 0xfd, 0, 0, 1, 0, 0];

pub fn cases() -> Vec<Case> {
    [next_hop_lengths(), next_hops(), reach(), unreach(), families()].concat()
}

/// An attribute with flags, type and this value.
fn attribute(flags: u8, kind: u8, value: &[&[u8]]) -> Vec<u8> {
    let value = value.concat();
    let length = u8::try_from(value.len()).expect("a short attribute");
    [&[flags, kind, length][..], &value].concat()
}

/// `MP_REACH_NLRI` for IPv6 with this next hop.
fn via(next_hop: &[u8]) -> Vec<u8> {
    let length = u8::try_from(next_hop.len()).expect("a short next hop");
    attribute(0x80, 14, &[&[0, 2, 1, length], next_hop, &[0], IPV6])
}

fn next_hop_lengths() -> Vec<Case> {
    let case =
        |name, attribute: &[u8]| Case::reach(name, NEXT_HOP_LENGTH, attribute, reset(&[&[3, 9], attribute]));
    let ipv4_via_ipv6 = attribute(0x80, 14, &[&[0, 1, 1, 16], &VIA, &[0, 16, 10, 64]]);
    vec![
        case("IPv6 next hop of no octets", &via(&[])),
        case("IPv6 next hop of four octets", &via(&[10, 0, 0, 5])),
        case("IPv6 next hop of fifteen octets", &via(&VIA[..15])),
        case("IPv6 next hop of seventeen octets", &via(&[&VIA[..], &[0]].concat())),
        case("IPv6 next hop of 24 octets, as VPNs have", &via(&[&[0; 8], &VIA[..]].concat())),
        case("IPv6 next hop of 33 octets", &via(&[&[0][..], &VIA, &VIA].concat())),
        case("IPv6 next hop that ends outside", &attribute(0x80, 14, &[&[0, 2, 1, 16], &VIA[..8]])),
        case("IPv6 next hop of 255 octets that ends outside", &attribute(0x80, 14, &[&[0, 2, 1, 255], &VIA])),
        case("no reserved octet", &attribute(0x80, 14, &[&[0, 2, 1, 16], &VIA])),
        case(
            "IPv4 next hop of five octets",
            &attribute(0x80, 14, &[&[0, 1, 1, 5, 10, 0, 0, 5, 0, 0], &[8, 10]]),
        ),
        case("IPv4 via IPv6 without the capability (RFC 8950)", &ipv4_via_ipv6),
    ]
}

fn next_hops() -> Vec<Case> {
    let clause = "RFC 4271 §6.3, RFC 2545 §3";
    let case = |name, next_hop: &str, outcome| {
        let address: std::net::Ipv6Addr = next_hop.parse().expect("an address");
        Case::reach(name, clause, &via(&address.octets()), outcome)
    };
    let local: [u8; 16] = "fe80::5".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    vec![
        case("IPv6 next hop ::", "::", withdrawn()),
        case("IPv6 next hop ::1", "::1", withdrawn()),
        case("IPv6 next hop ff02::1", "ff02::1", withdrawn()),
        case("IPv6 next hop fe80::5 without a global one", "fe80::5", withdrawn()),
        Case::reach("IPv6 next hop pair", clause, &via(&[VIA, local].concat()), accepted()),
        Case::reach("IPv6 next hop pair of two global ones", clause, &via(&[VIA, VIA].concat()), withdrawn()),
    ]
}

fn reach() -> Vec<Case> {
    let nine = |name, attribute: &[u8]| Case::reach(name, SYNTAX, attribute, reset(&[&[3, 9], attribute]));
    let with = |prefixes: &[u8]| attribute(0x80, 14, &[&[0, 2, 1, 16], &VIA, &[0], prefixes]);
    let cut: &[u8] = &[0x80, 14, 40, 0, 2, 1, 16];
    let extended = [&[0x90, 14, 0, 28][..], &REACH[3..]].concat();
    let flags = |name, flags: u8| {
        let attribute = [&[flags][..], &REACH[1..]].concat();
        Case::reach(name, SYNTAX, &attribute, reset(&[&[3, 4], &attribute]))
    };
    vec![
        Case::reach("MP_REACH_NLRI", "RFC 4760 §3", REACH, accepted()),
        Case::reach("MP_REACH_NLRI with its length in two octets", "RFC 4271 §4.3", &extended, accepted()),
        Case::reach(
            "reserved octet is not zero",
            "RFC 4760 §3",
            &attribute(0x80, 14, &[&[0, 2, 1, 16], &VIA, &[255], IPV6]),
            accepted(),
        ),
        Case::new("MP_REACH_NLRI first", "RFC 7606 §5.1", (&[], &[REACH, ORIGIN, AS_PATH], &[]), accepted())
            .announces(&[REACH_PREFIX]),
        nine("MP_REACH_NLRI without a value", &[0x80, 14, 0]),
        nine("MP_REACH_NLRI of one octet", &[0x80, 14, 1, 0]),
        nine("MP_REACH_NLRI of four octets", &[0x80, 14, 4, 0, 2, 1, 0]),
        nine(
            "MP_REACH_NLRI of four octets, of a family that was not agreed on",
            &[0x80, 14, 4, 0, 25, 70, 0],
        ),
        nine("IPv6 prefix length 129", &with(&[&[129][..], &[1; 17]].concat())),
        nine("IPv6 prefix length 255", &with(&[255, 1])),
        nine("IPv6 prefix that ends outside", &with(&[64, 0xfd, 0, 0, 1])),
        nine("IPv6 prefix that ends outside after a good one", &with(&[16, 0xfd, 0, 128, 0xfd])),
        nine(
            "IPv4 prefix length 33",
            &attribute(0x80, 14, &[&[0, 1, 1, 4, 10, 0, 0, 5, 0, 33, 10, 0, 0, 0, 0]]),
        ),
        Case::reach("MP_REACH_NLRI that ends outside", "RFC 7606 §3 (j)", cut, reset(&[&[3, 9], cut])),
        flags("MP_REACH_NLRI as optional transitive", 0xc0),
        flags("MP_REACH_NLRI as well-known", 0x40),
        flags("MP_REACH_NLRI with the Partial bit", 0xa0),
        Case::new(
            "MP_REACH_NLRI twice",
            "RFC 7606 §3 (g)",
            (&[], &[ORIGIN, AS_PATH, REACH, REACH], &[]),
            reset(&[&[3, 1]]),
        ),
        Case::new("IPv6 without ORIGIN", "RFC 7606 §3 (d)", (&[], &[AS_PATH, REACH], &[]), withdrawn())
            .announces(&[REACH_PREFIX]),
        Case::new("IPv6 without AS_PATH", "RFC 7606 §3 (d)", (&[], &[ORIGIN, REACH], &[]), withdrawn())
            .announces(&[REACH_PREFIX]),
        Case::reach(
            "IPv4 in MP_REACH_NLRI",
            "RFC 4760 §3",
            &attribute(0x80, 14, &[&[0, 1, 1, 4, 192, 0, 2, 1, 0, 16, 10, 64]]),
            kept(Kept::NextHop([192, 0, 2, 1])),
        )
        .announces(&[PREFIX]),
    ]
}

fn unreach() -> Vec<Case> {
    let case = |name, clause, attributes: &[&[u8]], outcome| {
        Case::new(name, clause, (&[], attributes, &[]), outcome)
    };
    let alone = |name, clause, attribute: &[u8], code: u8| {
        case(name, clause, &[attribute], reset(&[&[3, code], attribute]))
    };
    let good: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0xfd, 0, 0, 2, 0, 0];
    let cut: &[u8] = &[0x80, 15, 40, 0, 2, 1];
    vec![
        case("MP_UNREACH_NLRI", "RFC 4760 §4", &[good], accepted()).withdraws(&["fd00:2::/48"]),
        alone("MP_UNREACH_NLRI without a value", SYNTAX, &[0x80, 15, 0], 9),
        alone("MP_UNREACH_NLRI of two octets", SYNTAX, &[0x80, 15, 2, 0, 2], 9),
        alone("withdrawn IPv6 prefix length 129", SYNTAX, &[0x80, 15, 5, 0, 2, 1, 129, 1], 9),
        alone("withdrawn IPv6 prefix that ends outside", SYNTAX, &[0x80, 15, 6, 0, 2, 1, 48, 0xfd, 0], 9),
        alone("withdrawn IPv4 prefix length 33", SYNTAX, &[0x80, 15, 9, 0, 1, 1, 33, 10, 0, 0, 0, 0], 9),
        alone("MP_UNREACH_NLRI that ends outside", "RFC 7606 §3 (j)", cut, 9),
        alone("MP_UNREACH_NLRI as optional transitive", SYNTAX, &[0xc0, 15, 4, 0, 2, 1, 0], 4),
        case("MP_UNREACH_NLRI twice", "RFC 7606 §3 (g)", &[good, good], reset(&[&[3, 1]])),
        case(
            "MP_UNREACH_NLRI beside a bad ORIGIN: nothing is announced",
            "RFC 7606 §5.2",
            &[good, &[0x40, 1, 1, 9]],
            reset(&[&[3, 6, 0x40, 1, 1, 9]]),
        ),
        case(
            "MP_UNREACH_NLRI beside a bad AGGREGATOR",
            "RFC 7606 §5.2",
            &[good, &[0xc0, 7, 1, 0]],
            Outcome::Accepted(1, Vec::new()),
        )
        .withdraws(&["fd00:2::/48"]),
        case(
            "MP_REACH_NLRI without prefixes beside a bad ORIGIN",
            "RFC 7606 §5.2",
            &[&[0x40, 1, 1, 9], AS_PATH, &attribute(0x80, 14, &[&[0, 2, 1, 16], &VIA, &[0]])],
            reset(&[&[3, 6, 0x40, 1, 1, 9]]),
        ),
    ]
}

/// Families that the session has not agreed on are ignored, whatever is in them.
fn families() -> Vec<Case> {
    let clause = "RFC 4760 §7";
    let beside = |name, attribute: &[u8]| Case::with(name, clause, attribute, accepted());
    vec![
        beside("IPv4 multicast beside IPv4", &[0x80, 14, 12, 0, 1, 2, 4, 10, 0, 0, 5, 0, 16, 10, 65]),
        beside("unknown AFI beside IPv4", &[0x80, 14, 7, 0x40, 4, 71, 1, 9, 0, 77]),
        beside("EVPN that cannot be read beside IPv4", &[0x80, 14, 11, 0, 25, 70, 4, 10, 0, 0, 5, 0, 2, 200]),
        beside("withdrawn VPN prefix that cannot be read beside IPv4", &[0x80, 15, 5, 0, 1, 128, 255, 1]),
        beside("IPv6 where only IPv4 is agreed on, beside IPv4", REACH).on(Kind::Ipv4Only),
        beside("IPv6 that cannot be read where only IPv4 is agreed on", &via(&[1, 2, 3])).on(Kind::Ipv4Only),
        Case::new(
            "IPv6 alone where only IPv4 is agreed on",
            clause,
            (&[], &[ORIGIN, AS_PATH, REACH], &[]),
            accepted(),
        )
        .on(Kind::Ipv4Only),
        Case::new(
            "withdrawn IPv6 where only IPv4 is agreed on, beside a bad ORIGIN",
            "RFC 7606 §5.2",
            (&[], &[&[0x80, 15, 10, 0, 2, 1, 48, 0xfd, 0, 0, 2, 0, 0], &[0x40, 1, 1, 9]], &[]),
            reset(&[&[3, 6, 0x40, 1, 1, 9]]),
        )
        .on(Kind::Ipv4Only),
        Case::new(
            "IPv6 where only IPv4 is agreed on, twice",
            "RFC 7606 §3 (g)",
            (&[], &[ORIGIN, AS_PATH, NEXT_HOP, REACH, REACH], &[]),
            reset(&[&[3, 1]]),
        )
        .on(Kind::Ipv4Only),
    ]
}
