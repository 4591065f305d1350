//! Graceful restart of the peer.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use underpass::config::model::Kernel;
use underpass_tests::daemon::Process;
use underpass_tests::matrix::Outcome;
use underpass_tests::wait;

use super::basics::FEED;
use super::peer::Make;
use super::render::Plan;
use super::rig::{Edge, Opens, PATIENCE, RESTART_SECONDS, Rig};

/// Clocks of two programs, and a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(2);

/// The peer is killed and comes back: its routes forward all the time, and End-of-RIB removes what it did not
/// repeat. It is killed and stays away: they go when the time that it asked for is over.
pub fn graceful_restart(make: Make) -> Outcome {
    let mut rig = Rig::up(make, &Plan::announcing(&FEED), &Edge::new(Opens::Agent));
    rig.wait_learned(2);
    rig.wait_paths("learned", &FEED);
    let monitor = Monitor::start(&rig);

    rig.peer.kill().expect("killed");
    let lost = rig.wait_session("lost", |peer| peer.uptime_seconds.is_none() && peer.stale == 2);
    assert_eq!(lost.flaps, 1, "{lost:?}");
    rig.wait_paths("kept", &FEED);
    rig.peer.restart(&FEED[..1]).expect("it starts again");
    let back = rig.wait_session("back", |peer| peer.end_of_rib && peer.accepted == 1 && peer.stale == 0);
    assert_eq!(back.flaps, 1, "{back:?}");
    rig.wait_paths("swept", &FEED[..1]);

    let seen = monitor.end(&rig);
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

/// `ip monitor route` in the agent's namespace.
struct Monitor {
    process: Process,
}

impl Monitor {
    /// Routes of nobody's. When the monitor tells of one, it has told of everything before.
    const BEGIN: &str = "192.0.2.0/24";
    const END: &str = "198.51.100.0/24";

    fn start(rig: &Rig) -> Self {
        let log = rig.lab.machine_dir("edge").expect("a folder").join("routes.log");
        let mut command = rig.edge().command("ip");
        command.args(["-4", "monitor", "route"]);
        let monitor = Self { process: Process::start("ip monitor", command, &log).expect("ip monitor") };
        // It listens when it tells of a change.
        let listens = || {
            rig.edge().ip(&format!("route replace blackhole {}\nroute del {0}\n", Self::BEGIN))?;
            ensure!(monitor.seen().contains(Self::BEGIN), "nothing yet");
            Ok(())
        };
        wait::until("ip monitor listens", PATIENCE, listens).expect("in time");
        monitor
    }

    fn seen(&self) -> String {
        fs::read_to_string(self.process.log()).expect("readable")
    }

    /// What it has told of the agent's routes up to now. It tells of other namespaces that go away, too.
    fn end(self, rig: &Rig) -> String {
        rig.edge().ip(&format!("route add blackhole {}\n", Self::END)).expect("a route");
        let told = || {
            let seen = self.seen();
            ensure!(seen.contains(Self::END), "not yet: {seen}");
            Ok(seen)
        };
        let seen = wait::until("ip monitor has told all", PATIENCE, told).expect("in time");
        let ours = format!("proto {} ", Kernel::default().protocol);
        seen.lines().filter(|line| line.contains(&ours)).collect::<Vec<_>>().join("\n")
    }
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
