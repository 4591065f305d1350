//! `AS4_PATH` and `AS4_AGGREGATOR` (RFC 6793 §4.2.3, §6).

use super::case::{Case, Kept, Kind, Outcome, accepted, discarded, kept, withdrawn};
use super::harness::{NEXT_HOP, ORIGIN};

const CLAUSE: &str = "RFC 6793 §6";
/// 64513 and `AS_TRANS`.
const TRANS_PATH: &[u8] = &[0x40, 2, 6, 2, 2, 0xfc, 0x01, 0x5b, 0xa0];
const AS4_PATH: &[u8] = &[0xc0, 17, 6, 2, 1, 0xfa, 0x56, 0xea, 0];
const TRANS_AGGREGATOR: &[u8] = &[0xc0, 7, 6, 0x5b, 0xa0, 10, 0, 0, 1];
const AS4_AGGREGATOR: &[u8] = &[0xc0, 18, 8, 0xfa, 0x56, 0xea, 0, 10, 0, 0, 1];
/// What [`TRANS_PATH`] says alone.
const UNMERGED: Kept = Kept::AsPath(&[&[64513, 23456]]);
/// With [`AS4_PATH`] put in.
const MERGED: Kept = Kept::AsPath(&[&[64513, 4_200_000_000]]);

pub fn cases() -> Vec<Case> {
    [path(), aggregator(), between_new_speakers()].concat()
}

fn short(name: &'static str, clause: &'static str, attributes: &[&[u8]], outcome: Outcome) -> Case {
    let all = [&[ORIGIN, TRANS_PATH, NEXT_HOP], attributes].concat();
    Case::body(name, clause, &all, outcome).on(Kind::TwoOctet)
}

fn without() -> Outcome {
    Outcome::Accepted(1, vec![UNMERGED])
}

fn path() -> Vec<Case> {
    let merge = "RFC 6793 §4.2.3";
    let longer = [&[0xc0, 17, 14, 2, 3][..], &[0xfa, 0x56, 0xea, 0].repeat(3)].concat();
    vec![
        short("AS4_PATH merged", merge, &[AS4_PATH], kept(MERGED)),
        short("AS4_PATH longer than AS_PATH", merge, &[&longer], kept(UNMERGED)),
        short("AS4_PATH without a value", CLAUSE, &[&[0xc0, 17, 0]], without()),
        short("AS4_PATH of four octets", CLAUSE, &[&[0xc0, 17, 4, 2, 1, 0, 1]], without()),
        short(
            "AS4_PATH of an odd length",
            CLAUSE,
            &[&[0xc0, 17, 7, 2, 1, 0xfa, 0x56, 0xea, 0, 0]],
            without(),
        ),
        short(
            "AS4_PATH segment without a number",
            CLAUSE,
            &[&[0xc0, 17, 8, 2, 0, 2, 1, 0xfa, 0x56, 0xea, 0]],
            without(),
        ),
        short("AS4_PATH segment that ends outside", CLAUSE, &[&[0xc0, 17, 6, 2, 2, 0, 1, 0, 1]], without()),
        short("AS4_PATH segment of type 9", CLAUSE, &[&[0xc0, 17, 6, 9, 1, 0xfa, 0x56, 0xea, 0]], without()),
        short("AS4_PATH with AS 0", "RFC 7607 §2", &[&[0xc0, 17, 6, 2, 1, 0, 0, 0, 0]], without()),
        short(
            "AS4_PATH with AS_CONFED_SEQUENCE before the rest",
            CLAUSE,
            &[&[0xc0, 17, 12, 3, 1, 0, 0, 0xfd, 0xe8, 2, 1, 0xfa, 0x56, 0xea, 0]],
            Outcome::Accepted(1, vec![MERGED]),
        ),
        short("AS4_PATH with AS_SET", "RFC 9774 §3", &[&[0xc0, 17, 6, 1, 1, 0, 0, 0xfd, 0xe8]], withdrawn()),
        short("AS4_PATH twice", "RFC 7606 §3 (g)", &[AS4_PATH, AS4_PATH], Outcome::Accepted(1, vec![MERGED])),
    ]
}

fn aggregator() -> Vec<Case> {
    vec![
        short("AS4_AGGREGATOR", CLAUSE, &[TRANS_AGGREGATOR, AS4_AGGREGATOR], kept(UNMERGED)),
        short(
            "AS4_AGGREGATOR of seven octets",
            CLAUSE,
            &[TRANS_AGGREGATOR, &[0xc0, 18, 7, 0xfa, 0x56, 0xea, 0, 10, 0, 0], AS4_PATH],
            Outcome::Accepted(1, vec![MERGED]),
        ),
        short("AS4_AGGREGATOR of six octets", CLAUSE, &[&[0xc0, 18, 6, 0xfc, 1, 10, 0, 0, 1]], without()),
        short("AS4_AGGREGATOR of AS 0", "RFC 7607 §2", &[&[0xc0, 18, 8, 0, 0, 0, 0, 10, 0, 0, 1]], without()),
        short(
            "AS4_AGGREGATOR beside an AGGREGATOR that needs none: both AS4 attributes are ignored",
            "RFC 6793 §4.2.3",
            &[&[0xc0, 7, 6, 0xfc, 0x01, 10, 0, 0, 1], AS4_AGGREGATOR, AS4_PATH],
            kept(UNMERGED),
        ),
    ]
}

fn between_new_speakers() -> Vec<Case> {
    vec![
        Case::with("AS4_PATH where AS numbers have four octets", CLAUSE, AS4_PATH, discarded()),
        Case::with("AS4_AGGREGATOR where AS numbers have four octets", CLAUSE, AS4_AGGREGATOR, discarded()),
        Case::with(
            "AS4_PATH, malformed, where AS numbers have four octets",
            CLAUSE,
            &[0xc0, 17, 3, 2, 1, 0],
            discarded(),
        ),
        Case::with(
            "AGGREGATOR of AS_TRANS",
            CLAUSE,
            &[0xc0, 7, 8, 0, 0, 0x5b, 0xa0, 10, 0, 0, 1],
            accepted(),
        ),
    ]
}
