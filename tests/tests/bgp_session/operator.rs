//! What the operator does with a session, and what the peer and the RIB are told.

use std::time::Duration;

use underpass::bgp::{OrderError, State};
use underpass::config::model::Peer;
use underpass::netlink::model::Family;
use underpass::rib::model::{Loss, RibEvent};
use underpass_tests::fake_peer::{NOTIFICATION, OPEN, Received};

use super::harness::*;

#[test]
fn down_up_and_reset_with_words_for_the_peer() {
    let place = Place(20);
    let (mut agent, listening, mut peer) = session(place, &open());
    let speaker = |agent: &Agent, act: &dyn Fn(&underpass::bgp::Speaker) -> Result<(), OrderError>| {
        act(agent.speaker()).expect("the session is there");
    };
    speaker(&agent, &|speaker| speaker.down(place.peer(), "line card".to_owned()));
    assert_eq!(peer.expect_notification(), b"\x06\x02\x09line card");
    let down = RibEvent::PeerDown { peer: place.peer(), loss: Loss::Final };
    assert_eq!(agent.event(), down);
    let status = agent.until("down", |status| status.is_down);
    assert_eq!(status.state, State::Idle);
    assert!(status.last_error.is_some_and(|error| error.contains("line card")));

    speaker(&agent, &|speaker| speaker.up(place.peer()));
    let mut peer = listening.accept();
    peer.establish(&open());
    agent.peer_up();
    assert!(!agent.status().is_down);

    speaker(&agent, &|speaker| speaker.reset(place.peer(), String::new()));
    assert_eq!(peer.expect_notification(), [6, 4]);
    let loss = Loss::Reset(vec![Family::Ipv4, Family::Ipv6]);
    assert_eq!(agent.event(), RibEvent::PeerDown { peer: place.peer(), loss });
    listening.accept().establish(&open());
    agent.peer_up();
}

#[test]
fn a_session_that_is_not_enabled_waits_for_the_operator() {
    let place = Place(21);
    let listening = place.listen();
    let mut config = place.config(listening.address().port());
    config.peers[0].enabled = false;
    let mut agent = Agent::start(&config);
    let status = agent.until("down", |status| status.is_down);
    assert_eq!((status.state, status.last_error), (State::Idle, None));
    agent.speaker().up(place.peer()).expect("known");
    listening.accept().establish(&open());
    agent.peer_up();
}

#[test]
fn another_configuration_is_taken_on_in_place_or_by_a_reset() {
    let place = Place(22);
    let (mut agent, listening, mut peer) = session(place, &open());
    let mut config = place.config(listening.address().port());
    config.peers[0].name = "leaf".to_owned();
    agent.change(|speaker| speaker.reconfigure(&config, &config.peers[0], false)).expect("taken on");
    let status = agent.until("renamed", |status| status.name == "leaf");
    assert_eq!((status.state, status.flaps), (State::Established, 0));

    config.peers[0].hold_time = Duration::from_secs(30);
    agent.change(|speaker| speaker.reconfigure(&config, &config.peers[0], true)).expect("taken on");
    assert_eq!(peer.expect_notification(), [6, 6], "Other Configuration Change");
    let mut peer = listening.accept();
    assert_eq!(peer.establish(&open())[3..5], [0, 30], "the new hold time");
    assert_eq!(agent.loss(), Loss::Reset(vec![Family::Ipv4, Family::Ipv6]));
    agent.peer_up();
}

#[test]
fn peers_are_added_and_removed_while_others_go_on() {
    let (place, other) = (Place(23), Place(24));
    let (mut agent, _listening, mut peer) = session(place, &open());
    let listening = other.listen();
    let config = other.config(listening.address().port());
    let second = Peer { name: "second".to_owned(), ..config.peers[0].clone() };
    agent.change(|speaker| speaker.add(&config, &second)).expect("added");
    let mut new = listening.accept();
    new.establish(&open());
    assert_eq!(agent.peer_up().peer, other.peer());
    assert_eq!(agent.speaker().sessions().len(), 2);

    agent.change(|speaker| speaker.remove(other.peer()));
    assert_eq!(new.expect_notification(), [6, 3], "Peer De-configured");
    assert_eq!(agent.speaker().sessions().len(), 1);
    assert_eq!(agent.status().flaps, 0);
    assert_eq!(peer.receive_within(Duration::from_millis(100)), None, "the other session goes on");
}

#[test]
fn listening_addresses_come_and_go() {
    let place = Place(25);
    let mut agent = Agent::start(&place.passive());
    let before = agent.listening();
    let other = std::net::SocketAddr::new(place.ours(), 17_925);
    agent.change(|speaker| speaker.listen_on(&[other])).expect("free");
    assert_eq!(agent.speaker().listening(), [other]);
    let mut peer = underpass_tests::fake_peer::FakePeer::connect(place.peer(), other);
    peer.establish(&open());
    agent.peer_up();
    let refused = underpass_tests::fake_peer::FakePeer::try_connect(
        place.peer(),
        before,
        Duration::from_secs(1),
        |_| {},
    );
    assert!(refused.is_err(), "nobody listens there any more");
    let occupied = place.listen();
    let taken = occupied.address();
    let error = agent.change(|speaker| speaker.listen_on(&[taken])).expect_err("taken, or not ours");
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert_eq!(agent.speaker().listening(), [other], "and what was is still there");
}

#[test]
fn a_peer_that_is_down_is_refused() {
    let place = Place(26);
    let mut config = place.passive();
    config.peers[0].enabled = false;
    let agent = Agent::start(&config);
    agent.until("down", |status| status.is_down);
    let mut peer = underpass_tests::fake_peer::FakePeer::connect(place.peer(), agent.listening());
    match peer.receive() {
        Received::Message(NOTIFICATION, body) => assert_eq!(body, [6, 5], "Connection Rejected"),
        Received::Message(OPEN, _) => panic!("a session that is down says OPEN"),
        other => panic!("{other:?}"),
    }
}
