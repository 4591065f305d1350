//! Establish, learn, withdraw, ADD-PATH, IPv6.

use underpass_tests::matrix::Outcome;

use super::peer::Make;
use super::render::{Path, Plan, via};
use super::rig::{Edge, Opens, Rig};

/// Two prefixes to two next hops, neither of them the peer itself.
pub const FEED: [Path; 2] = [via("10.64.0.64/26", "10.0.0.21"), via("10.64.0.128/26", "10.0.0.22")];

/// The session comes up whoever opens the connection, and stays.
pub fn establish(make: Make) -> Outcome {
    for opens in [Opens::Agent, Opens::Peer] {
        let mut rig = Rig::up(make, &Plan::announcing(&[]), &Edge::new(opens));
        let settled = |peer: &_| {
            let peer: &underpass::api::model::PeerStatus = peer;
            peer.end_of_rib && peer.uptime_seconds >= Some(2)
        };
        let peer = rig.wait_session("up for a while", settled);
        assert_eq!(
            (peer.state.as_str(), peer.flaps, peer.hold_seconds),
            ("Established", 0, Some(9)),
            "{opens:?}"
        );
        for capability in ["ipv4-unicast", "four-octet-as", "route-refresh", "graceful-restart"] {
            assert!(peer.capabilities.iter().any(|name| name == capability), "{capability}: {peer:?}");
        }
    }
    Outcome::Works
}

/// Prefixes with their next hops are in RIB and kernel.
pub fn learn(make: Make) -> Outcome {
    let mut rig = Rig::up(make, &Plan::announcing(&FEED), &Edge::new(Opens::Agent));
    let peer = rig.wait_learned(2);
    assert_eq!((peer.received, peer.stale, peer.treated_as_withdraw), (2, 0, 0), "{peer:?}");
    rig.wait_paths("learned", &FEED);
    Outcome::Works
}

/// One prefix goes, one changes its next hop; then all go. The session stays.
pub fn withdraw(make: Make) -> Outcome {
    let mut rig = Rig::up(make, &Plan::announcing(&FEED), &Edge::new(Opens::Agent));
    rig.wait_paths("learned", &FEED);
    let changed = [via(FEED[0].prefix, "10.0.0.23")];
    rig.announce(&changed);
    rig.wait_paths("one withdrawn, one changed", &changed);
    rig.announce(&[]);
    rig.wait_paths("all withdrawn", &[]);
    let peer = rig.session().expect("an answer");
    assert_eq!((peer.received, peer.flaps, peer.treated_as_withdraw), (0, 0, 0), "{peer:?}");
    Outcome::Works
}

/// Two paths of one prefix are two next hops of one route; then one is.
pub fn add_path(make: Make) -> Outcome {
    let [first, second] = [via(FEED[0].prefix, "10.0.0.21"), via(FEED[0].prefix, "10.0.0.22")];
    let plan = Plan { add_path: true, ..Plan::announcing(&[first, second]) };
    let mut rig = Rig::up(make, &plan, &Edge::new(Opens::Agent));
    let peer = rig.wait_learned(2);
    assert!(peer.capabilities.iter().any(|name| name == "add-path-ipv4-unicast"), "{peer:?}");
    rig.wait_routes("two next hops", &[(first.prefix, &["10.0.0.21", "10.0.0.22"])]);
    rig.announce(&[first]);
    rig.wait_routes("one next hop", &[(first.prefix, &["10.0.0.21"])]);
    Outcome::Works
}

/// IPv6 over IPv6, and IPv4 over it with IPv6 next hops (RFC 8950).
pub fn ipv6(make: Make) -> Outcome {
    let six = [via("fd00:64:1::/64", "fd00:10::21"), via("fd00:64:2::/64", "fd00:10::22")];
    let mut edge = Edge { over_ipv6: true, families: &["ipv6-unicast"], ..Edge::new(Opens::Agent) };
    let mut plan = Plan { over_ipv6: true, ..Plan::announcing(&six) };
    plan.ipv4 = false;
    let mut rig = Rig::up(make, &plan, &edge);
    let peer = rig.wait_learned(2);
    assert!(peer.capabilities.iter().any(|name| name == "ipv6-unicast"), "{peer:?}");
    rig.wait_paths("IPv6 learned", &six);
    drop(rig);

    edge.families = &["ipv4-unicast", "ipv6-unicast"];
    edge.peer.push_str("extended_next_hop = true\n");
    let both = [via("10.64.0.64/26", "fd00:10::21"), via("fd00:64:1::/64", "fd00:10::21")];
    let plan = Plan { over_ipv6: true, ..Plan::announcing(&both) };
    let mut rig = Rig::up(make, &plan, &edge);
    if make == Make::Bird1 {
        let peer = rig.wait_learned(1);
        for capability in ["extended-next-hop", "ipv4-unicast"] {
            assert!(!peer.capabilities.iter().any(|name| name == capability), "{peer:?}");
        }
        rig.wait_paths("IPv6 alone", &both[1..]);
        let note = "IPv6 routes over IPv6 (bird6). It does not offer IPv4 routes there (RFC 8950), and the session \
                    is for IPv6 alone.";
        return Outcome::WorksWith(note.to_owned());
    }
    let peer = rig.wait_learned(2);
    assert!(peer.capabilities.iter().any(|name| name == "extended-next-hop"), "{peer:?}");
    rig.wait_paths("IPv4 with IPv6 next hops", &both);
    Outcome::Works
}
