//! ORIGIN and `AS_PATH` (RFC 7606 §7.1, §7.2).

use underpass::rib::model::Origin;

use super::case::{Case, Kept, Kind, SHORT_AS_PATH, accepted, kept, withdrawn};
use super::harness::{AS_PATH, NEXT_HOP, ORIGIN};

const ORIGIN_CLAUSE: &str = "RFC 7606 §7.1";
const PATH_CLAUSE: &str = "RFC 7606 §7.2";

const LONG_PATH: &[&[u32]] = &[&[64513; 255]];

pub fn cases() -> Vec<Case> {
    [origin(), segments(), numbers(), first_as()].concat()
}

fn origin() -> Vec<Case> {
    let with = |name, attribute: &[u8], outcome| {
        Case::body(name, ORIGIN_CLAUSE, &[attribute, AS_PATH, NEXT_HOP], outcome)
    };
    vec![
        with("ORIGIN without a value", &[0x40, 1, 0], withdrawn()),
        with("ORIGIN of two octets", &[0x40, 1, 2, 0, 0], withdrawn()),
        with("ORIGIN 3", &[0x40, 1, 1, 3], withdrawn()),
        with("ORIGIN 255", &[0x40, 1, 1, 255], withdrawn()),
        with("ORIGIN EGP", &[0x40, 1, 1, 1], kept(Kept::Origin(Origin::Egp))),
        with("ORIGIN INCOMPLETE", &[0x40, 1, 1, 2], kept(Kept::Origin(Origin::Incomplete))),
    ]
}

/// An UPDATE with this `AS_PATH`.
fn path(name: &'static str, clause: &'static str, value: &[u8], outcome: super::case::Outcome) -> Case {
    let length = u8::try_from(value.len()).expect("a short path");
    let attribute = [&[0x40, 2, length][..], value].concat();
    Case::body(name, clause, &[ORIGIN, &attribute, NEXT_HOP], outcome)
}

fn segments() -> Vec<Case> {
    let long = [&[0x50, 2, 3, 0xfe, 2, 255][..], &[0, 0, 0xfc, 0x01].repeat(255)].concat();
    vec![
        path("AS_PATH segment of type 0", PATH_CLAUSE, &[0, 1, 0, 0, 0xfc, 1], withdrawn()),
        path("AS_PATH segment of type 5", PATH_CLAUSE, &[5, 1, 0, 0, 0xfc, 1], withdrawn()),
        path(
            "AS_PATH segment of type 255 after a good one",
            PATH_CLAUSE,
            &[2, 1, 0, 0, 0xfc, 1, 255, 1, 0, 0, 0xfc, 1],
            withdrawn(),
        ),
        path("AS_PATH segment without a number", PATH_CLAUSE, &[2, 0], withdrawn()),
        path(
            "AS_PATH segment without a number after a good one",
            PATH_CLAUSE,
            &[2, 1, 0, 0, 0xfc, 1, 2, 0],
            withdrawn(),
        ),
        path("AS_PATH segment that ends outside", PATH_CLAUSE, &[2, 2, 0, 0, 0xfc, 1], withdrawn()),
        path("AS_PATH whose last number is cut", PATH_CLAUSE, &[2, 1, 0, 0, 0xfc], withdrawn()),
        path("AS_PATH with an octet left over", PATH_CLAUSE, &[2, 1, 0, 0, 0xfc, 1, 2], withdrawn()),
        path("AS_PATH of one octet", PATH_CLAUSE, &[2], withdrawn()),
        path("AS_PATH with numbers of two octets in a session of four", PATH_CLAUSE, &[2, 1, 0xfc, 1], {
            withdrawn()
        }),
        Case::body(
            "AS_PATH with numbers of four octets in a session of two",
            PATH_CLAUSE,
            &[ORIGIN, AS_PATH, NEXT_HOP],
            withdrawn(),
        )
        .on(Kind::TwoOctet),
        Case::body(
            "AS_PATH segment of 255 numbers",
            "RFC 4271 §4.3",
            &[ORIGIN, &long, NEXT_HOP],
            kept(Kept::AsPath(LONG_PATH)),
        ),
        path(
            "AS_PATH of two segments",
            "RFC 4271 §4.3",
            &[2, 1, 0, 0, 0xfc, 1, 2, 1, 0, 0, 0xfd, 0xe8],
            kept(Kept::AsPath(&[&[64513], &[65000]])),
        ),
        Case::body("AS_PATH in two octets", "RFC 4271 §4.3", &[ORIGIN, SHORT_AS_PATH, NEXT_HOP], accepted())
            .on(Kind::TwoOctet),
    ]
}

fn numbers() -> Vec<Case> {
    let (zero, sets, confederation) = ("RFC 7607 §2", "RFC 9774 §3", "RFC 5065 §5");
    vec![
        path("AS_PATH of AS 0", zero, &[2, 1, 0, 0, 0, 0], withdrawn()),
        path("AS 0 at the end of AS_PATH", zero, &[2, 2, 0, 0, 0xfc, 1, 0, 0, 0, 0], withdrawn()),
        path(
            "AS 0 in the second segment of AS_PATH",
            zero,
            &[2, 1, 0, 0, 0xfc, 1, 2, 1, 0, 0, 0, 0],
            withdrawn(),
        ),
        path("AS_SET alone", sets, &[1, 1, 0, 0, 0xfc, 1], withdrawn()),
        path(
            "AS_SET at the end of AS_PATH",
            sets,
            &[2, 1, 0, 0, 0xfc, 1, 1, 2, 0, 0, 0xfd, 0xe8, 0, 0, 0xfd, 0xe9],
            withdrawn(),
        ),
        path("AS_CONFED_SEQUENCE alone", confederation, &[3, 1, 0, 0, 0xfc, 1], withdrawn()),
        path(
            "AS_CONFED_SEQUENCE before the peer's AS",
            confederation,
            &[3, 1, 0, 0, 0xfd, 0xe8, 2, 1, 0, 0, 0xfc, 1],
            withdrawn(),
        ),
        path(
            "AS_CONFED_SET after the peer's AS",
            confederation,
            &[2, 1, 0, 0, 0xfc, 1, 4, 1, 0, 0, 0xfd, 0xe8],
            withdrawn(),
        ),
    ]
}

fn first_as() -> Vec<Case> {
    vec![
        path("AS_PATH that is empty", "RFC 4271 §6.3", &[], kept(Kept::AsPath(&[]))).external(withdrawn()),
        path(
            "AS_PATH that starts with another AS",
            PATH_CLAUSE,
            &[2, 1, 0, 0, 0xfd, 0xe8],
            kept(Kept::AsPath(&[&[65000]])),
        )
        .external(withdrawn()),
    ]
}
