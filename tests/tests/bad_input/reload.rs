//! A configuration of the fast path that changes while the agent runs.

use std::fs;

use anyhow::ensure;
use underpass_tests::agent::Agent;
use underpass_tests::wait;

use super::{DATAPATH, NEIGHBOUR_ADDRESS, ROUTER, SOON, two_machines};

#[test]
fn another_datapath_is_taken_over_without_a_new_program() {
    let Some(lab) = two_machines() else { return };
    let router = lab.netns(ROUTER);
    let mut agent = Agent::start(&lab, ROUTER, DATAPATH).expect("started");
    agent.wait_synced(SOON).expect("synced");
    let program = || router.xdp_program("eth0").expect("an interface");
    let before = program();
    assert!(before.is_some(), "attached");
    router.ip(&format!("route add 10.55.0.0/16 via {NEIGHBOUR_ADDRESS}\n")).expect("a route");
    let prefix_of = |address: &str| {
        let lookup = agent.client().lookup(address.parse().expect("an address"), None, None)?;
        Ok::<_, anyhow::Error>(lookup.prefix.map(|prefix| prefix.to_string()))
    };
    let wait_prefix = |what: &str, expected: bool| {
        wait::until(what, SOON, || {
            let found = prefix_of("10.55.0.1")?;
            ensure!((found.as_deref() == Some("10.55.0.0/16")) == expected, "{found:?}");
            Ok(())
        })
        .expect("in time");
    };
    wait_prefix("the route is in the fast path", true);

    let edit = |from: &str, to: &str| {
        let path = agent.client().config();
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).expect("writable");
        let output = agent.cli(&["reload"]).expect("the command runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let taken_over = (Some(0), "datapath: taken over by a new fast path\n".to_owned());
    assert_eq!(edit("10.0.0.0/8", "10.77.0.0/16"), taken_over);
    wait_prefix("outside of what is accelerated now", false);
    assert_eq!(program(), before, "the same program all the while");
    let datapath = agent.client().status().expect("an answer").datapath.expect("configured");
    assert!(
        datapath.enabled && datapath.lease_seconds > 0 && datapath.ports.iter().all(|port| port.attached)
    );

    assert_eq!(edit("10.77.0.0/16", "10.0.0.0/8"), taken_over);
    wait_prefix("and back", true);
    assert_eq!(program(), before);

    let (code, text) = edit("ports = [\"eth0\"]", "ports = [\"eth0\"]\nbogus = 1");
    assert_eq!((code, text.as_str()), (Some(2), ""), "an invalid file");
    wait_prefix("changes nothing", true);
}
