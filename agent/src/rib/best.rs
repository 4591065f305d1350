//! The decision process: RFC 4271 §9.1 with the tie breakers of RFC 4456 §9. Pure.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use super::model::{AsSegment, Attributes, Origin, PeerId};

/// `LOCAL_PREF` of a path that has none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// A path that may be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Who announced it.
    pub peer: PeerId,
    /// That peer's AS differs from ours.
    pub external: bool,
    /// That peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// RFC 7911 path identifier, 0 without ADD-PATH.
    pub path_id: u32,
}

/// Puts the candidates in the order of preference, best first, and keeps only those that are as good
/// as the best one as far as forwarding goes: the equal-cost set.
///
/// Steps, each keeping the best of what is left:
///
/// 0. highest weight, 0 unless import policy set one: it is known to this machine only
/// 1. highest `LOCAL_PREF`, all 32 bits: the one that import policy set, or the one announced;
///    [`DEFAULT_LOCAL_PREF`] when absent or announced by an external peer
/// 2. shortest `AS_PATH`: an `AS_SET` counts one, confederation segments nothing
/// 3. lowest `ORIGIN`
/// 4. lowest `MULTI_EXIT_DISC` among the paths of each neighbouring AS, 0 when absent
/// 5. paths of external peers, if there is one
/// 6. the metric of the way to the next hop: not known here, every next hop is on-link and equal
///
/// What is left is ordered, which decides the best path, by
///
/// 7. lowest `ORIGINATOR_ID`, or the peer's identifier when absent
/// 8. shortest `CLUSTER_LIST`
/// 9. lowest peer address
/// 10. lowest path identifier
///
/// and of it the paths of the best path's neighbouring AS stay.
pub fn decide(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    if candidates.len() <= 1 {
        return candidates;
    }
    keep_least(&mut candidates, |c| Reverse(c.attributes.settings.weight));
    keep_least(&mut candidates, |c| Reverse(local_pref(c)));
    keep_least(&mut candidates, |c| as_path_length(&c.attributes.as_path));
    keep_least(&mut candidates, |c| origin(c));
    keep_lowest_med(&mut candidates);
    keep_least(&mut candidates, |c| !c.external);
    candidates.sort_by_key(|c| (originator(c), c.attributes.cluster_list.len(), c.peer, c.path_id));
    if let Some(neighbour) = candidates.first().map(|c| neighbour_as(&c.attributes.as_path)) {
        candidates.retain(|c| neighbour_as(&c.attributes.as_path) == neighbour);
    }
    candidates
}

fn keep_least<'a, K: Ord>(candidates: &mut Vec<Candidate<'a>>, key: impl Fn(&Candidate<'a>) -> K) {
    if let Some(least) = candidates.iter().map(&key).min() {
        candidates.retain(|c| key(c) == least);
    }
}

/// MEDs of different neighbouring ASes cannot be compared, so every AS keeps its own lowest: unlike
/// a pairwise comparison this does not depend on the order of the paths (RFC 4271 §9.1.2.2 c).
fn keep_lowest_med(candidates: &mut Vec<Candidate<'_>>) {
    let med = |c: &Candidate<'_>| c.attributes.med.unwrap_or(0);
    let mut lowest = std::collections::BTreeMap::new();
    for candidate in candidates.iter() {
        let entry = lowest.entry(neighbour_as(&candidate.attributes.as_path)).or_insert(u32::MAX);
        *entry = med(candidate).min(*entry);
    }
    candidates.retain(|c| lowest.get(&neighbour_as(&c.attributes.as_path)) == Some(&med(c)));
}

fn local_pref(candidate: &Candidate<'_>) -> u32 {
    let Attributes { settings, local_pref, .. } = candidate.attributes;
    let announced = local_pref.filter(|_| !candidate.external);
    settings.local_pref.or(announced).unwrap_or(DEFAULT_LOCAL_PREF)
}

fn as_path_length(path: &[AsSegment]) -> usize {
    path.iter()
        .map(|segment| match segment {
            AsSegment::Sequence(list) => list.len(),
            AsSegment::Set(_) => 1,
            AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => 0,
        })
        .sum()
}

fn origin(candidate: &Candidate<'_>) -> Origin {
    candidate.attributes.origin
}

/// The AS that the path entered ours from: the first of a leading `AS_SEQUENCE`. `None` stands for
/// our own AS, where a path without such a segment begins (RFC 4271 §9.1.2.2 c).
fn neighbour_as(path: &[AsSegment]) -> Option<u32> {
    let external =
        path.iter().find(|s| !matches!(s, AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_)))?;
    match external {
        AsSegment::Sequence(list) => list.first().copied(),
        _ => None,
    }
}

fn originator(candidate: &Candidate<'_>) -> Ipv4Addr {
    candidate.attributes.originator_id.unwrap_or(candidate.router_id)
}

#[cfg(test)]
mod tests;
