//! Where an error begins, and where it is another one.

use super::*;

#[test]
fn next_hop_of_the_other_family() {
    let reach: &[u8] =
        &[0x80, 14, 24, 0, 1, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 16, 10, 64];
    let reset = run(EXTERNAL, &[], &[ORIGIN, AS_PATH, reach], &[]).expect_err("RFC 7606 §7.11");
    assert_eq!((reset.code, reset.subcode, &reset.data[..]), (3, 9, reach));
}

/// Whatever is wrong in there: it concerns nobody, and the rest of the message counts.
#[test]
fn families_that_were_not_agreed_on_are_not_read() {
    let cases: [(&str, &[u8]); 5] = [
        ("SAFI 2", &[0x80, 14, 9, 0, 1, 2, 4, 10, 0, 0, 5, 0]),
        ("unknown AFI", &[0x80, 14, 7, 0x40, 4, 71, 1, 9, 0, 77]),
        ("EVPN that ends outside", &[0x80, 14, 11, 0, 25, 70, 4, 10, 0, 0, 5, 0, 2, 200]),
        ("labelled IPv6 with 200 bits", &[0x80, 15, 5, 0, 2, 4, 200, 1]),
        ("next hop that ends outside", &[0x80, 14, 6, 0, 1, 128, 24, 0, 0]),
    ];
    for (name, attribute) in cases {
        let outcome = run(EXTERNAL, &[], &[attribute, ORIGIN, AS_PATH, NEXT_HOP], NLRI).expect(name);
        assert_eq!(outcome.events, [announce(attributes(), both())], "{name}");
        assert_eq!(outcome.faults, [], "{name}");
    }
    let twice: &[u8] = &[0x80, 15, 3, 0, 2, 4];
    let reset = run(EXTERNAL, &[], &[twice, twice], &[]).expect_err("twice");
    assert_eq!((reset.code, reset.subcode), (3, 1));
    let only_v4 = Kind { families: &[Family::Ipv4], ..EXTERNAL };
    let end_of_rib = run(only_v4, &[], &[&[0x80, 15, 3, 0, 2, 1]], &[]).expect("harmless");
    assert_eq!(end_of_rib, Outcome::default(), "no End-of-RIB of a family that was not agreed on");
}

#[test]
fn what_is_no_error() {
    let cases: [(&str, AttributeList, Attributes); 3] = [
        (
            "Partial bit (RFC 7606 §3 (c))",
            &[&[0x60, 1, 1, 0], AS_PATH, NEXT_HOP, &[0xa0, 4, 4, 0, 0, 0, 7]],
            Attributes { med: Some(7), ..attributes() },
        ),
        ("unused flags", &[&[0x4f, 1, 1, 0], AS_PATH, NEXT_HOP], attributes()),
        ("length in two octets", &[&[0x50, 1, 0, 1, 0], AS_PATH, NEXT_HOP], attributes()),
    ];
    for (name, list, expected) in cases {
        let outcome = run(EXTERNAL, &[], list, NLRI).expect(name);
        assert_eq!(outcome.events, [announce(expected, both())], "{name}");
        assert_eq!(outcome.faults, [], "{name}");
    }
    let outcome = run(EXTERNAL, &[], &[ORIGIN, AS_PATH, MP_REACH, &[0x40, 3, 4, 0, 0, 0, 0]], &[]);
    let outcome = outcome.expect("NEXT_HOP is ignored (RFC 4760 §3)");
    assert!(!outcome.treated_as_withdraw && outcome.faults.is_empty(), "{outcome:?}");
}
