//! Where several next hops may be used: Underpass chooses by a hash of its own, among those that are live.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;
use underpass_tests::twin::{Outcome, Shot, Twin};

/// The next hops that a table has for a destination.
#[derive(Clone, Debug)]
pub struct Group {
    /// Table.
    pub table: u32,
    /// " mtu 1400", or nothing.
    pub mtu: String,
    /// Gateway and port of the next hops that have a MAC address.
    pub live: Vec<(IpAddr, usize)>,
}

/// What is known of a world's groups.
pub trait Choices {
    /// The groups that the tables use for a destination, one of each table at most.
    fn groups(&self, destination: IpAddr) -> Vec<Group>;
}

/// Takes the shots out of `pending` whose outcome with Underpass is what the kernel does by another of the
/// same route's next hops.
///
/// The kernel alone is asked: each destination gets a route of its own by one next hop, in the table where
/// the group is, and the frames are sent once more; likewise for the other next hops and tables.
pub fn explained(twin: &mut Twin, world: &impl Choices, pending: &mut Vec<Shot>) -> Result<usize> {
    let before = pending.len();
    let destinations: BTreeSet<IpAddr> = pending.iter().filter_map(destination).collect();
    let groups: Vec<(IpAddr, Group)> = destinations
        .into_iter()
        .flat_map(|destination| world.groups(destination).into_iter().map(move |group| (destination, group)))
        .collect();
    let kernel: BTreeMap<u32, Outcome> =
        pending.iter().map(|shot| (shot.tag, twin.plain.outcome(shot.tag).clone())).collect();
    let tables: BTreeSet<u32> = groups.iter().map(|(_, group)| group.table).collect();
    for table in tables {
        let groups: Vec<_> = groups.iter().filter(|(_, group)| group.table == table).collect();
        let choices = groups.iter().map(|(_, group)| group.live.len()).max().unwrap_or(0);
        for choice in 0..choices {
            let (add, delete) = routes(&groups, choice);
            twin.plain.netns.ip(&add)?;
            twin.plain.forget_those(pending.iter().map(|shot| shot.tag));
            twin.plain.send_all(pending)?;
            twin.settle()?;
            pending.retain(|shot| twin.plain.outcome(shot.tag) != twin.fast.outcome(shot.tag));
            twin.plain.netns.ip(&delete)?;
        }
    }
    for shot in pending.iter() {
        twin.plain.set_outcome(shot.tag, kernel[&shot.tag].clone());
    }
    Ok(before - pending.len())
}

/// The commands that route each destination by the next hop number `choice`, and that take this back.
fn routes(groups: &[&(IpAddr, Group)], choice: usize) -> (String, String) {
    let (mut add, mut delete) = (String::new(), String::new());
    for (destination, group) in groups {
        let live = group.live.len().max(1);
        let Some((gateway, port)) = group.live.get(choice % live) else { continue };
        let (length, verb, metric) = if destination.is_ipv4() { (32, "prepend", 0) } else { (128, "add", 1) };
        let at = format!("{destination}/{length} table {} metric {metric}", group.table);
        let via = format!("via {gateway} dev p{port} onlink");
        let _ = writeln!(add, "route {verb} {at}{} {via}", group.mtu);
        let _ = writeln!(delete, "route del {at} {via}");
    }
    (add, delete)
}

/// Whether some table has several next hops for a frame's destination.
pub fn is_free(world: &impl Choices, shot: &Shot) -> bool {
    destination(shot).is_some_and(|destination| !world.groups(destination).is_empty())
}

/// Where a frame goes, when it is an IP packet.
fn destination(shot: &Shot) -> Option<IpAddr> {
    let tagged = matches!(shot.frame.get(12..14)?, [0x81, 0x00] | [0x88, 0xa8]);
    let packet = shot.frame.get(if tagged { 18 } else { 14 }..)?;
    if shot.frame.get(12..14)? == [0x86, 0xdd] || shot.frame.get(16..18)? == [0x86, 0xdd] && tagged {
        return packet.get(24..40)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
    }
    packet.get(16..20)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes))
}
