//! Map names, sizes and the version of the layout between the agent and its XDP programs.
//!
//! Maps are pinned below `<bpffs>/v<ABI_VERSION>/`. Any change to a type in this crate that is
//! stored in a map, or to a map's size or meaning, needs a new [`ABI_VERSION`].

/// Version of everything that is stored in a pinned map.
pub const ABI_VERSION: u32 = 2;

/// Program names in the object (at most 15 characters, the kernel's limit).
pub mod program {
    /// The forwarding program, attached to every managed port.
    pub const FORWARD: &str = "underpass";
    /// [`FORWARD`] over the tries of the kernel.
    pub const FORWARD_LPM: &str = "underpass_lpm";
    /// [`PROBE`] over the tries of the kernel.
    pub const PROBE_LPM: &str = "underpass_probl";
    /// The same decision on a frame behind a [`super::ProbeHeader`]; counts nothing.
    pub const PROBE: &str = "underpass_probe";
    /// Returns `XDP_PASS`. A veth transmits XDP frames only when its peer runs a program.
    pub const PASS: &str = "underpass_pass";
}

/// Map names in the object and below the pin directory.
pub mod map {
    /// `Array<Control>`, one element.
    pub const CONTROL: &str = "UP_CONTROL";
    /// `Array<Port>`, [`super::PORT_SLOTS`] elements, indexed by [`super::port_slot`].
    pub const PORTS: &str = "UP_PORTS";
    /// `DevMap`, [`super::PORT_SLOTS`] elements, same index as [`PORTS`].
    pub const TX_PORTS: &str = "UP_TX_PORTS";
    /// `Array`, one element of [`super::FIB_BYTES`]: the flat table ([`crate::fib::flat`]), mapped by the agent.
    pub const FIB: &str = "UP_FIB";
    /// `LpmTrie<[u8; 8], u32>`: view id (big endian) and IPv4 address to target id.
    pub const FIB4: &str = "UP_FIB4";
    /// `LpmTrie<[u8; 20], u32>`: view id (big endian) and IPv6 address to target id.
    pub const FIB6: &str = "UP_FIB6";
    /// `Array<Target>`.
    pub const TARGETS: &str = "UP_TARGETS";
    /// `Array<u32>`: hash bucket to next-hop row.
    pub const BUCKETS: &str = "UP_BUCKETS";
    /// `Array<NextHop>`.
    pub const NEXT_HOPS: &str = "UP_NEXT_HOPS";
    /// `Array<u64>`, [`crate::own::OWN_WORDS`] elements: the filter of own addresses ([`crate::own`]).
    pub const OWN: &str = "UP_OWN";
    /// `PerCpuArray<Counter>`, index by [`super::counter_index`].
    pub const COUNTERS: &str = "UP_COUNTERS";
    /// All of them. The object pins none by itself: a loader that wants pins gives each a path.
    pub const ALL: [&str; 11] =
        [CONTROL, PORTS, TX_PORTS, FIB, FIB4, FIB6, TARGETS, BUCKETS, NEXT_HOPS, OWN, COUNTERS];
}

/// Slots for ports. A port lives in the slot `ifindex % PORT_SLOTS`; two managed ports whose
/// indexes collide cannot both be accelerated, and the agent says so.
pub const PORT_SLOTS: u32 = 1024;
/// Most ports that can be managed at once: a [`crate::nexthop::Port`]'s `number` is `1..MAX_PORTS`
/// and a bit in [`crate::nexthop::Target::source_ports`]. Number 0 stands for "no managed port".
pub const MAX_PORTS: u32 = 64;
/// Default number of prefixes of the LPM engine. `BPF_F_NO_PREALLOC`: memory follows the use.
pub const FIB4_ENTRIES: u32 = 1_048_576;
/// As [`FIB4_ENTRIES`], of IPv6 prefixes.
pub const FIB6_ENTRIES: u32 = 1_048_576;
/// Size classes of the flat table, in bytes. An array map is allocated whole: the agent begins with the
/// smallest and goes on to the next when a table is full.
pub const FIB_BYTES: [u32; 4] = [2 << 20, 8 << 20, 32 << 20, 64 << 20];
/// Bytes that the map has beyond its table: the program may load what lies behind the last unit.
pub const FIB_SLACK: u32 = 4096;
/// Name of the program's constant that bounds unit numbers: units of the table minus one.
pub const FIB_UNIT_MASK: &str = "UP_FIB_UNIT_MASK";
/// Number of targets. Target 0 is always [`crate::nexthop::TargetKind::Pass`].
pub const TARGET_ENTRIES: u32 = 16_384;
/// Number of hash buckets over all groups.
pub const BUCKET_ENTRIES: u32 = 65_536;
/// Most buckets that one group may have; the number is a power of two.
pub const MAX_GROUP_BUCKETS: u32 = 4096;
/// Number of next-hop rows. Row 0 is never live.
pub const NEXT_HOP_ENTRIES: u32 = 16_384;
/// Room for reasons in the counter map; [`crate::reason::Reason`] must stay below it.
pub const REASON_SLOTS: u32 = 64;
/// Elements of the counter map.
pub const COUNTER_ENTRIES: u32 = MAX_PORTS * REASON_SLOTS;

/// The slot of a port in [`map::PORTS`] and [`map::TX_PORTS`].
#[inline(always)]
pub const fn port_slot(ifindex: u32) -> u32 {
    ifindex % PORT_SLOTS
}

/// The element of [`map::COUNTERS`] for port number `port` (0 = not a managed port) and `reason`.
#[inline(always)]
pub const fn counter_index(port: u32, reason: u32) -> u32 {
    (port % MAX_PORTS) * REASON_SLOTS + reason % REASON_SLOTS
}

/// Words that rule the whole data plane.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Dead-man lease: the `bpf_jiffies64` value from which on every packet is passed.
    pub lease_until: u64,
    /// Kill switch: 1 forwards, anything else passes every packet (`underpass off`).
    pub enabled: u32,
    /// Goes into the choice of a group's bucket, so that routers in series do not split flows alike; see
    /// [`crate::flowhash::seeded`].
    pub flow_seed: u32,
}
const _: () = assert!(size_of::<Control>() == 16);

/// One per-CPU counter.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames, Ethernet header included, frame check sequence not.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Counter>() == 16);

/// First bytes of a probe frame, "UPPROBE1".
pub const PROBE_MAGIC: [u8; 8] = *b"UPPROBE1";
/// Length of [`ProbeHeader`]; the frame under question follows it.
pub const PROBE_HEADER_LEN: usize = 64;

/// What the probe program is asked, and where it answers.
///
/// The caller fills `magic` and `ingress_ifindex`, zeroes the rest and puts the frame behind.
/// The program decides as if the frame had come in on that port, fills the answer and returns
/// the verdict that the forwarding program would have given. The frame behind the header comes
/// back as it would leave the port, or untouched for a `Pass`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHeader {
    /// [`PROBE_MAGIC`].
    pub magic: [u8; 8],
    /// Question: the port that the frame is supposed to have come in on.
    pub ingress_ifindex: u32,
    /// Answer: 1 when the program filled in the rest.
    pub answered: u32,
    /// Answer: the verdict's [`crate::reason::Reason`].
    pub reason: u32,
    /// Answer: target of the destination, or 0.
    pub target: u32,
    /// Answer: target that the source address matched, or 0.
    pub source_target: u32,
    /// Answer: chosen next-hop row, or 0.
    pub next_hop: u32,
    /// Answer: port that the frame would leave by, or 0.
    pub egress_ifindex: u32,
    /// Answer: flow hash, or 0 when the target is no group.
    pub flow_hash: u32,
    /// Answer: `bpf_jiffies64` at the time of the run.
    pub jiffies: u64,
    /// Answer: destination MAC that the frame would carry.
    pub destination_mac: [u8; 6],
    /// Answer: source MAC that the frame would carry.
    pub source_mac: [u8; 6],
    /// Keeps the layout free of implicit padding; 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<ProbeHeader>() == PROBE_HEADER_LEN);

#[cfg(feature = "user")]
mod pod {
    use super::{Control, Counter, ProbeHeader};
    // SAFETY: `repr(C)`, no padding (asserted above), every bit pattern is valid.
    unsafe impl aya::Pod for Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProbeHeader {}
}
