//! How sessions are kept alive and how they end.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use underpass::bgp::{ShutdownKind, State};
use underpass::netlink::model::Family;
use underpass::rib::model::{Loss, RibEvent};
use underpass_tests::fake_peer::{KEEPALIVE, NOTIFICATION, Open, PATIENCE, Received, message, update};

use super::harness::*;

#[test]
fn keepalives_come_in_time_and_silence_ends_the_session() {
    let place = Place(8);
    let restarting = Open::new(PEER_AS, PEER_ID, 3).with_graceful_restart(120, false, [true, true]);
    let (mut agent, _listening, mut peer) = session(place, &restarting);
    let started = Instant::now();
    let mut keepalives = Vec::new();
    let notification = loop {
        match peer.receive() {
            Received::Message(KEEPALIVE, _) => keepalives.push(Instant::now()),
            Received::Message(NOTIFICATION, body) => break body,
            other => panic!("{other:?}"),
        }
    };
    let silence = started.elapsed();
    assert_eq!(notification, [4, 0]);
    assert!(silence > Duration::from_millis(2500) && silence < Duration::from_secs(5), "{silence:?}");
    assert!(keepalives.len() >= 2, "{} KEEPALIVEs in three seconds", keepalives.len());
    for pair in keepalives.windows(2) {
        let gap = pair[1].duration_since(pair[0]);
        assert!(gap > Duration::from_millis(500) && gap < Duration::from_secs(2), "{gap:?}");
    }
    assert_eq!(agent.peer_down(), []);
    let error = agent.until("said why", |status| status.last_error.is_some()).last_error;
    assert_eq!(error.as_deref(), Some("sent NOTIFICATION 4/0 Hold Timer Expired"));
}

#[test]
fn graceful_restart_keeps_routes_only_after_a_broken_connection() {
    let place = Place(9);
    let restarting = open().with_graceful_restart(120, false, [true, true]);
    let (mut agent, listening, peer) = session(place, &restarting);
    drop(peer);
    let two_minutes = Duration::from_mins(2);
    assert_eq!(agent.peer_down(), [(Family::Ipv4, two_minutes), (Family::Ipv6, two_minutes)]);

    let mut peer = listening.accept();
    peer.establish(&open().with_graceful_restart(120, true, [false, true]));
    assert_eq!(agent.peer_up().forwarding_preserved, [Family::Ipv6]);
    peer.send(&message(
        NOTIFICATION,
        &[6, 4, 11, b'm', b'a', b'i', b'n', b't', b'e', b'n', b'a', b'n', b'c', b'e'],
    ));
    assert_eq!(peer.receive(), Received::Closed);
    assert_eq!(agent.peer_down(), []);
    let error = agent.until("said why", |status| status.last_error.is_some()).last_error;
    assert_eq!(error.as_deref(), Some("received NOTIFICATION 6/4 Cease: Administrative Reset (maintenance)"));

    let mut peer = listening.accept();
    peer.establish(&open());
    agent.peer_up();
    drop(peer);
    assert_eq!(agent.peer_down(), [], "a peer without the capability has nothing kept");
    assert_eq!(agent.until("counted", |status| status.flaps == 3).flaps, 3);
}

#[test]
fn too_many_prefixes_end_the_session_for_a_while() {
    let place = Place(17);
    let restarting = open().with_graceful_restart(120, false, [true, true]);
    let (mut agent, listening, mut peer) = session(place, &restarting);
    let pause = Duration::from_millis(1500);
    let speaker = agent.speaker();
    speaker.prefix_limit(place.peer(), Family::Ipv4, 20_000, Some(pause)).expect("an order");
    assert_eq!(peer.expect_notification(), [6, 1, 0, 1, 1, 0, 0, 0x4e, 0x20]);
    assert_eq!(peer.receive(), Received::Closed);
    let ended = Instant::now();
    assert_eq!(agent.loss(), Loss::Final, "nothing is kept");

    let mut peer = listening.accept();
    let idle = ended.elapsed();
    assert!(idle + Duration::from_millis(100) > pause && idle < pause + PATIENCE, "{idle:?}");
    peer.establish(&open());
    agent.peer_up();

    agent.speaker().prefix_limit(place.peer(), Family::Ipv6, 7, None).expect("an order");
    assert_eq!(peer.expect_notification(), [6, 1, 0, 2, 1, 0, 0, 0, 7]);
    assert_eq!(agent.loss(), Loss::Final);
    let status = agent.until("down", |status| status.is_down);
    assert_eq!(status.state, State::Idle);
    let error = status.last_error.expect("said why");
    assert!(error.contains("too many prefixes"), "{error}");
    agent.speaker().up(place.peer()).expect("an order");
    listening.accept().establish(&open());
    agent.peer_up();
}

#[test]
fn shutdown_says_why_or_nothing() {
    let cases: [(u8, ShutdownKind, Option<&[u8]>); 3] = [
        (14, ShutdownKind::Stop, Some(&[6, 2])),
        (15, ShutdownKind::Deconfigured, Some(&[6, 3])),
        (16, ShutdownKind::Restart, None),
    ];
    for (number, kind, expected) in cases {
        let (mut agent, _listening, mut peer) = session(Place(number), &open());
        agent.shutdown(kind);
        match expected {
            Some(body) => assert_eq!(peer.expect_notification(), body, "{kind:?}"),
            None => assert_eq!(peer.receive(), Received::Closed, "{kind:?}"),
        }
        assert!(agent.events.try_recv().is_err(), "{kind:?}: the RIB keeps what it has");
    }
}

/// The agent's one thread may be busy for longer than the hold time. What the peer sent meanwhile lies in the
/// socket when the timer is found expired; which of the two is seen first is chance, hence several sessions.
#[test]
fn an_agent_that_was_busy_does_not_take_its_peers_for_silent() {
    let mut sessions: Vec<_> = (60..68).map(|n| session(Place(n), &Open::new(PEER_AS, PEER_ID, 3))).collect();
    for (agent, ..) in &sessions {
        agent.stall(Duration::from_secs(4));
    }
    for (_, _, peer) in &mut sessions {
        peer.send(&message(KEEPALIVE, &[]));
    }
    for (agent, _, peer) in &mut sessions {
        // The first word after the pause is due since the hold time is.
        assert_eq!(peer.receive(), Received::Message(KEEPALIVE, Vec::new()));
        assert_eq!(agent.status().state, State::Established);
    }
}

#[test]
fn a_busy_rib_slows_the_peer_down_and_loses_nothing() {
    const UPDATES: u32 = 20_000;
    let place = Place(17);
    let listening = place.listen();
    let mut agent = Agent::with_channel(&place.config(listening.address().port()), 1);
    let mut peer = listening.accept();
    peer.establish(&Open::new(PEER_AS, PEER_ID, 3));
    let mut writer = peer.second_handle();
    let sender = std::thread::spawn(move || {
        for number in 0..UPDATES {
            let [_, a, b, c] = number.to_be_bytes();
            writer.send(&update(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[32, 10, a, b, c]));
        }
    });
    let stalled = Instant::now();
    let mut keepalives = 0;
    while stalled.elapsed() < Duration::from_secs(5) {
        match peer.receive_within(Duration::from_millis(100)) {
            Some(Received::Message(KEEPALIVE, _)) => keepalives += 1,
            None => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(keepalives >= 4, "{keepalives} KEEPALIVEs while the RIB took nothing");
    assert_eq!(agent.status().state, State::Established, "the hold time of 3 s is long over");

    agent.peer_up();
    for number in 0..UPDATES {
        let RibEvent::Update { announced: Some((_, prefixes)), .. } = agent.event() else {
            panic!("update {number}")
        };
        let [_, a, b, c] = number.to_be_bytes();
        assert_eq!(prefixes[0].prefix.addr(), IpAddr::from([10, a, b, c]));
    }
    sender.join().expect("all sent");
}
