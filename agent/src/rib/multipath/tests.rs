use std::net::Ipv4Addr;

use super::super::best::decide;
use super::super::model::{Attributes, Origin};
use super::super::policy::Settings;
use super::*;

/// Paths as (peer, path identifier, next hop), all of equal cost.
fn merged(paths: &[(u8, u32, u8)], maximum_paths: usize) -> Option<Vec<u8>> {
    merged_of(false, paths, MaximumPaths { ebgp: 99, ibgp: maximum_paths })
}

fn merged_of(external: bool, paths: &[(u8, u32, u8)], maximum_paths: MaximumPaths) -> Option<Vec<u8>> {
    let attributes: Vec<Attributes> = paths
        .iter()
        .map(|(_, _, next_hop)| Attributes {
            origin: Origin::Igp,
            as_path: vec![],
            next_hop: IpAddr::from([10, 0, 0, *next_hop]),
            med: None,
            local_pref: Some(100),
            originator_id: None,
            cluster_list: vec![],
            communities: vec![],
            large_communities: vec![],
            settings: Settings::default(),
        })
        .collect();
    let candidates = paths.iter().zip(&attributes).map(|((peer, path_id, _), attributes)| Candidate {
        attributes,
        peer: IpAddr::from([10, 9, 0, *peer]),
        external,
        router_id: Ipv4Addr::new(1, 1, 1, *peer),
        path_id: *path_id,
    });
    let route = merge(&decide(candidates.collect()), maximum_paths)?;
    Some(
        route.next_hops.iter().map(|hop| if let IpAddr::V4(v4) = hop { v4.octets()[3] } else { 0 }).collect(),
    )
}

#[test]
fn equal_cost_paths_become_next_hops() {
    type Case<'a> = (&'a str, &'a [(u8, u32, u8)], usize, Option<Vec<u8>>);
    let cases: [Case<'_>; 6] = [
        ("no path", &[], 8, None),
        ("sorted by address, not by preference", &[(1, 1, 9), (1, 2, 3)], 8, Some(vec![3, 9])),
        (
            "two reflectors tell of the same three nodes",
            &[(1, 1, 4), (1, 2, 5), (1, 3, 6), (2, 7, 5), (2, 8, 6), (2, 9, 4)],
            8,
            Some(vec![4, 5, 6]),
        ),
        ("duplicates do not use up the bound", &[(1, 1, 4), (2, 1, 4), (2, 2, 5)], 2, Some(vec![4, 5])),
        ("the bound keeps the preferred ones", &[(1, 2, 4), (1, 1, 9), (2, 1, 3)], 2, Some(vec![4, 9])),
        ("a bound of 0 is one of 1", &[(1, 1, 4), (1, 2, 5)], 0, Some(vec![4])),
    ];
    for (name, paths, maximum_paths, expected) in cases {
        assert_eq!(merged(paths, maximum_paths), expected, "{name}");
        let mut reversed = paths.to_vec();
        reversed.reverse();
        assert_eq!(merged(&reversed, maximum_paths), expected, "{name} (reversed)");
    }
}

#[test]
fn each_kind_of_peer_has_its_bound() {
    let paths = [(1, 1, 4), (1, 2, 5), (1, 3, 6)];
    let maximum_paths = MaximumPaths { ebgp: 2, ibgp: 1 };
    assert_eq!(merged_of(true, &paths, maximum_paths), Some(vec![4, 5]));
    assert_eq!(merged_of(false, &paths, maximum_paths), Some(vec![4]));
    let mut bgp = Bgp::new(64512, Ipv4Addr::new(10, 0, 0, 9));
    let bounds = |bgp: &Bgp| (MaximumPaths::from(bgp).ebgp, MaximumPaths::from(bgp).ibgp);
    assert_eq!(bounds(&bgp), (16, 16));
    (bgp.maximum_paths, bgp.maximum_paths_ebgp) = (8, Some(4));
    assert_eq!(bounds(&bgp), (4, 8));
    bgp.maximum_paths_ibgp = Some(9);
    assert_eq!(bounds(&bgp), (4, 8), "maximum_paths bounds both");
}
