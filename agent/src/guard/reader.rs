//! Reads every source of rules. What cannot be read is noted: nobody can tell what it decides.

use std::fs;
use std::io;

use super::legacy;
use super::model::{RuleSet, Scene, Source, Table};
use super::nft::Nft;
use super::tc::Tc;
use super::xfrm::Xfrm;
use crate::netlink::model::Family;
use crate::sys::xtables;

/// Where the kernel lists the legacy tables that a namespace has.
const NAMES: [(Source, Family, &str); 2] = [
    (Source::Iptables, Family::Ipv4, "/proc/thread-self/net/ip_tables_names"),
    (Source::Ip6tables, Family::Ipv6, "/proc/thread-self/net/ip6_tables_names"),
];

/// All sources, of the network namespace that it was made in.
#[derive(Debug, Default)]
pub struct Reader {
    nft: Option<Nft>,
    xfrm: Option<Xfrm>,
    tc: Option<Tc>,
}

impl Reader {
    /// Reads everything that concerns the ports. Blocking.
    pub fn read(&mut self, scene: &Scene) -> RuleSet {
        let mut rules = RuleSet::default();
        if let Some(tables) = note(&mut rules, Source::Nft, "CAP_NET_ADMIN", self.tables()) {
            rules.tables = tables;
        }
        for (source, family, names) in NAMES {
            let tables = legacy_tables(family, names);
            let tables = note(&mut rules, source, "root and CAP_NET_ADMIN", tables);
            rules.tables.extend(tables.unwrap_or_default());
        }
        if let Some(policies) = note(&mut rules, Source::Xfrm, "CAP_NET_ADMIN", self.policies()) {
            rules.policies = policies;
        }
        let filters = self.filters(scene);
        if let Some(filters) = note(&mut rules, Source::Tc, "CAP_NET_ADMIN and CAP_BPF", filters) {
            rules.filters = filters;
        }
        rules
    }

    fn tables(&mut self) -> io::Result<Vec<Table>> {
        let nft = match &mut self.nft {
            Some(nft) => nft,
            None => match Nft::new() {
                Ok(nft) => self.nft.insert(nft),
                // A kernel without netfilter has no rules.
                Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        // A socket that fails is opened anew.
        nft.read().inspect_err(|_| self.nft = None)
    }

    fn policies(&mut self) -> io::Result<Vec<super::model::Policy>> {
        let xfrm = match &mut self.xfrm {
            Some(xfrm) => xfrm,
            None => self.xfrm.insert(Xfrm::new()?),
        };
        xfrm.read().inspect_err(|_| self.xfrm = None)
    }

    fn filters(&mut self, scene: &Scene) -> io::Result<Vec<super::model::Filter>> {
        let tc = match &mut self.tc {
            Some(tc) => tc,
            None => self.tc.insert(Tc::new()?),
        };
        tc.read(scene.ports.keys().copied()).inspect_err(|_| self.tc = None)
    }
}

fn note<T>(rules: &mut RuleSet, source: Source, needs: &str, read: io::Result<T>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            rules.unreadable.insert(source, format!("{error}; is {needs} there?"));
            None
        }
    }
}

fn legacy_tables(family: Family, names: &str) -> io::Result<Vec<Table>> {
    let names = match fs::read_to_string(names) {
        Ok(names) => names,
        // The kernel has no legacy iptables, or nobody has used it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let read = |name: &str| legacy::read(&xtables::read(family == Family::Ipv6, name)?, family);
    names.lines().map(|name| read(name.trim())).collect()
}
