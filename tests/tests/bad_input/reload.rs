//! A configuration of the fast path that changes while the agent runs.

use std::fs;

use anyhow::ensure;
use aya::EbpfLoader;
use underpass::datapath::{OBJECT, pins};
use underpass_common::abi::map;
use underpass_tests::agent::Agent;
use underpass_tests::lab::Lab;
use underpass_tests::wait;

use super::{DATAPATH, NEIGHBOUR_ADDRESS, ROUTER, SOON, status_command, two_machines};

/// Replaces a text in the agent's configuration and has it read again: exit code and standard output.
fn edit(agent: &Agent, from: &str, to: &str) -> (Option<i32>, String) {
    let path = agent.client().config();
    let text = fs::read_to_string(&path).expect("readable");
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).expect("writable");
    reload(agent)
}

fn reload(agent: &Agent) -> (Option<i32>, String) {
    let output = agent.cli(&["reload"]).expect("the command runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Pins a map of another size in place of one of the agent's.
fn spoil(lab: &Lab, name: &'static str) {
    let pin = pins::map(&pins::folder(&lab.bpffs().join(ROUTER)), name);
    pins::remove(&pin).expect("ours");
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(name, 8).map_pin_path(name, pin.as_path());
    drop(loader.load(OBJECT).expect("the object loads"));
}

#[test]
fn another_datapath_is_taken_over_in_place() {
    let Some(lab) = two_machines() else { return };
    let router = lab.netns(ROUTER);
    let mut agent = Agent::start(&lab, ROUTER, DATAPATH).expect("started");
    agent.wait_synced(SOON).expect("synced");
    let is_attached = || router.xdp_program("eth0").expect("an interface").is_some();
    assert!(is_attached());
    router.ip(&format!("route add 10.55.0.0/16 via {NEIGHBOUR_ADDRESS}\n")).expect("a route");
    let wait_prefix = |what: &str, expected: bool| {
        wait::until(what, SOON, || {
            let routes = agent.client().routes()?.routes;
            let found = routes.iter().any(|route| route.prefix.to_string() == "10.55.0.0/16");
            ensure!(found == expected, "{routes:?}");
            Ok(())
        })
        .expect("in time");
    };
    wait_prefix("the route is in the fast path", true);

    let taken_over = (Some(0), "datapath: taken over by a new fast path\n".to_owned());
    assert_eq!(edit(&agent, "10.0.0.0/8", "10.77.0.0/16"), taken_over);
    wait_prefix("outside of what is accelerated now", false);
    assert!(is_attached());
    let datapath = agent.client().status().expect("an answer").datapath.expect("configured");
    assert!(
        datapath.enabled && datapath.lease_seconds > 0 && datapath.ports.iter().all(|port| port.attached)
    );

    assert_eq!(edit(&agent, "10.77.0.0/16", "10.0.0.0/8"), taken_over);
    wait_prefix("and back", true);
    assert!(is_attached());

    let (code, text) = edit(&agent, "ports = [\"eth0\"]", "ports = [\"eth0\"]\nbogus = 1");
    assert_eq!((code, text.as_str()), (Some(2), ""), "an invalid file");
    wait_prefix("changes nothing", true);
}

/// The table of prefixes is another one after the reload, and its pin is not what the agent needs: it goes on with
/// the table that it had. Then nothing is left that it could go on with.
#[test]
fn a_datapath_that_cannot_start_leaves_the_old_one_or_is_told_of() {
    let Some(lab) = two_machines() else { return };
    let router = lab.netns(ROUTER);
    let trie = format!("{DATAPATH}fib = \"lpm-trie\"\n");
    let mut agent = Agent::start(&lab, ROUTER, &trie).expect("started");
    agent.wait_synced(SOON).expect("synced");
    let program = || router.xdp_program("eth0").expect("an interface");
    let lease = |agent: &Agent| {
        agent.client().status().expect("an answer").datapath.map(|datapath| datapath.lease_seconds)
    };

    spoil(&lab, map::FIB);
    let (code, text) = edit(&agent, "lpm-trie", "flat");
    assert_eq!(code, Some(1), "{text}");
    for part in ["goes on with the old [datapath]", "UP_FIB", "number of entries is 8"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("taken over"), "nothing was: {text}");
    agent.wait_synced(SOON).expect("the old one is there again");
    assert!(program().is_some() && lease(&agent).is_some_and(|left| left > 0));
    let table = |name| pins::map(&pins::folder(&lab.bpffs().join(ROUTER)), name).exists();
    assert!(table(map::FIB4) && !table(map::FIB), "it is the old one, which took the bad pin away");

    // The file still says something else than what runs.
    assert_eq!(reload(&agent), (Some(0), "datapath: taken over by a new fast path\n".to_owned()));
    assert!(table(map::FIB) && !table(map::FIB4));
    assert_eq!(reload(&agent).0, Some(0));

    spoil(&lab, map::PORTS);
    let (code, text) = edit(&agent, "flat", "lpm-trie");
    assert_eq!(code, Some(1), "{text}");
    for part in ["no fast path", "UP_PORTS", "number of entries is 8", "nor with the old [datapath]"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let (code, text) = status_command(&agent);
    assert_eq!((code, text.contains("no fast path")), (Some(1), true), "{text}");
    assert_eq!(lease(&agent), None, "nobody renews it");

    // What was in the way goes; there is nothing new in the file.
    pins::flush(&lab.bpffs().join(ROUTER)).expect("nobody has the pins");
    let (code, text) = reload(&agent);
    assert_eq!((code, text.contains("no fast path")), (Some(0), false), "{text}");
    agent.wait_synced(SOON).expect("it runs again");
    assert!(program().is_some());
    let (_, text) = status_command(&agent);
    assert!(!text.contains("no fast path"), "{text}");
}
