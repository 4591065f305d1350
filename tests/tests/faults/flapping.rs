//! Peers that come and go.

use std::thread;
use std::time::{Duration, Instant};

use underpass_tests::fake_peer::{FakePeer, KEEPALIVE, NOTIFICATION, OPEN, Open, Received, UPDATE, message};

use super::rig::*;

/// Connects until the session is up. Turned away with Connection Collision Resolution, the peer was faster than
/// the news of its last connection's end.
fn come(rig: &Rig, open: &Open) -> FakePeer {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let mut peer = rig.connect();
        match peer.receive() {
            Received::Message(OPEN, _) => {}
            Received::Message(NOTIFICATION, body) if body == [6, 7] => continue,
            other => panic!("{other:?}"),
        }
        peer.send(&open.bytes());
        peer.expect(KEEPALIVE);
        peer.send(&message(KEEPALIVE, &[]));
        peer.expect(UPDATE);
        peer.expect(UPDATE);
        return peer;
    }
    panic!("no session for {PATIENCE:?}");
}

#[test]
fn a_flapping_peer_leaves_nothing_behind() {
    const FLAPS: u16 = 200;
    let keys = "hold_time = \"9s\"\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Peer, keys }) else { return };
    drop(come(&rig, &open(9)));
    rig.wait_peer("down", |peer| peer.flaps == 1);
    let (files, memory) = (rig.open_files(), rig.memory("VmRSS"));
    for number in 1..FLAPS {
        let mut peer = come(&rig, &open(9));
        peer.send(&announce(PEER, &prefix(number).1));
    }
    let mut peer = come(&rig, &open(9));
    let last = [201, 202].map(prefix);
    peer.send(&announce(PEER, &last.each_ref().map(|(_, nlri)| *nlri).concat()));
    peer.send(&end_of_rib());
    let _pulse = Pulse::on(&peer);
    rig.wait_routes("of the last session", &through_peer(last.iter().map(|(text, _)| text.as_str())));
    assert_eq!(rig.peer_for_people().flaps, u64::from(FLAPS));
    rig.wait_open_files("one connection more than without", files + 1);
    let grown = rig.memory("VmRSS").saturating_sub(memory);
    assert!(grown < 16 * 1024, "{grown} KiB more after {FLAPS} sessions");
}

/// A peer that breaks the protocol each time is turned away for a pause that grows (RFC 4271 §8.1.1).
#[test]
fn a_peer_that_errs_each_time_is_kept_away_longer_and_longer() {
    let Some(mut rig) = Rig::up(Configured::quick(Dials::Peer)) else { return };
    let files = rig.open_files();
    for longest in [1, 2, 2].map(Duration::from_secs) {
        let mut peer = come(&rig, &open(3));
        let erred = Instant::now();
        peer.send(&message(UPDATE, &[0xff; 4]));
        assert_eq!(peer.expect_notification()[..2], [3, 1]);
        let mut turned_away = 0;
        let away = loop {
            let mut peer = rig.connect();
            match peer.receive() {
                Received::Message(NOTIFICATION, body) => assert_eq!(body, [6, 5]),
                Received::Message(OPEN, _) => break erred.elapsed(),
                other => panic!("{other:?}"),
            }
            turned_away += 1;
            thread::sleep(Duration::from_millis(20));
        };
        println!("{turned_away} turned away in {away:?}");
        assert!(away > longest.mul_f64(0.74) && away < longest + SLACK, "{away:?} of {longest:?}");
        assert!(turned_away > 0);
    }
    rig.wait_open_files("no file is left open", files);
}

/// Dials that succeed and lead to nothing are as slow as ones that fail.
#[test]
fn a_peer_that_closes_each_time_is_not_dialled_without_a_pause() {
    let Some(mut rig) = Rig::up(Configured::quick(Dials::Agent)) else { return };
    let files = rig.open_files();
    let listening = rig.listen(PEER);
    listening.accept().establish(&open(3));
    let mut before = Instant::now();
    for _ in 0..4 {
        let mut peer = listening.accept();
        let pause = before.elapsed();
        assert!(pause > Duration::from_millis(740), "dialled after {pause:?}");
        peer.establish(&open(3));
        before = Instant::now();
    }
    rig.wait_peer("all counted", |peer| peer.flaps == 5);
    drop(listening);
    rig.wait_open_files("no file is left open", files);
}
