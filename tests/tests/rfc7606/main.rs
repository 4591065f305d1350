//! RFC 7606: a table of malformed UPDATEs, sent over TCP to the speaker in sessions of every kind. Each case names
//! the clause that decides it. Needs no privilege.

mod as4;
mod case;
mod combined;
mod communities;
mod flags;
mod framing;
#[path = "../bgp_session/harness.rs"]
#[expect(dead_code, reason = "the sessions' own tests use more of it")]
mod harness;
mod lane;
mod mp;
mod path;
mod values;

use std::collections::HashSet;

use case::{Case, Kind};
use lane::Lane;

/// The table must not shrink unseen.
const LEAST_CASES: usize = 200;

fn table() -> Vec<Case> {
    let parts = [
        path::cases(),
        values::cases(),
        communities::cases(),
        as4::cases(),
        mp::cases(),
        flags::cases(),
        framing::cases(),
        combined::cases(),
    ];
    parts.into_iter().flatten().collect()
}

/// Every case over the session of its kind: one session per kind, opened again after each reset.
fn run(external: bool, place: u8) {
    let table = table();
    let mut wrong = Vec::new();
    for (number, kind) in (0..).zip([Kind::FourOctet, Kind::TwoOctet, Kind::AddPath, Kind::Ipv4Only]) {
        let mut lane = Lane::open(harness::Place(place + number), kind, external);
        for case in table.iter().filter(|case| case.kind == kind) {
            let expected = lane.expected(case);
            let seen = lane.observe(&case.message);
            if seen != expected {
                wrong.push(format!(
                    "{} [{}, {kind:?}]\n  expected {expected:?}\n  seen     {seen:?}",
                    case.name, case.clause
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[test]
fn from_an_internal_peer() {
    run(false, 200);
}

#[test]
fn from_an_external_peer() {
    run(true, 210);
}

#[test]
fn the_table_is_whole_and_its_names_differ() {
    let table = table();
    assert!(table.len() >= LEAST_CASES, "{} cases", table.len());
    let names: HashSet<_> = table.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), table.len());
}
