//! A wall clock that jumps: timers and ages go by the other one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use underpass::api::model::PeerStatus;
use underpass_tests::fake_peer::{FakePeer, KEEPALIVE, Open, Received};
use underpass_tests::wait;

use super::rig::*;

/// How far it jumps, forth and back, in seconds.
const JUMP: i64 = 5 * 3600;
/// Longer than the shortest hold time.
const A_WHILE: Duration = Duration::from_millis(4500);
/// Of the session that is lost.
const STALE: Duration = Duration::from_secs(6);
/// Of the session that falls silent.
const HOLD: Duration = Duration::from_secs(3);

/// Reads all that the agent has said, and counts its `KEEPALIVE`s.
fn keepalives(peer: &mut FakePeer) -> u32 {
    let mut count = 0;
    while let Some(received) = peer.receive_within(Duration::from_millis(1)) {
        let Received::Message(kind, _) = received else { panic!("{received:?}") };
        count += u32::from(kind == KEEPALIVE);
    }
    count
}

/// How far the clock that the agent logs by is ahead of the machine's, in seconds.
fn ahead(rig: &mut Rig) -> i64 {
    const DAY: i64 = 24 * 3600;
    let output = rig.agent.cli(&["peer", &PEER.to_string(), "refresh"]).expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(rig.agent.process().log()).expect("a log");
    let line = log.lines().rfind(|line| line.contains("told to by an operator")).expect("it is logged");
    // 2026-11-28T18:04:25.206489Z
    let number = |from: usize| line[from..from + 2].parse::<i64>().expect("digits");
    let logged = number(11) * 3600 + number(14) * 60 + number(17);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("later than 1970");
    let now = i64::try_from(since.as_secs()).expect("sooner than the end of time") % DAY;
    // Jumps are shorter than half a day.
    (logged - now + DAY / 2).rem_euclid(DAY) - DAY / 2
}

/// What `peers` says of the one with this address.
fn of(rig: &Rig, address: Ipv4Addr) -> PeerStatus {
    let peers = rig.peers();
    peers.into_iter().find(|peer| peer.address == IpAddr::from(address)).expect("configured")
}

/// All are up as from the beginning, and no older than they are.
fn check_undisturbed(rig: &Rig, since: Instant, what: &str) {
    let most = since.elapsed().as_secs() + 1;
    for peer in rig.peers() {
        assert_eq!((peer.state.as_str(), peer.flaps), ("Established", 0), "{what}: {peer:?}");
        assert!(peer.uptime_seconds.is_some_and(|uptime| uptime <= most), "{what}, {most} s: {peer:?}");
    }
    let uptime = rig.agent.client().status().expect("an answer").uptime_seconds;
    assert!(uptime <= most, "{what}: {uptime} s of {most} s");
}

#[test]
fn a_wall_clock_that_jumps_ends_nothing_sooner_or_later() {
    let second = Ipv4Addr::new(10, 0, 0, 2);
    let third = Ipv4Addr::new(10, 0, 0, 3);
    let steady = Configured::quick(Dials::Peer);
    let lost = Configured {
        address: second,
        dials: Dials::Peer,
        keys: "hold_time = \"90s\"\nstale_time = \"6s\"\n",
    };
    let silent = Configured { address: third, ..steady };
    let peers = [steady, lost, silent];
    let began = Instant::now();
    let Some((mut rig, clock)) = Rig::up_by_clock(&peers) else { return };
    let mut sessions = peers.map(|peer| {
        let mut session = rig.connect_with(peer.address, |_| {});
        session.establish(&Open::new(PEER_AS, peer.address, 90).with_graceful_restart(
            120,
            false,
            [true, true],
        ));
        session
    });
    let pulses = [Pulse::on(&sessions[0]), Pulse::on(&sessions[2])];
    for (number, (session, peer)) in sessions.iter_mut().zip(&peers).enumerate() {
        session.send(&announce(peer.address, &prefix(u16::try_from(number).expect("three")).1));
        session.send(&end_of_rib());
    }
    let via = |number: u16| (prefix(number).0, Some(peers[usize::from(number)].address.into()));
    let all = [0, 1, 2].map(via).into();
    rig.wait_routes("learned", &all);
    let [steadily, silently] = pulses;

    let counted = Instant::now();
    keepalives(&mut sessions[0]);
    for seconds in [JUMP, -JUMP, 0] {
        clock.jump_to(seconds).expect("it jumps");
        let what = format!("{seconds} s ahead");
        let seen = ahead(&mut rig);
        assert!((seen - seconds).abs() <= 10, "{what}: the agent's log is {seen} s ahead");
        thread::sleep(A_WHILE);
        check_undisturbed(&rig, began, &what);
        rig.wait_routes(&what, &all);
    }
    // One in a third of the hold time, up to a quarter sooner (RFC 4271 §10); the machine may be busy.
    let (count, seconds) = (keepalives(&mut sessions[0]), counted.elapsed().as_secs_f64());
    let rate = f64::from(count) / seconds;
    assert!((0.7..1.5).contains(&rate), "{count} KEEPALIVEs in {seconds} s");

    // One is lost and one falls silent while the clock jumps.
    let [mut first, gone, _quiet] = sessions;
    let left = Instant::now();
    drop((gone, silently));
    rig.wait_routes("kept while stale", &all);
    clock.jump_to(JUMP).expect("it jumps");
    let stale = of(&rig, second);
    assert_eq!((stale.state != "Established", stale.stale), (true, 1), "{stale:?}");
    wait::until("the silent one is lost", HOLD + SLACK, || {
        let peer = of(&rig, third);
        ensure!(peer.state != "Established", "{peer:?}");
        let error = peer.last_error.context("why")?;
        ensure!(error == "sent NOTIFICATION 4/0 Hold Timer Expired", "{error}");
        Ok(())
    })
    .expect("in time");
    // Its last KEEPALIVE was up to half a second before.
    assert!(left.elapsed() + Duration::from_secs(1) > HOLD, "after {:?}", left.elapsed());
    clock.jump_to(-JUMP).expect("it jumps");
    wait::until("stale paths go", STALE + SLACK, || {
        let peer = of(&rig, second);
        ensure!(peer.stale == 0, "{peer:?}");
        Ok(())
    })
    .expect("in time");
    let kept = left.elapsed();
    assert!(kept + Duration::from_millis(200) > STALE && kept < STALE + SLACK, "kept for {kept:?}");
    let stays = of(&rig, PEER);
    assert_eq!((stays.state.as_str(), stays.flaps), ("Established", 0), "{stays:?}");
    drop(steadily);
    assert!(keepalives(&mut first) > 0);
}
