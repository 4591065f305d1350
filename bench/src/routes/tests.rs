use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, Kind, Popularity, RouteSet, Routes};
use crate::random::SplitMix64;

fn made(text: &str) -> Routes {
    let set: RouteSet = text.parse().expect("a route set");
    set.routes(&mut SplitMix64::new(1))
}

#[test]
fn names_go_both_ways_and_bounds_hold() {
    for text in ["blocks4:10000", "blocks6:10000", "internet4:1000000", "internet6:200000"] {
        assert_eq!(text.parse::<RouteSet>().expect(text).to_string(), text);
    }
    for text in ["blocks4", "blocks4:0", "blocks4:200000", "blocks5:1", "internet4:x"] {
        assert!(text.parse::<RouteSet>().is_err(), "{text}");
    }
}

#[test]
fn prefixes_are_different_have_no_host_bits_and_lie_in_the_ranges() {
    for text in ["blocks4:10000", "blocks6:10000", "internet4:100000", "internet6:50000"] {
        let routes = made(text);
        let ranges = routes.set.ranges();
        assert_eq!(
            routes.prefixes.iter().collect::<BTreeSet<_>>().len(),
            routes.set.routes as usize,
            "{text}"
        );
        for prefix in &routes.prefixes {
            assert_eq!(prefix.trunc(), *prefix, "{text}");
            assert!(ranges.iter().any(|range| range.contains(prefix)), "{text}: {prefix}");
        }
    }
}

#[test]
fn internet_sets_have_the_shape_of_a_bgp_table() {
    let routes = made("internet4:100000");
    let mut by_length: BTreeMap<u8, u32> = BTreeMap::new();
    for prefix in &routes.prefixes {
        *by_length.entry(prefix.prefix_len()).or_default() += 1;
    }
    let of = |length| by_length.get(&length).copied().unwrap_or_default();
    assert!((55_000..70_000).contains(&of(24)), "/24: {}", of(24));
    assert!(of(22) > of(20) && of(20) > of(16) && of(16) > of(12), "{by_length:?}");
    assert!(by_length.keys().any(|length| *length > 24), "{by_length:?}");
    let mut sorted = routes.clone();
    sorted.prefixes.sort();
    let inside = sorted.prefixes.iter().filter(|prefix| {
        (8..prefix.prefix_len()).any(|length| {
            sorted.prefixes.binary_search(&IpNet::new_assert(prefix.addr(), length).trunc()).is_ok()
        })
    });
    let inside = inside.count();
    assert!((40_000..80_000).contains(&inside), "{inside} of 100,000 lie in another");
}

#[test]
fn the_same_seed_makes_the_same_routes() {
    assert_eq!(made("internet4:1000").prefixes, made("internet4:1000").prefixes);
}

#[test]
fn destinations_are_covered_and_the_longest_match_counts() {
    for text in ["blocks4:100", "blocks6:1000", "internet4:10000", "internet6:10000"] {
        let routes = made(text);
        for popularity in [Popularity::Uniform, Popularity::Zipf] {
            let addresses = popularity.destinations(&routes, 4096, &mut SplitMix64::new(2));
            let spread = routes.spread(&addresses).expect("all are covered");
            assert_eq!(spread.iter().sum::<u64>(), 4096, "{text}");
        }
    }
    let routes = Routes {
        set: RouteSet::new(Family::Ipv4, Kind::Internet, 2),
        prefixes: ["10.0.0.0/8", "10.1.0.0/16"].map(|text| text.parse().expect("a prefix")).to_vec(),
    };
    let addresses = ["10.1.2.3", "10.2.0.0", "10.1.0.0"].map(|text| text.parse::<IpAddr>().expect("one"));
    let spread = routes.spread(&addresses).expect("covered");
    assert_eq!(spread[..2], [1, 2]);
    assert!(routes.spread(&["11.0.0.0".parse().expect("one")]).is_err());
}

#[test]
fn zipf_prefers_the_first_prefixes() {
    let routes = made("blocks4:1000");
    let addresses = Popularity::Zipf.destinations(&routes, 65_536, &mut SplitMix64::new(3));
    let hits =
        |index: usize| addresses.iter().filter(|address| routes.prefixes[index].contains(*address)).count();
    // 1 / H(1000) = 0.1336 of all, the tenth a tenth of that.
    assert!((8_300..9_200).contains(&hits(0)), "{}", hits(0));
    assert!((750..1_000).contains(&hits(9)), "{}", hits(9));
    assert!(hits(999) < 40, "{}", hits(999));
}
