//! One copy of what many things have in common.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// With fewer values than this it is not worth looking for those that nobody uses.
const FEW: usize = 1024;

/// Hands out shared values: equal ones are the same. Those that nobody has any more are forgotten by and by: at most
/// as many of them are kept as there are others, and a few.
#[derive(Clone, Debug)]
pub struct Interner<T> {
    known: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: Eq + Hash> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_at: FEW }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The shared value that is equal to `value`.
    pub fn share<Q>(&mut self, value: &Q) -> Arc<T>
    where
        Q: Eq + Hash + ToOwned<Owned = T> + ?Sized,
        Arc<T>: Borrow<Q>,
    {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = FEW.max(2 * self.known.len());
        }
        let value = Arc::new(value.to_owned());
        self.known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut interner = Interner::<u32>::default();
        let kept = interner.share(&7);
        assert!(Arc::ptr_eq(&kept, &interner.share(&7)));
        for value in 0..100_000 {
            assert_eq!(*interner.share(&value), value);
            assert!(interner.known.len() <= 2 * FEW, "{}", interner.known.len());
        }
        assert!(Arc::ptr_eq(&kept, &interner.share(&7)), "what is in use stays");
    }
}
