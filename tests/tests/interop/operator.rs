//! What the operator changes while sessions are up, and what stays when all reflectors are taken down.

use std::fs;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use underpass_tests::wait;

use super::rig::{Feed, Make, PATIENCE, Rig};
use super::{LEARNED, feeds, privileged, raise};

/// Replaces a part of the agent's configuration file.
fn edit(rig: &Rig, from: &str, to: &str) {
    let path = rig.client().config();
    let text = fs::read_to_string(&path).expect("the agent's configuration");
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(&path, text.replace(from, to)).expect("writable");
}

fn reload(rig: &Rig) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = rig.agent.cli(&["reload"]).expect("the command runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

fn flaps(rig: &Rig) -> [u64; 2] {
    [0, 1].map(|number| rig.peer(number).expect("a peer").flaps)
}

const RANGE: &str = "{ prefix = \"10.64.0.0/10\", min = 26, max = 26 }";

fn takes_on_what_changed(make: Make) {
    let rig = raise(make);
    assert_eq!(reload(&rig), (Some(0), "nothing changed\n".to_owned()));

    edit(&rig, "hold_time = \"9s\"", "hold_time = \"2s\"");
    let (code, text) = reload(&rig);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("nothing was changed") && text.contains("bgp.peers[0].hold_time: 2s"), "{text}");
    assert_eq!(flaps(&rig), [0, 0]);
    edit(&rig, "hold_time = \"2s\"", "hold_time = \"9s\"");

    edit(&rig, RANGE, "{ prefix = \"10.64.0.0/24\", min = 26, max = 26 }");
    let (code, text) = reload(&rig);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("peer rr1 (10.0.0.1): asked for its routes again (bgp.import)"), "{text}");
    rig.wait_routes("what is refused now goes", &LEARNED[..3]);
    edit(&rig, "10.64.0.0/24", "10.64.0.0/10");
    assert_eq!(reload(&rig).0, Some(0));
    rig.wait_routes("what was refused comes back without a new session", LEARNED);
    assert_eq!(flaps(&rig), [0, 0]);

    let mut monitor = rig.router().command("ip");
    let mut monitor =
        monitor.args(["-4", "monitor", "route"]).stdout(Stdio::piped()).spawn().expect("ip monitor");
    edit(&rig, "hold_time = \"9s\"", "hold_time = \"12s\"");
    let (code, text) = reload(&rig);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("peer rr2 (10.0.0.2): reset (hold_time)"), "{text}");
    for number in [0, 1] {
        let peer = rig.wait_peer("anew", number, |peer| {
            peer.hold_seconds == Some(12) && peer.end_of_rib && peer.stale == 0
        });
        assert_eq!((peer.flaps, peer.stale), (1, 0), "{peer:?}");
    }
    rig.wait_routes("as before", LEARNED);
    monitor.kill().expect("ended");
    let output = monitor.wait_with_output().expect("its output");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "no route was touched");

    let path = rig.client().config();
    let whole = fs::read_to_string(&path).expect("readable");
    let second = whole.rfind("[[bgp.peers]]").expect("two peers");
    fs::write(&path, &whole[..second]).expect("writable");
    assert_eq!(reload(&rig), (Some(0), "peer rr2 (10.0.0.2): removed\n".to_owned()));
    rig.wait_routes("the first has them all", LEARNED);
    assert_eq!(rig.client().peers().expect("an answer").peers.len(), 1);

    fs::write(&path, whole).expect("writable");
    rig.agent.hang_up().expect("SIGHUP");
    rig.wait_peer("back", 1, |peer| peer.state == "Established" && peer.accepted == 5);
    assert_eq!(rig.peer(0).expect("a peer").flaps, 1, "the first session goes on");
}

#[test]
fn bird2_reload() {
    if privileged() {
        takes_on_what_changed(Make::Bird2);
    }
}

#[test]
fn frr_reload() {
    if privileged() {
        takes_on_what_changed(Make::Frr);
    }
}

fn keeps_the_last_known(make: Make) {
    let rig = raise(make);
    for number in [0, 1] {
        rig.shut_session(number).expect("Administrative Shutdown");
        rig.wait_peer("down", number, |peer| peer.state != "Established" && peer.flaps == 1);
    }
    rig.wait_peer("kept", 1, |peer| peer.stale == 5 && peer.kept_seconds.is_some_and(|left| left > 3000));
    rig.wait_routes("nobody is left, and everything stays", LEARNED);
    let status = rig.client().status().expect("an answer");
    assert!(status.problems.iter().any(|problem| problem.contains("kept as the last known")), "{status:?}");

    rig.open_session(1).expect("enabled");
    rig.feed(1, &[Feed::one(9, [10, 0, 0, 22])]).expect("BIRD takes it");
    rig.wait_peer("back", 1, |peer| peer.state == "Established" && peer.end_of_rib && peer.accepted > 0);
    let last = LEARNED.iter().filter(|(prefix, _)| *prefix != "10.64.0.192/26");
    rig.wait_routes_within(
        "what it no longer tells of goes after a pause",
        Duration::from_secs(45),
        &last.copied().collect::<Vec<_>>(),
    );

    edit(&rig, "[bgp]\n", "[bgp]\nkeep_last_known = \"3s\"\n");
    assert_eq!(reload(&rig).0, Some(0));
    let before = Instant::now();
    rig.shut_session(1).expect("Administrative Shutdown");
    rig.wait_routes("nothing is kept for ever", &[]);
    assert!(before.elapsed() >= Duration::from_secs(3), "{:?}", before.elapsed());
}

#[test]
fn bird1_last_known() {
    if privileged() {
        keeps_the_last_known(Make::Bird1);
    }
}

#[test]
fn frr_last_known() {
    if privileged() {
        keeps_the_last_known(Make::Frr);
    }
}

#[test]
fn bird2_is_told_why_a_session_is_taken_down() {
    if !privileged() {
        return;
    }
    let [one, two] = feeds();
    let rig = Rig::up(Make::Bird2, [&one, &two]).expect("reflectors, feeders and agent start");
    let output = rig.agent.cli(&["peer", "rr1", "down", "-m", "line card"]).expect("the command runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10.0.0.1 is taken down\n");
    let seen = || {
        let text = rig.reflector_says(0)?;
        anyhow::ensure!(text.contains("Administrative shutdown") && text.contains("line card"), "{text}");
        Ok(())
    };
    wait::until("BIRD has the words", PATIENCE, seen).expect("in time");
    let down = rig.wait_peer("down", 0, |peer| peer.admin_down && peer.received == 0);
    assert_eq!(down.flaps, 1);
    let status = rig.client().status().expect("an answer");
    assert_eq!(status.problems, Vec::<String>::new(), "what the operator did is no problem");

    let output = rig.agent.cli(&["peer", "10.0.0.1", "up"]).expect("the command runs");
    assert!(output.status.success());
    rig.wait_peer("up", 0, |peer| peer.state == "Established" && peer.accepted == 5);
    let output = rig.agent.cli(&["peer", "rr1", "refresh"]).expect("the command runs");
    assert!(output.status.success());
    let output = rig.agent.cli(&["peer", "rr9", "refresh"]).expect("the command runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no peer rr9 is configured"));
}
