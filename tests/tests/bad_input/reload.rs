//! A configuration of the fast path that changes while the agent runs.

use std::fs;

use anyhow::ensure;
use underpass_tests::agent::Agent;
use underpass_tests::wait;

use super::{DATAPATH, NEIGHBOUR_ADDRESS, ROUTER, SOON, two_machines};

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
    assert!(is_attached());
    let datapath = agent.client().status().expect("an answer").datapath.expect("configured");
    assert!(
        datapath.enabled && datapath.lease_seconds > 0 && datapath.ports.iter().all(|port| port.attached)
    );

    assert_eq!(edit("10.77.0.0/16", "10.0.0.0/8"), taken_over);
    wait_prefix("and back", true);
    assert!(is_attached());

    let (code, text) = edit("ports = [\"eth0\"]", "ports = [\"eth0\"]\nbogus = 1");
    assert_eq!((code, text.as_str()), (Some(2), ""), "an invalid file");
    wait_prefix("changes nothing", true);
}
