//! Frame source and frame sink of the benchmark.
//!
//! The source runs under `BPF_PROG_TEST_RUN` with live frames: no socket, no system call per packet. It
//! also takes the time, because a test run waits for RCU grace periods before its first frame and after
//! its last (`bpf_dispatcher_change_prog`).

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_REDIRECT};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, DevMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use underpass_common::abi::Counter;
use underpass_common::bench::{
    BATCH, DESTINATIONS, FRAME_LEN, FRAME6_LEN, GENERATORS, Generator, NEXT_HOP_MAC, NEXT_HOPS, TTL,
};

/// [`underpass_common::bench::map::GENERATOR`].
#[map]
static BENCH_GENERATOR: Array<Generator> = Array::with_max_entries(GENERATORS, 0);

/// [`underpass_common::bench::map::TX`].
#[map]
static BENCH_TX: DevMap = DevMap::with_max_entries(GENERATORS, 0);

/// [`underpass_common::bench::map::DESTINATIONS`].
#[map]
pub static BENCH_DESTINATIONS: Array<[u32; DESTINATIONS]> = Array::with_max_entries(1, 0);

/// [`underpass_common::bench::map::DESTINATIONS6`].
#[map]
pub static BENCH_DESTINATIONS6: Array<[[u32; 4]; DESTINATIONS]> = Array::with_max_entries(1, 0);

/// [`underpass_common::bench::map::RECEIVED`].
#[map]
static BENCH_RECEIVED: PerCpuArray<Counter> = PerCpuArray::with_max_entries(NEXT_HOPS + 1, 0);

/// Positions of 16-bit words in an IPv4 frame: TTL and protocol, header checksum, destination address,
/// UDP source port.
const TTL_PROTOCOL: usize = 11;
const CHECKSUM: usize = 12;
const DESTINATION: usize = 15;
const SOURCE_PORT: usize = 17;
/// The same of an IPv6 frame: next header and hop limit, destination address, UDP source port.
const HOP_LIMIT6: usize = 10;
const DESTINATION6: usize = 19;
const SOURCE_PORT6: usize = 27;
/// First four bytes of the next hops' MAC addresses.
const NEXT_HOP_MAC_START: [u8; 4] = [NEXT_HOP_MAC[0], NEXT_HOP_MAC[1], NEXT_HOP_MAC[2], NEXT_HOP_MAC[3]];
/// First byte of `ETH_P_IPV6` in an Ethernet header.
const IPV6_TYPE: u8 = 0x86;

/// The frame's first words, or `None` when it is shorter.
#[inline(always)]
fn frame<const WORDS: usize>(ctx: &XdpContext) -> Option<*mut [u16; WORDS]> {
    let start = ctx.data();
    (start + 2 * WORDS <= ctx.data_end()).then_some(start as *mut [u16; WORDS])
}

/// The halves of a word, the lower one first.
#[inline(always)]
const fn words(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// Source port of a frame: differs from one to the next.
#[inline(always)]
const fn source_port(sequence: u32) -> u16 {
    words(sequence.wrapping_mul(0x9e37_79b1))[1]
}

/// This processor's generator, the number of its next frame, and the processor's number; `None` while it waits
/// for its peer and once all frames are made.
#[inline(always)]
fn next() -> Option<(&'static mut Generator, u32, u32)> {
    // SAFETY: takes nothing and gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() } & (GENERATORS - 1);
    let own = BENCH_GENERATOR.get_ptr_mut(cpu)?;
    // SAFETY: only this processor's generator writes to its element, but for the reading of `ready`
    // below, and elements live as long as the map.
    let generator = unsafe { &mut *own };
    let sequence = generator.sequence;
    if sequence == generator.frames {
        return None;
    }
    if sequence == 0 {
        generator.ready = 1;
        compiler_fence(Ordering::SeqCst);
        let peer = BENCH_GENERATOR.get_ptr(generator.peer)?;
        // SAFETY: an element of the map; the peer may be writing its word, hence volatile.
        if unsafe { (&raw const (*peer).ready).read_volatile() } == 0 {
            return None;
        }
    }
    generator.sequence = sequence.wrapping_add(1);
    if sequence & (BATCH - 1) == 0 {
        // SAFETY: takes nothing and gives the time.
        generator.latest_batch = unsafe { bpf_ktime_get_ns() };
        if sequence == 0 {
            generator.first_batch = generator.latest_batch;
        }
    }
    Some((generator, sequence, cpu))
}

/// Sends a finished frame. By a device map: its lookup is cheaper than that of a device by its index, and what
/// the generator costs dilutes every ratio.
#[inline(always)]
fn send(cpu: u32) -> u32 {
    BENCH_TX.redirect(cpu, 0).map_or(XDP_ABORTED, |_| XDP_REDIRECT)
}

#[inline(always)]
fn write_macs<const WORDS: usize>(frame: &mut [u16; WORDS], generator: &Generator) {
    frame[0] = generator.macs[0];
    frame[1] = generator.macs[1];
    frame[2] = generator.macs[2];
    frame[3] = generator.macs[3];
    frame[4] = generator.macs[4];
    frame[5] = generator.macs[5];
}

/// Writes the next destination and what forwarding has changed, and redirects.
#[xdp]
fn bench_generate(ctx: XdpContext) -> u32 {
    let (Some(frame), Some(destinations)) = (frame::<{ FRAME_LEN / 2 }>(&ctx), BENCH_DESTINATIONS.get_ptr(0))
    else {
        return XDP_ABORTED;
    };
    let Some((generator, sequence, cpu)) = next() else { return XDP_DROP };
    // SAFETY: `frame` is as long as the array (checked) and at an even address (the kernel puts frames
    // at a fixed headroom); map elements live as long as their map, and nobody writes to this one
    // during a run.
    let (frame, destination) =
        unsafe { (&mut *frame, (*destinations)[sequence as usize & (DESTINATIONS - 1)]) };
    let [first, second] = words(destination);
    let sum = generator.partial_sum + u32::from(first) + u32::from(second);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    write_macs(frame, generator);
    frame[TTL_PROTOCOL] = generator.ttl_protocol;
    frame[CHECKSUM] = !words(folded)[0];
    frame[DESTINATION] = first;
    frame[DESTINATION + 1] = second;
    frame[SOURCE_PORT] = source_port(sequence);
    send(cpu)
}

/// As [`bench_generate`] for IPv6.
#[xdp]
fn bench_generate6(ctx: XdpContext) -> u32 {
    let (Some(frame), Some(destinations)) =
        (frame::<{ FRAME6_LEN / 2 }>(&ctx), BENCH_DESTINATIONS6.get_ptr(0))
    else {
        return XDP_ABORTED;
    };
    let Some((generator, sequence, cpu)) = next() else { return XDP_DROP };
    // SAFETY: as in `bench_generate`.
    let (frame, destination) =
        unsafe { (&mut *frame, &(*destinations)[sequence as usize & (DESTINATIONS - 1)]) };
    write_macs(frame, generator);
    frame[HOP_LIMIT6] = generator.ttl_protocol;
    let [a, b, c, d] = [destination[0], destination[1], destination[2], destination[3]].map(words);
    frame[DESTINATION6] = a[0];
    frame[DESTINATION6 + 1] = a[1];
    frame[DESTINATION6 + 2] = b[0];
    frame[DESTINATION6 + 3] = b[1];
    frame[DESTINATION6 + 4] = c[0];
    frame[DESTINATION6 + 5] = c[1];
    frame[DESTINATION6 + 6] = d[0];
    frame[DESTINATION6 + 7] = d[1];
    frame[SOURCE_PORT6] = source_port(sequence);
    send(cpu)
}

/// Counts a frame for the next hop it is addressed to when its TTL is one less than it set out with,
/// otherwise as unexpected.
#[xdp]
fn bench_sink(ctx: XdpContext) -> u32 {
    let mut element = NEXT_HOPS;
    if let Some(frame) = frame::<{ FRAME_LEN / 2 }>(&ctx) {
        // SAFETY: the frame is longer than the bytes read (checked above).
        let bytes = unsafe { &*frame.cast::<[u8; FRAME_LEN]>() };
        // In words, as `write_macs` writes them: a comparison for each byte would cost a branch each.
        let mac = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mac_fits = mac == u32::from_ne_bytes(NEXT_HOP_MAC_START) && bytes[4] == NEXT_HOP_MAC[4];
        let ttl = if bytes[12] == IPV6_TYPE { bytes[2 * HOP_LIMIT6 + 1] } else { bytes[2 * TTL_PROTOCOL] };
        if mac_fits && ttl == TTL - 1 && u32::from(bytes[5]) < NEXT_HOPS {
            element = u32::from(bytes[5]);
        }
    }
    if let Some(counter) = BENCH_RECEIVED.get_ptr_mut(element) {
        // SAFETY: this CPU's own element, and programs on a CPU do not interrupt each other here.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += (ctx.data_end() - ctx.data()) as u64;
        }
    }
    XDP_DROP
}
