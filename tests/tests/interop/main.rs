//! The agent as a client of route reflectors that we did not write: BIRD 1.6.8, BIRD 2 and FRR.

mod ipv6;
mod operator;
mod rig;

use std::process::Stdio;

use rig::{Feed, Make, Rig, prefix};
use underpass::api::model::PeerStatus;
use underpass_tests::wait;

/// Prefixes of the big table.
const MANY: u32 = 5000;

/// Two prefixes of one feeder, one of the other, and one that both announce.
fn feeds() -> [Vec<Feed>; 2] {
    [
        vec![Feed::one(1, [10, 0, 0, 21]), Feed::one(2, [10, 0, 0, 21]), Feed::one(9, [10, 0, 0, 21])],
        vec![Feed::one(3, [10, 0, 0, 22]), Feed::one(9, [10, 0, 0, 22])],
    ]
}

const LEARNED: &[(&str, &[&str])] = &[
    ("10.64.0.64/26", &["10.0.0.21"]),
    ("10.64.0.128/26", &["10.0.0.21"]),
    ("10.64.0.192/26", &["10.0.0.22"]),
    ("10.64.2.64/26", &["10.0.0.21", "10.0.0.22"]),
];

/// Namespaces need root.
fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "interop tests must run under CI=true");
        println!("skipped: network namespaces need root");
    }
    root
}

fn raise(make: Make) -> Rig {
    let [one, two] = feeds();
    let rig = Rig::up(make, [&one, &two]).expect("reflectors, feeders and agent start");
    for number in [0, 1] {
        // Of the prefix that both feeders announce, both paths come: ADD-PATH.
        let peer = rig.wait_peer("all paths", number, |peer| peer.end_of_rib && peer.accepted == 5);
        assert_eq!((peer.received, peer.stale, peer.hold_seconds), (5, 0, Some(9)), "{peer:?}");
    }
    rig.wait_routes("learned", LEARNED);
    rig
}

/// Learn, withdraw, change of next hop.
fn follows(make: Make) {
    let rig = raise(make);
    rig.feed(0, &[Feed::one(1, [10, 0, 0, 23])]).expect("BIRD takes it");
    rig.wait_routes(
        "next hop changed, one prefix withdrawn, one path withdrawn",
        &[
            ("10.64.0.64/26", &["10.0.0.23"]),
            ("10.64.0.192/26", &["10.0.0.22"]),
            ("10.64.2.64/26", &["10.0.0.22"]),
        ],
    );
    rig.feed(0, &feeds()[0]).expect("BIRD takes it");
    rig.wait_routes("as before", LEARNED);
}

/// One reflector lost and back, then a session reset: the kernel's routes are not touched once.
fn survives(make: Make) {
    let mut rig = raise(make);
    let mut monitor = rig.router().command("ip");
    let mut monitor =
        monitor.args(["-4", "monitor", "route"]).stdout(Stdio::piped()).spawn().expect("ip monitor");

    rig.kill_reflector(0).expect("killed");
    let kept = |peer: &PeerStatus| peer.state != "Established" && peer.stale == 5;
    let lost = rig.wait_peer("lost, and kept while it restarts", 0, kept);
    assert_eq!(lost.flaps, 1, "{lost:?}");
    assert_eq!(rig.peer(1).expect("an answer").flaps, 0);
    rig.wait_routes("one reflector is enough", LEARNED);

    rig.restart_reflector(0).expect("it starts again");
    let back = rig.wait_peer("back", 0, |peer| peer.end_of_rib && peer.accepted == 5 && peer.stale == 0);
    assert_eq!((back.stale, back.flaps), (0, 1), "{back:?}");

    rig.reset_session(1).expect("the daemon takes the command");
    let reset = rig.wait_peer("reset", 1, |peer| peer.flaps == 1);
    let error = reset.last_error.clone().unwrap_or_default();
    assert!(error.starts_with("received NOTIFICATION 6/"), "{error}");
    let back = rig.wait_peer("back", 1, |peer| peer.end_of_rib && peer.accepted == 5 && peer.stale == 0);
    assert_eq!(back.stale, 0, "{back:?}");
    rig.wait_routes("at the end", LEARNED);

    monitor.kill().expect("ip monitor ends");
    let seen = monitor.wait_with_output().expect("ip monitor ends").stdout;
    assert_eq!(String::from_utf8_lossy(&seen), "", "the kernel's routes were touched");
}

/// Both ends dial at once, or only the reflector does: one session, without flapping.
fn agrees_on_one_connection(make: Make) {
    let [one, two] = feeds();
    let rig = Rig::up_listening(make, [&one, &two]).expect("reflectors, feeders and agent start");
    for number in [0, 1] {
        let settled = |peer: &PeerStatus| peer.accepted == 5 && peer.uptime_seconds >= Some(5);
        let peer = rig.wait_peer("up for a while", number, settled);
        assert_eq!(peer.flaps, 0, "{peer:?}");
    }
}

/// Stopped while it writes routes, an agent that is to take them along leaves none.
#[test]
fn flush_on_stop_in_the_middle_of_writing() {
    if !privileged() {
        return;
    }
    let mut rig = Rig::up_flushing(Make::Bird2, [&[], &[]]).expect("reflectors, feeders and agent start");
    let feed = Feed { first: 0, count: 3 * MANY, next_hop: [10, 0, 0, 21].into() };
    rig.feed(0, &[feed]).expect("BIRD takes it");
    let written = || {
        anyhow::ensure!(!rig.kernel_routes()?.is_empty(), "no routes yet");
        Ok(())
    };
    wait::until("routes are written", rig::PATIENCE, written).expect("in time");
    let status = rig.agent.stop().expect("stopped");
    assert!(status.success(), "{status}");
    assert_eq!(rig.kernel_routes().expect("ip route"), [], "routes of ours that are left");
}

/// Two paths for each of 5,000 prefixes from two reflectors, then half of them withdrawn.
fn carries_many(make: Make) {
    let feed = |count, last| [Feed { first: 0, count, next_hop: [10, 0, 0, last].into() }];
    let rig = Rig::up(make, [&feed(MANY, 21), &feed(MANY, 22)]).expect("reflectors, feeders and agent start");
    for number in [0, 1] {
        let paths = 2 * usize::try_from(MANY).expect("fits");
        rig.wait_peer("all paths", number, |peer| peer.end_of_rib && peer.accepted == paths);
    }
    wait_kernel(&rig, MANY, &["10.0.0.21", "10.0.0.22"]);

    rig.feed(0, &feed(MANY / 2, 21)).expect("BIRD takes it");
    rig.feed(1, &feed(MANY / 2, 22)).expect("BIRD takes it");
    wait_kernel(&rig, MANY / 2, &["10.0.0.21", "10.0.0.22"]);
}

fn wait_kernel(rig: &Rig, count: u32, next_hops: &[&str]) {
    let prefixes: Vec<_> = (0..count).map(|number| prefix(number).to_string()).collect();
    let expected: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), next_hops)).collect();
    rig.wait_routes("in RIB and kernel", &expected);
}

macro_rules! against {
    ($($name:ident: $make:expr;)*) => {$(
        mod $name {
            use super::Make;

            #[test]
            fn follows() {
                if super::privileged() {
                    super::follows($make);
                }
            }

            #[test]
            fn survives() {
                if super::privileged() {
                    super::survives($make);
                }
            }

            #[test]
            fn agrees_on_one_connection() {
                if super::privileged() {
                    super::agrees_on_one_connection($make);
                }
            }

            #[test]
            fn carries_many() {
                if super::privileged() {
                    super::carries_many($make);
                }
            }
        }
    )*};
}

against! {
    bird_1_6: Make::Bird1;
    bird_2: Make::Bird2;
    frr: Make::Frr;
}
