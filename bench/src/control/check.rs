//! Whether kernel and maps have what was sent: read from themselves, without a word from the agent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ipnet::{IpNet, Ipv4Net};
use underpass::datapath::maps::{Contents, FibMaps as _};
use underpass::datapath::{Datapath, Engine};
use underpass::netlink::apply::Part;
use underpass::netlink::dump;
use underpass::netlink::requests::Requests;
use underpass_common::nexthop::{NEXT_HOP_LIVE, TargetKind};
use underpass_tests::wait;

use super::receiver::Receiver;
use super::segment::{MACHINE, Segment, next_hop, next_hop_mac};

/// Time to settle once everything has arrived.
const SETTLES: Duration = Duration::from_secs(30);

/// The prefixes that are to be there, with the numbers of their next hops.
pub type Expected = HashMap<IpNet, u32>;

/// Waits until the daemon says itself that nothing is left to do.
///
/// # Errors
/// It does not come to that.
pub fn settled(receiver: &Receiver) -> anyhow::Result<()> {
    wait::until("the receiver has settled", SETTLES, || {
        let progress = receiver.progress()?;
        ensure!(progress.settled, "{progress:?}");
        Ok(())
    })
}

/// Dumps the kernel's routes and compares prefixes and gateways.
///
/// # Errors
/// They differ.
pub fn kernel(segment: &Segment, expected: &Expected) -> anyhow::Result<()> {
    let read = segment.receiver.enter(|| -> anyhow::Result<_> {
        let mut requests = Requests::new()?;
        Ok(dump::read(&mut requests, &BTreeSet::from([Part::Routes]), &BTreeMap::new())?)
    })??;
    let routes = read.dump.state.routes.iter();
    let gateway = |hops: &[underpass::netlink::model::RouteNextHop]| match hops {
        [only] => only.gateway,
        _ => None,
    };
    let mut found = 0;
    for route in routes.filter(|route| route.next_hops.iter().any(|hop| hop.gateway.is_some())) {
        let wanted = expected.get(&route.prefix).map(|number| IpAddr::V4(next_hop(*number)));
        if wanted.is_none() || wanted != gateway(&route.next_hops) {
            bail!("the kernel has {} by {:?} instead of {wanted:?}", route.prefix, route.next_hops);
        }
        found += 1;
    }
    ensure!(found == expected.len(), "the kernel has {found} routes instead of {}", expected.len());
    Ok(())
}

/// Reads the maps and compares, for the first and the last address of every prefix of `universe`, where they lead.
/// The agent must have ended.
///
/// # Errors
/// They lead elsewhere.
pub fn xdp(
    segment: &Segment,
    universe: impl IntoIterator<Item = IpNet>,
    expected: &Expected,
) -> anyhow::Result<()> {
    let folder = segment.lab.bpffs().join(MACHINE);
    let contents = segment
        .receiver
        .enter(|| -> anyhow::Result<_> { Ok(Datapath::load(&folder, Engine::Flat)?.maps().contents()?) })??;
    let view = contents.ports.values().next().context("no port in the maps")?.view;
    let in_view = contents.prefixes.iter().filter(|((of, _), _)| *of == view);
    let found = Longest::of(in_view.map(|((_, prefix), target)| (*prefix, *target)));
    let wanted = Longest::of(expected.iter().map(|(prefix, number)| (*prefix, *number)));
    for prefix in universe {
        let IpNet::V4(net) = prefix else { bail!("{prefix} is no IPv4 prefix") };
        for address in [net.network(), net.broadcast()] {
            let found = found.get(address).and_then(|target| destination(&contents, target));
            let wanted = wanted.get(address).map(next_hop_mac);
            ensure!(found == wanted, "{address} leads to {found:?} in the maps instead of {wanted:?}");
        }
    }
    Ok(())
}

/// The MAC address that a target's packets go to; `None`: they are left to the kernel.
fn destination(contents: &Contents, target: u32) -> Option<[u8; 6]> {
    let target = contents.targets.get(&target)?;
    if target.kind != TargetKind::NextHop as u32 {
        return None;
    }
    let row = contents.next_hops.get(&target.index)?;
    (row.state == NEXT_HOP_LIVE).then_some(row.destination_mac)
}

/// Prefixes by length, for the longest match.
struct Longest(Vec<(u8, HashMap<u32, u32>)>);

impl Longest {
    fn of(prefixes: impl Iterator<Item = (IpNet, u32)>) -> Self {
        let mut by_length: BTreeMap<u8, HashMap<u32, u32>> = BTreeMap::new();
        for (prefix, value) in prefixes {
            if let IpNet::V4(net) = prefix {
                by_length.entry(net.prefix_len()).or_default().insert(net.network().to_bits(), value);
            }
        }
        Self(by_length.into_iter().rev().collect())
    }

    fn get(&self, address: Ipv4Addr) -> Option<u32> {
        self.0.iter().find_map(|(length, prefixes)| {
            let network = Ipv4Net::new_assert(address, *length).network();
            prefixes.get(&network.to_bits()).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let prefixes = [("16.0.0.0/8", 1), ("16.1.0.0/16", 2), ("16.1.2.3/32", 3)];
        let longest = Longest::of(prefixes.into_iter().map(|(p, n)| (p.parse().expect("a prefix"), n)));
        let cases = [("16.2.0.0", Some(1)), ("16.1.2.2", Some(2)), ("16.1.2.3", Some(3)), ("17.0.0.0", None)];
        for (address, expected) in cases {
            assert_eq!(longest.get(address.parse().expect("an address")), expected, "{address}");
        }
    }
}
