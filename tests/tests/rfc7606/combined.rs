//! Several errors in one UPDATE: the strongest wins (RFC 7606 §3 (h)).

use super::case::{Case, Kept, Outcome, PREFIX, PREFIX_BYTES, REACH, REACH_PREFIX, reset};
use super::harness::{AS_PATH, NEXT_HOP, ORIGIN};

const BAD_ORIGIN: &[u8] = &[0x40, 1, 1, 9];
const BAD_MED: &[u8] = &[0x80, 4, 1, 0];
const BAD_AGGREGATOR: &[u8] = &[0xc0, 7, 1, 0];
const BAD_ATOMIC: &[u8] = &[0x40, 6, 1, 0];
const BAD_LOCAL_PREF: &[u8] = &[0x40, 5, 1, 0];

pub fn cases() -> Vec<Case> {
    let clause = "RFC 7606 §3 (h)";
    let body = |name, attributes: &[&[u8]], outcome| Case::body(name, clause, attributes, outcome);
    let aggregates = Outcome::Accepted(2, Vec::new());
    vec![
        body(
            "two attributes to discard",
            &[ORIGIN, AS_PATH, NEXT_HOP, BAD_AGGREGATOR, BAD_ATOMIC],
            aggregates,
        ),
        body(
            "two attributes to discard and a good one",
            &[BAD_AGGREGATOR, ORIGIN, AS_PATH, NEXT_HOP, BAD_ATOMIC, &[0xc0, 8, 4, 0xfc, 0, 0, 9]],
            Outcome::Accepted(2, vec![Kept::Communities(&[0xfc00_0009])]),
        ),
        body(
            "discard and treat-as-withdraw",
            &[BAD_AGGREGATOR, BAD_ORIGIN, AS_PATH, NEXT_HOP],
            Outcome::Withdrawn(1),
        ),
        body("two of treat-as-withdraw", &[BAD_ORIGIN, AS_PATH, NEXT_HOP, BAD_MED], Outcome::Withdrawn(0)),
        body(
            "LOCAL_PREF and MULTI_EXIT_DISC malformed",
            &[ORIGIN, AS_PATH, NEXT_HOP, BAD_LOCAL_PREF, BAD_MED],
            Outcome::Withdrawn(0),
        )
        .external(Outcome::Withdrawn(1)),
        body(
            "treat-as-withdraw before an unknown well-known attribute",
            &[BAD_ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 99, 1, 7]],
            reset(&[&[3, 2, 0x40, 99, 1, 7]]),
        ),
        body(
            "treat-as-withdraw and MP_REACH_NLRI twice",
            &[BAD_ORIGIN, AS_PATH, NEXT_HOP, REACH, REACH],
            reset(&[&[3, 1]]),
        ),
        body(
            "discard and a next hop of a wrong length",
            &[ORIGIN, AS_PATH, NEXT_HOP, BAD_AGGREGATOR, &[0x80, 14, 7, 0, 2, 1, 2, 1, 2, 0]],
            reset(&[&[3, 9, 0x80, 14, 7, 0, 2, 1, 2, 1, 2, 0]]),
        ),
        Case::new(
            "treat-as-withdraw and a prefix that cannot be read",
            clause,
            (&[], &[BAD_ORIGIN, AS_PATH, NEXT_HOP], &[33, 1]),
            reset(&[&[3, 10, 33, 1]]),
        ),
        Case::new(
            "treat-as-withdraw and a withdrawn prefix that cannot be read",
            clause,
            (&[16, 10], &[BAD_ORIGIN, AS_PATH, NEXT_HOP], PREFIX_BYTES),
            reset(&[&[3, 10, 16, 10]]),
        ),
        Case::new(
            "treat-as-withdraw takes everything back, both families",
            "RFC 7606 §2",
            (&[8, 11], &[ORIGIN, AS_PATH, NEXT_HOP, BAD_MED, REACH], PREFIX_BYTES),
            Outcome::Withdrawn(0),
        )
        .withdraws(&["11.0.0.0/8"])
        .announces(&[PREFIX, REACH_PREFIX]),
        Case::new(
            "a bad attribute beside withdrawn routes alone",
            "RFC 7606 §5.2",
            (PREFIX_BYTES, &[BAD_MED], &[]),
            reset(&[&[3, 5], BAD_MED]),
        ),
        Case::new(
            "an attribute to discard beside withdrawn routes alone",
            "RFC 7606 §5.2",
            (PREFIX_BYTES, &[BAD_AGGREGATOR], &[]),
            Outcome::Accepted(1, Vec::new()),
        )
        .withdraws(&[PREFIX]),
    ]
}
