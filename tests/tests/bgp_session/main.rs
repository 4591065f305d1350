//! BGP sessions over loopback TCP against a peer that misbehaves on purpose. Needs no privilege.

mod endings;
mod errors;
mod harness;
mod operator;
mod security;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use underpass::bgp::{OrderError, SessionStatus, State};
use underpass::netlink::model::Family;
use underpass::rib::model::{AsSegment, PeerInfo, RibEvent};
use underpass_tests::fake_peer::{
    FakePeer, KEEPALIVE, Listening, OPEN, Open, ROUTE_REFRESH, message, update,
};

use harness::*;

#[test]
fn active_session_from_its_own_source_address() {
    let place = Place(1);
    let listening = place.listen();
    let mut agent = Agent::start(&place.config(listening.address().port()));
    let mut peer = listening.accept();
    assert_eq!(peer.remote().ip(), place.ours());
    let theirs = peer.establish(&open().with_graceful_restart(120, true, [true, false]).with_add_path());

    assert_eq!(theirs[..9], [4, 0xfc, 0x00, 0, 90, 10, 0, 0, 9]);
    let info = agent.peer_up();
    assert_eq!(
        info,
        PeerInfo {
            peer: place.peer(),
            external: true,
            remote_as: PEER_AS,
            local_as: OUR_AS,
            router_id: PEER_ID,
            local_router_id: OUR_ID,
            local_address: place.ours(),
            families: vec![Family::Ipv4, Family::Ipv6],
            extended_next_hop: false,
            forwarding_preserved: vec![Family::Ipv4],
        }
    );
    let status = agent.until("established", |status| status.state == State::Established);
    assert_eq!(status.hold_time, Some(Duration::from_secs(90)));
    assert_eq!(status.router_id, Some(PEER_ID));
    assert_eq!(status.add_path, [Family::Ipv4, Family::Ipv6]);
    assert!(status.uptime.is_some() && !status.synchronized());

    peer.send(&update(&[], &[], &[]));
    peer.send(&update(&[], &[&[0x80, 15, 3, 0, 2, 1]], &[]));
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_eq!(agent.event(), RibEvent::EndOfRib { peer: place.peer(), family });
    }
    agent.until("in sync", SessionStatus::synchronized);
}

#[test]
fn passive_session_with_four_octet_as() {
    let place = Place(2);
    let mut config = place.passive();
    config.peers[0].remote_as = 4_200_000_001;
    config.peers[0].local_as = Some(4_200_000_000);
    config.peers[0].router_id = Some(Ipv4Addr::new(10, 9, 9, 9));
    let mut agent = Agent::start(&config);
    let mut peer = FakePeer::connect(place.peer(), agent.listening());
    let theirs = peer.establish(&Open::new(4_200_000_001, PEER_ID, 90));
    assert_eq!(theirs[..9], [4, 0x5b, 0xa0, 0, 90, 10, 9, 9, 9], "AS_TRANS and the session's identifier");
    assert!(theirs.windows(6).any(|window| window == [65, 4, 0xfa, 0x56, 0xea, 0x00]));
    let info = agent.peer_up();
    assert_eq!((info.local_as, info.remote_as), (4_200_000_000, 4_200_000_001));
}

#[test]
fn updates_with_several_paths_and_both_families() {
    let place = Place(3);
    let (mut agent, _listening, mut peer) = session(place, &open().with_add_path());
    let reach = [
        &[0x80, 14, 32, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0][..],
        &[0, 0, 0, 7, 48, 0xfd, 0, 0, 1, 0, 0],
    ];
    peer.send(&update(
        &[],
        &[ORIGIN, AS_PATH, NEXT_HOP],
        &[0, 0, 0, 3, 18, 10, 233, 0, 0, 0, 0, 4, 18, 10, 233, 0],
    ));
    let RibEvent::Update { announced: Some((attributes, prefixes)), .. } = agent.event() else {
        panic!("an announcement")
    };
    assert_eq!(prefixes, [nlri("10.233.0.0/18", 3), nlri("10.233.0.0/18", 4)]);
    assert_eq!(attributes.next_hop, IpAddr::from([10, 0, 0, 5]));
    assert_eq!(attributes.as_path, [AsSegment::Sequence(vec![PEER_AS])]);

    peer.send(&update(&[], &[ORIGIN, AS_PATH, &reach.concat()], &[]));
    let RibEvent::Update { announced: Some((attributes, prefixes)), .. } = agent.event() else {
        panic!("an announcement")
    };
    assert_eq!(prefixes, [nlri("fd00:1::/48", 7)]);
    assert_eq!(attributes.next_hop, "fd00::5".parse::<IpAddr>().expect("an address"));

    peer.send(&update(&[0, 0, 0, 3, 18, 10, 233, 0], &[], &[]));
    assert_eq!(withdrawn(agent.event()), [nlri("10.233.0.0/18", 3)]);
    assert_eq!(agent.status().updates, 3);
}

#[test]
fn delivery_byte_by_byte() {
    let place = Place(4);
    let listening = place.listen();
    let mut agent = Agent::start(&place.config(listening.address().port()));
    let mut peer = listening.accept();
    peer.expect(OPEN);
    peer.dribble(&open().bytes());
    peer.expect(KEEPALIVE);
    peer.dribble(&message(KEEPALIVE, &[]));
    agent.peer_up();
    peer.dribble(&update(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[16, 10, 64]));
    assert!(matches!(agent.event(), RibEvent::Update { announced: Some(_), .. }));
}

#[test]
fn of_two_connections_the_one_of_the_higher_identifier_stays() {
    let lower = Ipv4Addr::new(9, 0, 0, 1);
    let higher = Ipv4Addr::new(11, 0, 0, 1);
    for (number, peer_id, ours_stays) in [(12, lower, true), (13, higher, false)] {
        let place = Place(number);
        let listening = place.listen();
        let mut config = place.config(listening.address().port());
        config.listen = vec![SocketAddr::new(place.ours(), 0)];
        let mut agent = Agent::start(&config);
        let open = Open::new(PEER_AS, peer_id, 90);
        let mut outgoing = listening.accept();
        let mut incoming = FakePeer::connect(place.peer(), agent.listening());
        outgoing.expect(OPEN);
        incoming.expect(OPEN);
        outgoing.send(&open.bytes());
        outgoing.expect(KEEPALIVE);
        incoming.send(&open.bytes());
        let (mut stays, mut goes) = if ours_stays { (outgoing, incoming) } else { (incoming, outgoing) };
        assert_eq!(goes.expect_notification(), [6, 7], "peer {peer_id}");
        if !ours_stays {
            stays.expect(KEEPALIVE);
        }
        stays.send(&message(KEEPALIVE, &[]));
        agent.peer_up();
        assert_eq!(agent.until("up", |status| status.state == State::Established).flaps, 0);
    }
}

#[test]
fn a_peer_that_comes_later_is_found() {
    let place = Place(18);
    let port = place.listen().address().port();
    let mut agent = Agent::start(&place.config(port));
    let status = agent.until("tried", |status| status.last_error.is_some());
    let error = status.last_error.expect("just seen");
    assert!(error.starts_with("cannot connect: Connection refused"), "{error}");
    let listening = Listening::on(SocketAddr::new(place.peer(), port));
    listening.accept().establish(&open());
    agent.peer_up();
}

#[test]
fn route_refresh_is_asked_for_and_answered() {
    let place = Place(19);
    let (mut agent, _listening, mut peer) = session(place, &open().with(&[70, 0]));
    agent.until("established", |status| status.state == State::Established);
    assert_eq!(agent.speaker().refresh(place.peer(), Family::Ipv4), Ok(()));
    assert_eq!(peer.expect(ROUTE_REFRESH), [0, 1, 0, 1]);
    peer.send(&message(ROUTE_REFRESH, &[0, 1, 1, 1]));
    peer.send(&message(ROUTE_REFRESH, &[0, 1, 2, 1]));
    let (peer_address, family) = (place.peer(), Family::Ipv4);
    assert_eq!(agent.event(), RibEvent::RefreshStarted { peer: peer_address, family });
    assert_eq!(agent.event(), RibEvent::EndOfRib { peer: peer_address, family });

    peer.send(&message(ROUTE_REFRESH, &[0, 2, 0, 1]));
    assert_eq!(peer.expect(ROUTE_REFRESH), [0, 2, 1, 1]);
    assert_eq!(peer.expect(ROUTE_REFRESH), [0, 2, 2, 1]);
    peer.send(&message(ROUTE_REFRESH, &[0x40, 4, 0, 71]));
    peer.send(&message(ROUTE_REFRESH, &[0, 1, 2, 1, 0]));
    assert_eq!(peer.expect_notification()[..2], [7, 1]);

    let nobody = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(agent.speaker().refresh(nobody, family), Err(OrderError::UnknownPeer(nobody.to_string())));
    agent.until("down", |status| status.state != State::Established);
    assert_eq!(agent.speaker().refresh(place.peer(), family), Err(OrderError::NotEstablished(place.peer())));
}
