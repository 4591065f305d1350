//! Communities of every width, and attributes that say nothing to a receiver of unicast routes.

use super::case::{Case, Kept, accepted, discarded, kept, withdrawn};

pub fn cases() -> Vec<Case> {
    [communities(), wide(), of_others()].concat()
}

fn communities() -> Vec<Case> {
    let clause = "RFC 7606 §7.8";
    vec![
        Case::with("COMMUNITIES without a value", clause, &[0xc0, 8, 0], withdrawn()),
        Case::with("COMMUNITIES of three octets", clause, &[0xc0, 8, 3, 1, 2, 3], withdrawn()),
        Case::with("COMMUNITIES of six octets", clause, &[0xc0, 8, 6, 1, 2, 3, 4, 5, 6], withdrawn()),
        Case::with(
            "COMMUNITIES of two",
            clause,
            &[0xc0, 8, 8, 0xfc, 0, 0, 9, 0xff, 0xff, 0xff, 0x01],
            kept(Kept::Communities(&[0xfc00_0009, 0xffff_ff01])),
        ),
    ]
}

fn wide() -> Vec<Case> {
    let (extended, ipv6, large) = ("RFC 7606 §7.14", "RFC 7606 §7.15", "RFC 8092 §6");
    let of = |kind: u8, length: u8| [&[0xc0, kind, length][..], &vec![0x7b; usize::from(length)]].concat();
    vec![
        Case::with("EXTENDED COMMUNITIES without a value", extended, &of(16, 0), withdrawn()),
        Case::with("EXTENDED COMMUNITIES of seven octets", extended, &of(16, 7), withdrawn()),
        Case::with("EXTENDED COMMUNITIES of twelve octets", extended, &of(16, 12), withdrawn()),
        Case::with("EXTENDED COMMUNITIES of an unknown type", extended, &of(16, 16), accepted()),
        Case::with("IPv6 EXTENDED COMMUNITIES without a value", ipv6, &of(25, 0), withdrawn()),
        Case::with("IPv6 EXTENDED COMMUNITIES of 19 octets", ipv6, &of(25, 19), withdrawn()),
        Case::with("IPv6 EXTENDED COMMUNITIES of 24 octets", ipv6, &of(25, 24), withdrawn()),
        Case::with("IPv6 EXTENDED COMMUNITIES of an unknown type", ipv6, &of(25, 40), accepted()),
        Case::with("LARGE_COMMUNITY without a value", large, &of(32, 0), withdrawn()),
        Case::with("LARGE_COMMUNITY of eleven octets", large, &of(32, 11), withdrawn()),
        Case::with("LARGE_COMMUNITY of sixteen octets", large, &of(32, 16), withdrawn()),
        Case::with(
            "LARGE_COMMUNITY twice the same",
            "RFC 8092 §5",
            &of(32, 24),
            kept(Kept::LargeCommunities(&[[0x7b7b_7b7b; 3]])),
        ),
    ]
}

/// What is not for unicast is read as far as its own document asks for it.
fn of_others() -> Vec<Case> {
    let (pmsi, tunnel, aigp, set) = ("RFC 6514 §5", "RFC 9012 §13", "RFC 7311 §3.3", "RFC 7606 §7.16");
    vec![
        Case::with("PMSI_TUNNEL of four octets", pmsi, &[0xc0, 22, 4, 0, 6, 0, 0], withdrawn()),
        Case::with("PMSI_TUNNEL of an undefined type", pmsi, &[0xc0, 22, 5, 0, 0x70, 0, 0, 0], withdrawn()),
        Case::with(
            "PMSI_TUNNEL whose endpoint has three octets",
            pmsi,
            &[0xc0, 22, 8, 0, 6, 0, 0, 0, 10, 0, 0],
            withdrawn(),
        ),
        Case::with(
            "PMSI_TUNNEL, ingress replication",
            pmsi,
            &[0xc0, 22, 9, 0, 6, 0, 0, 0, 10, 0, 0, 1],
            accepted(),
        ),
        Case::with("tunnel encapsulation without a tunnel", tunnel, &[0xc0, 23, 0], withdrawn()),
        Case::with("tunnel that ends outside", tunnel, &[0xc0, 23, 5, 0, 8, 0, 9, 0], withdrawn()),
        Case::with(
            "tunnel whose sub-TLV ends outside",
            tunnel,
            &[0xc0, 23, 6, 0, 8, 0, 2, 1, 9],
            withdrawn(),
        ),
        Case::with("tunnel of an unknown type", tunnel, &[0xc0, 23, 4, 0xff, 0, 0, 0], accepted()),
        Case::with("AIGP whose TLV ends outside: not in use, ignored", aigp, &[0x80, 26, 3, 1, 0, 99], {
            accepted()
        }),
        Case::with(
            "AIGP with the Transitive bit",
            "RFC 7311 §3",
            &[0xc0, 26, 11, 1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1],
            discarded(),
        ),
        Case::with("ATTR_SET of three octets", set, &[0xc0, 128, 3, 0, 0, 1], withdrawn()),
        Case::with("ATTR_SET whose attribute ends outside", set, &[0xc0, 128, 7, 0, 0, 0, 1, 0x40, 1, 9], {
            withdrawn()
        }),
        Case::with(
            "ATTR_SET with MP_UNREACH_NLRI in it",
            set,
            &[0xc0, 128, 10, 0, 0, 0, 1, 0x80, 15, 3, 0, 2, 1],
            withdrawn(),
        ),
        Case::with("ONLY_TO_CUSTOMER of three octets", "RFC 9234 §5", &[0xc0, 35, 3, 0, 0, 1], withdrawn()),
        Case::with("traffic engineering: not in use, ignored", "RFC 5543 §3", &[0x80, 24, 1, 9], accepted()),
    ]
}
