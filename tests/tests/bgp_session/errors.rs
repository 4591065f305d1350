//! What is answered to errors, and what the operator reads.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use underpass::bgp::{Speaker, State};
use underpass::config::model::Bgp;
use underpass::rib::model::RibEvent;
use underpass_tests::fake_peer::{
    self, FakePeer, KEEPALIVE, Listening, OPEN, Open, Received, message, update,
};

use super::harness::*;

#[test]
fn every_error_in_open_has_its_notification() {
    struct Case {
        name: &'static str,
        bytes: Vec<u8>,
        expected: &'static [u8],
    }
    let no_common_family = Open { capabilities: vec![vec![1, 4, 0, 25, 0, 70]], ..open() };
    let cases = [
        Case { name: "version 3", bytes: Open { version: 3, ..open() }.bytes(), expected: &[2, 1, 0, 4] },
        Case { name: "wrong AS", bytes: Open::new(65000, PEER_ID, 90).bytes(), expected: &[2, 2] },
        Case { name: "AS 0", bytes: Open::new(0, PEER_ID, 90).bytes(), expected: &[2, 2] },
        Case {
            name: "identifier 0.0.0.0",
            bytes: Open::new(PEER_AS, Ipv4Addr::UNSPECIFIED, 90).bytes(),
            expected: &[2, 3],
        },
        Case { name: "hold time 2 s", bytes: Open::new(PEER_AS, PEER_ID, 2).bytes(), expected: &[2, 6] },
        Case {
            name: "no common family",
            bytes: no_common_family.bytes(),
            expected: &[2, 7, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1],
        },
        Case {
            name: "unknown optional parameter",
            bytes: message(OPEN, &[4, 0xfc, 0x01, 0, 90, 10, 0, 0, 1, 3, 77, 1, 0]),
            expected: &[2, 4],
        },
        Case { name: "KEEPALIVE first", bytes: message(KEEPALIVE, &[]), expected: &[5, 1] },
        Case { name: "unknown type", bytes: message(9, &[]), expected: &[1, 3, 9] },
        Case { name: "KEEPALIVE with a body", bytes: message(KEEPALIVE, &[0]), expected: &[1, 2, 0, 20] },
        Case { name: "a web browser", bytes: b"GET / HTTP/1.1\r\n\r\n".to_vec(), expected: &[1, 1] },
    ];
    let place = Place(5);
    let listening = place.listen();
    let agent = Agent::start(&place.config(listening.address().port()));
    for case in cases {
        let mut peer = listening.accept();
        peer.expect(OPEN);
        peer.send(&case.bytes);
        assert_eq!(peer.expect_notification(), case.expected, "{}", case.name);
        let numbers = format!("sent NOTIFICATION {}/{} ", case.expected[0], case.expected[1]);
        let status = agent.until(case.name, |status| {
            status.last_error.as_ref().is_some_and(|error| error.starts_with(&numbers))
        });
        assert_eq!(status.flaps, 0, "{}", case.name);
    }
}

#[test]
fn every_error_in_update_has_its_answer() {
    struct Case {
        name: &'static str,
        bytes: Vec<u8>,
        expected: &'static [u8],
    }
    let cases = [
        Case {
            name: "prefix length 33",
            bytes: update(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[33, 10, 0, 0, 0, 0]),
            expected: &[3, 10, 33, 10, 0, 0, 0, 0],
        },
        Case {
            name: "withdrawn routes that end outside",
            bytes: message(fake_peer::UPDATE, &[0, 9, 0, 0]),
            expected: &[3, 1],
        },
        Case { name: "OPEN again", bytes: open().bytes(), expected: &[5, 3] },
        Case {
            name: "too long",
            bytes: [&[0xff; 16][..], &[0x10, 1, 2]].concat(),
            expected: &[1, 2, 0x10, 1],
        },
    ];
    let place = Place(6);
    let listening = place.listen();
    let mut config = place.config(listening.address().port());
    config.peers[0].extended_messages = false;
    let mut agent = Agent::start(&config);
    for case in cases {
        let mut peer = listening.accept();
        peer.establish(&open().with_graceful_restart(120, false, [true, true]));
        agent.peer_up();
        peer.send(&case.bytes);
        assert_eq!(peer.expect_notification(), case.expected, "{}", case.name);
        assert_eq!(agent.peer_down(), [], "{}: a NOTIFICATION ends it for good", case.name);
    }
}

#[test]
fn bad_attributes_withdraw_the_routes_and_keep_the_session() {
    let place = Place(7);
    let (mut agent, _listening, mut peer) = session(place, &open());
    let other_as: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
    let cases: [(&str, &[&[u8]]); 4] = [
        ("ORIGIN 9", &[&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP]),
        ("no NEXT_HOP", &[ORIGIN, AS_PATH]),
        ("first AS is not the peer's", &[ORIGIN, other_as, NEXT_HOP]),
        ("attribute that ends outside", &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 9, 0]]),
    ];
    for (count, (name, attributes)) in cases.iter().enumerate() {
        peer.send(&update(&[], attributes, &[16, 10, 64]));
        assert_eq!(withdrawn(agent.event()), [nlri("10.64.0.0/16", 0)], "{name}");
        let expected = u64::try_from(count).expect("few cases") + 1;
        agent.until(name, |status| status.treated_as_withdraw == expected);
    }
    peer.send(&update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 6, 1, 0]], &[16, 10, 64]));
    assert!(matches!(agent.event(), RibEvent::Update { announced: Some(_), .. }));
    let status = agent.until("one discarded", |status| status.attributes_discarded == 1);
    assert_eq!((status.state, status.flaps, status.attributes_ignored), (State::Established, 0, 0));

    // RFC 7606 §7.5, §7.9, §7.10: well-formed, and still none of an external peer's business.
    let inside: [&[u8]; 3] =
        [&[0x40, 5, 4, 0, 0, 0, 200], &[0x80, 9, 4, 10, 0, 0, 3], &[0x80, 10, 8, 1, 1, 1, 1, 2, 2, 2, 2]];
    for (count, attribute) in (1..).zip(inside) {
        peer.send(&update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attribute], &[16, 10, 64]));
        let RibEvent::Update { announced: Some((attributes, _)), .. } = agent.event() else {
            panic!("announced")
        };
        let told = (attributes.local_pref, attributes.originator_id, attributes.cluster_list.len());
        assert_eq!(told, (None, None, 0));
        agent.until("counted", |status| status.attributes_ignored == count);
    }
    let status = agent.status();
    assert_eq!((status.attributes_discarded, status.treated_as_withdraw), (1, 4), "they are no errors");
}

#[test]
fn strangers_are_turned_away() {
    let place = Place(10);
    let agent = Agent::start(&place.passive());
    let mut stranger = FakePeer::connect(Ipv4Addr::new(127, 43, 10, 66).into(), agent.listening());
    assert!(matches!(stranger.receive(), Received::Closed | Received::Reset));
    assert_eq!(agent.speaker().rejected().unknown(), 1);
    assert_eq!(agent.status().state, State::Active);
    let mut peer = FakePeer::connect(place.peer(), agent.listening());
    peer.establish(&open());
}

#[test]
fn garbage_from_a_peer_is_answered_and_the_peer_kept_away_for_a_while() {
    let place = Place(11);
    let mut config = place.passive();
    config.peers[0].connect_retry = Duration::from_secs(2);
    config.peers[0].connect_retry_max = Duration::from_secs(2);
    let agent = Agent::start(&config);
    let mut peer = FakePeer::connect(place.peer(), agent.listening());
    peer.send(&[0; 4000]);
    assert_eq!(peer.expect_notification(), [1, 1]);
    let mut early = FakePeer::connect(place.peer(), agent.listening());
    assert_eq!(early.expect_notification(), [6, 5]);
    agent.until("welcome again", |status| status.state == State::Active);
    let mut peer = FakePeer::connect(place.peer(), agent.listening());
    peer.establish(&open());
}

#[test]
fn what_the_operator_reads_when_it_cannot_start() {
    let place = Place(20);
    let runtime = Runtime::new().expect("runtime");
    let start = |config: &Bgp| {
        let (sender, _events) = mpsc::channel(1);
        runtime.block_on(async { Speaker::start(config, sender) }).expect_err("refused").to_string()
    };
    let taken = Listening::on(SocketAddr::new(place.ours(), 0));
    let mut config = place.config(179);
    config.listen = vec![taken.address()];
    assert_eq!(
        start(&config),
        format!(
            "cannot listen on {}: Address already in use (os error 98); another program listens there: choose \
             another address or port",
            taken.address()
        )
    );
    config.listen = vec!["192.0.2.1:1790".parse().expect("an address")];
    assert!(start(&config).contains("no interface has this address"));
    config.listen.clear();
    config.peers.push(config.peers[0].clone());
    assert!(start(&config).contains("is configured twice"));
}
