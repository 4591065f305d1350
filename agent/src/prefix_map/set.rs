//! A set of prefixes.

use ipnet::IpNet;

use super::PrefixMap;

/// A set of prefixes, host bits zero, sorted as [`IpNet`]s are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet(PrefixMap<()>);

impl PrefixSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self(PrefixMap::new())
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set has a prefix.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        self.0.contains_key(prefix)
    }

    /// Adds a prefix; gives whether it was missing.
    pub fn insert(&mut self, prefix: IpNet) -> bool {
        self.0.insert(prefix, ()).is_none()
    }

    /// Takes a prefix out; gives whether it was there.
    pub fn remove(&mut self, prefix: &IpNet) -> bool {
        self.0.remove(prefix).is_some()
    }

    /// Adds all prefixes of another set.
    pub fn append(&mut self, other: &Self) {
        self.extend(other.iter());
    }

    /// All prefixes, in order.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.0.keys()
    }

    /// The prefix and all longer ones inside of it, as far as they are in the set, in order.
    pub fn inside<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = IpNet> + use<'a> {
        self.0.inside(prefix).map(|(prefix, ())| prefix)
    }

    /// All prefixes in the set that cover this one, itself included, longest first.
    pub fn covering<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = IpNet> + use<'a> {
        self.0.covering(prefix).map(|(prefix, ())| prefix)
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        Self(prefixes.into_iter().map(|prefix| (prefix, ())).collect())
    }
}

impl<const N: usize> From<[IpNet; N]> for PrefixSet {
    fn from(prefixes: [IpNet; N]) -> Self {
        prefixes.into_iter().collect()
    }
}

impl Extend<IpNet> for PrefixSet {
    fn extend<I: IntoIterator<Item = IpNet>>(&mut self, prefixes: I) {
        for prefix in prefixes {
            self.insert(prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_each_prefix_once() {
        let prefix = |text: &str| text.parse::<IpNet>().unwrap();
        let [wide, narrow, other] = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"].map(prefix);
        let mut set: PrefixSet = [other, narrow].into_iter().collect();
        assert!(set.insert(wide) && !set.insert(narrow));
        set.append(&[wide, other].into_iter().collect());
        assert_eq!((set.len(), set.is_empty()), (3, false));
        assert_eq!(set.iter().collect::<Vec<_>>(), [wide, narrow, other]);
        assert_eq!(set.inside(&wide).collect::<Vec<_>>(), [wide, narrow]);
        assert_eq!(set.covering(&narrow).collect::<Vec<_>>(), [narrow, wide]);
        assert!(set.remove(&wide) && !set.remove(&wide) && !set.contains(&wide));
        assert_eq!(set, [narrow, other].into_iter().collect());
        assert_eq!(PrefixSet::new(), PrefixSet::default());
    }
}
