//! Port rows.

use std::collections::BTreeMap;

use underpass_common::nexthop::{
    PORT_EGRESS, PORT_EGRESS_FRAGMENTS, PORT_GUARDED4, PORT_GUARDED6, PORT_HAIRPIN6, PORT_INGRESS,
    PORT_INGRESS6, PORT_OWN_SOURCES, PORT_SEND_REDIRECTS, PORT_TX, Port as RawPort,
};

use super::Environment;
use super::rows::Rows;
use super::writer::Writer;
use crate::fib::model::Fib;
use crate::netlink::model::IfIndex;

/// Packets from the port are taken, of either family.
const TAKES: u32 = PORT_INGRESS | PORT_INGRESS6;
/// The port sends frames: redirected ones, or those that came in there.
const SENDS: u32 = PORT_EGRESS | PORT_TX;
/// Bits that keep packets with the kernel.
const GUARDS: u32 = PORT_GUARDED4 | PORT_GUARDED6;

/// The table of ports.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// What the map holds.
    written: BTreeMap<IfIndex, RawPort>,
    want: BTreeMap<IfIndex, RawPort>,
}

impl Ports {
    /// Starts with what is in the map.
    pub fn adopt(found: BTreeMap<IfIndex, RawPort>) -> Self {
        Self { written: found, want: BTreeMap::new() }
    }

    /// Before the other tables: opens ports for frames that are going to be redirected to them, and
    /// stops taking packets from ports that change their number or are no longer to be used.
    /// `own`: the filter of own addresses is complete.
    pub fn open(&mut self, fib: &Fib, environment: Environment<'_>, own: bool, writer: &mut Writer<'_>) {
        self.want = wanted(fib, environment, own);
        for (ifindex, written) in self.written.clone() {
            let want = self.want.get(&ifindex).copied().unwrap_or_default();
            let kept = if want.number == written.number { want.flags & TAKES } else { 0 };
            if written.flags & TAKES & !kept != 0 {
                self.write(RawPort { flags: written.flags & (!TAKES | kept), ..written }, writer);
            }
        }
        for (ifindex, written) in self.written.clone() {
            let want = self.want.get(&ifindex).map_or(0, |want| want.flags);
            let kept = written.flags & (!PORT_OWN_SOURCES | want) | want & GUARDS;
            if kept != written.flags {
                self.write(RawPort { flags: kept, ..written }, writer);
            }
        }
        for (ifindex, want) in self.want.clone() {
            match self.written.get(&ifindex).copied() {
                None => self.write(RawPort { flags: want.flags & !TAKES, ..want }, writer),
                Some(written) if want.flags & !written.flags & SENDS != 0 => {
                    self.write(RawPort { flags: written.flags | (want.flags & SENDS), ..written }, writer);
                }
                Some(_) => {}
            }
        }
    }

    /// After rows, targets and new prefixes: takes packets, closes what is no longer used. A port that
    /// live rows still lead to (a write failed) stays open: frames to a closed port would be lost.
    pub fn finish(&mut self, rows: &Rows, writer: &mut Writer<'_>) {
        for want in self.want.clone().into_values() {
            let written = self.written.get(&want.ifindex).map_or(0, |row| row.flags);
            // One that still sends back what came in keeps its rows.
            let closes = written & PORT_EGRESS != 0 && want.flags & SENDS == 0;
            let held = closes && rows.lead_to(want.ifindex);
            let row = if held { RawPort { flags: want.flags | PORT_EGRESS, ..want } } else { want };
            if self.written.get(&row.ifindex) != Some(&row) {
                self.write(row, writer);
            }
        }
        let gone = |ifindex: &&IfIndex| !self.want.contains_key(ifindex) && !rows.lead_to(**ifindex);
        for ifindex in self.written.keys().filter(gone).copied().collect::<Vec<_>>() {
            if writer.write(|maps| maps.clear_port(ifindex)) {
                self.written.remove(&ifindex);
            }
        }
    }

    fn write(&mut self, row: RawPort, writer: &mut Writer<'_>) {
        if writer.write(|maps| maps.set_port(row)) {
            self.written.insert(row.ifindex, row);
        }
    }

    /// Ports that frames may leave by, now and according to what is wanted. By one with `PORT_TX` alone
    /// only frames that came in there do; the program leaves others to the kernel.
    pub fn egress(&self) -> impl Iterator<Item = IfIndex> {
        let open = |ifindex: &&IfIndex| self.written.get(ifindex).is_some_and(|row| row.flags & SENDS != 0);
        let wanted = self.want.iter().filter(|(_, row)| row.flags & SENDS != 0);
        wanted.map(|(ifindex, _)| ifindex).filter(open).copied()
    }

    /// Numbers of the managed ports.
    pub fn numbers(&self) -> impl Iterator<Item = (IfIndex, u32)> {
        self.want.values().map(|row| (row.ifindex, row.number))
    }

    /// Whether packets from a port may be treated as they should not be any more.
    pub fn is_stale(&self) -> bool {
        let differs = |(ifindex, row): (&IfIndex, &RawPort)| {
            row.flags & TAKES != 0 && self.want.get(ifindex) != Some(row)
        };
        self.written.iter().any(differs)
    }

    /// Whether the map holds what is wanted.
    pub fn is_synced(&self) -> bool {
        self.written == self.want
    }
}

/// The rows of the ports that exist, are named in the configuration and run our program.
fn wanted(fib: &Fib, environment: Environment<'_>, own: bool) -> BTreeMap<IfIndex, RawPort> {
    let mut rows = BTreeMap::new();
    for (ifindex, port) in &fib.ports {
        let Some(facts) = environment.ports.get(ifindex).filter(|facts| facts.attached) else {
            continue;
        };
        let flags = [
            (PORT_INGRESS, port.ingress && facts.ingress),
            (PORT_INGRESS6, port.ingress6 && facts.ingress),
            (PORT_HAIRPIN6, port.hairpin6),
            (PORT_EGRESS_FRAGMENTS, facts.egress && facts.sends_fragments()),
            (PORT_EGRESS, facts.egress),
            (PORT_TX, facts.tx),
            (PORT_SEND_REDIRECTS, port.send_redirects),
            (PORT_OWN_SOURCES, own && port.own_sources),
        ];
        let flags = flags.iter().filter(|(_, set)| *set).fold(0, |flags, (flag, _)| flags | flag);
        let row = RawPort {
            ifindex: *ifindex,
            number: facts.number,
            view: port.view,
            flags: flags | environment.guarded.get(ifindex).map_or(0, |guards| guards & GUARDS),
            mac: port.mac,
            rp_filter: port.rp_filter,
            reserved: 0,
        };
        rows.insert(*ifindex, row);
    }
    rows
}
