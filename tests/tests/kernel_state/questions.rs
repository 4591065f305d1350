//! Questions to the kernel: one packet's route, and neighbours.

use std::net::IpAddr;
use std::time::Duration;

use underpass::netlink::model::{IfIndex, NeighbourState, RouteType, State};
use underpass::netlink::neighbour::Solicitor;
use underpass::netlink::query::{KernelAnswer, Query};
use underpass_tests::wait;

use crate::follower::fresh;
use crate::router;

fn index(state: &State, name: &str) -> IfIndex {
    state.links.values().find(|link| link.name == name).expect("a link").index
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn the_kernel_tells_what_it_would_do() {
    let (_lab, router) = router();
    router
        .ip("route add 10.1.0.0/24 nexthop via 172.20.1.2 nexthop via 172.20.1.3\nroute add unreachable 10.2.0.0/24\n")
        .expect("routes");
    router
        .enter(|| {
            let state = fresh();
            let (eth0, eth1) = (index(&state, "eth0"), index(&state, "eth1"));
            let mut query = Query::new().expect("a socket");
            let mut ask = |to: &str| {
                query.route_get(address(to), Some(address("172.20.0.2")), Some(eth0)).expect("an answer")
            };

            let KernelAnswer::Route { kind: RouteType::Unicast, table: 254, egress, gateway } =
                ask("10.1.0.9")
            else {
                panic!("not forwarded: {:?}", ask("10.1.0.9"));
            };
            assert_eq!(egress, Some(eth1));
            assert!(
                [Some(address("172.20.1.2")), Some(address("172.20.1.3"))].contains(&gateway),
                "{gateway:?}"
            );

            let on_link = KernelAnswer::Route {
                kind: RouteType::Unicast,
                table: 254,
                egress: Some(eth1),
                gateway: None,
            };
            assert_eq!(ask("172.20.1.9"), on_link);
            assert!(matches!(ask("172.20.1.1"), KernelAnswer::Route { kind: RouteType::Local, .. }));
            let KernelAnswer::Refused(text) = ask("10.2.0.1") else { panic!("not refused") };
            assert!(text.contains("host") || text.contains("unreachable"), "{text}");

            // Nothing leads there: the kernel says so, and not that the question is wrong.
            let KernelAnswer::Refused(text) =
                query.route_get(address("2001:db8::1"), None, None).expect("an answer")
            else {
                panic!("a route to nowhere")
            };
            assert!(text.contains("unreachable"), "{text}");
            let own = query.route_get(address("::1"), None, None).expect("an answer");
            assert!(matches!(own, KernelAnswer::Route { kind: RouteType::Local, .. }), "{own:?}");

            let route = query.matching_route(address("10.1.0.9"), Some(address("172.20.0.2")), Some(eth0));
            let route = route.expect("an answer").expect("a route");
            assert_eq!((route.prefix, route.next_hops.len()), ("10.1.0.0/24".parse().expect("a prefix"), 2));
        })
        .expect("the namespace");
}

#[test]
fn a_neighbour_is_resolved_when_asked_for() {
    let (_lab, router) = router();
    router.ip("neigh add 172.20.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent\n").expect("an entry");
    router
        .enter(|| {
            let eth0 = index(&fresh(), "eth0");
            let mut solicitor = Solicitor::new().expect("a socket");
            let state = |host: &str| {
                fresh().neighbours.get(&(eth0, address(host))).map(|entry| (entry.state, entry.mac))
            };

            assert_eq!(state("172.20.0.2"), None, "nobody has asked yet");
            solicitor.solicit(eth0, address("172.20.0.2")).expect("a question");
            wait::until("172.20.0.2 is resolved", Duration::from_secs(10), || match state("172.20.0.2") {
                Some((NeighbourState::Valid, Some(_))) => Ok(()),
                other => Err(anyhow::anyhow!("{other:?}")),
            })
            .expect("an answer of the far end");

            solicitor.solicit(eth0, address("172.20.0.8")).expect("a question");
            wait::until("172.20.0.8 has failed", Duration::from_secs(20), || match state("172.20.0.8") {
                Some((NeighbourState::Failed, _)) => Ok(()),
                other => Err(anyhow::anyhow!("{other:?}")),
            })
            .expect("nobody answers");
            solicitor.solicit(eth0, address("172.20.0.8")).expect("a failed entry is asked for again");
            assert_eq!(state("172.20.0.8"), Some((NeighbourState::Incomplete, None)));

            let permanent = Some((NeighbourState::Valid, Some([2, 0, 0, 0, 0, 7])));
            solicitor.solicit(eth0, address("172.20.0.7")).expect("a valid entry is no error");
            assert_eq!(state("172.20.0.7"), permanent, "a valid entry stays as it is");

            let error = solicitor.solicit(9999, address("172.20.0.2")).expect_err("no such interface");
            assert_eq!(error.errno(), Some(nix::libc::ENODEV), "{error}");
        })
        .expect("the namespace");
}
