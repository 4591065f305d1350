//! Rows of the target, bucket, next-hop and port tables.
//!
//! A prefix holds a target id; a target is one next hop or a group of hash buckets; a bucket holds
//! the index of a next-hop row. Losing a next hop rewrites rows and buckets, never prefixes.

/// What a packet to a matching destination gets. The discriminants are stored in maps.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Left to the kernel. `index` is the [`crate::reason::Reason`] to count.
    Pass = 0,
    /// `index` is a next-hop row.
    NextHop = 1,
    /// `index` is the first bucket, `mask` the number of buckets minus one.
    Group = 2,
}

/// The matched prefix is a valid unicast source: without it, packets *from* it are left to the
/// kernel (own, broadcast or multicast address, blackhole, no route).
pub const SOURCE_VALID: u32 = 1;
/// Hosts in the matched prefix are on-link (no gateway): the kernel answers a packet that leaves by
/// the port it came in on with an ICMP redirect, of either family.
pub const SOURCE_ON_LINK: u32 = 2;

/// Row of the target table; 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// A [`TargetKind`].
    pub kind: u32,
    /// Meaning depends on `kind`.
    pub index: u32,
    /// [`TargetKind::Group`]: number of buckets minus one (the number is a power of two).
    pub mask: u32,
    /// [`SOURCE_VALID`] and [`SOURCE_ON_LINK`], for packets whose *source* matched.
    pub source_flags: u32,
    /// Bit n: the kernel reaches the prefix through port number n (strict `rp_filter`).
    pub source_ports: u64,
}
const _: () = assert!(size_of::<Target>() == 24);

/// [`NextHop::state`]: the neighbour is resolved, the port is up, frames may be sent.
pub const NEXT_HOP_LIVE: u32 = 1;

/// Row of the next-hop table; 32 bytes, so that a row never straddles two cache lines.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Port that the frame leaves by.
    pub ifindex: u32,
    /// [`NEXT_HOP_LIVE`], or 0: packets are left to the kernel.
    pub state: u32,
    /// Neighbour's MAC.
    pub destination_mac: [u8; 6],
    /// Port's MAC.
    pub source_mac: [u8; 6],
    /// Longest IP packet (header included) that may leave this way, in bytes.
    pub mtu: u32,
    /// Keeps the layout free of implicit padding; 0.
    pub reserved: [u32; 2],
}
const _: () = assert!(size_of::<NextHop>() == 32);

/// [`Port::flags`]: IPv4 packets that come in on this port may be forwarded.
pub const PORT_INGRESS: u32 = 1;
/// [`Port::flags`]: the driver transmits XDP frames: other ports may redirect to it.
pub const PORT_EGRESS: u32 = 2;
/// [`Port::flags`]: `XDP_TX` works on this port (on a veth: the peer runs an XDP program).
/// Without it a frame that leaves by its ingress port is redirected.
pub const PORT_TX: u32 = 4;
/// [`Port::flags`]: the kernel sends ICMP redirects on this port
/// (`send_redirects` of the interface or of `all`).
pub const PORT_SEND_REDIRECTS: u32 = 8;
/// [`Port::flags`]: IPv6 packets that come in on this port may be forwarded.
pub const PORT_INGRESS6: u32 = 16;
/// [`Port::flags`]: the view also says what the kernel takes for on-link when it decides about an IPv6
/// redirect; without it IPv6 packets that leave by their ingress port are left to the kernel.
pub const PORT_HAIRPIN6: u32 = 32;
/// [`Port::flags`]: frames that lie in several buffers may be redirected to this port.
pub const PORT_EGRESS_FRAGMENTS: u32 = 64;
/// [`Port::flags`]: a rule of the kernel could decide about IPv4 packets from this port: they are left
/// to it.
pub const PORT_GUARDED4: u32 = 128;
/// [`Port::flags`]: as [`PORT_GUARDED4`], IPv6 packets.
pub const PORT_GUARDED6: u32 = 256;

/// [`Port::flags`]: the kernel refuses no IPv4 source of packets from this port but own addresses, all of which
/// are in the filter ([`crate::own`]), unless the packet could be answered by a redirect.
pub const PORT_OWN_SOURCES: u32 = 512;

/// Row of the port table; 24 bytes. All zero means "not a managed port".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The port itself; a row whose `ifindex` differs from the asked one belongs to another port.
    pub ifindex: u32,
    /// `1..MAX_PORTS`: index of the port's counters and its bit in [`Target::source_ports`].
    pub number: u32,
    /// Rule walk that holds for packets from this port: first half of the lookup key.
    pub view: u32,
    /// `PORT_*` bits.
    pub flags: u32,
    /// The port's own MAC: only frames to it are forwarded.
    pub mac: [u8; 6],
    /// Effective `rp_filter`: the larger of `all` and the interface. 0 off, 1 strict, 2 loose. IPv4 only.
    pub rp_filter: u8,
    /// Keeps the layout free of implicit padding; 0.
    pub reserved: u8,
}
const _: () = assert!(size_of::<Port>() == 24);

#[cfg(feature = "user")]
mod pod {
    use super::{NextHop, Port, Target};
    // SAFETY: `repr(C)`, no padding (asserted above), every bit pattern is valid.
    unsafe impl aya::Pod for Target {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NextHop {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Port {}
}
