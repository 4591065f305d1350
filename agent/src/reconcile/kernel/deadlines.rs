//! When prefixes have to be looked at again.

use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;

/// Prefixes by the time at which they are due. May name some whose deadline has moved since.
#[derive(Clone, Debug, Default)]
pub struct Deadlines(BTreeMap<Instant, Due>);

/// What is due at one time.
#[derive(Clone, Debug, Default)]
struct Due {
    prefixes: Vec<IpNet>,
    added: usize,
    /// Of those added, the ones for which the time plays no part any more.
    moved: usize,
}

impl Deadlines {
    /// Prefixes are due at a time that none of them was due at before.
    pub fn add(&mut self, at: Instant, prefixes: Vec<IpNet>) {
        if !prefixes.is_empty() {
            let due = self.0.entry(at).or_default();
            due.added += prefixes.len();
            due.prefixes.extend(prefixes);
        }
    }

    /// A prefix's deadline has moved from `before` to `after`. A time that has moved for all is forgotten: nearly
    /// always, and without a look at each of them.
    pub fn change(&mut self, prefix: IpNet, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(due) = self.0.get_mut(&before)
        {
            due.moved += 1;
            if due.moved >= due.added {
                self.0.remove(&before);
            }
        }
        if let Some(after) = after {
            self.add(after, vec![prefix]);
        }
    }

    /// Takes out what is due by `now`, some of it in vain.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<IpNet>> {
        let first = self.0.first_entry().filter(|first| *first.key() <= now)?;
        Some(first.remove().prefixes)
    }

    /// The first deadline; `deadline` tells when a prefix is due in truth. Forgets those that have moved.
    pub fn next(&mut self, deadline: impl Fn(&IpNet) -> Option<Instant>) -> Option<Instant> {
        while let Some(mut first) = self.0.first_entry() {
            let at = *first.key();
            while let Some(prefix) = first.get().prefixes.last() {
                if deadline(prefix) == Some(at) {
                    return Some(at);
                }
                first.get_mut().prefixes.pop();
            }
            first.remove();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn prefixes() -> [IpNet; 3] {
        ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_time_that_has_moved_for_all_is_forgotten() {
        let [a, b, c] = prefixes();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut deadlines = Deadlines::default();
        deadlines.add(now, vec![a, b, c]);
        deadlines.change(a, Some(now), None);
        deadlines.change(b, Some(now), Some(later));
        assert_eq!(deadlines.next(|prefix| (*prefix == c).then_some(now)), Some(now));
        deadlines.change(c, Some(now), Some(now));
        assert_eq!(deadlines.clone().take_due(now), Some(vec![a, b, c]), "c is due");
        deadlines.change(c, Some(now), None);
        assert_eq!(deadlines.take_due(now), None);
        assert_eq!(deadlines.next(|_| Some(later)), Some(later));
        assert_eq!((deadlines.take_due(later), deadlines.take_due(later)), (Some(vec![b]), None));
    }

    #[test]
    fn what_moved_without_a_word_does_not_hide_what_is_due() {
        let [a, b, c] = prefixes();
        let now = Instant::now();
        let mut deadlines = Deadlines::default();
        deadlines.add(now, vec![a, b, c]);
        let due = |prefix: &IpNet| (*prefix != c).then_some(now);
        assert_eq!(deadlines.next(due), Some(now), "c has moved");
        deadlines.change(b, Some(now), None);
        assert_eq!(deadlines.next(|prefix| (*prefix == a).then_some(now)), Some(now));
        assert_eq!(deadlines.take_due(now), Some(vec![a]));
    }
}
