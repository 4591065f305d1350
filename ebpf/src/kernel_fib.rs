//! The kernel's FIB as an engine.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS,
    BPF_FIB_LKUP_RET_UNREACHABLE, BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup,
};
use aya_ebpf::helpers;
use underpass_common::nexthop::Port;
use underpass_common::parse::Ipv4;
use underpass_common::reason::Reason;
use underpass_ebpf::forward::{Engine, Hop, Steps};
use underpass_ebpf::frame::Frame;
use underpass_ebpf::tables;

const AF_INET: u8 = 2;

/// The kernel's FIB by `bpf_fib_lookup`: route and neighbour in one helper, MTU checked by it.
/// The helper does not validate the source, so this engine does not either.
pub struct KernelFib;

/// `struct bpf_fib_lookup` in words: the verifier wants every access to the stack aligned, and a struct
/// that is filled field by field gets its stores merged across the words, or a call to `memset`.
pub type Parameters = [u64; 8];
const _: () = assert!(size_of::<Parameters>() == size_of::<bpf_fib_lookup>());
/// Length of [`Parameters`], as the helper wants it.
pub const PARAMETERS_LEN: i32 = 64;

/// The question for an IPv4 packet: family, protocol, ports, length; ingress port, type of service; source;
/// destination.
#[inline(always)]
fn ask(parameters: &mut MaybeUninit<Parameters>, packet: &Ipv4, ports: [u8; 4], ifindex: u32) {
    let [l0, l1, ..] = packet.total_length.to_le_bytes();
    let [s0, s1, d0, d1] = ports;
    let head = [AF_INET, packet.protocol, s0, s1, d0, d1, l0, l1];
    let second = u64::from(ifindex) | u64::from(packet.tos) << 32;
    write4(
        parameters,
        head,
        second,
        u32::from_le_bytes(packet.source),
        u32::from_le_bytes(packet.destination),
    );
}

/// The question about an IPv4 destination (network order in memory) alone, for the lookup loop.
#[inline(always)]
pub fn question(parameters: &mut MaybeUninit<Parameters>, destination: u32, ifindex: u32) {
    write4(parameters, [AF_INET, 0, 0, 0, 0, 0, 0, 0], u64::from(ifindex), 0, destination);
}

/// Volatile writes, because the zeros at the end would become a call to `memset`, byte by byte, that no
/// program with this helper has to pay for.
#[inline(always)]
fn write4(
    parameters: &mut MaybeUninit<Parameters>,
    head: [u8; 8],
    second: u64,
    source: u32,
    destination: u32,
) {
    let words = parameters.as_mut_ptr().cast::<u64>();
    // SAFETY: eight words, the length of the array, and every one of them is written.
    unsafe {
        words.write_volatile(u64::from_le_bytes(head));
        words.add(1).write_volatile(second);
        words.add(2).write_volatile(u64::from(source));
        words.add(3).write_volatile(0);
        words.add(4).write_volatile(u64::from(destination));
        words.add(5).write_volatile(0);
        words.add(6).write_volatile(0);
        words.add(7).write_volatile(0);
    }
}

/// The answer's addresses, in the order of the Ethernet header.
#[derive(Default)]
#[repr(C, align(8))]
pub struct Macs {
    destination: [u8; 6],
    source: [u8; 6],
}

impl Engine for KernelFib {
    type Scratch = Macs;

    #[inline(always)]
    fn destination<'a, const OFFSET: usize>(
        &self,
        frame: &Frame<OFFSET>,
        packet: &Ipv4,
        ingress: &Port,
        scratch: &'a mut Macs,
        _steps: &mut Steps,
    ) -> Result<Hop<'a>, Reason> {
        let mut words = MaybeUninit::<Parameters>::uninit();
        ask(&mut words, packet, tables::ports(frame, packet), ingress.ifindex);
        let parameters = words.as_mut_ptr().cast::<bpf_fib_lookup>();
        // SAFETY: the context is the kernel's, the parameters are live and as long as said.
        let result =
            unsafe { helpers::bpf_fib_lookup(frame.context().cast(), parameters, PARAMETERS_LEN, 0) };
        match u32::try_from(result) {
            Ok(BPF_FIB_LKUP_RET_SUCCESS) => {}
            Ok(BPF_FIB_LKUP_RET_BLACKHOLE | BPF_FIB_LKUP_RET_UNREACHABLE | BPF_FIB_LKUP_RET_PROHIBIT) => {
                return Err(Reason::Refused);
            }
            Ok(BPF_FIB_LKUP_RET_FWD_DISABLED) => return Err(Reason::PortNotReady),
            Ok(BPF_FIB_LKUP_RET_UNSUPP_LWT) => return Err(Reason::Unsupported),
            Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => return Err(Reason::NextHopNotLive),
            Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => return Err(Reason::TooBig),
            // `NOT_FWDED` is a local destination as well as a missing route: the helper does not say which.
            _ => return Err(Reason::NoRoute),
        }
        // Whole words by volatile reads, which the compiler may not narrow to unaligned ones.
        // SAFETY: a live local array, written above.
        let [ifindex, macs0, macs1] =
            unsafe { [1, 6, 7].map(|word| words.as_ptr().cast::<u64>().add(word).read_volatile()) };
        let [_, _, _, _, s0, s1, s2, s3] = macs0.to_le_bytes();
        let [s4, s5, d0, d1, d2, d3, d4, d5] = macs1.to_le_bytes();
        *scratch = Macs { destination: [d0, d1, d2, d3, d4, d5], source: [s0, s1, s2, s3, s4, s5] };
        let [i0, i1, i2, i3, ..] = ifindex.to_le_bytes();
        Ok(Hop {
            ifindex: u32::from_le_bytes([i0, i1, i2, i3]),
            mtu: u32::MAX,
            destination_mac: &scratch.destination,
            source_mac: &scratch.source,
        })
    }

    #[inline(always)]
    fn source(&self, _: &Ipv4, _: &Port, _: &Port, _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }
}
