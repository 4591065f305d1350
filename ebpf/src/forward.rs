//! One packet's way: checks, lookup, verdict, and only then the rewriting.
//!
//! The checks follow the kernel's own path (`ip_rcv_core`, `ip_route_input_slow`, `ip_forward`, and
//! `ip6_rcv_core`, `ip6_forward`); whatever is in doubt is left to it, untouched. Both families take the
//! same way; what differs between them is behind [`Routed`].

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::helpers::bpf_jiffies64;
use underpass_common::abi::{Control, port_slot};
use underpass_common::checksum;
use underpass_common::fib::TargetId;
use underpass_common::nexthop::{
    PORT_EGRESS, PORT_EGRESS_FRAGMENTS, PORT_GUARDED4, PORT_GUARDED6, PORT_INGRESS, PORT_INGRESS6, PORT_TX,
    Port,
};
use underpass_common::parse::{
    self, ETHERNET_LEN, Family, IPV4_CHECKSUM, IPV4_LEN, IPV4_TTL, IPV6_HOP_LIMIT, IPV6_LEN, Ipv4, Ipv6,
    Packet,
};
use underpass_common::reason::Reason;

use crate::frame::Frame;
use crate::maps::{UP_CONTROL, UP_PORTS, UP_TX_PORTS};
use crate::stats;

/// Where TTL and header checksum are in an untagged frame with an IPv4 packet.
const TTL_AT: usize = ETHERNET_LEN + IPV4_TTL;
const CHECKSUM_AT: usize = ETHERNET_LEN + IPV4_CHECKSUM;
/// Where the hop limit is in one with an IPv6 packet.
const HOP_LIMIT_AT: usize = ETHERNET_LEN + IPV6_HOP_LIMIT;

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
    /// What is found out about a source before the destination is looked up.
    type Early: Default;

    /// Begins [`Self::source4`]: as nothing of the destination depends on it, the processor does both at once.
    fn early4(&self, packet: &Ipv4, ingress: &Port) -> Self::Early;

    /// The next hop of a packet that came in on `ingress`.
    ///
    /// # Errors
    /// The reason for leaving the packet to the kernel.
    fn destination<'a, const OFFSET: usize, P: Packet>(
        &self,
        frame: &Frame<OFFSET>,
        packet: &P,
        ingress: &Port,
        scratch: &'a mut Self::Scratch,
        steps: &mut Steps,
    ) -> Result<Hop<'a>, Reason>;

    /// Whether a packet from `ingress` to `egress` may have the source address that it has.
    ///
    /// # Errors
    /// The reason for leaving the packet to the kernel.
    fn source4(
        &self,
        packet: &Ipv4,
        early: Self::Early,
        ports: (&Port, &Port),
        steps: &mut Steps,
    ) -> Result<(), Reason>;

    /// As [`Self::source4`], of an IPv6 packet.
    ///
    /// # Errors
    /// As [`Self::source4`].
    fn source6(&self, packet: &Ipv6, ingress: &Port, egress: &Port, steps: &mut Steps) -> Result<(), Reason>;
}

/// A packet on its way, where the families differ.
trait Routed: Packet {
    /// The [`Port::flags`] bit of ports from which such packets may be forwarded.
    const INGRESS: u32;
    /// The bit of ports from which the kernel's rules could decide about them.
    const GUARDED: u32;

    /// Everything that can be said of the packet without a route. The frame is long enough for its
    /// Ethernet header.
    fn read<const OFFSET: usize>(frame: &Frame<OFFSET>) -> Result<Self, Reason>;

    /// [`Engine::early4`], or nothing.
    fn early<E: Engine>(&self, engine: &E, ingress: &Port) -> E::Early;

    /// [`Engine::source4`] or [`Engine::source6`].
    fn source<E: Engine>(
        &self,
        engine: &E,
        early: E::Early,
        ports: (&Port, &Port),
        steps: &mut Steps,
    ) -> Result<(), Reason>;

    /// Writes the MACs, and takes one off the TTL.
    fn rewrite<const OFFSET: usize>(frame: &mut Frame<OFFSET>, hop: &Hop<'_>) -> Option<()>;
}

impl Routed for Ipv4 {
    const INGRESS: u32 = PORT_INGRESS;
    const GUARDED: u32 = PORT_GUARDED4;

    #[inline(always)]
    fn read<const OFFSET: usize>(frame: &Frame<OFFSET>) -> Result<Self, Reason> {
        let header = frame.bytes::<ETHERNET_LEN, IPV4_LEN>().ok_or(Reason::Truncated)?;
        let claimed = usize::from(u16::from_be_bytes([header[2], header[3]]));
        Self::check(header, frame.length_for(ETHERNET_LEN + claimed) - ETHERNET_LEN)
    }

    #[inline(always)]
    fn early<E: Engine>(&self, engine: &E, ingress: &Port) -> E::Early {
        engine.early4(self, ingress)
    }

    #[inline(always)]
    fn source<E: Engine>(
        &self,
        engine: &E,
        early: E::Early,
        ports: (&Port, &Port),
        steps: &mut Steps,
    ) -> Result<(), Reason> {
        engine.source4(self, early, ports, steps)
    }

    /// The checksum as `ip_decrease_ttl` writes it.
    #[inline(always)]
    fn rewrite<const OFFSET: usize>(frame: &mut Frame<OFFSET>, hop: &Hop<'_>) -> Option<()> {
        let headers = frame.bytes_mut::<0, { CHECKSUM_AT + 2 }>()?;
        write_macs(headers.first_chunk_mut()?, hop);
        headers[TTL_AT] = headers[TTL_AT].wrapping_sub(1);
        let check = headers.last_chunk_mut::<2>()?;
        *check = checksum::after_ttl_decrement(*check);
        Some(())
    }
}

impl Routed for Ipv6 {
    const INGRESS: u32 = PORT_INGRESS6;
    const GUARDED: u32 = PORT_GUARDED6;

    #[inline(always)]
    fn read<const OFFSET: usize>(frame: &Frame<OFFSET>) -> Result<Self, Reason> {
        let header = frame.bytes::<ETHERNET_LEN, IPV6_LEN>().ok_or(Reason::Truncated)?;
        let claimed = IPV6_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
        Self::check(header, frame.length_for(ETHERNET_LEN + claimed) - ETHERNET_LEN)
    }

    #[inline(always)]
    fn early<E: Engine>(&self, _: &E, _: &Port) -> E::Early {
        E::Early::default()
    }

    #[inline(always)]
    fn source<E: Engine>(
        &self,
        engine: &E,
        _: E::Early,
        (ingress, egress): (&Port, &Port),
        steps: &mut Steps,
    ) -> Result<(), Reason> {
        engine.source6(self, ingress, egress, steps)
    }

    #[inline(always)]
    fn rewrite<const OFFSET: usize>(frame: &mut Frame<OFFSET>, hop: &Hop<'_>) -> Option<()> {
        let headers = frame.bytes_mut::<0, { HOP_LIMIT_AT + 1 }>()?;
        write_macs(headers.first_chunk_mut()?, hop);
        headers[HOP_LIMIT_AT] = headers[HOP_LIMIT_AT].wrapping_sub(1);
        Some(())
    }
}

/// In whole words: one load and one store each instead of one for every byte.
#[inline(always)]
const fn write_macs(to: &mut [u8; 12], hop: &Hop<'_>) {
    let [d0, d1, d2, d3, d4, d5] = *hop.destination_mac;
    let [s0, s1, s2, s3, s4, s5] = *hop.source_mac;
    *to = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
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
    let ingress = port(frame.ingress_ifindex());
    // SAFETY: takes nothing and only reads the clock.
    let now = unsafe { bpf_jiffies64() };
    let reason = forward(&mut frame, ingress, now, engine, &mut Steps::default());
    // What was forwarded has been measured as far as it takes; trimming does not change what came in.
    if !reason.is_forwarded() {
        frame.measure();
    }
    stats::count(ingress.map_or(0, |row| row.number), reason, frame.length() as u64);
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
    if ingress.flags & (PORT_INGRESS | PORT_INGRESS6) == 0 {
        return Err(Reason::PortNotReady);
    }
    let header = frame.bytes::<0, ETHERNET_LEN>().ok_or(Reason::Truncated)?;
    let family = parse::family(header)?;
    parse::addressed_to(header, &ingress.mac)?;
    match family {
        Family::Ipv4 => route::<OFFSET, E, Ipv4>(frame, ingress, engine, steps),
        Family::Ipv6 => route::<OFFSET, E, Ipv6>(frame, ingress, engine, steps),
    }
}

/// The way of a packet of one family.
#[inline(always)]
fn route<const OFFSET: usize, E: Engine, P: Routed>(
    frame: &mut Frame<OFFSET>,
    ingress: &Port,
    engine: &E,
    steps: &mut Steps,
) -> Result<Reason, Reason> {
    if ingress.flags & P::INGRESS == 0 {
        return Err(Reason::PortNotReady);
    }
    if ingress.flags & P::GUARDED != 0 {
        return Err(Reason::KernelRule);
    }
    let packet = P::read(frame)?;
    let early = packet.early(engine, ingress);
    let mut scratch = E::Scratch::default();
    let hop = engine.destination(frame, &packet, ingress, &mut scratch, steps)?;
    if packet.total_length() > hop.mtu {
        return Err(Reason::TooBig);
    }
    let egress = if hop.ifindex == ingress.ifindex {
        ingress
    } else {
        port(hop.ifindex).ok_or(Reason::EgressNotManaged)?
    };
    packet.source(engine, early, (ingress, egress), steps)?;
    let verdict = transmit(ingress, egress, frame.is_scattered())?;
    trim(frame, ETHERNET_LEN + packet.total_length() as usize)?;
    // The bounds were checked before; trimming made the verifier forget.
    P::rewrite(frame, &hop).ok_or(Reason::Truncated)?;
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

/// Chooses between `XDP_TX` and a redirect, and prepares the latter. Nothing has been written by
/// then: a port that is missing from the map still leaves the packet to the kernel.
#[inline(always)]
fn transmit(ingress: &Port, egress: &Port, scattered: bool) -> Result<Reason, Reason> {
    if egress.ifindex == ingress.ifindex && ingress.flags & PORT_TX != 0 {
        return Ok(Reason::ForwardedTx);
    }
    if egress.flags & PORT_EGRESS == 0 {
        return Err(Reason::EgressNotManaged);
    }
    // A driver that cannot send such frames drops them when it is too late (`__xdp_enqueue`).
    if scattered && egress.flags & PORT_EGRESS_FRAGMENTS == 0 {
        return Err(Reason::MultiBuffer);
    }
    match UP_TX_PORTS.redirect(port_slot(egress.ifindex), 0) {
        Ok(_) => Ok(Reason::ForwardedRedirect),
        Err(_) => Err(Reason::EgressNotManaged),
    }
}

/// Takes the padding off, as `ip_rcv_core` and `ip6_rcv_core` do (`pskb_trim_rcsum`), so that `length` bytes
/// are left.
#[inline(always)]
fn trim<const OFFSET: usize>(frame: &mut Frame<OFFSET>, length: usize) -> Result<(), Reason> {
    if frame.length() > length {
        frame.measure();
        if !frame.trim(frame.length() - length) {
            return Err(Reason::PaddingNotTrimmed);
        }
    }
    Ok(())
}
