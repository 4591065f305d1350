//! A map from prefixes in the order of [`IpNet`], for tables of a million: keys are numbers, which take less room
//! than an [`IpNet`] and are compared in one instruction, and lie in arrays ([`chunks`]).

pub(crate) mod chunks;
pub(crate) mod key;
mod set;
mod views;

use std::iter;

use ipnet::IpNet;

use self::chunks::Chunks;
use self::key::{Key, key4, key6, prefix4, prefix6};
pub use self::set::PrefixSet;
pub use self::views::{ViewMap, ViewSet};

/// A map from prefixes, host bits zero, to `V`, sorted as [`IpNet`]s are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixMap<V> {
    /// The address, then eight bits of length.
    ipv4: Chunks<u64, V>,
    ipv6: Chunks<(u128, u8), V>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> PrefixMap<V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self { ipv4: Chunks::new(), ipv6: Chunks::new() }
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }

    /// The value of a prefix.
    pub fn get(&self, prefix: &IpNet) -> Option<&V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.get(key4(*net)),
            IpNet::V6(net) => self.ipv6.get(key6(*net)),
        }
    }

    /// The value of a prefix, to change it.
    pub fn get_mut(&mut self, prefix: &IpNet) -> Option<&mut V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.get_mut(key4(*net)),
            IpNet::V6(net) => self.ipv6.get_mut(key6(*net)),
        }
    }

    /// Whether a prefix has a value.
    pub fn contains_key(&self, prefix: &IpNet) -> bool {
        self.get(prefix).is_some()
    }

    /// Sets the value of a prefix; gives the one before.
    pub fn insert(&mut self, prefix: IpNet, value: V) -> Option<V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.insert(key4(net), value),
            IpNet::V6(net) => self.ipv6.insert(key6(net), value),
        }
    }

    /// The value of a prefix, made when it has none.
    pub fn get_or_insert_with(&mut self, prefix: IpNet, make: impl FnOnce() -> V) -> &mut V {
        match prefix {
            IpNet::V4(net) => self.ipv4.get_or_insert_with(key4(net), make),
            IpNet::V6(net) => self.ipv6.get_or_insert_with(key6(net), make),
        }
    }

    /// Takes a prefix out; gives its value.
    pub fn remove(&mut self, prefix: &IpNet) -> Option<V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.remove(key4(*net)),
            IpNet::V6(net) => self.ipv6.remove(key6(*net)),
        }
    }

    /// Keeps the prefixes for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(IpNet, &mut V) -> bool) {
        self.ipv4.retain(|key, value| keep(prefix4(key), value));
        self.ipv6.retain(|key, value| keep(prefix6(key), value));
    }

    /// All prefixes with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        let ipv6 = self.ipv6.iter().map(|(key, value)| (prefix6(key), value));
        self.ipv4.iter().map(|(key, value)| (prefix4(key), value)).chain(ipv6)
    }

    /// All prefixes with their values, to change these.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (IpNet, &mut V)> {
        let ipv6 = self.ipv6.iter_mut().map(|(key, value)| (prefix6(key), value));
        self.ipv4.iter_mut().map(|(key, value)| (prefix4(key), value)).chain(ipv6)
    }

    /// All prefixes, in order.
    pub fn keys(&self) -> impl Iterator<Item = IpNet> {
        self.iter().map(|(prefix, _)| prefix)
    }

    /// The prefix and all longer ones inside of it, as far as they are in the map, in order.
    pub fn inside<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = (IpNet, &'a V)> + use<'a, V> {
        let (ipv4, ipv6) = match prefix {
            IpNet::V4(net) => (Some(key4(*net)), None),
            IpNet::V6(net) => (None, Some(key6(*net))),
        };
        let ipv4 = ipv4.map(|key| self.ipv4.range(key, key.last_inside())).into_iter().flatten();
        let ipv6 = ipv6.map(|key| self.ipv6.range(key, key.last_inside())).into_iter().flatten();
        let ipv6 = ipv6.map(|(key, value)| (prefix6(key), value));
        ipv4.map(|(key, value)| (prefix4(key), value)).chain(ipv6)
    }

    /// The longest prefix in the map that covers all of this one, itself included.
    pub fn longest_cover(&self, prefix: &IpNet) -> Option<(IpNet, &V)> {
        match prefix {
            IpNet::V4(net) => self.ipv4.cover(key4(*net)).map(|(key, value)| (prefix4(key), value)),
            IpNet::V6(net) => self.ipv6.cover(key6(*net)).map(|(key, value)| (prefix6(key), value)),
        }
    }

    /// All prefixes in the map that cover this one, itself included, longest first.
    pub fn covering<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = (IpNet, &'a V)> + use<'a, V> {
        let next = |(found, _): &(IpNet, &'a V)| self.longest_cover(&found.supernet()?);
        iter::successors(self.longest_cover(prefix), next)
    }
}

impl<V> FromIterator<(IpNet, V)> for PrefixMap<V> {
    /// Of equal prefixes the last one counts.
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (prefix, value) in entries {
            map.insert(prefix, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn prefixes() -> impl Strategy<Value = IpNet> {
        let ipv4 = (any::<u32>(), 0..=32_u8).prop_map(|(address, length)| {
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(address), length).trunc())
        });
        let ipv6 = (any::<u128>(), 0..=128_u8).prop_map(|(address, length)| {
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length).trunc())
        });
        prop_oneof![ipv4, ipv6]
    }

    /// Prefixes that cover each other often.
    fn nested() -> impl Strategy<Value = IpNet> {
        let ipv4 = (0..16_u32, 0..=32_u8).prop_map(|(bits, length)| {
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(bits.rotate_right(2)), length).trunc())
        });
        let ipv6 = (0..16_u128, 0..=128_u8).prop_map(|(bits, length)| {
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits.rotate_right(2)), length).trunc())
        });
        prop_oneof![3 => ipv4, 2 => ipv6, 1 => prefixes()]
    }

    proptest! {
        /// Whatever is done, it is what a plain map of prefixes does, in its order.
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec((prefixes(), any::<Option<u8>>()), 0..60)) {
            let mut map = PrefixMap::new();
            let mut model = BTreeMap::new();
            for (prefix, value) in &steps {
                if let Some(value) = value {
                    prop_assert_eq!(map.insert(*prefix, *value), model.insert(*prefix, *value));
                } else {
                    prop_assert_eq!(map.remove(prefix), model.remove(prefix));
                }
            }
            for (prefix, _) in &steps {
                prop_assert_eq!(map.get(prefix), model.get(prefix));
                prop_assert_eq!(map.contains_key(prefix), model.contains_key(prefix));
            }
            let found: Vec<(IpNet, u8)> = map.iter().map(|(prefix, value)| (prefix, *value)).collect();
            let expected: Vec<(IpNet, u8)> = model.iter().map(|(prefix, value)| (*prefix, *value)).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            map.retain(|_, value| *value > 100);
            model.retain(|_, value| *value > 100);
            prop_assert_eq!(map.keys().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(map, model.into_iter().collect());
        }

        /// What covers a prefix, and what lies in it, as a look at all prefixes finds it.
        #[test]
        fn covers_and_insides(
            held in prop::collection::btree_map(nested(), any::<u8>(), 0..60),
            asked in prop::collection::vec(nested(), 1..20),
        ) {
            let map: PrefixMap<u8> = held.clone().into_iter().collect();
            for prefix in &asked {
                let all = || held.iter().map(|(prefix, value)| (*prefix, value));
                let mut covering: Vec<_> = all().filter(|(found, _)| found.contains(prefix)).collect();
                covering.reverse();
                prop_assert_eq!(map.longest_cover(prefix), covering.first().copied(), "{}", prefix);
                prop_assert_eq!(map.covering(prefix).collect::<Vec<_>>(), covering, "{}", prefix);
                let inside: Vec<_> = all().filter(|(found, _)| prefix.contains(found)).collect();
                prop_assert_eq!(map.inside(prefix).collect::<Vec<_>>(), inside, "{}", prefix);
            }
        }
    }

    #[test]
    fn a_missing_value_is_made_once() {
        let mut map = PrefixMap::new();
        let prefix: IpNet = "10.0.0.0/8".parse().unwrap();
        *map.get_or_insert_with(prefix, || 1) += 1;
        *map.get_or_insert_with(prefix, || 1) += 1;
        for (_, value) in map.iter_mut() {
            *value += 10;
        }
        assert_eq!(map.get(&prefix), Some(&13));
        assert_eq!(map.get_mut(&"10.0.0.0/9".parse().unwrap()), None);
    }
}
