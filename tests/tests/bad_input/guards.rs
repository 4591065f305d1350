//! Routes that a peer may not announce.

use std::collections::BTreeMap;

use anyhow::ensure;
use underpass_tests::agent::Agent;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::wait;

use super::{
    DATAPATH, NEIGHBOUR, NEIGHBOUR_ADDRESS, ROUTER, ROUTER_AS, SOON, bgp, bird, session, two_machines,
};

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

/// Three that the guards let through.
const THREE: &str = "route 10.233.64.0/26 blackhole; route 10.233.65.0/26 blackhole; \
                     route 10.233.66.0/26 blackhole;";

fn learned(agent: &Agent) -> Vec<String> {
    let routes = agent.client().routes().expect("an answer").routes;
    routes.iter().filter(|route| route.rib.is_some()).map(|route| route.prefix.to_string()).collect()
}

#[test]
fn rules_of_the_peer_decide_about_what_the_guards_let_through() {
    let Some(lab) = two_machines() else { return };
    let marking = "bgp_community.add((64513, 7)); bgp_large_community.add((64513, 1, 2)); accept;";
    let export = format!(
        "ipv4 {{ import none; export filter {{ if net = 10.233.66.0/26 then {{ {marking} }} accept; }}; }};"
    );
    let config = bird(ROUTER_AS, THREE, "").replace("ipv4 { import none; export all; };", &export);
    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &config).expect("BIRD 2");
    let rules = "[[bgp.peers.rules]]\ncommunities = [\"64513:*\"]\nlarge_communities = [\"64513:1:2\"]\n\
                 as_path = \"64513\"\nset_local_pref = 200\n\
                 [[bgp.peers.rules]]\nprefix_set = \"one\"\nset_weight = 5\n\
                 [bgp.prefix_sets]\none = [\"10.233.64.0/26\"]\n";
    let mut agent = Agent::start(&lab, ROUTER, &(DATAPATH.to_owned() + &bgp(rules))).expect("started");
    let status = wait::until("two routes are there", SOON, || {
        agent.process().check()?;
        ensure!(session(&agent, "neighbour")?.end_of_rib, "not yet");
        let status = agent.client().status()?;
        ensure!(status.kernel.as_ref().is_some_and(|kernel| kernel.synced == 2), "{:?}", status.kernel);
        Ok(status)
    })
    .expect("a session with routes");
    assert_eq!(status.bgp.expect("configured").filtered, [("policy".to_owned(), 1)].into());
    assert_eq!(learned(&agent), ["10.233.64.0/26", "10.233.66.0/26"]);
}

/// The neighbour tells of a next hop behind itself; the kernel has a route there, loses it, and gets it back.
#[test]
fn a_next_hop_behind_a_router_is_reached_over_the_kernels_route() {
    let Some(lab) = two_machines() else { return };
    let export = "ipv4 { import none; export filter { bgp_next_hop = 10.77.0.1; accept; }; };";
    let config = bird(ROUTER_AS, THREE, "").replace("ipv4 { import none; export all; };", export);
    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &config).expect("BIRD 2");
    let sections = bgp("").replace("\"10.0.0.0/24\"", "\"10.0.0.0/24\", \"10.77.0.0/24\"");
    let agent = Agent::start(&lab, ROUTER, &sections).expect("started");
    let router = lab.netns(ROUTER);
    let wait_routes = |what: &str, expected: usize| {
        wait::until(what, SOON, || {
            ensure!(session(&agent, "neighbour")?.accepted == 3, "not yet");
            let ours = router.routes("all")?.into_iter().filter(|route| route.protocol == "210").count();
            ensure!(ours == expected, "{ours} routes");
            Ok(())
        })
        .expect("in time");
    };
    wait_routes("there is no way to the next hop", 0);
    let problems = agent.client().status().expect("an answer").problems;
    assert!(
        problems.iter().any(|problem| problem.starts_with("next hop 10.77.0.1 of 10.233.64.0/26")),
        "{problems:?}"
    );

    let add = format!("route add 10.77.0.0/16 via {NEIGHBOUR_ADDRESS} proto static\n");
    router.ip(&add).expect("a route");
    wait_routes("the kernel has a way", 3);
    let gateways: Vec<serde_json::Value> = router.ip_json("route show proto 210").expect("routes");
    assert!(gateways.iter().all(|route| route["gateway"] == NEIGHBOUR_ADDRESS.to_string()), "{gateways:?}");
    router.ip("route del 10.77.0.0/16\n").expect("deleted");
    wait_routes("it has none any more", 0);
    router.ip(&add).expect("a route");
    wait_routes("and again", 3);
}

#[test]
fn a_peer_with_too_many_prefixes_is_sent_away_and_may_come_back() {
    let Some(lab) = two_machines() else { return };
    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &bird(ROUTER_AS, THREE, "")).expect("BIRD 2");
    let limit = "max_prefixes = 2\nmax_prefixes_exceeded = \"restart\"\nmax_prefixes_restart = \"2s\"\n";
    let mut agent = Agent::start(&lab, ROUTER, &(DATAPATH.to_owned() + &bgp(limit))).expect("started");
    let peer = wait::until("the session has ended twice", SOON, || {
        agent.process().check()?;
        let peer = session(&agent, "neighbour")?;
        ensure!(peer.flaps >= 2, "{peer:?}");
        Ok(peer)
    })
    .expect("it comes back");
    let error = peer.last_error.expect("said why");
    assert!(error.contains("too many prefixes: sent NOTIFICATION 6/1"), "{error}");
    let filtered = agent.client().status().expect("an answer").bgp.expect("configured").filtered;
    assert_eq!(filtered.into_keys().collect::<Vec<_>>(), ["max-prefixes"]);
}

#[test]
fn a_peer_near_its_bound_is_a_problem_to_look_at() {
    let Some(lab) = two_machines() else { return };
    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &bird(ROUTER_AS, THREE, "")).expect("BIRD 2");
    let limit = "max_prefixes = 3\nmax_prefixes_exceeded = \"shutdown\"\n";
    let agent = Agent::start(&lab, ROUTER, &(DATAPATH.to_owned() + &bgp(limit))).expect("started");
    let peer = wait::until("all three are there", SOON, || {
        let peer = session(&agent, "neighbour")?;
        ensure!(peer.accepted == 3, "{peer:?}");
        Ok(peer)
    })
    .expect("at the bound is not beyond it");
    assert_eq!((peer.max_prefixes, peer.near_max_prefixes, peer.flaps), (3, true, 0));
    let problems = agent.client().status().expect("an answer").problems;
    let expected = "neighbour (10.0.0.2) announces 3 paths";
    assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?}");
}
