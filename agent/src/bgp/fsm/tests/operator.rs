//! What the operator does, and which NOTIFICATIONs are restarts (RFC 8538).

use bytes::Bytes;

use super::*;

/// An OPEN that says NOTIFICATIONs are restarts as well.
fn soft_open() -> Open {
    let mut open = peer_open();
    open.capabilities.graceful_restart.as_mut().expect("offered").notification = true;
    open
}

fn sent(actions: &[Action], id: ConnectionId) -> Option<Bytes> {
    actions.iter().find_map(|action| match action {
        Action::Send(to, bytes) if *to == id && bytes[18] == 3 => Some(bytes.slice(19..)),
        _ => None,
    })
}

#[test]
fn a_session_that_is_taken_down_stays_down_until_it_is_brought_up() {
    let (mut bench, id) = up(settings());
    let actions = bench.event(Event::AdminDown("new line cards".to_owned()));
    assert_eq!(&sent(&actions, id).expect("told")[..], b"\x06\x02\x0enew line cards");
    assert!(closed(&actions, id));
    assert_eq!(loss(&actions), Some(Loss::Final));
    assert_eq!((bench.fsm.state(), bench.fsm.is_down(), bench.fsm.deadline()), (State::Idle, true, None));
    assert_eq!(bench.fsm.counters().flaps, 1);

    let (refused, actions) = bench.connect(Direction::Incoming);
    assert_eq!(notified(&actions, refused), Some((6, 5)), "Connection Rejected");
    assert_eq!(bench.event(Event::AdminReset(String::new())), [], "down is down");
    assert!(bench.fsm.is_down());

    assert_eq!(bench.event(Event::Start), [Action::Dial]);
    bench.establish(Direction::Outgoing, peer_open());
}

#[test]
fn a_session_that_dials_stops_dialling_when_it_is_taken_down() {
    let mut bench = Bench::started(settings());
    assert_eq!(bench.event(Event::AdminDown(String::new())), [Action::CancelDial]);
    assert_eq!(bench.run(Duration::from_hours(1)), []);
}

#[test]
fn a_reset_keeps_the_routes_and_dials_at_once() {
    let (mut bench, id) = up(settings());
    let actions = bench.event(Event::AdminReset("again".to_owned()));
    assert_eq!(&sent(&actions, id).expect("told")[..], b"\x06\x04\x05again");
    assert_eq!(loss(&actions), Some(Loss::Reset(vec![Family::Ipv4, Family::Ipv6])));
    assert_eq!(actions.last(), Some(&Action::Dial));
    assert_eq!(bench.fsm.state(), State::Connect);
}

#[test]
fn another_configuration_resets_only_where_it_must() {
    let (mut bench, id) = up(settings());
    let other = Settings { stale_time: Duration::from_secs(7), ..settings() };
    assert_eq!(bench.event(Event::Reconfigure { settings: Box::new(other.clone()), reset: false }), []);
    assert_eq!((bench.fsm.state(), bench.fsm.settings()), (State::Established, &other));

    let other = Settings { hold_time: 30, ..other };
    let actions = bench.event(Event::Reconfigure { settings: Box::new(other.clone()), reset: true });
    assert_eq!(notified(&actions, id), Some((6, 6)), "Other Configuration Change");
    assert_eq!(loss(&actions), Some(Loss::Reset(vec![Family::Ipv4, Family::Ipv6])));
    let (_, actions) = bench.connect(Direction::Outgoing);
    assert!(
        actions.iter().any(|action| matches!(action, Action::Send(_, bytes) if bytes[22..24] == [0, 30]))
    );

    let mut down = Bench::new(settings());
    assert_eq!(down.event(Event::Reconfigure { settings: Box::new(other), reset: true }), []);
    assert!(down.fsm.is_down(), "a session that is down stays so");
}

#[test]
fn text_for_the_peer_is_cut_between_characters() {
    let (mut bench, id) = up(settings());
    let actions = bench.event(Event::AdminDown("ä".repeat(200)));
    let data = sent(&actions, id).expect("told");
    assert_eq!((data[2], data.len()), (254, 3 + 254));
    assert_eq!(std::str::from_utf8(&data[3..]).expect("whole characters").chars().count(), 127);
}

#[test]
fn notifications_that_are_restarts() {
    struct Case {
        name: &'static str,
        open: fn() -> Open,
        event: fn(ConnectionId) -> Event,
        kept: bool,
    }
    let cases = [
        Case {
            name: "Cease from a peer that agreed",
            open: soft_open,
            event: |id| Event::Received(id, Message::Notification(Notification::cease(2))),
            kept: true,
        },
        Case {
            name: "Cease from a peer that did not",
            open: peer_open,
            event: |id| Event::Received(id, Message::Notification(Notification::cease(2))),
            kept: false,
        },
        Case {
            name: "hard reset",
            open: soft_open,
            event: |id| Event::Received(id, Message::Notification(Notification::cease(2).into_hard_reset())),
            kept: false,
        },
        Case {
            name: "our own NOTIFICATION",
            open: soft_open,
            event: |id| Event::Invalid(id, Notification::new(1, 1, "")),
            kept: true,
        },
        Case { name: "a peer that takes nothing", open: soft_open, event: Event::SendBlocked, kept: true },
    ];
    for case in cases {
        let mut bench = Bench::started(settings());
        let id = bench.establish(Direction::Outgoing, (case.open)());
        let actions = bench.event((case.event)(id));
        assert_eq!(retained(&actions).map(|kept| !kept.is_empty()), Some(case.kept), "{}", case.name);
    }

    let mut bench = Bench::started(settings());
    let id = bench.establish(Direction::Outgoing, soft_open());
    bench.pass(settings().stale_time);
    let silent = bench.fsm.state();
    assert_eq!(silent, State::Active, "the hold timer");
    let id2 = bench.establish(Direction::Incoming, soft_open());
    assert_ne!(id, id2);
    let actions = bench.event(Event::AdminDown("bye".to_owned()));
    assert_eq!(
        &sent(&actions, id2).expect("told")[..],
        b"\x06\x09\x06\x02\x03bye",
        "an end for good says so"
    );
    assert_eq!(loss(&actions), Some(Loss::Final));
}

#[test]
fn a_peer_with_too_many_prefixes_comes_back_after_its_pause() {
    let (mut bench, id) = up(settings());
    let pause = Duration::from_mins(5);
    let beyond = |restart| Event::PrefixLimit { family: Family::Ipv6, limit: 70_000, restart };
    let actions = bench.event(beyond(Some(pause)));
    assert_eq!(&sent(&actions, id).expect("told")[..], b"\x06\x01\x00\x02\x01\x00\x01\x11\x70");
    assert!(closed(&actions, id));
    assert_eq!(loss(&actions), Some(Loss::Final));
    assert_eq!((bench.fsm.state(), bench.fsm.is_down()), (State::Idle, false));
    let error = bench.fsm.counters().last_error.as_ref().expect("noted").to_string();
    assert_eq!(
        error,
        "too many prefixes: sent NOTIFICATION 6/1 Cease: Maximum Number of Prefixes Reached (more than 70000)"
    );

    let (refused, actions) = bench.connect(Direction::Incoming);
    assert_eq!(notified(&actions, refused), Some((6, 5)), "Connection Rejected");
    assert_eq!(bench.run(pause.checked_sub(Duration::from_secs(1)).expect("longer")), []);
    assert_eq!(bench.event(beyond(None)), [], "nothing is established");
    assert_eq!(bench.pass(Duration::from_secs(1)), [Action::Dial]);
    bench.establish(Direction::Outgoing, peer_open());

    bench.event(beyond(Some(pause)));
    assert_eq!(bench.event(Event::Start), [Action::Dial], "an operator need not wait");
}

#[test]
fn a_peer_with_too_many_prefixes_stays_down_where_that_is_wanted() {
    let mut bench = Bench::started(settings());
    let id = bench.establish(Direction::Outgoing, soft_open());
    let actions = bench.event(Event::PrefixLimit { family: Family::Ipv4, limit: 3, restart: None });
    let hard = b"\x06\x09\x06\x01\x00\x01\x01\x00\x00\x00\x03";
    assert_eq!(&sent(&actions, id).expect("told")[..], hard, "an end for good says so (RFC 8538)");
    assert_eq!(loss(&actions), Some(Loss::Final));
    assert_eq!((bench.fsm.is_down(), bench.fsm.deadline()), (true, None));
    assert_eq!(bench.event(Event::Start), [Action::Dial]);
}
