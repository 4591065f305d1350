//! Frame source and frame sink of the benchmark.
//!
//! The source runs under `BPF_PROG_TEST_RUN` with live frames: no socket, no system call per packet. It
//! also takes the time, because a test run waits for RCU grace periods before its first frame and after
//! its last (`bpf_dispatcher_change_prog`).

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_REDIRECT};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_redirect};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use underpass_common::abi::Counter;
use underpass_common::bench::{BATCH, DESTINATIONS, FRAME_LEN, Generator, NEXT_HOP_MAC, NEXT_HOPS, TTL};

/// [`underpass_common::bench::map::GENERATOR`].
#[map]
static BENCH_GENERATOR: Array<Generator> = Array::with_max_entries(1, 0);

/// [`underpass_common::bench::map::DESTINATIONS`].
#[map]
static BENCH_DESTINATIONS: Array<[u32; DESTINATIONS]> = Array::with_max_entries(1, 0);

/// [`underpass_common::bench::map::RECEIVED`].
#[map]
static BENCH_RECEIVED: PerCpuArray<Counter> = PerCpuArray::with_max_entries(NEXT_HOPS + 1, 0);

/// Positions of 16-bit words in the frame: TTL and protocol, header checksum, destination address,
/// UDP source port.
const TTL_PROTOCOL: usize = 11;
const CHECKSUM: usize = 12;
const DESTINATION: usize = 15;
const SOURCE_PORT: usize = 17;

/// The frame's words, or `None` when it is shorter than [`FRAME_LEN`].
#[inline(always)]
fn frame(ctx: &XdpContext) -> Option<*mut [u16; FRAME_LEN / 2]> {
    let start = ctx.data();
    (start + FRAME_LEN <= ctx.data_end()).then_some(start as *mut [u16; FRAME_LEN / 2])
}

/// The halves of a word, the lower one first.
#[inline(always)]
const fn words(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// Writes the next destination and what forwarding has changed, and redirects.
#[xdp]
fn bench_generate(ctx: XdpContext) -> u32 {
    let (Some(frame), Some(generator), Some(destinations)) =
        (frame(&ctx), BENCH_GENERATOR.get_ptr_mut(0), BENCH_DESTINATIONS.get_ptr(0))
    else {
        return XDP_ABORTED;
    };
    // SAFETY: `frame` is as long as the array (checked) and at an even address (the kernel puts frames
    // at a fixed headroom); the map elements live as long as the maps, and only this program, on one
    // CPU, writes to the generator's.
    unsafe {
        let generator = &mut *generator;
        let frame = &mut *frame;
        let sequence = generator.sequence;
        generator.sequence = sequence.wrapping_add(1);
        if sequence & (BATCH - 1) == 0 {
            generator.latest_batch = bpf_ktime_get_ns();
            if sequence == 0 {
                generator.first_batch = generator.latest_batch;
            }
        }
        let destination = (*destinations)[sequence as usize & (DESTINATIONS - 1)];
        let [first, second] = words(destination);
        let sum = generator.partial_sum + u32::from(first) + u32::from(second);
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        frame[0] = generator.macs[0];
        frame[1] = generator.macs[1];
        frame[2] = generator.macs[2];
        frame[3] = generator.macs[3];
        frame[4] = generator.macs[4];
        frame[5] = generator.macs[5];
        frame[TTL_PROTOCOL] = generator.ttl_protocol;
        frame[CHECKSUM] = !words(folded)[0];
        frame[DESTINATION] = first;
        frame[DESTINATION + 1] = second;
        frame[SOURCE_PORT] = words(sequence.wrapping_mul(0x9e37_79b1))[1];
        if bpf_redirect(generator.ifindex, 0) == i64::from(XDP_REDIRECT) { XDP_REDIRECT } else { XDP_ABORTED }
    }
}

/// Counts a frame for the next hop it is addressed to when its TTL is one less than it set out with,
/// otherwise as unexpected.
#[xdp]
fn bench_sink(ctx: XdpContext) -> u32 {
    let mut element = NEXT_HOPS;
    if let Some(frame) = frame(&ctx) {
        // SAFETY: the frame is longer than the bytes read (checked above).
        let bytes = unsafe { &*frame.cast::<[u8; FRAME_LEN]>() };
        let mac_fits = bytes[0] == NEXT_HOP_MAC[0]
            && bytes[1] == NEXT_HOP_MAC[1]
            && bytes[2] == NEXT_HOP_MAC[2]
            && bytes[3] == NEXT_HOP_MAC[3]
            && bytes[4] == NEXT_HOP_MAC[4];
        if mac_fits && bytes[2 * TTL_PROTOCOL] == TTL - 1 && u32::from(bytes[5]) < NEXT_HOPS {
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
