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
    let lost = rig.wait_session("lost", |peer| peer.uptime_seconds.is_none() && peer.stale == 2);
    assert_eq!(lost.flaps, 1, "{lost:?}");
    rig.wait_paths("kept", &FEED);
    rig.peer.restart(&FEED[..1]).expect("it starts again");
    let back = rig.wait_session("back", |peer| peer.end_of_rib && peer.accepted == 1 && peer.stale == 0);
    assert_eq!(back.flaps, 1, "{back:?}");
    rig.wait_paths("swept", &FEED[..1]);

    monitor.kill().expect("ip monitor ends");
    let seen = monitor.wait_with_output().expect("ip monitor ends").stdout;
    let seen = String::from_utf8_lossy(&seen);
    let outcome = sweep(make, &seen.lines().collect::<Vec<_>>());

    let killed = Instant::now();
    rig.peer.kill().expect("killed");
    let lost = rig.wait_session("lost again", |peer| peer.uptime_seconds.is_none() && peer.stale == 1);
    assert_eq!(lost.flaps, 2, "{lost:?}");
    rig.wait_paths("kept", &FEED[..1]);
    rig.wait_paths("time is over", &[]);
    let (took, time) = (killed.elapsed(), Duration::from_secs(RESTART_SECONDS.into()));
    assert!(took + Duration::from_millis(100) >= time, "gone after {took:?}, {time:?} were asked for");
    assert!(took <= time + SLACK, "gone after {took:?}, {time:?} were asked for");
    outcome
}

/// Judges what the kernel's routes went through from the peer's end to its End-of-RIB and a little further.
fn sweep(make: Make, seen: &[&str]) -> Outcome {
    let [kept, gone] = FEED.map(|path| path.prefix);
    let is = |line: &str, begin: &str| line.starts_with(&format!("{begin} "));
    match seen {
        [line] if is(line, &format!("Deleted {gone}")) => Outcome::Works,
        // RFC 4724 §4.2 takes what was not repeated before it for gone.
        [first, second, back]
            if make == Make::Frr
                && is(first, &format!("Deleted {kept}"))
                && is(second, &format!("Deleted {gone}"))
                && is(back, kept) =>
        {
            let note = "FRR sends End-of-RIB before the networks that it originates itself: all are kept until \
                        then, and those that come again come some seconds later.";
            Outcome::WorksWith(note.to_owned())
        }
        _ => panic!("the kernel's routes were touched: {seen:#?}"),
    }
}
