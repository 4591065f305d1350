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
use underpass_ebpf::maps::{UP_FIB4, UP_FIB6};

use crate::generator::{BENCH_DESTINATIONS, BENCH_DESTINATIONS6};
use crate::{PARAMETERS_LEN, Parameters};

/// [`underpass_common::bench::map::LOOKUPS`].
#[map]
static BENCH_LOOKUPS: Array<Lookups> = Array::with_max_entries(1, 0);

/// An address of a family as words in network order in memory.
trait Address: Copy {
    /// The address at a place among the destinations.
    fn at(place: usize) -> Option<Self>;
    /// Something that depends on it.
    fn sum(self) -> u64;
}

impl Address for u32 {
    #[inline(always)]
    fn at(place: usize) -> Option<Self> {
        let destinations = BENCH_DESTINATIONS.get_ptr(0)?;
        // SAFETY: an element of the map at a masked index; nobody writes during a run.
        Some(unsafe { (*destinations)[place & (DESTINATIONS - 1)] })
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        u64::from(self)
    }
}

impl Address for [u32; 4] {
    #[inline(always)]
    fn at(place: usize) -> Option<Self> {
        let destinations = BENCH_DESTINATIONS6.get_ptr(0)?;
        // SAFETY: as above.
        Some(unsafe { (*destinations)[place & (DESTINATIONS - 1)] })
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        let [a, b, c, d] = self;
        u64::from(a ^ b ^ c ^ d)
    }
}

/// What looks an address of a family up.
trait Probe<A> {
    /// Something that depends on the answer.
    fn probe(address: A, state: &State) -> u64;
}

/// What a loop's steps share.
struct State {
    ctx: *mut xdp_md,
    ifindex: u32,
    sum: u64,
}

/// One lookup: the loop's callback.
#[expect(clippy::cast_possible_truncation, reason = "BPF has 64-bit words")]
extern "C" fn step<A: Address, P: Probe<A>>(index: u64, state: *mut State) -> i64 {
    let Some(address) = A::at(index as usize) else { return 1 };
    // SAFETY: the calling program's, which waits for the loop.
    let state = unsafe { &mut *state };
    state.sum = state.sum.wrapping_add(P::probe(address, state));
    0
}

/// A whole program: the loop, and the time that it took.
#[inline(always)]
fn run<A: Address, P: Probe<A>>(ctx: &XdpContext) -> u32 {
    let Some(run) = BENCH_LOOKUPS.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the one element of a map that only this program uses while it runs.
    let run = unsafe { &mut *run };
    let mut state = State { ctx: ctx.as_ptr().cast(), ifindex: run.ifindex, sum: 0 };
    let callback: extern "C" fn(u64, *mut State) -> i64 = step::<A, P>;
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

impl<A: Address> Probe<A> for Nothing {
    #[inline(always)]
    fn probe(address: A, _: &State) -> u64 {
        address.sum()
    }
}

struct Trie;

impl Probe<u32> for Trie {
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

impl Probe<[u32; 4]> for Trie {
    /// As for IPv4.
    #[inline(always)]
    fn probe([a, b, c, d]: [u32; 4], _: &State) -> u64 {
        let mut room = MaybeUninit::<[u64; 3]>::uninit();
        let words = room.as_mut_ptr().cast::<u32>();
        // SAFETY: a key is six words, which is the room, and all are written before they are read.
        let key = unsafe {
            words.write_volatile(VIEW_BITS + 128);
            words.add(1).write_volatile(0);
            words.add(2).write_volatile(a);
            words.add(3).write_volatile(b);
            words.add(4).write_volatile(c);
            words.add(5).write_volatile(d);
            &*words.cast::<Key<[u32; 5]>>()
        };
        UP_FIB6.get(key).copied().map_or(0, u64::from)
    }
}

struct Flat;

impl Probe<u32> for Flat {
    #[inline(always)]
    fn probe(address: u32, _: &State) -> u64 {
        FlatTable::open().lookup4(0, address.to_ne_bytes()).map_or(0, u64::from)
    }
}

impl Probe<[u32; 4]> for Flat {
    #[inline(always)]
    fn probe([a, b, c, d]: [u32; 4], _: &State) -> u64 {
        let pair = |first: u32, second: u32| u128::from(first) | u128::from(second) << 32;
        let address = (pair(a, b) | pair(c, d) << 64).to_le_bytes();
        FlatTable::open().lookup6(0, address).map_or(0, u64::from)
    }
}

struct Kernel;

impl Probe<u32> for Kernel {
    #[inline(always)]
    fn probe(address: u32, state: &State) -> u64 {
        ask(AF_INET, [u64::from(address), 0], state)
    }
}

impl Probe<[u32; 4]> for Kernel {
    #[inline(always)]
    fn probe([a, b, c, d]: [u32; 4], state: &State) -> u64 {
        let pair = |first: u32, second: u32| u64::from(first) | u64::from(second) << 32;
        ask(AF_INET6, [pair(a, b), pair(c, d)], state)
    }
}

/// Address families in the helper's question.
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

/// The helper's answer, 1 for success: family, port and destination are all that it is told.
#[inline(always)]
fn ask(family: u64, destination: [u64; 2], state: &State) -> u64 {
    let mut room = MaybeUninit::<Parameters>::uninit();
    let words = room.as_mut_ptr().cast::<u64>();
    // Volatile as in `crate::ask`.
    // SAFETY: eight words, the length of the array, and every one of them is written; the context is
    // the kernel's.
    let result = unsafe {
        words.write_volatile(family);
        words.add(1).write_volatile(u64::from(state.ifindex));
        words.add(2).write_volatile(0);
        words.add(3).write_volatile(0);
        words.add(4).write_volatile(destination[0]);
        words.add(5).write_volatile(destination[1]);
        words.add(6).write_volatile(0);
        words.add(7).write_volatile(0);
        helpers::bpf_fib_lookup(state.ctx.cast(), words.cast(), PARAMETERS_LEN, 0)
    };
    u64::from(result == 0)
}

/// The loop alone.
#[xdp]
fn lookup_nothing(ctx: XdpContext) -> u32 {
    run::<u32, Nothing>(&ctx)
}

/// The flat table.
#[xdp]
fn lookup_flat(ctx: XdpContext) -> u32 {
    run::<u32, Flat>(&ctx)
}

/// `BPF_MAP_TYPE_LPM_TRIE`.
#[xdp]
fn lookup_lpm(ctx: XdpContext) -> u32 {
    run::<u32, Trie>(&ctx)
}

/// `bpf_fib_lookup`: route and neighbour.
#[xdp]
fn lookup_fib(ctx: XdpContext) -> u32 {
    run::<u32, Kernel>(&ctx)
}

/// The loop alone, IPv6.
#[xdp]
fn lookup_nothing6(ctx: XdpContext) -> u32 {
    run::<[u32; 4], Nothing>(&ctx)
}

/// The flat table, IPv6.
#[xdp]
fn lookup_flat6(ctx: XdpContext) -> u32 {
    run::<[u32; 4], Flat>(&ctx)
}

/// `BPF_MAP_TYPE_LPM_TRIE`, IPv6.
#[xdp]
fn lookup_lpm6(ctx: XdpContext) -> u32 {
    run::<[u32; 4], Trie>(&ctx)
}

/// `bpf_fib_lookup`: route and neighbour, IPv6.
#[xdp]
fn lookup_fib6(ctx: XdpContext) -> u32 {
    run::<[u32; 4], Kernel>(&ctx)
}
