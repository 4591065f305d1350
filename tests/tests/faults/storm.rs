//! A peer that says more than anybody wants to hear.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::rig::*;

/// Messages of the storm.
const STORM: usize = 200_000;
/// Prefixes that they are about.
const PREFIXES: u16 = 1000;

/// Announcements and withdrawals at random, and what they come to.
fn storm(random: &mut fastrand::Rng) -> (Vec<u8>, BTreeMap<u16, Ipv4Addr>) {
    let (mut bytes, mut table) = (Vec::new(), BTreeMap::new());
    for _ in 0..STORM {
        let number = random.u16(..PREFIXES);
        let nlri = prefix(number).1;
        if random.bool() {
            let next_hop = if random.bool() { PEER } else { OTHER_HOP };
            table.insert(number, next_hop);
            bytes.extend_from_slice(&announce(next_hop, &nlri));
        } else {
            table.remove(&number);
            bytes.extend_from_slice(&withdraw(&nlri));
        }
    }
    (bytes, table)
}

#[test]
fn a_storm_of_updates_ends_in_the_right_table() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (bytes, table) = storm(&mut fastrand::Rng::with_seed(seed));
    let keys = "hold_time = \"9s\"\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Peer, keys }) else { return };
    let mut peer = rig.session(&open(9));
    peer.send(&end_of_rib());
    let before = rig.memory("VmRSS");
    let writer = peer.second_handle();
    let sender = thread::spawn(move || {
        writer.socket().write_all(&bytes).expect("the session stays up");
        writer
    });
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    while !sender.is_finished() {
        let started = Instant::now();
        let status = rig.agent.client().status().expect("an answer in the storm");
        assert_eq!(status.bgp.expect("BGP is configured").established, 1);
        slowest = slowest.max(started.elapsed());
        asked += 1;
        thread::sleep(Duration::from_millis(50));
    }
    let pulse = Pulse::on(&sender.join().expect("all sent"));
    // A build without optimization takes many times as long for each message.
    let bound = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
    assert!(asked > 0 && slowest < bound, "{slowest:?} for one of {asked} answers");

    let expected =
        table.iter().map(|(number, next_hop)| (prefix(*number).0, Some((*next_hop).into()))).collect();
    rig.wait_routes("the end of the storm", &expected);
    let status = rig.peer();
    assert_eq!((status.updates, status.flaps), (STORM as u64 + 2, 0), "{status:?}");
    assert_eq!((status.accepted, status.received), (table.len(), table.len()), "{status:?}");
    let most = rig.memory("VmHWM");
    println!("{asked} answers, the slowest after {slowest:?}; {before} KiB before, {most} KiB at most");
    assert!(most < 200 * 1024, "{most} KiB");
    drop(pulse);
}
