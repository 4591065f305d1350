//! MD5 and GTSM.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use underpass_tests::matrix::Outcome;

use super::basics::FEED;
use super::peer::Make;
use super::render::Plan;
use super::rig::{self, Edge, Opens, Rig};

const PASSWORD: &str = "correct-horse-7e1f";
/// As long as the right one.
const WRONG: &str = "correct-horse-7e1e";
/// How long a session that must not come up is watched.
const WATCHED: Duration = Duration::from_secs(3);

/// With the password the session comes up, whoever opens it; with another one it does not, and
/// `underpass peers` says why. The password is nowhere to be read.
pub fn md5(make: Make) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{text}\n")).expect("writable");
        path
    };
    let (right, wrong) = (file("right", PASSWORD), file("wrong", WRONG));
    let edge = |opens, password: &Path| Edge {
        peer: format!("password_file = \"{}\"\n", password.display()),
        ..Edge::new(opens)
    };
    let plan = Plan { password: Some(PASSWORD), ..Plan::announcing(&FEED) };
    for opens in [Opens::Agent, Opens::Peer] {
        let mut rig = Rig::up(make, &plan, &edge(opens, &right));
        rig.wait_learned(2);
        rig.wait_paths("learned", &FEED);
        hides(&mut rig, PASSWORD);
    }
    let mut rig = Rig::up(make, &plan, &edge(Opens::Both, &wrong));
    let peer = rig.wait_session("no session", |peer| peer.last_error.is_some());
    let error = peer.last_error.as_deref().unwrap_or_default();
    assert!(error.starts_with("cannot connect: no answer"), "{error}");
    assert!(error.contains("password"), "{error}");
    assert_eq!((peer.uptime_seconds, peer.flaps), (None, 0), "{peer:?}");
    assert!(!rig.peer.is_established().expect("an answer"), "{}", rig.peer.describe().expect("an answer"));
    rig.wait_paths("nothing learned", &[]);
    hides(&mut rig, WRONG);
    Outcome::Works
}

/// The password is in no report, no log, no argument and no environment of the agent.
fn hides(rig: &mut Rig, password: &str) {
    let mut places = Vec::new();
    for command in ["status", "peers", "routes"] {
        for format in ["json", "table"] {
            let output = rig.agent.cli(&[command, "-o", format]).expect("an answer");
            places.push((command.to_owned(), [output.stdout, output.stderr].concat()));
        }
    }
    let process = rig.agent.process();
    let proc = Path::new("/proc").join(process.pid().to_string());
    for path in [process.log().to_owned(), proc.join("cmdline"), proc.join("environ")] {
        let text = fs::read(&path).expect("readable");
        assert!(!text.is_empty(), "{}", path.display());
        places.push((path.display().to_string(), text));
    }
    for (place, text) in places {
        assert!(!String::from_utf8_lossy(&text).contains(password), "{place} has the password");
    }
}

/// With GTSM on both sides the session comes up, whoever opens it; without it on the peer's side, or with a
/// packet that lost one of 255 hops, it does not.
pub fn gtsm(make: Make) -> Outcome {
    let plan = Plan { gtsm: true, ..Plan::announcing(&FEED) };
    let edge = |opens| Edge { peer: "ttl_security = 1\n".to_owned(), ..Edge::new(opens) };
    for opens in [Opens::Agent, Opens::Peer] {
        let mut rig = Rig::up(make, &plan, &edge(opens));
        rig.wait_learned(2);
        rig.wait_paths("learned", &FEED);
    }
    // BIRD sends to a direct neighbour with TTL 1; the others send with 255 in any case.
    let ttl = if matches!(make, Make::Bird1 | Make::Bird2) { None } else { Some(64) };
    let without = Plan { ttl, ..Plan::announcing(&FEED) };
    std::thread::scope(|scope| {
        for opens in [Opens::Agent, Opens::Peer] {
            let (edge, without) = (edge(opens), &without);
            scope.spawn(move || {
                let mut rig = Rig::up(make, without, &edge);
                rig.wait_session("the agent runs", |_| true);
                stays_down(&mut rig);
                rig::send_with_ttl(&rig.lab, 254);
                stays_down(&mut rig);
                rig::send_with_ttl(&rig.lab, 255);
                rig.wait_learned(2);
            });
        }
    });
    Outcome::Works
}

fn stays_down(rig: &mut Rig) {
    let started = Instant::now();
    while started.elapsed() < WATCHED {
        let peer = rig.session().expect("an answer");
        assert_eq!((peer.uptime_seconds, peer.flaps, peer.accepted), (None, 0, 0), "{peer:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
