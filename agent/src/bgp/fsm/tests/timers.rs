//! What happens when time passes.

use super::*;

#[test]
fn pauses_after_errors_grow_until_a_session_lasts() {
    let mut bench = Bench::started(settings());
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let (id, _) = bench.connect(Direction::Outgoing);
        bench.say(id, Message::Keepalive);
        let pause = bench.fsm.deadline().expect("a pause") - bench.now;
        pauses.push(pause);
        bench.run(pause);
    }
    for (pause, longest) in pauses.iter().zip([1, 2, 4, 8]) {
        let longest = Duration::from_secs(longest);
        assert!(*pause <= longest && *pause >= longest.mul_f64(0.749), "{pauses:?}");
    }
    let id = bench.establish(Direction::Outgoing, peer_open());
    for _ in 0..30 {
        bench.pass(Duration::from_secs(2));
        bench.say(id, Message::Keepalive);
    }
    bench.say(id, Message::Open(peer_open()));
    let pause = bench.fsm.deadline().expect("a pause") - bench.now;
    assert!(pause <= Duration::from_secs(1), "{pause:?}");
}

#[test]
fn dialling_goes_on_with_growing_pauses() {
    let mut bench = Bench::started(settings());
    for longest in [1, 2, 4, 8, 16, 32, 60, 60] {
        let actions = bench.event(Event::DialFailed("Connection refused".to_owned()));
        assert_eq!(
            actions,
            [Action::Ended { established: false, cause: Cause::Dial("Connection refused".to_owned()) }]
        );
        assert_eq!(bench.fsm.state(), State::Active);
        let pause = bench.fsm.deadline().expect("a pause") - bench.now;
        assert!(pause <= Duration::from_secs(longest), "{pause:?}");
        assert!(pause >= Duration::from_secs(longest).mul_f64(0.749), "{pause:?}");
        assert_eq!(bench.pass(pause), [Action::Dial]);
        assert_eq!(bench.fsm.state(), State::Connect);
    }
}

#[test]
fn an_attempt_without_answer_is_given_up() {
    let mut bench = Bench::started(settings());
    let actions = bench.pass(DIAL_TIMEOUT);
    assert_eq!(actions[0], Action::CancelDial);
    assert_eq!(bench.fsm.state(), State::Active);
}

#[test]
fn keepalives_are_sent_three_times_per_hold_time_with_jitter() {
    let (mut bench, id) = up(settings());
    let mut times = Vec::new();
    for _ in 0..30 {
        bench.say(id, Message::Keepalive);
        times.extend(keepalives(&bench.run(Duration::from_secs(2)), id));
    }
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].abs_diff(pair[0])).collect();
    assert!(gaps.len() >= 19, "{gaps:?}");
    for gap in &gaps {
        assert!(*gap >= Duration::from_millis(2249) && *gap <= Duration::from_secs(3), "{gap:?}");
    }
    assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "no jitter: {gaps:?}");
}

#[test]
fn a_silent_peer_is_given_up_after_the_hold_time() {
    let (mut bench, id) = up(settings());
    let log = bench.run(Duration::from_secs(9));
    let actions: Vec<Action> = log.iter().map(|(_, action)| action.clone()).collect();
    assert_eq!(notified(&actions, id), Some((4, 0)));
    assert_eq!(
        log.iter().find(|(_, action)| *action == Action::Close(id)).unwrap().0,
        Duration::from_secs(9)
    );
    assert_eq!(retained(&actions), Some(vec![]), "a NOTIFICATION ends it (RFC 4724 §4.2)");
    assert_eq!(bench.fsm.state(), State::Active);
    assert_eq!(bench.fsm.counters().flaps, 1);
    let back = bench.establish(Direction::Incoming, peer_open());
    assert_ne!(back, id);
}

#[test]
fn every_message_restarts_the_hold_timer() {
    let update = received(&message(2, &[0, 0, 0, 0])).unwrap();
    let refresh = Message::RouteRefresh(RouteRefresh { family: None, kind: RefreshKind::Other(9) });
    for message in [Message::Keepalive, update, refresh] {
        let (mut bench, id) = up(settings());
        for _ in 0..5 {
            bench.run(Duration::from_secs(8));
            bench.say(id, message.clone());
        }
        assert_eq!(bench.fsm.state(), State::Established, "{}", message.name());
    }
}

#[test]
fn hold_time_zero_means_no_timers() {
    let mut bench = Bench::started(settings());
    bench.establish(Direction::Outgoing, Open { hold_time: 0, ..peer_open() });
    assert_eq!(bench.run(Duration::from_secs(100_000)), []);
}

#[test]
fn a_peer_that_we_do_not_read_is_not_silent() {
    let (mut bench, id) = up(settings());
    bench.event(Event::ReadingPaused);
    let log = bench.run(Duration::from_mins(1));
    assert_eq!(bench.fsm.state(), State::Established);
    assert!(keepalives(&log, id).len() >= 20, "KEEPALIVEs go on");
    bench.event(Event::ReadingResumed);
    bench.run(Duration::from_secs(8));
    assert_eq!(bench.fsm.state(), State::Established, "the whole hold time again");
    bench.run(Duration::from_secs(1));
    assert_ne!(bench.fsm.state(), State::Established);
}
