//! Traffic control on the ports: filters of `clsact` and `ingress`, tcx programs, queueing disciplines
//! that do more than queue, and their filters.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::attributes::{find_text, u32_at};
use super::model::Filter;
use super::socket::DumpSocket;
use crate::netlink::model::{Family, IfIndex};
use crate::sys::bpf_query::tcx_programs;

// Messages of linux/rtnetlink.h.
const NEW_QDISC: u16 = 36;
const GET_QDISC: u16 = 38;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
/// `TCA_KIND`.
const KIND: u16 = 1;
/// `struct tcmsg`: family and padding, interface, handle, parent, info.
const MESSAGE: usize = 20;
const INTERFACE: usize = 4;
const HANDLE: usize = 8;
const INFO: usize = 16;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and its egress twin.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// Disciplines that only queue: what a packet gets that never waits is the same without them.
const ONLY_QUEUE: [&str; 10] =
    ["noqueue", "pfifo_fast", "pfifo", "bfifo", "fq", "fq_codel", "codel", "sfq", "mq", "mqprio"];

/// Reads traffic control.
#[derive(Debug)]
pub struct Tc {
    socket: DumpSocket,
}

impl Tc {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: DumpSocket::new(NETLINK_ROUTE)? })
    }

    /// What there is on the ports.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&mut self, ports: impl Iterator<Item = IfIndex>) -> io::Result<Vec<Filter>> {
        let mut filters = Vec::new();
        for port in ports {
            match self.read_port(port, &mut filters) {
                // The interface is gone: so is what it had.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                other => other?,
            }
        }
        Ok(filters)
    }

    fn read_port(&mut self, port: IfIndex, filters: &mut Vec<Filter>) -> io::Result<()> {
        for egress in [false, true] {
            if tcx_programs(port, egress)? > 0 {
                let text = format!("{} program (tcx)", direction(egress));
                filters.push(Filter { port, egress, family: None, text });
            }
        }
        let answer = self.socket.dump(GET_QDISC, &message(port, 0))?;
        for (_, qdisc) in answer.messages.iter().filter(|(kind, _)| *kind == NEW_QDISC) {
            if u32_at(qdisc, INTERFACE) != Some(port) {
                continue;
            }
            let kind = qdisc.get(MESSAGE..).and_then(|rest| find_text(rest, KIND)).unwrap_or_default();
            let handle = u32_at(qdisc, HANDLE).unwrap_or(0);
            match kind.as_str() {
                "clsact" => {
                    self.filters(port, INGRESS, false, filters)?;
                    self.filters(port, EGRESS, true, filters)?;
                }
                "ingress" => self.filters(port, INGRESS, false, filters)?,
                _ => {
                    if !ONLY_QUEUE.contains(&kind.as_str()) {
                        let text = format!("queueing discipline {kind}");
                        filters.push(Filter { port, egress: true, family: None, text });
                    }
                    if handle != 0 {
                        self.filters(port, handle, true, filters)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn filters(
        &mut self,
        port: IfIndex,
        parent: u32,
        egress: bool,
        filters: &mut Vec<Filter>,
    ) -> io::Result<()> {
        let answer = self.socket.dump(GET_FILTER, &message(port, parent))?;
        for (_, filter) in answer.messages.iter().filter(|(kind, _)| *kind == NEW_FILTER) {
            let info = u32_at(filter, INFO).unwrap_or(0);
            let bytes = info.to_ne_bytes();
            // Low 16 bits: Ethernet type, big endian; high 16: priority.
            let low =
                if cfg!(target_endian = "little") { [bytes[0], bytes[1]] } else { [bytes[2], bytes[3]] };
            let (family, protocol) = match u16::from_be_bytes(low) {
                0x0800 => (Some(Family::Ipv4), "ip".to_owned()),
                0x86dd => (Some(Family::Ipv6), "ipv6".to_owned()),
                3 => (None, "all".to_owned()),
                // ARP: no packet in transit.
                0x0806 => continue,
                other => (None, format!("{other:#06x}")),
            };
            let kind = filter.get(MESSAGE..).and_then(|rest| find_text(rest, KIND)).unwrap_or_default();
            let text = format!("{} filter {kind} pref {} protocol {protocol}", direction(egress), info >> 16);
            let found = Filter { port, egress, family, text };
            // A filter's own rules are dumped one by one.
            if !filters.contains(&found) {
                filters.push(found);
            }
        }
        Ok(())
    }
}

const fn direction(egress: bool) -> &'static str {
    if egress { "egress" } else { "ingress" }
}

fn message(port: IfIndex, parent: u32) -> [u8; MESSAGE] {
    let mut bytes = [0; MESSAGE];
    bytes[INTERFACE..INTERFACE + 4].copy_from_slice(&port.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes
}
