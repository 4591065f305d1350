//! What to look at next.

use std::collections::VecDeque;

use ipnet::IpNet;

use super::entry::Entry;

/// Prefixes to look at, each once: those whose entry is `queued`.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// Those that waited to be read back. They come first: there may be a million others, and an effect that is
    /// not looked at in time counts as missing.
    written: VecDeque<IpNet>,
    others: VecDeque<IpNet>,
}

impl Queue {
    /// Adds a prefix, unless it is there already.
    pub fn push(&mut self, prefix: IpNet, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.queued, true) {
            let queue = if entry.awaiting().is_some() { &mut self.written } else { &mut self.others };
            queue.push_back(prefix);
        }
    }

    /// The next one. `ahead`: only of those that waited to be read back.
    pub fn pop(&mut self, ahead: bool) -> Option<IpNet> {
        if self.written.is_empty() && ahead {
            return None;
        }
        self.written.pop_front().or_else(|| self.others.pop_front())
    }

    /// Whether [`Self::pop`] has one.
    pub fn has_work(&self, ahead: bool) -> bool {
        !self.written.is_empty() || !ahead && !self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::model::Route;
    use crate::netlink::text::route;
    use crate::reconcile::kernel::Op;
    use crate::reconcile::kernel::entry::ReadBack;

    #[test]
    fn what_was_written_comes_first_and_each_comes_once() {
        let routes: Vec<Route> =
            (0..3).map(|n| route(&format!("10.{n}.0.0/16 via 192.0.2.1 dev 2"))).collect();
        let [new, other, written] = [0, 1, 2].map(|n: usize| routes[n].prefix);
        let (mut fresh, mut late, mut awaiting) = (Entry::default(), Entry::default(), Entry::default());
        awaiting.await_effect(ReadBack::of(
            &Op::Delete { prefix: written, routes: vec![routes[2].clone()] },
            None,
        ));
        let mut queue = Queue::default();
        queue.push(new, &mut fresh);
        queue.push(new, &mut fresh);
        queue.push(written, &mut awaiting);
        queue.push(other, &mut late);
        assert!(queue.has_work(true));
        assert_eq!([queue.pop(true), queue.pop(true)], [Some(written), None], "the others wait");
        assert!(!queue.has_work(true) && queue.has_work(false));
        assert_eq!([queue.pop(false), queue.pop(false), queue.pop(false)], [Some(new), Some(other), None]);
        assert!(!queue.has_work(false));
    }
}
