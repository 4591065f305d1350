//! Routes that a peer may not announce.

use std::collections::BTreeMap;

use anyhow::ensure;
use underpass_tests::agent::Agent;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::wait;

use super::{DATAPATH, NEIGHBOUR, ROUTER, ROUTER_AS, SOON, bgp, bird, session, two_machines};

/// One that is wanted; outside of the range, shorter and longer than allowed, and a default route.
const ROUTES: &str = "route 10.233.64.0/26 blackhole; route 10.66.0.0/24 blackhole; \
                      route 10.233.64.0/18 blackhole; route 192.0.2.7/32 blackhole; route 0.0.0.0/0 blackhole;";

#[test]
fn prefixes_outside_of_the_guards_are_counted_and_go_nowhere() {
    let Some(lab) = two_machines() else { return };
    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &bird(ROUTER_AS, ROUTES, "")).expect("BIRD 2");
    let mut agent = Agent::start(&lab, ROUTER, &(DATAPATH.to_owned() + &bgp(""))).expect("started");
    let status = wait::until("all routes are there", SOON, || {
        agent.process().check()?;
        ensure!(session(&agent, "neighbour")?.end_of_rib, "not yet");
        let status = agent.client().status()?;
        ensure!(status.kernel.as_ref().is_some_and(|kernel| kernel.synced == 1), "{:?}", status.kernel);
        Ok(status)
    })
    .expect("a session with routes");

    let bgp = status.bgp.expect("configured");
    let filtered = BTreeMap::from([("default-route".to_owned(), 1), ("prefix-not-allowed".to_owned(), 3)]);
    assert_eq!(bgp.filtered, filtered);
    assert_eq!((bgp.prefixes, bgp.paths), (1, 1));
    let session = session(&agent, "neighbour").expect("a session");
    assert_eq!(session.accepted, 1, "{session:?}");

    let routes = agent.client().routes().expect("an answer").routes;
    let learned: Vec<String> =
        routes.iter().filter(|route| route.rib.is_some()).map(|route| route.prefix.to_string()).collect();
    assert_eq!(learned, ["10.233.64.0/26"]);
    let kernel = lab.netns(ROUTER).routes("all").expect("routes");
    let ours: Vec<String> =
        kernel.iter().filter(|route| route.protocol == "210").map(|route| route.prefix.to_string()).collect();
    assert_eq!(ours, ["10.233.64.0/26"]);
    for (address, prefix) in [("10.233.64.7", Some("10.233.64.0/26")), ("10.66.0.7", None)] {
        let lookup =
            agent.client().lookup(address.parse().expect("an address"), None, None).expect("an answer");
        assert!(lookup.agree, "{lookup:?}");
        assert_eq!(lookup.kernel.gateway.is_some(), prefix.is_some(), "{lookup:?}");
        let found = lookup.prefix.map(|prefix| prefix.to_string());
        assert_eq!(found.as_deref().filter(|found| Some(*found) == prefix), prefix, "{lookup:?}");
        if prefix.is_none() {
            assert_eq!(lookup.xdp.verdict, "pass", "{lookup:?}");
        }
    }
}
