//! What the benchmark's frame generator and sink share with the program that drives them.

/// Program names in the object with the rivals.
pub mod program {
    /// Makes each frame of a live-frame test run a fresh IPv4 frame and redirects it.
    pub const GENERATE: &str = "bench_generate";
    /// The same for IPv6.
    pub const GENERATE6: &str = "bench_generate6";
    /// Counts what arrives and drops it.
    pub const SINK: &str = "bench_sink";
    /// A loop without lookups.
    pub const LOOKUP_NOTHING: &str = "lookup_nothing";
    /// The same for IPv6.
    pub const LOOKUP_NOTHING6: &str = "lookup_nothing6";
    /// Lookups in the flat table.
    pub const LOOKUP_FLAT: &str = "lookup_flat";
    /// The same for IPv6.
    pub const LOOKUP_FLAT6: &str = "lookup_flat6";
    /// Lookups in `BPF_MAP_TYPE_LPM_TRIE`.
    pub const LOOKUP_LPM: &str = "lookup_lpm";
    /// The same for IPv6.
    pub const LOOKUP_LPM6: &str = "lookup_lpm6";
    /// Lookups by `bpf_fib_lookup`.
    pub const LOOKUP_FIB: &str = "lookup_fib";
    /// The same for IPv6.
    pub const LOOKUP_FIB6: &str = "lookup_fib6";
}

/// Map names in the object with the rivals.
pub mod map {
    /// `Array<Generator>`, [`super::GENERATORS`] elements, one per processor.
    pub const GENERATOR: &str = "BENCH_GENERATOR";
    /// `DevMap`, [`super::GENERATORS`] elements: where each generator sends to.
    pub const TX: &str = "BENCH_TX";
    /// `Array<[u32; DESTINATIONS]>`, one element: the addresses, each in network order in memory.
    pub const DESTINATIONS: &str = "BENCH_DESTINATIONS";
    /// `Array<[[u32; 4]; DESTINATIONS]>`, one element: the IPv6 addresses, each in network order in memory.
    pub const DESTINATIONS6: &str = "BENCH_DESTINATIONS6";
    /// `PerCpuArray<Counter>`, [`super::NEXT_HOPS`] elements and one more for everything unexpected.
    pub const RECEIVED: &str = "BENCH_RECEIVED";
    /// `Array<Lookups>`, one element.
    pub const LOOKUPS: &str = "BENCH_LOOKUPS";
}

/// Destinations that the generator goes through, over and over; a power of two.
pub const DESTINATIONS: usize = 65_536;
/// Processors that can run a generator; a power of two.
pub const GENERATORS: u32 = 64;
/// Next hops behind the router.
pub const NEXT_HOPS: u32 = 16;
/// First five bytes of the next hops' MAC addresses; the sixth is the next hop's number.
pub const NEXT_HOP_MAC: [u8; 5] = [0x02, 0, 0, 0, 0x4e];
/// Length of an IPv4 frame; with the check sequence of a wire it has 64 bytes.
pub const FRAME_LEN: usize = 60;
/// Length of an IPv6 frame: an empty UDP datagram and two bytes.
pub const FRAME6_LEN: usize = 64;
/// Frames per batch of a test run: a quarter of a veth's ring, which loses what does not fit. A power
/// of two.
pub const BATCH: u32 = 64;
/// TTL or hop limit that the frames set out with. Each arrives with one less, or counts as unexpected.
pub const TTL: u8 = 64;

/// What a processor's generator writes into each frame, and where it sends it: everything that
/// forwarding changes, because a live-frame test run hands back the pages of frames that are gone, as
/// they left.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generator {
    /// Destination and source MAC, as words in memory order.
    pub macs: [u16; 6],
    /// IPv4: TTL and protocol; IPv6: next header and hop limit; as a word in memory order.
    pub ttl_protocol: u16,
    /// Keeps the layout free of implicit padding; 0.
    pub reserved: u16,
    /// IPv4: sum of the header's words in memory order, checksum and destination left out.
    pub partial_sum: u32,
    /// Frames to make; what the test run offers beyond is dropped.
    pub frames: u32,
    /// Frames so far; the generator counts it up.
    pub sequence: u32,
    /// Processor whose generator has to be ready before the first frame; the own one: none.
    pub peer: u32,
    /// Set by the generator in its first run.
    pub ready: u32,
    /// Keeps the layout free of implicit padding; 0.
    pub reserved2: u32,
    /// When the first batch began (`bpf_ktime_get_ns`); written by the generator.
    pub first_batch: u64,
    /// When the latest batch began; written by the generator.
    pub latest_batch: u64,
}
const _: () = assert!(size_of::<Generator>() == 56);

/// A run of lookups in a loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Lookups to make.
    pub count: u32,
    /// Port that `bpf_fib_lookup` is asked for.
    pub ifindex: u32,
    /// Answer: nanoseconds that they took.
    pub elapsed: u64,
    /// Answer: sum of the targets found; by `bpf_fib_lookup`, the number of routes found.
    pub sum: u64,
}
const _: () = assert!(size_of::<Lookups>() == 24);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (asserted above), every bit pattern is valid.
    unsafe impl aya::Pod for super::Lookups {}
    // SAFETY: `repr(C)`, no padding (asserted above), every bit pattern is valid.
    unsafe impl aya::Pod for super::Generator {}
}
