//! The operator's ranges: what may be forwarded at all.

use ipnet::IpNet;

use super::model::CompileConfig;
use crate::prefix_map::PrefixMap;

/// What the operator's ranges say about a prefix; the most specific range decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// Inside `accelerate`.
    Accelerated,
    /// Inside a service range: left to kube-proxy.
    Service,
    /// In neither.
    Outside,
}

/// The configured ranges, by prefix.
#[derive(Debug, Default)]
pub struct Ranges {
    by_prefix: PrefixMap<Range>,
}

impl Ranges {
    /// Takes the ranges from the configuration. A range in both lists is a service range.
    pub fn new(config: &CompileConfig) -> Self {
        let mut by_prefix = PrefixMap::new();
        for range in &config.accelerate {
            by_prefix.insert(range.trunc(), Range::Accelerated);
        }
        for range in &config.services {
            by_prefix.insert(range.trunc(), Range::Service);
        }
        Self { by_prefix }
    }

    /// What holds for `prefix`, which no range divides.
    pub fn of(&self, prefix: &IpNet) -> Range {
        self.by_prefix.longest_cover(prefix).map_or(Range::Outside, |(_, range)| *range)
    }

    /// All ranges.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.by_prefix.keys()
    }
}
