//! RFC 4724 §4.2, scene by scene.

use super::*;

fn restarting() -> Lab {
    let mut lab = Lab::up();
    lab.announce(1, 0, &[A, B], "10.0.0.11");
    lab.end_of_rib(1);
    assert_eq!(lab.restart_begins(1), [""; 0], "stale paths forward like any other");
    assert_eq!(lab.counts(1), PeerCounts { received: 2, accepted: 2, stale: 2, end_of_rib: false });
    lab
}

#[test]
fn paths_stay_and_end_of_rib_sweeps_what_was_not_repeated() {
    let mut lab = restarting();
    assert_eq!(lab.comes_back(1, true), [""; 0]);
    assert_eq!(lab.announce(1, 0, &[A], "10.0.0.11"), [""; 0]);
    assert_eq!(lab.counts(1), PeerCounts { received: 2, accepted: 2, stale: 1, end_of_rib: false });
    assert_eq!(lab.end_of_rib(1), [B]);
    assert_eq!(lab.counts(1), PeerCounts { received: 1, accepted: 1, stale: 0, end_of_rib: true });
    assert_eq!(lab.rib.next_deadline(), None);
}

#[test]
fn a_peer_that_stays_away_loses_its_paths_after_the_restart_time() {
    let mut lab = restarting();
    assert_eq!(lab.rib.next_deadline(), Some(lab.now + RESTART_TIME));
    assert_eq!(lab.wait(RESTART_TIME.checked_sub(Duration::from_millis(1)).unwrap()), [""; 0]);
    assert_eq!(lab.wait(Duration::from_millis(1)), [A, B]);
}

#[test]
fn a_peer_without_end_of_rib_loses_stale_paths_after_the_stale_time() {
    let mut lab = restarting();
    lab.wait(RESTART_TIME / 2);
    lab.comes_back(1, true);
    assert_eq!(lab.wait(RESTART_TIME), [""; 0], "the restart time counts no more");
    lab.announce(1, 0, &[B], "10.0.0.11");
    assert_eq!(lab.wait(STALE_TIME.checked_sub(RESTART_TIME * 3 / 2).unwrap()), [A]);
    assert_eq!(lab.next_hops(B), ["10.0.0.11"]);
}

#[test]
fn forwarding_state_not_preserved() {
    assert_eq!(restarting().comes_back(1, false), [A, B]);
}

#[test]
fn family_no_longer_negotiated() {
    let mut lab = restarting();
    let forwarding_preserved = vec![Family::Ipv4];
    let info = PeerInfo { families: vec![Family::Ipv6], forwarding_preserved, ..session(1) };
    assert_eq!(lab.handle(RibEvent::PeerUp(info)), [A, B]);
}

#[test]
fn second_restart_takes_what_was_still_stale() {
    let mut lab = restarting();
    lab.comes_back(1, true);
    lab.announce(1, 0, &[A], "10.0.0.11");
    assert_eq!(lab.restart_begins(1), [B]);
    assert_eq!(lab.next_hops(A), ["10.0.0.11"]);
}

#[test]
fn only_the_families_in_question() {
    let mut lab = Lab::new(config(&[1]));
    let families = vec![Family::Ipv4, Family::Ipv6];
    lab.handle(RibEvent::PeerUp(PeerInfo { families, ..session(1) }));
    lab.announce(1, 0, &[A], "10.0.0.11");
    lab.announce(1, 0, &["fd00:10:1::/64"], "fd00::11");
    assert_eq!(lab.restart_begins(1), ["fd00:10:1::/64"]);
    assert_eq!(lab.next_hops(A), ["10.0.0.11"]);
}

#[test]
fn a_new_identifier_decides_anew() {
    let mut config = config(&[1, 2]);
    config.maximum_paths = both(1);
    let mut lab = Lab::new(config);
    for number in [1, 2] {
        lab.handle(RibEvent::PeerUp(session(number)));
        lab.announce(number, 0, &[A], &format!("10.0.0.1{number}"));
    }
    lab.restart_begins(1);
    let router_id = Ipv4Addr::new(10, 0, 0, 9);
    let forwarding_preserved = vec![Family::Ipv4];
    let info = PeerInfo { router_id, forwarding_preserved, ..session(1) };
    assert_eq!(lab.handle(RibEvent::PeerUp(info)), [A]);
    assert_eq!(lab.next_hops(A), ["10.0.0.12"]);
}

/// A restarted peer numbers its paths anew (RFC 7911 §3): beside the stale ones they would not fit.
#[test]
fn new_path_identifiers_find_room_beside_the_stale_paths() {
    let mut config = config(&[1]);
    config.import.max_paths_per_prefix = 2;
    config.peers.insert(peer(1), peer_config(3));
    let mut lab = Lab::new(config);
    lab.handle(RibEvent::PeerUp(session(1)));
    let announce = |lab: &mut Lab, identifiers: [u32; 3]| {
        for (path_id, prefix) in identifiers.into_iter().zip([A, A, B]) {
            lab.announce(1, path_id, &[prefix], &format!("10.0.0.1{path_id}"));
        }
    };
    announce(&mut lab, [1, 2, 3]);
    lab.restart_begins(1);
    lab.comes_back(1, true);
    announce(&mut lab, [5, 6, 7]);
    assert_eq!(lab.counts(1), PeerCounts { received: 6, accepted: 6, stale: 3, end_of_rib: false });
    lab.announce(1, 8, &["10.233.66.0/26"], "10.0.0.11");
    lab.announce(1, 8, &[A], "10.0.0.11");
    assert_eq!(lab.rib.filtered()[&Refusal::MaxPrefixes], 2, "the bounds hold for what is not stale");
    lab.end_of_rib(1);
    assert_eq!(lab.next_hops(A), ["10.0.0.15", "10.0.0.16"]);
    assert_eq!(lab.next_hops(B), ["10.0.0.17"]);
}

#[test]
fn refreshes_without_an_end_do_not_pile_up_paths() {
    let mut config = config(&[1]);
    config.import.max_paths_per_prefix = 2;
    let mut lab = Lab::new(config);
    lab.handle(RibEvent::PeerUp(session(1)));
    for path_id in 0..10 {
        lab.announce(1, path_id, &[A], "10.0.0.11");
        lab.handle(RibEvent::RefreshStarted { peer: peer(1), family: Family::Ipv4 });
    }
    assert_eq!(lab.counts(1).accepted, 4);
}

/// A session that we reset: the peer has preserved nothing, because it has not restarted.
#[test]
fn a_reset_of_ours_leaves_the_paths_until_they_were_sent_again() {
    let mut lab = Lab::up();
    lab.announce(1, 0, &[A, B], "10.0.0.11");
    lab.end_of_rib(1);
    let loss = Loss::Reset(vec![Family::Ipv4]);
    assert_eq!(lab.handle(RibEvent::PeerDown { peer: peer(1), loss }), [""; 0]);
    assert_eq!(lab.comes_back(1, false), [""; 0], "its F bit says nothing about a reset");
    lab.announce(1, 0, &[A], "10.0.0.11");
    assert_eq!(lab.end_of_rib(1), [B]);

    let loss = Loss::Reset(vec![Family::Ipv4]);
    lab.handle(RibEvent::PeerDown { peer: peer(1), loss });
    assert_eq!(lab.wait(STALE_TIME), [A], "not for ever");
}
