//! A sorted map in pieces of about a hundred entries: keys in one array, values in another.
//!
//! Against a B-tree it takes less room when entries come in random order, and a search touches fewer cache lines: the index of a million entries is 90 KB, and the search in a piece looks at keys
//! alone.

use std::fmt;

use super::key::Key;

/// Most entries of a piece. An insertion moves a quarter of them on average.
const MOST: usize = 128;
/// A piece grows by so many entries at a time: a tenth of its room is empty on average, not a quarter.
const STEP: usize = 16;
/// A piece with fewer entries than this joins a neighbour.
const FEWEST: usize = MOST / 4;
/// Most entries of a piece that two were joined to: there is room to spare.
const JOINED: usize = MOST * 3 / 4;

/// A map from keys to `V`, sorted by key.
#[derive(Clone)]
pub struct Chunks<K, V> {
    /// Piece n has the keys from `starts[n]` on up to `starts[n + 1]`; the first piece has those before, too.
    starts: Vec<K>,
    /// None of them empty.
    #[expect(clippy::vec_box, reason = "a new piece moves all those behind it")]
    pieces: Vec<Box<Piece<K, V>>>,
    len: usize,
}

#[derive(Clone)]
struct Piece<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Key, V> Chunks<K, V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self { starts: Vec::new(), pieces: Vec::new(), len: 0 }
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the key is, or where it belongs: piece and place in it.
    fn find(&self, key: K) -> Result<(usize, usize), (usize, usize)> {
        let at = self.starts.partition_point(|start| *start <= key).saturating_sub(1);
        let Some(piece) = self.pieces.get(at) else { return Err((0, 0)) };
        let place = count_below(&piece.keys, key);
        if piece.keys.get(place) == Some(&key) { Ok((at, place)) } else { Err((at, place)) }
    }

    /// The value of a key.
    pub fn get(&self, key: K) -> Option<&V> {
        let (at, place) = self.find(key).ok()?;
        self.pieces[at].values.get(place)
    }

    /// The value of a key, to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (at, place) = self.find(key).ok()?;
        self.pieces[at].values.get_mut(place)
    }

    /// Sets the value of a key; gives the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find_or_end(key) {
            Ok((at, place)) => Some(std::mem::replace(&mut self.pieces[at].values[place], value)),
            Err(place) => {
                self.put(place, key, value);
                None
            }
        }
    }

    /// The value of a key, made when it has none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let (at, place) = match self.find_or_end(key) {
            Ok(found) => found,
            Err(place) => self.put(place, key, make()),
        };
        &mut self.pieces[at].values[place]
    }

    /// Takes a key out; gives its value.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let (at, place) = self.find(key).ok()?;
        let piece = &mut self.pieces[at];
        piece.keys.remove(place);
        let value = piece.values.remove(place);
        self.len -= 1;
        if piece.keys.len() < FEWEST {
            self.join(at);
        } else {
            piece.fit();
        }
        Some(value)
    }

    /// As [`Self::find`]; what comes after everything is found at once.
    fn find_or_end(&self, key: K) -> Result<(usize, usize), (usize, usize)> {
        match self.pieces.last() {
            Some(last) if last.keys.last().is_some_and(|last| *last < key) => {
                Err((self.pieces.len() - 1, last.keys.len()))
            }
            _ => self.find(key),
        }
    }

    /// Puts an entry at its place; gives where it is.
    fn put(&mut self, (at, place): (usize, usize), key: K, value: V) -> (usize, usize) {
        self.len += 1;
        let Some(piece) = self.pieces.get_mut(at) else {
            return self.open(0, key, value);
        };
        let count = piece.keys.len();
        if count < MOST {
            piece.insert(place, key, value);
            return (at, place);
        }
        if at + 1 == self.starts.len() && place == count {
            // Entries that come in order fill their pieces.
            return self.open(at + 1, key, value);
        }
        let upper = piece.split_off(count / 2);
        self.starts.insert(at + 1, upper.keys[0]);
        self.pieces.insert(at + 1, Box::new(upper));
        let (at, place) = if place <= count / 2 { (at, place) } else { (at + 1, place - count / 2) };
        self.pieces[at].insert(place, key, value);
        (at, place)
    }

    /// Starts a piece.
    fn open(&mut self, at: usize, key: K, value: V) -> (usize, usize) {
        self.starts.insert(at, key);
        self.pieces.insert(at, Box::new(Piece { keys: vec![key], values: vec![value] }));
        (at, 0)
    }

    /// Joins a piece with a neighbour, if both fit into one with room to spare.
    fn join(&mut self, at: usize) {
        let size = |at: usize| self.pieces.get(at).map_or(usize::MAX, |piece| piece.keys.len());
        let fits = |at: usize| size(at).saturating_add(size(at + 1)) <= JOINED;
        let lower = [at.checked_sub(1), Some(at)].into_iter().flatten().find(|lower| fits(*lower));
        if let Some(lower) = lower {
            self.starts.remove(lower + 1);
            let upper = self.pieces.remove(lower + 1);
            self.pieces[lower].append(*upper);
        } else if size(at) == 0 {
            self.starts.remove(at);
            self.pieces.remove(at);
        } else {
            self.pieces[at].fit();
        }
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(K, &mut V) -> bool) {
        for piece in &mut self.pieces {
            let mut kept = 0;
            for at in 0..piece.keys.len() {
                if keep(piece.keys[at], &mut piece.values[at]) {
                    piece.keys.swap(kept, at);
                    piece.values.swap(kept, at);
                    kept += 1;
                }
            }
            piece.keys.truncate(kept);
            piece.values.truncate(kept);
        }
        let mut left: Vec<Box<Piece<K, V>>> = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            match left.last_mut() {
                Some(last) if last.keys.len() + piece.keys.len() <= JOINED => last.append(*piece),
                _ if piece.keys.is_empty() => {}
                _ => left.push(piece),
            }
        }
        for piece in &mut left {
            piece.fit();
        }
        self.starts = left.iter().map(|piece| piece.keys[0]).collect();
        self.pieces = left;
        self.len = self.pieces.iter().map(|piece| piece.keys.len()).sum();
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.pieces.iter().flat_map(|piece| piece.keys.iter().copied().zip(&piece.values))
    }

    /// All entries, to change their values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.pieces.iter_mut().flat_map(|piece| piece.keys.iter().copied().zip(&mut piece.values))
    }

    /// The entries from `first` to `last`, both included, in order.
    pub fn range(&self, first: K, last: K) -> impl Iterator<Item = (K, &V)> {
        let (mut at, mut place) = self.find(first).unwrap_or_else(|place| place);
        std::iter::from_fn(move || {
            let mut piece = self.pieces.get(at)?;
            if place == piece.keys.len() {
                (at, place) = (at + 1, 0);
                piece = self.pieces.get(at)?;
            }
            let key = *piece.keys.get(place).filter(|key| **key <= last)?;
            let value = piece.values.get(place)?;
            place += 1;
            Some((key, value))
        })
    }

    /// The last entry that does not come after `bound`.
    fn last_until(&self, bound: K) -> Option<(K, &V)> {
        let (at, place) = match self.find(bound) {
            Ok(found) => found,
            // A piece that has lost its first entries begins after its start.
            Err((at, 0)) => (at.checked_sub(1)?, self.pieces[at - 1].keys.len() - 1),
            Err((at, place)) => (at, place - 1),
        };
        let piece = self.pieces.get(at)?;
        Some((*piece.keys.get(place)?, piece.values.get(place)?))
    }

    /// The longest prefix that covers all of `prefix`.
    pub fn cover(&self, prefix: K) -> Option<(K, &V)> {
        let mut bound = prefix;
        while let Some((found, value)) = self.last_until(bound) {
            // What covers the prefix and comes no later covers the one that was found, too.
            let shared = found.common(prefix);
            if found.length() <= shared {
                return Some((found, value));
            }
            bound = prefix.cut(shared);
        }
        None
    }
}

impl<K: Copy, V> Piece<K, V> {
    fn insert(&mut self, place: usize, key: K, value: V) {
        self.reserve(1);
        self.keys.insert(place, key);
        self.values.insert(place, value);
    }

    /// Room for `more` entries and not many others.
    fn reserve(&mut self, more: usize) {
        if self.keys.capacity() < self.keys.len() + more {
            self.keys.reserve_exact(more.max(STEP));
        }
        if self.values.capacity() < self.values.len() + more {
            self.values.reserve_exact(more.max(STEP));
        }
    }

    /// Adds the entries of the piece behind this one.
    fn append(&mut self, upper: Self) {
        self.reserve(upper.keys.len());
        self.keys.extend(upper.keys);
        self.values.extend(upper.values);
    }

    /// The entries from `place` on.
    fn split_off(&mut self, place: usize) -> Self {
        let upper = Self { keys: self.keys.split_off(place), values: self.values.split_off(place) };
        self.fit();
        upper
    }

    /// Gives back room that is not soon needed.
    fn fit(&mut self) {
        if self.keys.capacity() > self.keys.len() + 2 * STEP {
            self.keys.shrink_to(self.keys.len() + STEP / 2);
            self.values.shrink_to(self.values.len() + STEP / 2);
        }
    }
}

/// How many of these keys, at most [`MOST`] in order, come before `key`. By eighths: the keys of a round do not depend
/// on each other, so that the processor waits for memory three times; a binary search would wait seven times.
fn count_below<K: Key>(keys: &[K], key: K) -> usize {
    let mut from = 0;
    for stride in [MOST / 8, MOST / 64, 1] {
        let end = keys.len().min(from + 8 * stride);
        let lasts = keys[from..end].iter().skip(stride - 1).step_by(stride);
        from += stride * lasts.map(|last| usize::from(*last < key)).sum::<usize>();
    }
    from
}

impl<K: Key, V> Default for Chunks<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V: PartialEq> PartialEq for Chunks<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Key, V: Eq> Eq for Chunks<K, V> {}

impl<K: Key, V: fmt::Debug> fmt::Debug for Chunks<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// As many entries as it says, everything at its place, and no piece that should have been split or joined.
    fn check(map: &Chunks<u64, u32>, model: &BTreeMap<u64, u32>) {
        assert!(
            map.iter().map(|(key, value)| (key, *value)).eq(model.iter().map(|(key, value)| (*key, *value)))
        );
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(map.starts.len(), map.pieces.len());
        for (at, piece) in map.pieces.iter().enumerate() {
            assert!((1..=MOST).contains(&piece.keys.len()));
            assert_eq!(piece.keys.len(), piece.values.len());
            assert!(at == 0 || map.starts[at] <= piece.keys[0]);
            assert!(
                map.starts.get(at + 1).is_none_or(|next| piece.keys.last().is_some_and(|last| last < next))
            );
        }
    }

    /// What is at these keys, before and after them.
    fn check_searches(map: &Chunks<u64, u32>, model: &BTreeMap<u64, u32>, asked: &[u64]) {
        // Next to entries too: that is where pieces begin and end.
        let near = model.keys().step_by(17).flat_map(|key| [key.saturating_sub(1), *key, key + 1]);
        for bound in asked.iter().copied().chain(near) {
            let expected = model.range(..=bound).next_back().map(|(key, value)| (*key, value));
            assert_eq!(map.last_until(bound), expected);
            assert_eq!(map.get(bound), model.get(&bound));
            let expected = model.range(bound..=bound + 700).map(|(key, value)| (*key, value)).take(50);
            assert!(map.range(bound, bound + 700).take(50).eq(expected), "{bound}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Many entries come, in order or not, and go again: it is what a B-tree holds.
        #[test]
        fn pieces_split_and_join(
            seed in any::<u64>(),
            ordered in any::<bool>(),
            count in 1_u64..6000,
            asked in prop::collection::vec(0_u64..8000, 20),
        ) {
            let mixed = |n: u64| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51;
            let key = |n: u64| if ordered { n } else { mixed(n) };
            let (mut map, mut model) = (Chunks::new(), BTreeMap::new());
            for n in 0..count {
                let value = u32::try_from(n).unwrap();
                prop_assert_eq!(map.insert(key(n), value), model.insert(key(n), value));
            }
            check(&map, &model);
            check_searches(&map, &model, &asked);
            let mut copy = map.clone();
            copy.retain(|key, _| key % 5 == 0);
            let few: BTreeMap<u64, u32> =
                model.iter().filter(|(key, _)| *key % 5 == 0).map(|(key, value)| (*key, *value)).collect();
            check(&copy, &few);
            prop_assert_eq!(copy == map, few.len() == model.len());
            for n in (0..count).map(|n| n * 7 % count) {
                prop_assert_eq!(map.remove(key(n)), model.remove(&key(n)));
                if n % 500 == 0 {
                    check(&map, &model);
                    check_searches(&map, &model, &asked);
                }
            }
            *map.get_or_insert_with(key(seed), || 1) += 1;
            *map.get_or_insert_with(key(seed), || 1) += 1;
            model.entry(key(seed)).and_modify(|value| *value += 2).or_insert(3);
            check(&map, &model);
        }
    }

    #[test]
    fn little_room_is_empty() {
        let mut map = Chunks::new();
        for n in 0_u64..100_000 {
            map.insert(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8, n);
        }
        let room =
            |map: &Chunks<u64, u64>| map.pieces.iter().map(|piece| piece.keys.capacity()).sum::<usize>();
        assert!(room(&map) < 120_000, "{}", room(&map));
        map.retain(|_, value| *value % 10 == 0);
        assert!(room(&map) < 18_000, "{}", room(&map));
    }
}
