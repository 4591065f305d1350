//! The question-and-answer twin of the forwarding program.

use core::mem::transmute;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::helpers::bpf_jiffies64;
use underpass_common::abi::{PROBE_HEADER_LEN, PROBE_MAGIC, ProbeHeader};
use underpass_common::nexthop::NextHop;

use crate::forward::{Engine, Steps, action, forward, port};
use crate::frame::Frame;
use crate::maps::UP_NEXT_HOPS;

/// Decides about the frame behind the probe header as the forwarding program would, rewrites it
/// likewise, and writes the answer into the header. Counts nothing. A packet without the header is
/// no question: it passes as it is.
#[inline(always)]
pub fn answer<E: Engine>(packet: Frame<0>, engine: &E) -> u32 {
    let Some(header) = packet.bytes::<0, PROBE_HEADER_LEN>() else { return XDP_PASS };
    // SAFETY: same size (the type of `header` says so), and every bit pattern is a valid header.
    let question: ProbeHeader = unsafe { transmute(*header) };
    if question.magic != PROBE_MAGIC {
        return XDP_PASS;
    }
    // SAFETY: takes nothing and only reads the clock.
    let now = unsafe { bpf_jiffies64() };
    // 0 is nobody's index, but what empty rows hold.
    let ingress = port(question.ingress_ifindex).filter(|row| row.ifindex != 0);
    let mut steps = Steps::default();
    let mut frame = packet.at_offset::<PROBE_HEADER_LEN>();
    let reason = forward(&mut frame, ingress, now, engine, &mut steps);

    let NextHop { destination_mac, source_mac, .. } = next_hop(steps.next_hop);
    let answer = ProbeHeader {
        answered: 1,
        reason: reason as u32,
        target: steps.target,
        source_target: steps.source_target,
        next_hop: steps.next_hop,
        egress_ifindex: steps.egress_ifindex,
        flow_hash: steps.flow_hash,
        jiffies: now,
        destination_mac,
        source_mac,
        ..question
    };
    let mut packet = frame.at_offset::<0>();
    if let Some(header) = packet.bytes_mut::<0, PROBE_HEADER_LEN>() {
        // SAFETY: same size, and the header has no padding (asserted where it is defined).
        *header = unsafe { transmute::<ProbeHeader, [u8; PROBE_HEADER_LEN]>(answer) };
    }
    action(reason)
}

/// The chosen row; row 0 stands for none.
#[inline(always)]
fn next_hop(index: u32) -> NextHop {
    if index == 0 {
        return NextHop::default();
    }
    UP_NEXT_HOPS.get(index).copied().unwrap_or_default()
}
