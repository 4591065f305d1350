//! Two connections with one peer.

use super::*;

const CROSSED: Duration = Duration::from_secs(6);

#[test]
fn two_connections_one_survives() {
    struct Case {
        name: &'static str,
        our_id: Ipv4Addr,
        local_as: u32,
        first: Direction,
        survivor: Direction,
    }
    let higher = Ipv4Addr::new(10, 0, 0, 9);
    let lower = Ipv4Addr::new(9, 0, 0, 1);
    let cases = [
        Case {
            name: "ours is higher, ours was first",
            our_id: higher,
            local_as: OUR_AS,
            first: Direction::Outgoing,
            survivor: Direction::Outgoing,
        },
        Case {
            name: "ours is higher, theirs was first",
            our_id: higher,
            local_as: OUR_AS,
            first: Direction::Incoming,
            survivor: Direction::Outgoing,
        },
        Case {
            name: "theirs is higher, ours was first",
            our_id: lower,
            local_as: OUR_AS,
            first: Direction::Outgoing,
            survivor: Direction::Incoming,
        },
        Case {
            name: "theirs is higher, theirs was first",
            our_id: lower,
            local_as: OUR_AS,
            first: Direction::Incoming,
            survivor: Direction::Incoming,
        },
        Case {
            name: "same identifier, their AS is higher (RFC 6286)",
            our_id: PEER_ID,
            local_as: OUR_AS,
            first: Direction::Outgoing,
            survivor: Direction::Incoming,
        },
        Case {
            name: "same identifier, our AS is higher",
            our_id: PEER_ID,
            local_as: 65000,
            first: Direction::Incoming,
            survivor: Direction::Outgoing,
        },
    ];
    for case in cases {
        let mut bench =
            Bench::started(Settings { router_id: case.our_id, local_as: case.local_as, ..settings() });
        let second = match case.first {
            Direction::Outgoing => Direction::Incoming,
            Direction::Incoming => Direction::Outgoing,
        };
        let (first_id, _) = bench.connect(case.first);
        let (second_id, _) = bench.connect(second);
        bench.say(first_id, Message::Open(peer_open()));
        let actions = bench.say(second_id, Message::Open(peer_open()));
        let (survivor, loser) =
            if case.survivor == case.first { (first_id, second_id) } else { (second_id, first_id) };
        assert_eq!(notified(&actions, loser), Some((6, 7)), "{}", case.name);
        assert!(closed(&actions, loser), "{}", case.name);
        assert!(!closed(&actions, survivor), "{}", case.name);
        bench.say(survivor, Message::Keepalive);
        assert_eq!(bench.fsm.state(), State::Established, "{}", case.name);
        assert_eq!(bench.fsm.counters().flaps, 0, "{}", case.name);
    }
}

#[test]
fn a_connection_from_the_time_before_the_session_gives_way_to_it() {
    let mut bench = Bench::started(settings());
    let (outgoing, _) = bench.connect(Direction::Outgoing);
    bench.say(outgoing, Message::Open(peer_open()));
    let (incoming, _) = bench.connect(Direction::Incoming);
    bench.say(outgoing, Message::Keepalive);
    let actions = bench.say(incoming, Message::Open(peer_open()));
    assert_eq!(notified(&actions, incoming), Some((6, 7)));
    assert_eq!(bench.fsm.state(), State::Established);
    assert_eq!(retained(&actions), None);
}

#[test]
fn a_new_connection_replaces_the_session_of_a_peer_that_restarted() {
    let (mut bench, old) = up(settings());
    bench.pass(CROSSED);
    bench.say(old, Message::Keepalive);
    let (new, actions) = bench.connect(Direction::Incoming);
    assert!(!closed(&actions, old), "an OPEN decides, not a connection");
    let actions = bench.say(new, Message::Open(peer_open()));
    assert!(closed(&actions, old));
    assert_eq!(notified(&actions, old), None);
    assert_eq!(retained(&actions).map(|kept| kept.len()), Some(2));
    let actions = bench.say(new, Message::Keepalive);
    assert!(matches!(actions[1], Action::Rib(RibEvent::PeerUp(_))));
    assert_eq!((bench.fsm.state(), bench.fsm.counters().flaps), (State::Established, 1));
}

#[test]
fn without_graceful_restart_the_session_stays() {
    let (mut bench, old) = up(Settings { graceful_restart: false, ..settings() });
    bench.pass(CROSSED);
    let (new, actions) = bench.connect(Direction::Incoming);
    assert_eq!(notified(&actions, new), Some((6, 7)));
    assert!(closed(&actions, new) && !closed(&actions, old));
    assert_eq!(bench.fsm.state(), State::Established);
}

#[test]
fn the_later_of_two_connections_from_the_peer_counts() {
    let mut bench = Bench::started(Settings { passive: true, ..settings() });
    let (first, _) = bench.connect(Direction::Incoming);
    let (second, actions) = bench.connect(Direction::Incoming);
    assert_eq!(notified(&actions, first), Some((6, 7)));
    assert!(closed(&actions, first) && !closed(&actions, second));
}

/// Found by fuzzing: a connection of ours that the peer never answers stays in `OpenSent` beside the session.
#[test]
fn there_are_two_connections_at_most() {
    let mut bench = Bench::started(settings());
    bench.establish(Direction::Incoming, peer_open());
    let (ours, _) = bench.connect(Direction::Outgoing);
    bench.now += Duration::from_secs(6);
    let (_, actions) = bench.connect(Direction::Incoming);
    assert_eq!(notified(&actions, ours), Some((6, 7)));
    assert!(closed(&actions, ours));
    assert_eq!(bench.fsm.connections.len(), 2);
    assert_eq!(bench.fsm.state(), State::Established);
}
