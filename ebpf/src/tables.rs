//! The engine of the data plane: prefix to target to bucket to next-hop row, all from maps.

use aya_ebpf::maps::lpm_trie::Key;
use underpass_common::fib::{Lookup, TargetId, VIEW_BITS, ViewId};
use underpass_common::flowhash::seeded;
use underpass_common::nexthop::{
    NEXT_HOP_LIVE, PORT_HAIRPIN6, PORT_OWN_SOURCES, PORT_SEND_REDIRECTS, Port, SOURCE_ON_LINK, SOURCE_VALID,
    Target, TargetKind,
};
use underpass_common::own::own_bits;
use underpass_common::parse::{ETHERNET_LEN, Ipv4, Ipv6, Packet};
use underpass_common::reason::Reason;

use crate::forward::{Engine, Hop, Steps};
use crate::frame::Frame;
use crate::maps::{UP_BUCKETS, UP_CONTROL, UP_FIB4, UP_FIB6, UP_NEXT_HOPS, UP_OWN, UP_TARGETS};

const KIND_PASS: u32 = TargetKind::Pass as u32;
const KIND_NEXT_HOP: u32 = TargetKind::NextHop as u32;
const KIND_GROUP: u32 = TargetKind::Group as u32;

/// Index of a PASS target that stands for a prefix without room.
const TABLE_FULL: u32 = Reason::TableFull as u32;

/// `rp_filter` values of the kernel.
const RP_FILTER_OFF: u8 = 0;
const RP_FILTER_STRICT: u8 = 1;

/// `BPF_MAP_TYPE_LPM_TRIE` as the prefix table.
pub struct LpmTrie;

impl Lookup for LpmTrie {
    #[inline(always)]
    fn lookup4(&self, view: ViewId, address: [u8; 4]) -> Option<TargetId> {
        // `fib::lpm_key4` in words: a key made of bytes costs a store for each.
        let data = [view.to_be(), u32::from_ne_bytes(address)];
        UP_FIB4.get(Key::new(VIEW_BITS + 32, data)).copied()
    }

    #[inline(always)]
    fn lookup6(&self, view: ViewId, address: [u8; 16]) -> Option<TargetId> {
        let ([a, b, c, d], []) = address.as_chunks::<4>() else { return None };
        let [a, b, c, d] = [*a, *b, *c, *d].map(u32::from_ne_bytes);
        UP_FIB6.get(Key::new(VIEW_BITS + 128, [view.to_be(), a, b, c, d])).copied()
    }
}

/// The tables, with prefixes in `L`.
pub struct Tables<L>(pub L);

impl<L: Lookup> Engine for Tables<L> {
    type Scratch = ();
    type Early = Option<TargetId>;

    /// Looks the source up as if the packet left by a port of the ingress port's view, which it mostly does.
    #[inline(always)]
    fn early4(&self, packet: &Ipv4, ingress: &Port) -> Option<TargetId> {
        if ingress.flags & PORT_OWN_SOURCES != 0 {
            return None;
        }
        packet.lookup_source(&self.0, ingress.view)
    }

    #[inline(always)]
    fn destination<'a, const OFFSET: usize, P: Packet>(
        &self,
        frame: &Frame<OFFSET>,
        packet: &P,
        ingress: &Port,
        _scratch: &'a mut (),
        steps: &mut Steps,
    ) -> Result<Hop<'a>, Reason> {
        steps.target = packet.lookup_destination(&self.0, ingress.view).ok_or(Reason::NoRoute)?;
        let target = UP_TARGETS.get(steps.target).ok_or(Reason::TableInconsistent)?;
        steps.next_hop = match target.kind {
            KIND_NEXT_HOP => target.index,
            KIND_GROUP => {
                let hash = packet.flow_hash(ports(frame, packet));
                let seed = UP_CONTROL.get(0).map_or(0, |control| control.flow_seed);
                steps.flow_hash = seeded(hash, seed);
                let bucket = target.index.wrapping_add(steps.flow_hash & target.mask);
                *UP_BUCKETS.get(bucket).ok_or(Reason::TableInconsistent)?
            }
            KIND_PASS => return Err(pass_reason(target)),
            _ => return Err(Reason::TableInconsistent),
        };
        let row = UP_NEXT_HOPS.get(steps.next_hop).ok_or(Reason::TableInconsistent)?;
        if row.state != NEXT_HOP_LIVE {
            return Err(Reason::NextHopNotLive);
        }
        steps.egress_ifindex = row.ifindex;
        Ok(Hop {
            ifindex: row.ifindex,
            mtu: row.mtu,
            destination_mac: &row.destination_mac,
            source_mac: &row.source_mac,
        })
    }

    /// Follows `fib_validate_source`, which looks the source up as if a packet to it had come in on the
    /// egress port, and the redirect rule of `__mkroute_input`. Where the reverse path is not checked and no
    /// redirect can be due, the kernel does without that lookup, and so does this.
    #[inline(always)]
    fn source4(
        &self,
        packet: &Ipv4,
        early: Option<TargetId>,
        (ingress, egress): (&Port, &Port),
        steps: &mut Steps,
    ) -> Result<(), Reason> {
        let hairpin = egress.ifindex == ingress.ifindex && ingress.flags & PORT_SEND_REDIRECTS != 0;
        let own_only = ingress.flags & PORT_OWN_SOURCES != 0;
        if own_only && !hairpin {
            // Whatever the routes say: an address of an interface that is down has none.
            return if may_be_own(packet.source) { Err(Reason::SourceInvalid) } else { Ok(()) };
        }
        let known = !own_only && egress.view == ingress.view;
        let found = if known { early } else { packet.lookup_source(&self.0, egress.view) };
        let Some(id) = found else {
            return if ingress.rp_filter == RP_FILTER_OFF { Ok(()) } else { Err(Reason::SourceReversePath) };
        };
        let target = source_target(id, steps)?;
        let symmetric = target.source_ports >> (ingress.number & 63) & 1 == 1;
        if ingress.rp_filter == RP_FILTER_STRICT && !symmetric {
            return Err(Reason::SourceReversePath);
        }
        // An asymmetric source may still be on-link by a less preferred route: left to the kernel too.
        if hairpin && (!symmetric || target.source_flags & SOURCE_ON_LINK != 0) {
            return Err(Reason::WouldRedirect);
        }
        Ok(())
    }

    /// The kernel asks nothing of an IPv6 source that has a route or not, unless the packet leaves by the
    /// port that it came in on: then `ndisc_send_redirect` looks for a source that is on-link.
    #[inline(always)]
    fn source6(&self, packet: &Ipv6, ingress: &Port, egress: &Port, steps: &mut Steps) -> Result<(), Reason> {
        if egress.ifindex != ingress.ifindex {
            return Ok(());
        }
        if ingress.flags & PORT_HAIRPIN6 == 0 {
            return Err(Reason::WouldRedirect);
        }
        // No redirect can be sent to a source without a route.
        let Some(id) = packet.lookup_source(&self.0, egress.view) else { return Ok(()) };
        if source_target(id, steps)?.source_flags & SOURCE_ON_LINK != 0 {
            return Err(Reason::WouldRedirect);
        }
        Ok(())
    }
}

#[inline(always)]
fn has((word, bit): (u32, u64)) -> bool {
    UP_OWN.get(word).is_none_or(|bits| bits & bit != 0)
}

/// Whether an address may be an own one.
#[inline(always)]
fn may_be_own(address: [u8; 4]) -> bool {
    let [first, second] = own_bits(address);
    has(first) && has(second)
}

/// The target that a source matched, when its route is a unicast one.
#[inline(always)]
fn source_target(id: TargetId, steps: &mut Steps) -> Result<&'static Target, Reason> {
    steps.source_target = id;
    let target = UP_TARGETS.get(id).ok_or(Reason::TableInconsistent)?;
    if target.source_flags & SOURCE_VALID == 0 {
        // A prefix that did not fit says nothing about the source.
        return Err(match (target.kind, target.index) {
            (KIND_PASS, TABLE_FULL) => Reason::TableFull,
            _ => Reason::SourceInvalid,
        });
    }
    Ok(target)
}

/// The four bytes of source and destination port; zero when the packet has none.
#[inline(always)]
pub fn ports<const OFFSET: usize, P: Packet>(frame: &Frame<OFFSET>, packet: &P) -> [u8; 4] {
    if !packet.has_ports() {
        return [0; 4];
    }
    frame.bytes_at::<4>(ETHERNET_LEN + P::HEADER_LEN).copied().unwrap_or_default()
}

/// The reason that a PASS target holds; a row that names a reason for forwarding, as an empty one does,
/// is none.
#[inline(always)]
fn pass_reason(target: &Target) -> Reason {
    match Reason::from_number(target.index) {
        Some(reason) if !reason.is_forwarded() => reason,
        _ => Reason::TableInconsistent,
    }
}
