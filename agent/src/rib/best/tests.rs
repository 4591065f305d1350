use std::net::IpAddr;

use super::super::policy::Settings;
use super::*;

/// A path of which every test changes what it is about.
#[derive(Clone)]
struct Given {
    attributes: Attributes,
    peer: u8,
    external: bool,
    router_id: u8,
    path_id: u32,
}

fn path(peer: u8) -> Given {
    Given {
        attributes: Attributes {
            origin: Origin::Igp,
            as_path: vec![AsSegment::Sequence(vec![65001, 65002])],
            next_hop: address(peer),
            med: None,
            local_pref: None,
            originator_id: None,
            cluster_list: vec![],
            communities: vec![],
            large_communities: vec![],
            settings: Settings::default(),
        },
        peer,
        external: false,
        router_id: peer,
        path_id: 0,
    }
}

fn with(peer: u8, change: impl FnOnce(&mut Given)) -> Given {
    let mut given = path(peer);
    change(&mut given);
    given
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn sequence(list: &[u32]) -> AsSegment {
    AsSegment::Sequence(list.to_vec())
}

/// Peers of the equal-cost set, best first.
fn decided(given: &[Given]) -> Vec<(u8, u32)> {
    let candidates = given.iter().map(|g| Candidate {
        attributes: &g.attributes,
        peer: address(g.peer),
        external: g.external,
        router_id: Ipv4Addr::new(1, 1, 1, g.router_id),
        path_id: g.path_id,
    });
    let peer_of = |c: &Candidate<'_>| match c.peer {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => 0,
    };
    decide(candidates.collect()).iter().map(|c| (peer_of(c), c.path_id)).collect()
}

struct Case {
    name: &'static str,
    given: Vec<Given>,
    /// Peers, best first.
    expected: Vec<u8>,
}

#[test]
fn steps_that_cut_the_equal_cost_set() {
    let cases = vec![
        Case { name: "nothing", given: vec![], expected: vec![] },
        Case { name: "alone", given: vec![path(1)], expected: vec![1] },
        Case { name: "equal in all", given: vec![path(2), path(1)], expected: vec![1, 2] },
        Case {
            name: "0: higher weight, though its local preference is lower",
            given: vec![
                with(1, |g| g.attributes.local_pref = Some(500)),
                with(2, |g| g.attributes.settings.weight = 1),
                with(3, |g| {
                    g.attributes.settings.weight = 2;
                    g.attributes.local_pref = Some(1);
                }),
            ],
            expected: vec![3],
        },
        Case {
            name: "1: the local preference that policy set, in place of the one announced",
            given: vec![
                with(1, |g| {
                    g.attributes.local_pref = Some(500);
                    g.attributes.settings.local_pref = Some(90);
                }),
                path(2),
            ],
            expected: vec![2],
        },
        Case {
            name: "1: the one that policy set counts for an external peer too",
            given: vec![
                with(1, |g| g.external = true),
                with(2, |g| {
                    g.external = true;
                    g.attributes.settings.local_pref = Some(101);
                }),
            ],
            expected: vec![2],
        },
        Case {
            name: "1: higher local preference, though its path is longer",
            given: vec![
                path(1),
                with(2, |g| {
                    g.attributes.local_pref = Some(101);
                    g.attributes.as_path = vec![sequence(&[65001, 65002, 65003])];
                }),
            ],
            expected: vec![2],
        },
        Case {
            name: "1: absent local preference is 100",
            given: vec![path(1), with(2, |g| g.attributes.local_pref = Some(99))],
            expected: vec![1],
        },
        Case {
            name: "1: local preference is compared in all 32 bits",
            given: vec![
                with(1, |g| g.attributes.local_pref = Some(2_147_482_623)),
                with(2, |g| g.attributes.local_pref = Some(2_147_483_648)),
            ],
            expected: vec![2],
        },
        Case {
            name: "1: an external peer's local preference does not count",
            given: vec![
                with(1, |g| g.external = true),
                with(2, |g| {
                    g.external = true;
                    g.attributes.local_pref = Some(500);
                }),
            ],
            expected: vec![1, 2],
        },
        Case {
            name: "2: shorter path, though its origin is worse",
            given: vec![
                path(1),
                with(2, |g| {
                    g.attributes.as_path = vec![sequence(&[65001])];
                    g.attributes.origin = Origin::Incomplete;
                }),
            ],
            expected: vec![2],
        },
        Case {
            name: "2: a set counts one",
            given: vec![
                path(1),
                with(2, |g| {
                    g.attributes.as_path = vec![sequence(&[65001]), AsSegment::Set(vec![1, 2, 3])];
                }),
            ],
            expected: vec![1, 2],
        },
        Case {
            name: "2: confederation segments count nothing, nor do they hide the neighbouring AS",
            given: vec![
                path(1),
                with(2, |g| {
                    g.attributes.as_path = vec![
                        AsSegment::ConfedSequence(vec![64600, 64601]),
                        AsSegment::ConfedSet(vec![64602]),
                        sequence(&[65001, 65002]),
                    ];
                }),
            ],
            expected: vec![1, 2],
        },
        Case {
            name: "2: no path at all is the shortest",
            given: vec![path(1), with(2, |g| g.attributes.as_path = vec![])],
            expected: vec![2],
        },
        Case {
            name: "3: origin IGP before EGP before incomplete, though the MED is worse",
            given: vec![
                with(1, |g| g.attributes.origin = Origin::Incomplete),
                with(2, |g| g.attributes.origin = Origin::Egp),
                with(3, |g| g.attributes.med = Some(10)),
            ],
            expected: vec![3],
        },
        Case {
            name: "4: lower MED of the same neighbour, though internal",
            given: vec![
                with(1, |g| {
                    g.attributes.med = Some(20);
                    g.external = true;
                }),
                with(2, |g| g.attributes.med = Some(10)),
            ],
            expected: vec![2],
        },
        Case {
            name: "4: absent MED is 0",
            given: vec![with(1, |g| g.attributes.med = Some(1)), path(2)],
            expected: vec![2],
        },
        Case {
            name: "4: MEDs of different neighbours are not compared; the set is of the best one's AS",
            given: vec![
                with(1, |g| g.attributes.med = Some(20)),
                with(2, |g| {
                    g.attributes.med = Some(10);
                    g.attributes.as_path = vec![sequence(&[65009, 65002])];
                }),
            ],
            expected: vec![1],
        },
        Case {
            name: "4: paths of our own AS have comparable MEDs",
            given: vec![
                with(1, |g| {
                    g.attributes.as_path = vec![];
                    g.attributes.med = Some(5);
                }),
                with(2, |g| g.attributes.as_path = vec![]),
            ],
            expected: vec![2],
        },
        Case {
            name: "5: external before internal, though its identifier is higher",
            given: vec![path(1), with(2, |g| g.external = true)],
            expected: vec![2],
        },
    ];
    for case in cases {
        assert_in_any_order(&case);
    }
}

#[test]
fn steps_that_order_the_equal_cost_set() {
    let cases = vec![
        Case {
            name: "7: lower identifier of the peer",
            given: vec![with(1, |g| g.router_id = 9), path(2)],
            expected: vec![2, 1],
        },
        Case {
            name: "7: ORIGINATOR_ID stands for the peer's identifier",
            given: vec![
                with(1, |g| g.attributes.originator_id = Some(Ipv4Addr::new(1, 1, 1, 8))),
                with(9, |g| g.attributes.originator_id = Some(Ipv4Addr::new(1, 1, 1, 7))),
            ],
            expected: vec![9, 1],
        },
        Case {
            name: "8: shorter CLUSTER_LIST",
            given: vec![
                with(1, |g| {
                    g.router_id = 5;
                    g.attributes.cluster_list = vec![Ipv4Addr::LOCALHOST; 2];
                }),
                with(2, |g| {
                    g.router_id = 5;
                    g.attributes.cluster_list = vec![Ipv4Addr::LOCALHOST];
                }),
            ],
            expected: vec![2, 1],
        },
        Case {
            name: "9: lower peer address",
            given: vec![with(2, |g| g.router_id = 5), with(1, |g| g.router_id = 5)],
            expected: vec![1, 2],
        },
    ];
    for case in cases {
        assert_in_any_order(&case);
    }
    let same_peer = [with(1, |g| g.path_id = 7), with(1, |g| g.path_id = 3)];
    assert_eq!(decided(&same_peer), [(1, 3), (1, 7)], "10: lower path identifier");
}

/// The example of RFC 4451 §2.1.1's kind: a pairwise comparison would give another best path for each
/// order of arrival.
#[test]
fn med_does_not_depend_on_the_order() {
    let case = Case {
        name: "MED with three paths of two neighbours",
        given: vec![
            with(1, |g| {
                g.attributes.med = Some(20);
                g.router_id = 1;
            }),
            with(2, |g| {
                g.attributes.as_path = vec![sequence(&[65009, 65002])];
                g.router_id = 2;
            }),
            with(3, |g| {
                g.attributes.med = Some(10);
                g.router_id = 3;
            }),
        ],
        expected: vec![2],
    };
    assert_in_any_order(&case);
}

fn assert_in_any_order(case: &Case) {
    let mut given = case.given.clone();
    for _ in 0..given.len().max(1) {
        let peers: Vec<u8> = decided(&given).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(peers, case.expected, "{}", case.name);
        let mut reversed = given.clone();
        reversed.reverse();
        let peers: Vec<u8> = decided(&reversed).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(peers, case.expected, "{} (reversed)", case.name);
        if !given.is_empty() {
            given.rotate_left(1);
        }
    }
}
