//! From the equal-cost paths to the next hops of one route. Pure.

use std::net::IpAddr;

use super::best::Candidate;
use super::model::SelectedRoute;
use crate::config::model::Bgp;

/// Most next hops of a route, by the kind of peers that its paths are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumPaths {
    /// Peers of another AS.
    pub ebgp: usize,
    /// Peers of our AS.
    pub ibgp: usize,
}

impl From<&Bgp> for MaximumPaths {
    fn from(bgp: &Bgp) -> Self {
        let bounded = |paths: Option<usize>| paths.unwrap_or(bgp.maximum_paths).min(bgp.maximum_paths);
        Self { ebgp: bounded(bgp.maximum_paths_ebgp), ibgp: bounded(bgp.maximum_paths_ibgp) }
    }
}

/// Merges equal-cost paths, best first, by next hop: what two reflectors say about the same exit
/// counts once. At most `maximum_paths` next hops (at least one) are taken, in order of preference;
/// the result is sorted, so that equal sets are equal routes. `None` without a path.
///
/// Equal-cost paths are all external or all internal ([`super::best::decide`], step 5).
pub fn merge(equal_cost: &[Candidate<'_>], maximum_paths: MaximumPaths) -> Option<SelectedRoute> {
    let external = equal_cost.first()?.external;
    let maximum_paths = if external { maximum_paths.ebgp } else { maximum_paths.ibgp };
    let mut next_hops: Vec<IpAddr> = Vec::new();
    for candidate in equal_cost {
        if next_hops.len() >= maximum_paths.max(1) {
            break;
        }
        if !next_hops.contains(&candidate.attributes.next_hop) {
            next_hops.push(candidate.attributes.next_hop);
        }
    }
    next_hops.sort_unstable();
    (!next_hops.is_empty()).then_some(SelectedRoute { next_hops })
}

#[cfg(test)]
mod tests;
