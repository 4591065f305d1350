//! One packet's way: checks, lookup, verdict, and only then the rewriting.
//!
//! The checks follow the kernel's own path (`ip_rcv_core`, `ip_route_input_slow`, `ip_forward`);
//! whatever is in doubt is left to it, untouched.

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::helpers::bpf_jiffies64;
use underpass_common::abi::{Control, port_slot};
use underpass_common::checksum;
use underpass_common::fib::TargetId;
use underpass_common::nexthop::{PORT_EGRESS, PORT_GUARDED4, PORT_INGRESS, PORT_TX, Port};
use underpass_common::parse::{self, ETHERNET_LEN, IPV4_CHECKSUM, IPV4_TTL, Ipv4};
use underpass_common::reason::Reason;

use crate::frame::Frame;
use crate::maps::{UP_CONTROL, UP_PORTS, UP_TX_PORTS};
use crate::stats;

/// Where the TTL is in an untagged frame.
const TTL_AT: usize = ETHERNET_LEN + IPV4_TTL;
/// Where the header checksum is in an untagged frame.
const CHECKSUM_AT: usize = ETHERNET_LEN + IPV4_CHECKSUM;

/// How a packet leaves.
pub struct Hop<'a> {
    /// Port to leave by.
    pub ifindex: u32,
    /// Longest IP packet that may leave this way, in bytes.
    pub mtu: u32,
    /// Neighbour's MAC.
    pub destination_mac: &'a [u8; 6],
    /// Port's MAC.
    pub source_mac: &'a [u8; 6],
}

/// What finds a packet's way. The benchmark puts others in the place of the tables.
pub trait Engine {
    /// Room on the stack for what a [`Hop`] refers to, when that is not in a map.
    type Scratch: Default;

    /// The next hop of a packet that came in on `ingress`.
    ///
    /// # Errors
    /// The reason for leaving the packet to the kernel.
    fn destination<'a, const OFFSET: usize>(
        &self,
        frame: &Frame<OFFSET>,
        packet: &Ipv4,
        ingress: &Port,
        scratch: &'a mut Self::Scratch,
        steps: &mut Steps,
    ) -> Result<Hop<'a>, Reason>;

    /// Whether a packet from `ingress` to `egress` may have the source address that it has.
    ///
    /// # Errors
    /// The reason for leaving the packet to the kernel.
    fn source(&self, packet: &Ipv4, ingress: &Port, egress: &Port, steps: &mut Steps) -> Result<(), Reason>;
}

/// What the tables said on the way, for the probe. The forwarding program drops it, and the
/// compiler every store to it.
#[derive(Default)]
pub struct Steps {
    /// Target of the destination.
    pub target: TargetId,
    /// Target that the source matched.
    pub source_target: TargetId,
    /// Next-hop row.
    pub next_hop: u32,
    /// Port to leave by.
    pub egress_ifindex: u32,
    /// Flow hash; 0 when the target is no group.
    pub flow_hash: u32,
}

/// The row of a managed port.
#[inline(always)]
pub fn port(ifindex: u32) -> Option<&'static Port> {
    UP_PORTS.get(port_slot(ifindex)).filter(|row| row.ifindex == ifindex)
}

/// The verdict that a reason stands for.
#[inline(always)]
pub const fn action(reason: Reason) -> u32 {
    match reason {
        Reason::ForwardedTx => XDP_TX,
        Reason::ForwardedRedirect => XDP_REDIRECT,
        _ => XDP_PASS,
    }
}

/// A whole program: decides with `engine`, counts, and gives the verdict.
#[inline(always)]
pub fn run<E: Engine>(mut frame: Frame<0>, engine: &E) -> u32 {
    let bytes = frame.length() as u64;
    let ingress = port(frame.ingress_ifindex());
    // SAFETY: takes nothing and only reads the clock.
    let now = unsafe { bpf_jiffies64() };
    let reason = forward(&mut frame, ingress, now, engine, &mut Steps::default());
    stats::count(ingress.map_or(0, |row| row.number), reason, bytes);
    action(reason)
}

/// Decides about a frame that came in on `ingress` at `now` (`bpf_jiffies64`), and rewrites it when
/// it is to be forwarded. With any other reason than the two of forwarding the frame is as it was.
#[inline(always)]
pub fn forward<const OFFSET: usize, E: Engine>(
    frame: &mut Frame<OFFSET>,
    ingress: Option<&Port>,
    now: u64,
    engine: &E,
    steps: &mut Steps,
) -> Reason {
    match try_forward(frame, ingress, now, engine, steps) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn try_forward<const OFFSET: usize, E: Engine>(
    frame: &mut Frame<OFFSET>,
    ingress: Option<&Port>,
    now: u64,
    engine: &E,
    steps: &mut Steps,
) -> Result<Reason, Reason> {
    control(UP_CONTROL.get(0), now)?;
    let ingress = ingress.ok_or(Reason::NotAPort)?;
    let packet = check(frame, ingress)?;
    let mut scratch = E::Scratch::default();
    let hop = engine.destination(frame, &packet, ingress, &mut scratch, steps)?;
    if packet.total_length > hop.mtu {
        return Err(Reason::TooBig);
    }
    let egress = if hop.ifindex == ingress.ifindex {
        ingress
    } else {
        port(hop.ifindex).ok_or(Reason::EgressNotManaged)?
    };
    engine.source(&packet, ingress, egress, steps)?;
    let verdict = transmit(ingress, egress)?;
    rewrite(frame, &packet, &hop)?;
    Ok(verdict)
}

/// Kill switch and dead-man lease.
#[inline(always)]
fn control(control: Option<&Control>, now: u64) -> Result<(), Reason> {
    let control = control.ok_or(Reason::Off)?;
    if control.enabled != 1 {
        return Err(Reason::Off);
    }
    if now >= control.lease_until {
        return Err(Reason::LeaseExpired);
    }
    Ok(())
}

/// Everything that can be said of a frame without a route.
#[inline(always)]
fn check<const OFFSET: usize>(frame: &Frame<OFFSET>, ingress: &Port) -> Result<Ipv4, Reason> {
    if ingress.flags & PORT_INGRESS == 0 {
        return Err(Reason::PortNotReady);
    }
    let header = frame.bytes::<0, ETHERNET_LEN>().ok_or(Reason::Truncated)?;
    parse::ethernet(header, &ingress.mac)?;
    if ingress.flags & PORT_GUARDED4 != 0 {
        return Err(Reason::KernelRule);
    }
    let header = frame.bytes::<ETHERNET_LEN, { parse::IPV4_LEN }>().ok_or(Reason::Truncated)?;
    Ipv4::check(header, frame.length() - ETHERNET_LEN)
}

/// Chooses between `XDP_TX` and a redirect, and prepares the latter. Nothing has been written by
/// then: a port that is missing from the map still leaves the packet to the kernel.
#[inline(always)]
fn transmit(ingress: &Port, egress: &Port) -> Result<Reason, Reason> {
    if egress.ifindex == ingress.ifindex && ingress.flags & PORT_TX != 0 {
        return Ok(Reason::ForwardedTx);
    }
    if egress.flags & PORT_EGRESS == 0 {
        return Err(Reason::EgressNotManaged);
    }
    match UP_TX_PORTS.redirect(port_slot(egress.ifindex), 0) {
        Ok(_) => Ok(Reason::ForwardedRedirect),
        Err(_) => Err(Reason::EgressNotManaged),
    }
}

/// Turns the frame into the one that leaves: padding off (`ip_rcv_core` trims it), MACs, TTL and
/// checksum (`ip_decrease_ttl`).
#[inline(always)]
fn rewrite<const OFFSET: usize>(
    frame: &mut Frame<OFFSET>,
    packet: &Ipv4,
    hop: &Hop<'_>,
) -> Result<(), Reason> {
    let length = ETHERNET_LEN + packet.total_length as usize;
    if frame.length() > length && !frame.trim(frame.length() - length) {
        return Err(Reason::PaddingNotTrimmed);
    }
    // The bounds were checked before; trimming made the verifier forget.
    let headers = frame.bytes_mut::<0, { CHECKSUM_AT + 2 }>().ok_or(Reason::Truncated)?;
    // In whole words: one load and one store each instead of one for every byte.
    if let Some(macs) = headers.first_chunk_mut::<12>() {
        let [d0, d1, d2, d3, d4, d5] = *hop.destination_mac;
        let [s0, s1, s2, s3, s4, s5] = *hop.source_mac;
        *macs = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
    }
    headers[TTL_AT] = headers[TTL_AT].wrapping_sub(1);
    if let Some(check) = headers.last_chunk_mut::<2>() {
        *check = checksum::after_ttl_decrement(*check);
    }
    Ok(())
}
