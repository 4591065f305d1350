//! Maps from prefixes of views.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipnet::IpNet;
use underpass_common::fib::ViewId;

use super::PrefixMap;

/// A prefix of a view, host bits zero.
type Key = (ViewId, IpNet);

/// A map from prefixes of views to `V`, sorted by view and then as [`PrefixMap`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewMap<V> {
    /// None of them empty.
    views: BTreeMap<ViewId, PrefixMap<V>>,
}

/// A set of prefixes of views.
pub type ViewSet = ViewMap<()>;

impl<V> Default for ViewMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> ViewMap<V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self { views: BTreeMap::new() }
    }

    /// Number of prefixes in all views.
    pub fn len(&self) -> usize {
        self.views.values().map(PrefixMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The prefixes of one view.
    pub fn view(&self, view: ViewId) -> Option<&PrefixMap<V>> {
        self.views.get(&view)
    }

    /// The value of a prefix.
    pub fn get(&self, (view, prefix): &Key) -> Option<&V> {
        self.views.get(view)?.get(prefix)
    }

    /// The value of a prefix, to change it.
    pub fn get_mut(&mut self, (view, prefix): &Key) -> Option<&mut V> {
        self.views.get_mut(view)?.get_mut(prefix)
    }

    /// Whether a prefix has a value.
    pub fn contains_key(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of a prefix; gives the one before.
    pub fn insert(&mut self, (view, prefix): Key, value: V) -> Option<V> {
        self.views.entry(view).or_default().insert(prefix, value)
    }

    /// The value of a prefix, made when it has none.
    pub fn get_or_insert_with(&mut self, (view, prefix): Key, make: impl FnOnce() -> V) -> &mut V {
        self.views.entry(view).or_default().get_or_insert_with(prefix, make)
    }

    /// Takes a prefix out; gives its value.
    pub fn remove(&mut self, (view, prefix): &Key) -> Option<V> {
        let Entry::Occupied(mut prefixes) = self.views.entry(*view) else { return None };
        let value = prefixes.get_mut().remove(prefix);
        if prefixes.get().is_empty() {
            prefixes.remove();
        }
        value
    }

    /// Keeps the prefixes for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Key, &mut V) -> bool) {
        self.views.retain(|view, prefixes| {
            prefixes.retain(|prefix, value| keep((*view, prefix), value));
            !prefixes.is_empty()
        });
    }

    /// All prefixes with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &V)> {
        self.views
            .iter()
            .flat_map(|(view, prefixes)| prefixes.iter().map(move |(prefix, value)| ((*view, prefix), value)))
    }

    /// All prefixes, in order.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// The prefixes of the view that cover this one, itself included, longest first.
    pub fn covering(&self, (view, prefix): &Key) -> impl Iterator<Item = (Key, &V)> {
        let prefixes = self.views.get(view).into_iter().flat_map(|prefixes| prefixes.covering(prefix));
        prefixes.map(|(prefix, value)| ((*view, prefix), value))
    }
}

impl<V> FromIterator<(Key, V)> for ViewMap<V> {
    /// Of equal prefixes the last one counts.
    fn from_iter<I: IntoIterator<Item = (Key, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl FromIterator<Key> for ViewSet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        keys.into_iter().map(|key| (key, ())).collect()
    }
}

impl Extend<Key> for ViewSet {
    fn extend<I: IntoIterator<Item = Key>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key, ());
        }
    }
}

impl<const N: usize> From<[Key; N]> for ViewSet {
    fn from(keys: [Key; N]) -> Self {
        keys.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_apart_and_none_is_left_empty() {
        let prefix = |text: &str| text.parse::<IpNet>().unwrap();
        let [wide, narrow, other] = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"].map(prefix);
        let mut map: ViewMap<u8> = [((3, other), 1), ((0, narrow), 2), ((3, wide), 3)].into_iter().collect();
        assert_eq!((map.len(), map.is_empty()), (3, false));
        assert_eq!(map.keys().collect::<Vec<_>>(), [(0, narrow), (3, wide), (3, other)]);
        assert_eq!((map.get(&(0, narrow)), map.get(&(3, narrow))), (Some(&2), None));
        assert_eq!(map.covering(&(3, narrow)).collect::<Vec<_>>(), [((3, wide), &3)]);
        assert_eq!(map.covering(&(0, wide)).count(), 0);
        assert_eq!(map.insert((0, narrow), 4), Some(2));
        *map.get_or_insert_with((0, narrow), || 9) += 1;
        assert_eq!(map.get_mut(&(0, narrow)), Some(&mut 5));
        assert_eq!((map.remove(&(1, narrow)), map.remove(&(0, narrow))), (None, Some(5)));
        assert!(map.view(0).is_none() && map.view(3).is_some_and(|prefixes| prefixes.len() == 2));
        map.retain(|_, value| *value > 7);
        assert_eq!(map, ViewMap::new());
        let mut set = ViewSet::from([(0, wide), (1, wide)]);
        set.extend([(0, wide), (0, narrow)]);
        assert_eq!(set, [(0, narrow), (1, wide), (0, wide)].into_iter().collect());
        assert!(set.contains_key(&(1, wide)) && !set.contains_key(&(2, wide)));
    }
}
