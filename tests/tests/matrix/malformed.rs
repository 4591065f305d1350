//! Malformed messages, sent by `ExaBGP`, and what RFC 7606 makes of them.

use std::fmt::Write as _;
use std::fs;

use underpass_tests::agent::Agent;
use underpass_tests::daemon::ExaBgp;
use underpass_tests::lab::Lab;
use underpass_tests::matrix::Outcome;

use super::basics::FEED;
use super::render::{Path, via};
use super::rig::{self, AGENT, AS, Edge, MACHINE, Opens, PEER};

/// What RFC 7606 says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Treat-as-withdraw (§2).
    Withdrawn,
    /// Attribute discard (§2).
    Discarded,
    /// Nothing is wrong with it.
    Taken,
    /// Session reset with this NOTIFICATION.
    Reset(&'static str),
}

impl Became {
    /// For the table.
    pub fn words(self) -> String {
        match self {
            Self::Withdrawn => "the route counts as withdrawn, the session stays".to_owned(),
            Self::Discarded => "the attribute is left out, the route is taken".to_owned(),
            Self::Taken => "the route is taken".to_owned(),
            Self::Reset(notification) => format!("NOTIFICATION {notification}, the session begins anew"),
        }
    }
}

/// A message with an error in it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is wrong, for the table.
    pub message: &'static str,
    /// The attribute: type, flags, value.
    pub attribute: &'static str,
    /// The peer is of another AS.
    pub external: bool,
    pub became: Became,
}

const fn internal(message: &'static str, attribute: &'static str, became: Became) -> Case {
    Case { message, attribute, external: false, became }
}

const fn external(message: &'static str, attribute: &'static str, became: Became) -> Case {
    Case { message, attribute, external: true, became }
}

pub const ORIGIN_LENGTH: Case = internal("ORIGIN of two octets", "0x01 0x40 0x0000", Became::Withdrawn);
pub const ORIGIN_VALUE: Case = internal("ORIGIN with value 3", "0x01 0x40 0x03", Became::Withdrawn);
pub const ORIGIN_FLAGS: Case = internal("ORIGIN flagged as optional", "0x01 0xC0 0x00", Became::Withdrawn);
pub const AS_PATH_TRUNCATED: Case =
    internal("AS_PATH with a segment that is cut off", "0x02 0x40 0x02020000FC01", Became::Withdrawn);
pub const AS_PATH_SEGMENT: Case =
    internal("AS_PATH with a segment of unknown type", "0x02 0x40 0x09010000FC01", Became::Withdrawn);
pub const MED_LENGTH: Case =
    internal("MULTI_EXIT_DISC of three octets", "0x04 0x80 0x000001", Became::Withdrawn);
pub const LOCAL_PREF_INTERNAL: Case =
    internal("LOCAL_PREF of three octets, peer of our AS", "0x05 0x40 0x000064", Became::Withdrawn);
pub const ATOMIC_AGGREGATE: Case =
    internal("ATOMIC_AGGREGATE with a value", "0x06 0x40 0x01", Became::Discarded);
pub const AGGREGATOR: Case =
    internal("AGGREGATOR of seven octets", "0x07 0xC0 0x00FC010A000001", Became::Discarded);
pub const COMMUNITIES: Case =
    internal("COMMUNITIES of five octets", "0x08 0xC0 0x0000000100", Became::Withdrawn);
pub const ORIGINATOR_ID: Case =
    internal("ORIGINATOR_ID of three octets, peer of our AS", "0x09 0x80 0x0A0000", Became::Withdrawn);
pub const ORIGINATOR_ID_EXTERNAL: Case =
    external("ORIGINATOR_ID of three octets, peer of another AS", "0x09 0x80 0x0A0000", Became::Discarded);
pub const CLUSTER_LIST: Case =
    external("CLUSTER_LIST of five octets, peer of another AS", "0x0A 0x80 0x0A00000100", Became::Discarded);
pub const MP_REACH: Case =
    internal("MP_REACH_NLRI that is cut off", "0x0E 0x80 0x00020110", Became::Reset("3/9"));
pub const EXTENDED_COMMUNITIES: Case =
    internal("EXTENDED COMMUNITIES of seven octets", "0x10 0xC0 0x0002FC00000000", Became::Withdrawn);
pub const LARGE_COMMUNITIES: Case =
    internal("LARGE_COMMUNITY of eleven octets", "0x20 0xC0 0x0000FC0000000001000000", Became::Withdrawn);
pub const UNKNOWN_WELL_KNOWN: Case =
    internal("an unknown well-known attribute", "0x63 0x40 0x0102", Became::Reset("3/2"));
pub const UNKNOWN_TRANSITIVE: Case =
    internal("an unknown optional transitive attribute", "0x63 0xC0 0x0102", Became::Taken);

/// The route whose second announcement is malformed, and what the second one says.
const SECOND: Path = via("10.64.0.128/26", "10.0.0.23");

/// Two routes are learned; then one of them is announced again, with the error.
pub fn seen(case: &Case) -> Outcome {
    let lab = rig::cable().expect("a lab");
    let go = lab.machine_dir(MACHINE).expect("a folder").join("go");
    let mut exabgp = ExaBgp::start(&lab, MACHINE, &config(&lab, case)).expect("ExaBGP starts");
    let mut edge = Edge::new(Opens::Peer);
    edge.remote_as = remote_as(case);
    let mut agent = rig::start_agent(&lab, &edge);
    rig::wait_session(&mut agent, "learned", |peer| peer.accepted == 2);
    wait_paths(&lab, &agent, "learned", &FEED);
    exabgp.process().check().expect("it runs");

    fs::write(&go, "").expect("writable");
    let counts = |withdrawn, discarded| {
        move |peer: &underpass::api::model::PeerStatus| {
            (peer.treated_as_withdraw, peer.attributes_discarded) == (withdrawn, discarded)
        }
    };
    match case.became {
        Became::Withdrawn => {
            wait_paths(&lab, &agent, "withdrawn", &FEED[..1]);
            let peer = rig::wait_session(&mut agent, "counted", counts(1, 0));
            assert_eq!((peer.state.as_str(), peer.flaps, peer.received), ("Established", 0, 1), "{peer:?}");
        }
        Became::Discarded | Became::Taken => {
            wait_paths(&lab, &agent, "taken", &[FEED[0], SECOND]);
            let discarded = u64::from(case.became == Became::Discarded);
            let peer = rig::wait_session(&mut agent, "counted", counts(0, discarded));
            assert_eq!((peer.state.as_str(), peer.flaps, peer.received), ("Established", 0, 2), "{peer:?}");
        }
        Became::Reset(notification) => {
            let peer = rig::wait_session(&mut agent, "reset", |peer| peer.flaps == 1);
            let error = peer.last_error.unwrap_or_default();
            assert!(error.starts_with(&format!("sent NOTIFICATION {notification}")), "{error}");
            wait_paths(&lab, &agent, "all gone", &[]);
        }
    }
    Outcome::Malformed { message: case.message.to_owned(), became: case.became.words() }
}

fn wait_paths(lab: &Lab, agent: &Agent, what: &str, paths: &[Path]) {
    let hops: Vec<[&str; 1]> = paths.iter().map(|path| [path.next_hop]).collect();
    let expected: Vec<(&str, &[&str])> =
        paths.iter().zip(&hops).map(|(path, hops)| (path.prefix, hops.as_slice())).collect();
    rig::wait_routes(agent, &lab.netns("edge"), what, &expected);
}

const fn remote_as(case: &Case) -> u32 {
    if case.external { AS + 1 } else { AS }
}

/// `ExaBGP` announces [`FEED`], and the malformed route when the file `go` is there.
fn config(lab: &Lab, case: &Case) -> String {
    let dir = lab.machine_dir(MACHINE).expect("a folder");
    let script = dir.join("later.sh");
    let text = format!(
        "while [ ! -e '{}' ]; do sleep 0.1; done\necho 'announce route {} next-hop {} attribute [ {} ]'\n\
         exec sleep 600\n",
        dir.join("go").display(),
        SECOND.prefix,
        SECOND.next_hop,
        case.attribute
    );
    fs::write(&script, text).expect("writable");
    let mut text = format!(
        "process later {{\n  run /bin/sh {};\n  encoder text;\n}}\nneighbor {AGENT} {{\n  router-id {PEER};\n  \
         local-address {PEER};\n  local-as {};\n  peer-as {AS};\n  hold-time 9;\n  group-updates false;\n  \
         family {{ ipv4 unicast; }}\n  api {{ processes [ later ]; }}\n  static {{\n",
        script.display(),
        remote_as(case)
    );
    for path in FEED {
        let _ = writeln!(text, "    route {} next-hop {};", path.prefix, path.next_hop);
    }
    text + "  }\n}\n"
}
