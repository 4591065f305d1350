//! Graceful restart of the peer.

use std::process::Stdio;
use std::time::{Duration, Instant};

use underpass_tests::matrix::Outcome;

use super::basics::FEED;
use super::peer::Make;
use super::render::Plan;
use super::rig::{Edge, Opens, RESTART_SECONDS, Rig};

/// Clocks of two programs, and a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(2);

/// The peer is killed and comes back: its routes forward all the time, and End-of-RIB removes what it did not
/// repeat. It is killed and stays away: they go when the time that it asked for is over.
pub fn graceful_restart(make: Make) -> Outcome {
    let mut rig = Rig::up(make, &Plan::announcing(&FEED), &Edge::new(Opens::Agent));
    rig.wait_learned(2);
    rig.wait_paths("learned", &FEED);
    let mut monitor = rig.edge().command("ip");
    monitor.args(["-4", "monitor", "route"]).stdout(Stdio::piped());
    let mut monitor = monitor.spawn().expect("ip monitor");

    rig.peer.kill().expect("killed");
    let lost = rig.wait_session("lost", |peer| peer.uptime_seconds.is_none());
    assert_eq!((lost.stale, lost.flaps), (2, 1), "{lost:?}");
    rig.wait_paths("kept", &FEED);
    rig.peer.restart(&FEED[..1]).expect("it starts again");
    let back = rig.wait_session("back", |peer| peer.end_of_rib && peer.accepted == 1);
    assert_eq!((back.stale, back.flaps), (0, 1), "{back:?}");
    rig.wait_paths("swept", &FEED[..1]);

    monitor.kill().expect("ip monitor ends");
    let seen = monitor.wait_with_output().expect("ip monitor ends").stdout;
    let seen = String::from_utf8_lossy(&seen);
    let lines: Vec<_> = seen.lines().collect();
    let [line] = lines.as_slice() else { panic!("the kernel's routes were touched:\n{seen}") };
    assert!(line.starts_with(&format!("Deleted {}", FEED[1].prefix)), "{line}");

    let killed = Instant::now();
    rig.peer.kill().expect("killed");
    let lost = rig.wait_session("lost again", |peer| peer.uptime_seconds.is_none());
    assert_eq!((lost.stale, lost.flaps), (1, 2), "{lost:?}");
    rig.wait_paths("kept", &FEED[..1]);
    rig.wait_paths("time is over", &[]);
    let (took, time) = (killed.elapsed(), Duration::from_secs(RESTART_SECONDS.into()));
    assert!(took + Duration::from_millis(100) >= time, "gone after {took:?}, {time:?} were asked for");
    assert!(took <= time + SLACK, "gone after {took:?}, {time:?} were asked for");
    Outcome::Works
}
