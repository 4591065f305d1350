//! Lookups alone, in a tight loop: no frame, no verdict, nothing counted.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{self, bpf_ktime_get_ns, bpf_loop};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use underpass_common::bench::{DESTINATIONS, Lookups};
use underpass_common::fib::{Lookup as _, VIEW_BITS};
use underpass_ebpf::flat::FlatTable;
use underpass_ebpf::maps::UP_FIB4;

use crate::generator::BENCH_DESTINATIONS;
use crate::{PARAMETERS_LEN, Parameters};

/// Address family of IPv4.
const FAMILY: u64 = 2;

/// [`underpass_common::bench::map::LOOKUPS`].
#[map]
static BENCH_LOOKUPS: Array<Lookups> = Array::with_max_entries(1, 0);

/// What looks an address up.
trait Probe {
    /// Something that depends on the answer.
    fn probe(address: u32, state: &State) -> u64;
}

/// What a loop's steps share.
struct State {
    ctx: *mut xdp_md,
    ifindex: u32,
    sum: u64,
}

/// One lookup: the loop's callback.
#[expect(clippy::cast_possible_truncation, reason = "BPF has 64-bit words")]
extern "C" fn step<P: Probe>(index: u64, state: *mut State) -> i64 {
    let Some(destinations) = BENCH_DESTINATIONS.get_ptr(0) else { return 1 };
    // SAFETY: an element of the map at a masked index; nobody writes during a run. The state is the
    // calling program's, which waits for the loop.
    unsafe {
        let address = (*destinations)[index as usize & (DESTINATIONS - 1)];
        let state = &mut *state;
        state.sum = state.sum.wrapping_add(P::probe(address, state));
    }
    0
}

/// A whole program: the loop, and the time that it took.
#[inline(always)]
fn run<P: Probe>(ctx: &XdpContext) -> u32 {
    let Some(run) = BENCH_LOOKUPS.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the one element of a map that only this program uses while it runs.
    let run = unsafe { &mut *run };
    let mut state = State { ctx: ctx.as_ptr().cast(), ifindex: run.ifindex, sum: 0 };
    let callback: extern "C" fn(u64, *mut State) -> i64 = step::<P>;
    // SAFETY: the callback has the form that the helper wants, and the state outlives the loop.
    unsafe {
        let start = bpf_ktime_get_ns();
        bpf_loop(run.count, callback as *mut c_void, (&raw mut state).cast(), 0);
        run.elapsed = bpf_ktime_get_ns() - start;
    }
    run.sum = state.sum;
    XDP_PASS
}

/// No lookup: what the loop itself costs.
struct Nothing;

impl Probe for Nothing {
    #[inline(always)]
    fn probe(address: u32, _: &State) -> u64 {
        u64::from(address)
    }
}

struct Trie;

impl Probe for Trie {
    /// The key's words one by one by volatile writes: merged ones would not be aligned on this stack.
    #[inline(always)]
    fn probe(address: u32, _: &State) -> u64 {
        let mut room = MaybeUninit::<[u64; 2]>::uninit();
        let words = room.as_mut_ptr().cast::<u32>();
        // SAFETY: a key is three words without an alignment; there is room for four, and those three are
        // written before they are read.
        let key = unsafe {
            words.write_volatile(VIEW_BITS + 32);
            words.add(1).write_volatile(0);
            words.add(2).write_volatile(address);
            &*words.cast::<Key<[u32; 2]>>()
        };
        UP_FIB4.get(key).copied().map_or(0, u64::from)
    }
}

struct Flat;

impl Probe for Flat {
    #[inline(always)]
    fn probe(address: u32, _: &State) -> u64 {
        FlatTable::open().lookup4(0, address.to_ne_bytes()).map_or(0, u64::from)
    }
}

struct Kernel;

impl Probe for Kernel {
    #[inline(always)]
    fn probe(address: u32, state: &State) -> u64 {
        let mut room = MaybeUninit::<Parameters>::uninit();
        let words = room.as_mut_ptr().cast::<u64>();
        // The family, the port, and the destination; volatile as in `ask`.
        // SAFETY: eight words, the length of the array, and every one of them is written; the context is
        // the kernel's.
        let result = unsafe {
            words.write_volatile(FAMILY);
            words.add(1).write_volatile(u64::from(state.ifindex));
            words.add(2).write_volatile(0);
            words.add(3).write_volatile(0);
            words.add(4).write_volatile(u64::from(address));
            words.add(5).write_volatile(0);
            words.add(6).write_volatile(0);
            words.add(7).write_volatile(0);
            helpers::bpf_fib_lookup(state.ctx.cast(), words.cast(), PARAMETERS_LEN, 0)
        };
        // 0 is success: the loop counts the answers.
        u64::from(result == 0)
    }
}

/// The loop alone.
#[xdp]
fn lookup_nothing(ctx: XdpContext) -> u32 {
    run::<Nothing>(&ctx)
}

/// The flat table.
#[xdp]
fn lookup_flat(ctx: XdpContext) -> u32 {
    run::<Flat>(&ctx)
}

/// `BPF_MAP_TYPE_LPM_TRIE`.
#[xdp]
fn lookup_lpm(ctx: XdpContext) -> u32 {
    run::<Trie>(&ctx)
}

/// `bpf_fib_lookup`: route and neighbour.
#[xdp]
fn lookup_fib(ctx: XdpContext) -> u32 {
    run::<Kernel>(&ctx)
}
