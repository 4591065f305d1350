//! What stays when the last reflector is lost.

use super::super::last_known::PAUSE;
use super::*;

const KEEP: Duration = Duration::from_hours(1);

/// Two reflectors that are up, in sync, and tell of A; the first of B as well.
fn reflectors() -> Lab {
    let mut lab = Lab::new(RibConfig { keep_last_known: KEEP, ..config(&[1, 2]) });
    for number in [1, 2] {
        lab.handle(RibEvent::PeerUp(session(number)));
        lab.announce(number, 0, &[A], "10.0.0.11");
    }
    lab.announce(1, 0, &[B], "10.0.0.12");
    for number in [1, 2] {
        lab.end_of_rib(number);
    }
    lab
}

fn lost(number: u8) -> RibEvent {
    RibEvent::PeerDown { peer: peer(number), loss: Loss::Lost(vec![]) }
}

fn selected(lab: &Lab) -> Vec<String> {
    lab.rib.selected_routes().keys().map(|prefix| prefix.to_string()).collect()
}

#[test]
fn the_word_of_the_other_reflector_counts_and_the_last_word_stays_for_a_while() {
    let mut lab = reflectors();
    assert_eq!(lab.handle(lost(1)), [B], "the second one is up and does not know B");
    assert_eq!(lab.handle(lost(2)), [""; 0], "nobody is left: A stays");
    assert_eq!(lab.rib.kept().collect::<Vec<_>>(), [(peer(2), 1, lab.now + KEEP)]);
    assert_eq!(lab.wait(KEEP / 2), [""; 0]);
    assert_eq!(lab.wait(KEEP / 2), [A], "but not for ever");
    assert_eq!(lab.rib.kept().count(), 0);
    assert_eq!(lab.rib.next_deadline(), None);
}

#[test]
fn sessions_that_break_again_do_not_extend_the_time() {
    let mut lab = reflectors();
    lab.handle(lost(1));
    lab.handle(lost(2));
    for _ in 0..5 {
        lab.wait(KEEP / 6);
        assert_eq!(lab.comes_back(2, false), [""; 0], "not heard out yet: A stays");
        assert_eq!(lab.handle(lost(2)), [""; 0]);
    }
    assert_eq!(selected(&lab), [A]);
    assert_eq!(lab.wait(KEEP / 6), [A]);
}

#[test]
fn a_reflector_that_comes_back_empty_gets_a_pause_to_hear_its_clients() {
    let mut lab = reflectors();
    lab.handle(lost(1));
    lab.handle(lost(2));
    lab.wait(Duration::from_mins(1));
    lab.comes_back(1, false);
    assert_eq!(lab.end_of_rib(1), [""; 0], "it knows nothing yet, A stays");
    lab.wait(PAUSE / 2);
    lab.announce(1, 0, &[B], "10.0.0.12");
    assert_eq!(selected(&lab), [A, B]);
    assert_eq!(lab.wait(PAUSE / 2), [A], "what it does not know by now is gone");

    assert_eq!(lab.handle(lost(1)), [""; 0], "and the next loss begins anew");
    assert_eq!(lab.rib.kept().collect::<Vec<_>>(), [(peer(1), 1, lab.now + KEEP)]);
}

#[test]
fn a_peer_may_withdraw_what_was_kept_of_it() {
    let mut lab = reflectors();
    lab.handle(lost(1));
    lab.handle(lost(2));
    lab.comes_back(2, false);
    assert_eq!(lab.withdraw(2, 0, A), [A]);
}

#[test]
fn nothing_is_kept_where_it_is_not_wanted() {
    let mut lab = reflectors();
    lab.handle(lost(1));
    let deliberate = RibEvent::PeerDown { peer: peer(2), loss: Loss::Final };
    assert_eq!(lab.handle(deliberate), [A], "our operator took it down");

    let mut off = Lab::new(config(&[1]));
    off.handle(RibEvent::PeerUp(session(1)));
    off.announce(1, 0, &[A], "10.0.0.11");
    assert_eq!(off.handle(lost(1)), [A], "keep_last_known is zero");

    let mut config = RibConfig { keep_last_known: KEEP, ..config(&[1, 2]) };
    config.peers.get_mut(&peer(1)).expect("configured").stand_in = None;
    let mut leaf = Lab::new(config);
    leaf.handle(RibEvent::PeerUp(session(1)));
    leaf.announce(1, 0, &[A], "10.0.0.11");
    assert_eq!(leaf.handle(lost(1)), [A], "a leaf takes the way along, whoever else is up");
}

#[test]
fn a_restart_time_that_is_longer_stays_longer() {
    let mut lab = Lab::new(RibConfig { keep_last_known: RESTART_TIME / 2, ..config(&[1]) });
    lab.handle(RibEvent::PeerUp(session(1)));
    lab.announce(1, 0, &[A], "10.0.0.11");
    lab.restart_begins(1);
    assert_eq!(lab.wait(RESTART_TIME / 2), [""; 0]);
    assert_eq!(lab.wait(RESTART_TIME / 2), [A]);
}

#[test]
fn routes_of_a_former_run_wait_for_the_first_reflector() {
    let mut lab = Lab::new(RibConfig { keep_last_known: KEEP, ..config(&[1, 2]) });
    let started = lab.now;
    lab.wait(STARTUP_TIME);
    assert!(!lab.rib.ready(), "no reflector has said anything");
    assert_eq!(lab.rib.next_deadline(), Some(started + KEEP));
    lab.handle(RibEvent::PeerUp(session(1)));
    lab.end_of_rib(1);
    assert!(lab.rib.ready(), "one has, and the other was waited for");

    let mut lab = Lab::new(RibConfig { keep_last_known: KEEP, ..config(&[1]) });
    lab.wait(KEEP);
    assert!(lab.rib.ready(), "not for ever");
    assert_eq!(lab.rib.next_deadline(), None);
}
