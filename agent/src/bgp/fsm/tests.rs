mod collision;
mod operator;
mod timers;

use std::net::Ipv4Addr;

use super::*;
use crate::bgp::testing::{
    OUR_AS, OUR_ID, PEER, PEER_AS, PEER_ID, message, peer_open, received, settings, update_body,
};
use crate::bgp::wire::{AddPath, Capabilities, GracefulRestart, Message, Open, RouteRefresh};
use crate::rib::model::PeerInfo;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

/// A machine with a clock that the test moves.
struct Bench {
    fsm: Fsm,
    start: Instant,
    now: Instant,
    next_id: ConnectionId,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { fsm: Fsm::new(settings, 1), start: now, now, next_id: 0 }
    }

    fn started(settings: Settings) -> Self {
        let mut bench = Self::new(settings);
        bench.event(Event::Start);
        bench
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.fsm.handle(self.now, event)
    }

    fn connect(&mut self, direction: Direction) -> (ConnectionId, Vec<Action>) {
        let id = self.next_id;
        self.next_id += 1;
        (id, self.event(Event::Connected { id, direction, local: LOCAL }))
    }

    fn say(&mut self, id: ConnectionId, message: Message) -> Vec<Action> {
        self.event(Event::Received(id, message))
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.event(Event::Tick)
    }

    /// Runs the timers one by one, as the task does, for some time.
    fn run(&mut self, time: Duration) -> Vec<(Duration, Action)> {
        let end = self.now + time;
        let mut log = Vec::new();
        while let Some(at) = self.fsm.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let at = self.now - self.start;
            log.extend(self.event(Event::Tick).into_iter().map(|action| (at, action)));
        }
        self.now = end;
        log
    }

    /// Brings a session up on a new connection.
    fn establish(&mut self, direction: Direction, open: Open) -> ConnectionId {
        let (id, _) = self.connect(direction);
        self.say(id, Message::Open(open));
        self.say(id, Message::Keepalive);
        assert_eq!(self.fsm.state(), State::Established);
        id
    }
}

fn up(settings: Settings) -> (Bench, ConnectionId) {
    let mut bench = Bench::started(settings);
    let id = bench.establish(Direction::Outgoing, peer_open());
    (bench, id)
}

fn notified(actions: &[Action], id: ConnectionId) -> Option<(u8, u8)> {
    actions.iter().find_map(|action| match action {
        Action::Send(to, bytes) if *to == id && bytes.len() > 20 && bytes[18] == 3 => {
            Some((bytes[19], bytes[20]))
        }
        _ => None,
    })
}

fn closed(actions: &[Action], id: ConnectionId) -> bool {
    actions.contains(&Action::Close(id))
}

fn loss(actions: &[Action]) -> Option<Loss> {
    actions.iter().find_map(|action| match action {
        Action::Rib(RibEvent::PeerDown { loss, .. }) => Some(loss.clone()),
        _ => None,
    })
}

/// What is retained of a session that was lost.
fn retained(actions: &[Action]) -> Option<Vec<(Family, Duration)>> {
    loss(actions).map(|loss| match loss {
        Loss::Lost(families) => families,
        other => panic!("it was not lost: {other:?}"),
    })
}

fn keepalives(log: &[(Duration, Action)], id: ConnectionId) -> Vec<Duration> {
    let keepalive = Action::Send(id, wire::keepalive());
    log.iter().filter(|(_, action)| *action == keepalive).map(|(at, _)| *at).collect()
}

#[test]
fn a_session_comes_up() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.fsm.state(), State::Idle);
    assert_eq!(bench.event(Event::Start), [Action::Dial]);
    assert_eq!(bench.fsm.state(), State::Connect);

    let (id, actions) = bench.connect(Direction::Outgoing);
    assert_eq!(actions, [Action::Send(id, wire::open(&settings().open()))]);
    assert_eq!(bench.fsm.state(), State::OpenSent);

    assert_eq!(bench.say(id, Message::Open(peer_open())), [Action::Send(id, wire::keepalive())]);
    assert_eq!(bench.fsm.state(), State::OpenConfirm);

    let actions = bench.say(id, Message::Keepalive);
    assert_eq!(bench.fsm.state(), State::Established);
    let negotiated = bench.fsm.session().expect("a session").0.clone();
    let families = vec![Family::Ipv4, Family::Ipv6];
    assert_eq!(
        actions,
        [
            Action::Established(Box::new(negotiated)),
            Action::Rib(RibEvent::PeerUp(PeerInfo {
                peer: PEER,
                external: true,
                remote_as: PEER_AS,
                local_as: OUR_AS,
                router_id: PEER_ID,
                local_router_id: OUR_ID,
                local_address: LOCAL,
                families,
                extended_next_hop: false,
                forwarding_preserved: vec![],
            })),
            Action::Send(id, wire::end_of_rib(Family::Ipv4)),
            Action::Send(id, wire::end_of_rib(Family::Ipv6)),
        ]
    );
}

#[test]
fn a_passive_session_waits() {
    let mut bench = Bench::new(Settings { passive: true, ..settings() });
    assert_eq!(bench.event(Event::Start), []);
    assert_eq!(bench.fsm.state(), State::Active);
    assert_eq!(bench.run(Duration::from_hours(1)), []);
    let id = bench.establish(Direction::Incoming, peer_open());
    bench.event(Event::Closed(id, None));
    assert_eq!(bench.fsm.state(), State::Active);
    assert_eq!(bench.fsm.deadline(), None, "nothing to wait for but the peer");
}

#[test]
fn messages_out_of_place() {
    struct Case {
        name: &'static str,
        before: fn() -> (Bench, ConnectionId),
        message: Message,
        expected: (u8, u8),
    }
    let open_sent = || {
        let mut bench = Bench::started(settings());
        let (id, _) = bench.connect(Direction::Outgoing);
        (bench, id)
    };
    let open_confirm = || {
        let mut bench = Bench::started(settings());
        let (id, _) = bench.connect(Direction::Outgoing);
        bench.say(id, Message::Open(peer_open()));
        (bench, id)
    };
    let established = || up(settings());
    let open = Message::Open(peer_open());
    let update = received(&message(2, &[0, 0, 0, 0])).unwrap();
    let refresh =
        Message::RouteRefresh(RouteRefresh { family: Some(Family::Ipv4), kind: RefreshKind::Request });
    let cases = [
        Case { name: "KEEPALIVE first", before: open_sent, message: Message::Keepalive, expected: (5, 1) },
        Case { name: "UPDATE first", before: open_sent, message: update.clone(), expected: (5, 1) },
        Case { name: "ROUTE-REFRESH first", before: open_sent, message: refresh.clone(), expected: (5, 1) },
        Case { name: "second OPEN", before: open_confirm, message: open.clone(), expected: (5, 2) },
        Case { name: "early UPDATE", before: open_confirm, message: update, expected: (5, 2) },
        Case { name: "early ROUTE-REFRESH", before: open_confirm, message: refresh, expected: (5, 2) },
        Case { name: "late OPEN", before: established, message: open, expected: (5, 3) },
    ];
    for case in cases {
        let (mut bench, id) = (case.before)();
        let was_up = bench.fsm.state() == State::Established;
        let actions = bench.say(id, case.message);
        assert_eq!(notified(&actions, id), Some(case.expected), "{}", case.name);
        assert!(closed(&actions, id), "{}", case.name);
        assert_eq!(bench.fsm.state(), State::Idle, "{}", case.name);
        assert_eq!(retained(&actions), was_up.then(Vec::new), "{}", case.name);
    }
}

#[test]
fn a_bad_open_is_answered_and_the_peer_kept_away_for_a_while() {
    let mut bench = Bench::started(settings());
    let (id, _) = bench.connect(Direction::Outgoing);
    let actions = bench.say(id, Message::Open(Open { autonomous_system: 1, ..peer_open() }));
    assert_eq!(notified(&actions, id), Some((2, 2)));
    assert_eq!(bench.fsm.state(), State::Idle);
    let error = bench.fsm.counters().last_error.as_ref().map(ToString::to_string);
    assert_eq!(
        error.as_deref(),
        Some(
            "sent NOTIFICATION 2/2 OPEN Message Error: Bad Peer AS (the peer says it is AS 1, the \
             configuration says AS 64513)"
        )
    );

    let (refused, actions) = bench.connect(Direction::Incoming);
    assert_eq!(notified(&actions, refused), Some((6, 5)));
    assert!(closed(&actions, refused));
    assert_eq!(bench.fsm.state(), State::Idle);

    assert_eq!(bench.pass(Duration::from_millis(700)), [], "not before three quarters of the pause");
    assert_eq!(bench.pass(Duration::from_millis(300)), [Action::Dial]);
}

#[test]
fn what_is_kept_when_a_session_ends() {
    struct Case {
        name: &'static str,
        settings: Settings,
        event: fn(ConnectionId) -> Event,
        kept: bool,
        state: State,
    }
    let cases = [
        Case {
            name: "closed by the peer",
            settings: settings(),
            event: |id| Event::Closed(id, None),
            kept: true,
            state: State::Active,
        },
        Case {
            name: "reset",
            settings: settings(),
            event: |id| Event::Closed(id, Some("Connection reset by peer".to_owned())),
            kept: true,
            state: State::Active,
        },
        Case {
            name: "closed, without graceful restart",
            settings: Settings { graceful_restart: false, ..settings() },
            event: |id| Event::Closed(id, None),
            kept: false,
            state: State::Active,
        },
        Case {
            name: "NOTIFICATION received",
            settings: settings(),
            event: |id| Event::Received(id, Message::Notification(Notification::cease(2))),
            kept: false,
            state: State::Idle,
        },
        Case {
            name: "NOTIFICATION sent",
            settings: settings(),
            event: |id| Event::Invalid(id, Notification::new(1, 1, "")),
            kept: false,
            state: State::Idle,
        },
        Case {
            name: "peer takes nothing",
            settings: settings(),
            event: Event::SendBlocked,
            kept: false,
            state: State::Active,
        },
    ];
    for case in cases {
        let (mut bench, id) = up(case.settings);
        let actions = bench.event((case.event)(id));
        let expected: Vec<(Family, Duration)> = if case.kept {
            [Family::Ipv4, Family::Ipv6].map(|family| (family, Duration::from_mins(2))).to_vec()
        } else {
            Vec::new()
        };
        assert_eq!(retained(&actions), Some(expected), "{}", case.name);
        assert!(closed(&actions, id), "{}", case.name);
        assert_eq!(bench.fsm.state(), case.state, "{}", case.name);
    }
}

#[test]
fn forwarding_preserved_is_passed_on() {
    let mut open = peer_open();
    open.capabilities.graceful_restart = Some(GracefulRestart {
        restarted: true,
        notification: false,
        restart_time: 60,
        families: vec![(Family::Ipv4, true), (Family::Ipv6, false)],
    });
    let mut bench = Bench::started(settings());
    let (id, _) = bench.connect(Direction::Outgoing);
    bench.say(id, Message::Open(open));
    let actions = bench.say(id, Message::Keepalive);
    let preserved = actions.iter().find_map(|action| match action {
        Action::Rib(RibEvent::PeerUp(info)) => Some(info.forwarding_preserved.clone()),
        _ => None,
    });
    assert_eq!(preserved, Some(vec![Family::Ipv4]));
}

#[test]
fn stopping_tells_the_peer_and_not_the_rib() {
    for (notification, expected) in [(Some(Notification::cease(2)), Some((6, 2))), (None, None)] {
        let (mut bench, id) = up(settings());
        let actions = bench.event(Event::Stop(notification));
        assert_eq!(notified(&actions, id), expected);
        assert!(closed(&actions, id));
        assert_eq!(retained(&actions), None);
        assert_eq!(bench.fsm.state(), State::Idle);
        assert_eq!(bench.fsm.deadline(), None);
        let (late, actions) = bench.connect(Direction::Incoming);
        assert_eq!(notified(&actions, late), Some((6, 5)));
    }
}

#[test]
fn route_refresh_both_ways() {
    let (mut bench, id) = up(settings());
    assert_eq!(
        bench.event(Event::Refresh(Family::Ipv6)),
        [Action::Send(id, wire::route_refresh(Family::Ipv6, RefreshKind::Request))]
    );
    let cases = [
        (RefreshKind::Begin, Action::Rib(RibEvent::RefreshStarted { peer: PEER, family: Family::Ipv4 })),
        (RefreshKind::End, Action::Rib(RibEvent::EndOfRib { peer: PEER, family: Family::Ipv4 })),
    ];
    for (kind, expected) in cases {
        let message = Message::RouteRefresh(RouteRefresh { family: Some(Family::Ipv4), kind });
        assert_eq!(bench.say(id, message), [expected]);
    }
    let request =
        Message::RouteRefresh(RouteRefresh { family: Some(Family::Ipv4), kind: RefreshKind::Request });
    assert_eq!(
        bench.say(id, request.clone()),
        [RefreshKind::Begin, RefreshKind::End]
            .map(|kind| Action::Send(id, wire::route_refresh(Family::Ipv4, kind)))
    );

    let mut plain = peer_open();
    plain.capabilities.enhanced_refresh = false;
    let mut bench = Bench::started(settings());
    let id = bench.establish(Direction::Outgoing, plain);
    assert_eq!(bench.say(id, request), [Action::Send(id, wire::end_of_rib(Family::Ipv4))]);

    let none = Open { capabilities: Capabilities::default(), ..peer_open() };
    let mut bench = Bench::started(settings());
    bench.establish(Direction::Outgoing, none);
    assert_eq!(bench.event(Event::Refresh(Family::Ipv4)), [], "not offered, not asked");
}

#[test]
fn updates_reach_the_rib_as_the_session_encodes_them() {
    let mut open = peer_open();
    open.capabilities.add_path = vec![(Family::Ipv4, AddPath { receive: false, send: true })];
    let mut bench = Bench::started(settings());
    let id = bench.establish(Direction::Outgoing, open);
    let body = update_body(&[0, 0, 0, 3, 8, 11], &[], &[]);
    let actions = bench.say(id, received(&message(2, &body)).unwrap());
    let [Action::Rib(RibEvent::Update { withdrawn, announced: None, .. })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((withdrawn[0].path_id, withdrawn[0].prefix.to_string()), (3, "11.0.0.0/8".to_owned()));

    let end = received(&message(2, &[0, 0, 0, 0])).unwrap();
    assert_eq!(bench.say(id, end), [Action::Rib(RibEvent::EndOfRib { peer: PEER, family: Family::Ipv4 })]);
    assert_eq!(bench.fsm.counters().end_of_rib, [Family::Ipv4]);
    assert_eq!(bench.fsm.counters().updates, 2);

    let bad = received(&message(2, &update_body(&[0, 0, 0, 1, 40, 1, 2, 3, 4, 5], &[], &[]))).unwrap();
    let actions = bench.say(id, bad);
    assert_eq!(notified(&actions, id), Some((3, 10)));
    assert_eq!(retained(&actions), Some(vec![]));
    assert_eq!(bench.fsm.counters().end_of_rib, []);
}

#[test]
fn silence_is_end_of_rib_where_none_is_to_be_expected() {
    let end = |family| Action::Rib(RibEvent::EndOfRib { peer: PEER, family });
    let withdrawal = || received(&message(2, &update_body(&[8, 11], &[], &[]))).unwrap();
    let plain = Settings { graceful_restart: false, add_path: false, ..settings() };
    let (mut bench, id) = up(plain);
    assert_eq!(bench.say(id, Message::Keepalive), []);
    bench.say(id, withdrawal());
    assert_eq!(bench.say(id, Message::Keepalive), [], "there was an UPDATE between them");
    assert_eq!(bench.say(id, Message::Keepalive), [end(Family::Ipv4), end(Family::Ipv6)]);
    bench.say(id, withdrawal());
    for _ in 0..3 {
        assert_eq!(bench.say(id, Message::Keepalive), [], "only once");
    }
    let (mut bench, id) = up(settings());
    for _ in 0..5 {
        assert_eq!(bench.say(id, Message::Keepalive), [], "a peer with graceful restart says so itself");
    }
}
