//! Hash buckets of groups: how many, where, and who gets which.

use std::collections::{BTreeMap, BTreeSet};

use underpass_common::abi::MAX_GROUP_BUCKETS;

/// Smallest group: 32 buckets.
const MIN_ORDER: u32 = 5;
/// Largest group.
const MAX_ORDER: u32 = MAX_GROUP_BUCKETS.ilog2();
/// Buckets per member: no member is further than about 1/16 of its share from it.
const BUCKETS_PER_MEMBER: u64 = 16;

/// `2^order` buckets from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// First bucket, a multiple of the size.
    pub start: u32,
    /// Size as a power of two.
    pub order: u32,
}

impl Range {
    /// Number of buckets.
    pub const fn size(self) -> u32 {
        1 << self.order
    }

    /// Number of buckets minus one.
    pub const fn mask(self) -> u32 {
        self.size() - 1
    }

    /// All buckets.
    pub fn indices(self) -> std::ops::Range<u32> {
        self.start..self.start + self.size()
    }
}

/// Order of the range for members of these weights: the same for every set of the same number and
/// weights, so that a group keeps its size as far as possible. `None`: more members than a group may
/// have buckets.
pub fn order_for(weights: &[u16]) -> Option<u32> {
    let common = weights.iter().copied().map(u64::from).fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(*weight) / common).sum();
    let members = u64::try_from(weights.len()).ok()?;
    let wanted = total.max(members * BUCKETS_PER_MEMBER).next_power_of_two();
    (members <= u64::from(MAX_GROUP_BUCKETS)).then(|| wanted.ilog2().clamp(MIN_ORDER, MAX_ORDER))
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Buddy allocator over the bucket table.
#[derive(Clone, Debug)]
pub struct Ranges {
    free: BTreeMap<u32, BTreeSet<u32>>,
    resting: BTreeSet<Range>,
}

impl Ranges {
    /// All of `capacity` buckets free.
    pub fn new(capacity: u32) -> Self {
        let mut ranges = Self { free: BTreeMap::new(), resting: BTreeSet::new() };
        let mut start = 0;
        while let Some(order) = (MIN_ORDER..=MAX_ORDER)
            .rev()
            .find(|order| start % (1 << order) == 0 && capacity - start >= 1 << order)
        {
            ranges.free.entry(order).or_default().insert(start);
            start += 1 << order;
        }
        ranges
    }

    /// A free range of the order, or `None`.
    pub fn take(&mut self, order: u32) -> Option<Range> {
        let (found, start) =
            (order..=MAX_ORDER).find_map(|found| Some((found, self.free.get_mut(&found)?.pop_first()?)))?;
        self.split(Range { start, order: found }, Range { start, order });
        Some(Range { start, order })
    }

    /// Takes exactly this range; `false` when it is not free.
    pub fn reserve(&mut self, range: Range) -> bool {
        if !(MIN_ORDER..=MAX_ORDER).contains(&range.order) || !range.start.is_multiple_of(range.size()) {
            return false;
        }
        let holder = (range.order..=MAX_ORDER).find_map(|order| {
            let start = range.start & !((1 << order) - 1);
            self.free.get_mut(&order)?.remove(&start).then_some(Range { start, order })
        });
        holder.is_some_and(|holder| {
            self.split(holder, range);
            true
        })
    }

    /// Frees what is left of `holder` beside `taken`.
    fn split(&mut self, holder: Range, taken: Range) {
        for order in taken.order..holder.order {
            let buddy = (taken.start & !((1 << order) - 1)) ^ (1 << order);
            self.free.entry(order).or_default().insert(buddy);
        }
    }

    /// Gives a range back; it rests until [`Self::sweep`].
    pub fn retire(&mut self, range: Range) {
        self.resting.insert(range);
    }

    /// How many ranges rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Gives a range back that no packet ever saw.
    pub fn put_back(&mut self, range: Range) {
        let Range { mut start, mut order } = range;
        while order < MAX_ORDER {
            let buddy = start ^ (1 << order);
            if !self.free.get_mut(&order).is_some_and(|free| free.remove(&buddy)) {
                break;
            }
            start = start.min(buddy);
            order += 1;
        }
        self.free.entry(order).or_default().insert(start);
    }

    /// After a grace period: frees the resting ranges that `clear` emptied; the others rest on.
    pub fn sweep(&mut self, mut clear: impl FnMut(Range) -> bool) {
        for range in std::mem::take(&mut self.resting) {
            if clear(range) {
                self.put_back(range);
            } else {
                self.resting.insert(range);
            }
        }
    }
}

/// Spreads `members` (row and weight) over `buckets`, moving as few as possible: the buckets of rows
/// that are no members are given away, and a member whose share differs by a whole bucket or more
/// gives or gets the difference. A bucket of 0 belongs to nobody.
pub fn rebalance(buckets: &mut [u32], members: &[(u32, u16)]) {
    if members.is_empty() || buckets.is_empty() {
        return;
    }
    let size = buckets.len() as u64;
    let total: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1);
    let position: BTreeMap<u32, usize> =
        members.iter().enumerate().map(|(at, (row, _))| (*row, at)).collect();
    let mut shares: Vec<Share> =
        members.iter().map(|(_, weight)| Share::new(size, u64::from(*weight), total)).collect();
    for row in buckets.iter() {
        if let Some(at) = position.get(row) {
            shares[*at].count += 1;
        }
    }
    for bucket in buckets.iter_mut().filter(|bucket| !position.contains_key(bucket)) {
        let poorest = poorest(&shares);
        shares[poorest].count += 1;
        *bucket = members[poorest].0;
    }
    loop {
        let (poor, rich) = (poorest(&shares), richest(&shares));
        if shares[poor].count >= shares[poor].floor && shares[rich].count <= shares[rich].ceiling {
            return;
        }
        let given = buckets.iter().rposition(|row| *row == members[rich].0);
        let Some(bucket) = given.filter(|_| poor != rich) else { return };
        buckets[bucket] = members[poor].0;
        shares[rich].count -= 1;
        shares[poor].count += 1;
    }
}

/// A member's part of the buckets.
struct Share {
    /// Exact share times the sum of all weights.
    exact: i128,
    total: i128,
    floor: u64,
    ceiling: u64,
    count: u64,
}

impl Share {
    fn new(size: u64, weight: u64, total: u64) -> Self {
        let exact = size * weight;
        Self {
            exact: i128::from(exact),
            total: i128::from(total),
            floor: exact / total,
            ceiling: exact.div_ceil(total),
            count: 0,
        }
    }

    fn missing(&self) -> i128 {
        self.exact - i128::from(self.count) * self.total
    }
}

/// The first of those that miss most.
fn poorest(shares: &[Share]) -> usize {
    let mut best = 0;
    for at in 1..shares.len() {
        if shares[at].missing() > shares[best].missing() {
            best = at;
        }
    }
    best
}

/// The first of those that have most to spare.
fn richest(shares: &[Share]) -> usize {
    let mut best = 0;
    for at in 1..shares.len() {
        if shares[at].missing() < shares[best].missing() {
            best = at;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(buckets: &[u32], row: u32) -> usize {
        buckets.iter().filter(|bucket| **bucket == row).count()
    }

    fn moved(before: &[u32], after: &[u32]) -> usize {
        before.iter().zip(after).filter(|(before, after)| before != after).count()
    }

    #[test]
    fn sizes_follow_members_and_weights() {
        let cases: &[(&str, &[u16], Option<u32>)] = &[
            ("two", &[1, 1], Some(5)),
            ("two, same weight", &[100, 100], Some(5)),
            ("three", &[1, 1, 1], Some(6)),
            ("five", &[1; 5], Some(7)),
            ("unequal", &[1, 256], Some(9)),
            ("many", &[1; 200], Some(12)),
            ("the kernel's limit by weights", &[256; 128], Some(11)),
            ("as many as there are buckets", &[1; 4096], Some(12)),
            ("too many", &[1; 4097], None),
        ];
        for (name, weights, expected) in cases {
            assert_eq!(order_for(weights), *expected, "{name}");
        }
    }

    #[test]
    fn removal_moves_only_the_flows_of_the_removed() {
        for members in 2u32..40 {
            let order = order_for(&vec![1; members as usize]).expect("fits");
            let mut buckets = vec![0; 1 << order];
            let all: Vec<_> = (1..=members).map(|row| (row, 1)).collect();
            rebalance(&mut buckets, &all);
            let before = buckets.clone();
            let rest: Vec<_> = all.iter().copied().filter(|(row, _)| *row != 1).collect();
            rebalance(&mut buckets, &rest);
            assert_eq!(moved(&before, &buckets), count(&before, 1), "{members} members");
        }
    }

    #[test]
    fn addition_moves_about_one_share() {
        for members in 2u32..40 {
            let all: Vec<_> = (1..=members).map(|row| (row, 1)).collect();
            let mut buckets = vec![0; 1024];
            rebalance(&mut buckets, &all[1..]);
            let before = buckets.clone();
            rebalance(&mut buckets, &all);
            let moved = moved(&before, &buckets);
            assert_eq!(moved, count(&buckets, 1), "{members}: only the new member gets flows");
            assert!(moved <= 1024usize.div_ceil(members as usize), "{members}: {moved}");
            assert!(moved >= 1024 / members as usize, "{members}: {moved}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_kept_from_any_start(
            start in prop::collection::vec(0u32..12, 128),
            weights in prop::collection::vec(1u16..=256, 1..10),
        ) {
            let members: Vec<_> = (1u32..).zip(weights.iter().copied()).collect();
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            let mut buckets = start;
            rebalance(&mut buckets, &members);
            for (row, weight) in &members {
                let count = count(&buckets, *row) as u64;
                let share = 128 * u64::from(*weight);
                prop_assert!(count >= share / total && count <= share.div_ceil(total));
            }
            let settled = buckets.clone();
            rebalance(&mut buckets, &members);
            prop_assert_eq!(settled, buckets, "a balanced group is left alone");
        }

        #[test]
        fn ranges_never_overlap_and_all_come_back(orders in prop::collection::vec(5u32..=10, 1..80)) {
            let mut ranges = Ranges::new(4096);
            let mut taken = Vec::new();
            for order in orders {
                if let Some(range) = ranges.take(order) {
                    prop_assert!(range.start % range.size() == 0);
                    prop_assert!(range.indices().end <= 4096);
                    for other in &taken {
                        let other: &Range = other;
                        prop_assert!(
                            range.indices().end <= other.start || other.indices().end <= range.start
                        );
                    }
                    taken.push(range);
                }
            }
            let mut again = Ranges::new(4096);
            for range in &taken {
                prop_assert!(again.reserve(*range));
                prop_assert!(!again.reserve(*range), "a range is reserved once");
            }
            for range in taken {
                ranges.retire(range);
            }
            ranges.sweep(|_| true);
            for _ in 0..4 {
                prop_assert!(ranges.take(10).is_some(), "everything was merged again");
            }
            prop_assert_eq!(ranges.take(5), None);
        }
    }
}
