//! Every map of the object.
//!
//! The maps are not pinned by themselves, so that a test can load a private copy: the agent's loader
//! pins each of [`underpass_common::abi::map::ALL`] with `EbpfLoader::map_pin_path`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMap, LpmTrie, PerCpuArray};
use underpass_common::abi::{
    BUCKET_ENTRIES, COUNTER_ENTRIES, Control, Counter, FIB_BYTES, FIB_SLACK, FIB4_ENTRIES, FIB6_ENTRIES,
    NEXT_HOP_ENTRIES, PORT_SLOTS, TARGET_ENTRIES,
};
use underpass_common::fib::TargetId;
use underpass_common::nexthop::{NextHop, Port, Target};
use underpass_common::own::OWN_WORDS;

/// [`underpass_common::abi::map::CONTROL`].
#[map]
pub static UP_CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// [`underpass_common::abi::map::PORTS`].
#[map]
pub static UP_PORTS: Array<Port> = Array::with_max_entries(PORT_SLOTS, 0);

/// [`underpass_common::abi::map::TX_PORTS`].
#[map]
pub static UP_TX_PORTS: DevMap = DevMap::with_max_entries(PORT_SLOTS, 0);

/// The words of the flat table in its smallest size class.
#[repr(C, align(16))]
pub struct FibWords([u32; (FIB_BYTES[0] + FIB_SLACK) as usize / 4]);

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// [`underpass_common::abi::map::FIB`]. The agent may put a larger one in its place, and then sets
/// [`UP_FIB_UNIT_MASK`] to match.
#[map]
pub static UP_FIB: Array<FibWords> = Array::with_max_entries(1, MMAPABLE);

/// [`underpass_common::abi::FIB_UNIT_MASK`]. Read-only data: the verifier knows its value.
#[unsafe(no_mangle)]
pub static UP_FIB_UNIT_MASK: u32 = FIB_BYTES[0] / 16 - 1;

/// [`underpass_common::abi::map::FIB4`], the key's data in words. aya adds `BPF_F_NO_PREALLOC`, which
/// the kernel demands.
#[map]
pub static UP_FIB4: LpmTrie<[u32; 2], TargetId> = LpmTrie::with_max_entries(FIB4_ENTRIES, 0);

/// [`underpass_common::abi::map::FIB6`], as [`UP_FIB4`].
#[map]
pub static UP_FIB6: LpmTrie<[u32; 5], TargetId> = LpmTrie::with_max_entries(FIB6_ENTRIES, 0);

/// [`underpass_common::abi::map::TARGETS`].
#[map]
pub static UP_TARGETS: Array<Target> = Array::with_max_entries(TARGET_ENTRIES, 0);

/// [`underpass_common::abi::map::BUCKETS`].
#[map]
pub static UP_BUCKETS: Array<u32> = Array::with_max_entries(BUCKET_ENTRIES, 0);

/// [`underpass_common::abi::map::NEXT_HOPS`].
#[map]
pub static UP_NEXT_HOPS: Array<NextHop> = Array::with_max_entries(NEXT_HOP_ENTRIES, 0);

/// [`underpass_common::abi::map::OWN`].
#[map]
pub static UP_OWN: Array<u64> = Array::with_max_entries(OWN_WORDS, 0);

/// [`underpass_common::abi::map::COUNTERS`].
#[map]
pub static UP_COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);
