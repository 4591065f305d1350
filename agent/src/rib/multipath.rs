//! From the equal-cost paths to the next hops of one route. Pure.

use std::net::IpAddr;

use super::best::Candidate;
use super::model::SelectedRoute;

/// Merges equal-cost paths, best first, by next hop: what two reflectors say about the same exit
/// counts once. At most `maximum_paths` next hops (at least one) are taken, in order of preference;
/// the result is sorted, so that equal sets are equal routes. `None` without a path.
pub fn merge(equal_cost: &[Candidate<'_>], maximum_paths: usize) -> Option<SelectedRoute> {
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
