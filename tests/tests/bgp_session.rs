//! BGP sessions over loopback TCP against a peer that misbehaves on purpose. Needs no privilege.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use underpass::bgp::{RefreshError, SessionStatus, ShutdownKind, Speaker, State};
use underpass::config::model::{Bgp, Import, Peer};
use underpass::netlink::model::Family;
use underpass::rib::model::{AsSegment, Nlri, PeerInfo, RibEvent};
use underpass_tests::fake_peer::{
    self, FakePeer, KEEPALIVE, Listening, NOTIFICATION, OPEN, Open, PATIENCE, ROUTE_REFRESH, Received,
    message, update,
};

const OUR_AS: u32 = 64512;
const PEER_AS: u32 = 64513;
const OUR_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PEER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x01];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 5];

/// Loopback addresses of one test, so that tests do not meet.
#[derive(Clone, Copy)]
struct Place(u8);

impl Place {
    fn peer(self) -> IpAddr {
        Ipv4Addr::new(127, 43, self.0, 1).into()
    }

    fn ours(self) -> IpAddr {
        Ipv4Addr::new(127, 43, self.0, 9).into()
    }

    /// A peer that is dialled at `port` and keeps its own hold time short.
    fn config(self, port: u16) -> Bgp {
        Bgp {
            local_as: OUR_AS,
            router_id: OUR_ID,
            listen: Vec::new(),
            peers: vec![Peer {
                name: "peer".to_owned(),
                address: self.peer(),
                port,
                remote_as: PEER_AS,
                passive: false,
                source_address: Some(self.ours()),
                router_id: None,
                local_as: None,
                hold_time: Duration::from_secs(90),
                connect_retry: Duration::from_millis(200),
                connect_retry_max: Duration::from_millis(400),
                families: vec![Family::Ipv4, Family::Ipv6],
                add_path: true,
                graceful_restart: true,
                stale_time: Duration::from_mins(5),
                ttl: None,
                max_prefixes: 10_000,
            }],
            import: Import {
                prefixes: Vec::new(),
                next_hops: Vec::new(),
                own_blocks: Vec::new(),
                max_paths_per_prefix: 16,
            },
            maximum_paths: 8,
        }
    }

    fn passive(self) -> Bgp {
        let mut config = self.config(179);
        config.listen = vec![SocketAddr::new(self.ours(), 0)];
        config.peers[0].passive = true;
        config
    }

    fn listen(self) -> Listening {
        Listening::on(SocketAddr::new(self.peer(), 0))
    }
}

/// A speaker with the RIB's end of its channel.
struct Agent {
    runtime: Runtime,
    speaker: Option<Speaker>,
    events: mpsc::Receiver<RibEvent>,
}

impl Agent {
    fn start(config: &Bgp) -> Self {
        Self::with_channel(config, 1024)
    }

    fn with_channel(config: &Bgp, capacity: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let (sender, events) = mpsc::channel(capacity);
        let speaker = runtime.block_on(async { Speaker::start(config, sender) }).expect("the speaker starts");
        Self { runtime, speaker: Some(speaker), events }
    }

    fn speaker(&self) -> &Speaker {
        self.speaker.as_ref().expect("not yet stopped")
    }

    fn status(&self) -> SessionStatus {
        self.speaker().sessions().remove(0)
    }

    fn listening(&self) -> SocketAddr {
        self.speaker().listening()[0]
    }

    fn event(&mut self) -> RibEvent {
        let Self { runtime, events, .. } = self;
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, events.recv()).await })
            .expect("an event in time")
            .expect("the speaker lives")
    }

    fn peer_up(&mut self) -> PeerInfo {
        match self.event() {
            RibEvent::PeerUp(info) => info,
            other => panic!("expected PeerUp, got {other:?}"),
        }
    }

    fn peer_down(&mut self) -> Vec<(Family, Duration)> {
        match self.event() {
            RibEvent::PeerDown { retain, .. } => retain,
            other => panic!("expected PeerDown, got {other:?}"),
        }
    }

    fn until(&self, what: &str, holds: impl Fn(&SessionStatus) -> bool) -> SessionStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not so in time: {what}; {status:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn shutdown(&mut self, kind: ShutdownKind) {
        let speaker = self.speaker.take().expect("not yet stopped");
        self.runtime.block_on(speaker.shutdown(kind));
    }
}

fn open() -> Open {
    Open::new(PEER_AS, PEER_ID, 90)
}

/// An established session that the agent dialled.
fn session(place: Place, open: &Open) -> (Agent, Listening, FakePeer) {
    let listening = place.listen();
    let mut agent = Agent::start(&place.config(listening.address().port()));
    let mut peer = listening.accept();
    peer.establish(open);
    agent.peer_up();
    (agent, listening, peer)
}

fn nlri(prefix: &str, path_id: u32) -> Nlri {
    Nlri { prefix: prefix.parse().expect("a prefix"), path_id }
}

fn withdrawn(event: RibEvent) -> Vec<Nlri> {
    match event {
        RibEvent::Update { withdrawn, announced: None, .. } => withdrawn,
        other => panic!("expected withdrawals, got {other:?}"),
    }
}

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
    let mut agent = Agent::start(&place.config(listening.address().port()));
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
    assert_eq!((status.state, status.flaps), (State::Established, 0));
}

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
    assert_eq!(agent.speaker().refresh(nobody, family), Err(RefreshError::UnknownPeer(nobody)));
    agent.until("down", |status| status.state != State::Established);
    assert_eq!(
        agent.speaker().refresh(place.peer(), family),
        Err(RefreshError::NotEstablished(place.peer()))
    );
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
