//! Counters of a router's stack and of its XDP program.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use crate::agent::Client;
use crate::netns::Netns;

/// `/proc/net/snmp`, `netstat` and `snmp6`: "`Ip.InDelivers`" to value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Those of a namespace.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn of(netns: &Netns) -> Result<Self> {
        let files = ["snmp", "netstat", "snmp6"].map(|file| format!("/proc/thread-self/net/{file}"));
        let [snmp, netstat, snmp6] = netns.enter(|| files.map(fs::read_to_string))?;
        let mut all = BTreeMap::new();
        // One per line, as "Ip6InReceives 12".
        for line in snmp6.context("cannot read counters")?.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(value)) = (words.next(), words.next())
                && let (Some(at), Ok(value)) = (name.find('6'), value.parse())
            {
                all.insert(format!("{}.{}", &name[..=at], &name[at + 1..]), value);
            }
        }
        for text in [snmp, netstat] {
            let text = text.context("cannot read counters")?;
            let lines: Vec<&str> = text.lines().collect();
            for [names, values] in lines.as_chunks::<2>().0 {
                let protocol = names.split(':').next().unwrap_or_default();
                let pairs = names.split_whitespace().zip(values.split_whitespace()).skip(1);
                // Some are signed; those are settings.
                let pairs = pairs.filter_map(|(name, value)| Some((name, value.parse().ok()?)));
                all.extend(pairs.map(|(name, value)| (format!("{protocol}.{name}"), value)));
            }
        }
        Ok(Self(all))
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let added = self.0.iter().map(|(name, now)| {
            let before = before.0.get(name).copied().unwrap_or(0);
            (name.clone(), now.saturating_sub(before))
        });
        Self(added.collect())
    }

    /// One counter.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Packets by reason, over all ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    /// As an agent counts them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn of(client: &Client) -> Result<Self> {
        let mut all = BTreeMap::new();
        for row in client.counters()?.counters {
            *all.entry(row.reason).or_default() += row.packets;
        }
        Ok(Self(all))
    }

    /// What was added since `before`, without zeros.
    pub fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let added = self.0.iter().map(|(reason, now)| {
            let before = before.0.get(reason).copied().unwrap_or(0);
            (reason.clone(), now - before)
        });
        added.filter(|(_, packets)| *packets > 0).collect()
    }
}

/// Packets among these that XDP forwarded.
pub fn forwarded(reasons: &BTreeMap<String, u64>) -> u64 {
    reasons.iter().filter(|(reason, _)| reason.starts_with("forwarded")).map(|(_, packets)| packets).sum()
}
