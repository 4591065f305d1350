//! Programs that the benchmark compares with: the forwarding program with another engine, everything
//! else the same code.
#![no_std]
#![no_main]
#![expect(clippy::inline_always, reason = "the programs make no calls between BPF functions")]
#![expect(clippy::needless_pass_by_value, reason = "`#[xdp]` hands the context over by value")]

mod generator;
mod lookups;

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS,
    BPF_FIB_LKUP_RET_UNREACHABLE, BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup,
};
use aya_ebpf::helpers;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use underpass_common::nexthop::{NEXT_HOP_LIVE, Port};
use underpass_common::parse::{Ipv4, Ipv6, Packet};
use underpass_common::reason::Reason;
use underpass_ebpf::forward::{self, Engine, Hop, Steps};
use underpass_ebpf::frame::Frame;
use underpass_ebpf::maps::UP_NEXT_HOPS;
use underpass_ebpf::tables::{self, LpmTrie, Tables};

/// The next-hop row that [`rival_floor`] sends everything to.
const FLOOR_ROW: u32 = 1;

/// The kernel's FIB by `bpf_fib_lookup`: route and neighbour in one helper, MTU checked by it.
/// The helper does not validate the source, so this engine does not either.
struct KernelFib;

/// `struct bpf_fib_lookup` in words: the verifier wants every access to the stack aligned, and a struct
/// that is filled field by field gets its stores merged across the words, or a call to `memset`.
type Parameters = [u64; 8];
const _: () = assert!(size_of::<Parameters>() == size_of::<bpf_fib_lookup>());
const PARAMETERS_LEN: i32 = 64;

/// The question: family, protocol, ports, length; ingress port, type of service or flow information;
/// source; destination. Volatile writes, because the zeros at the end would become a call to `memset`,
/// byte by byte, that no program with this helper has to pay for.
#[inline(always)]
fn ask<P: Packet>(parameters: &mut MaybeUninit<Parameters>, packet: &P, ports: [u8; 4], ifindex: u32) {
    // A jumbo frame's length has more than the 16 bits; the helper then checks less than the kernel.
    let [l0, l1, ..] = packet.total_length().to_le_bytes();
    let [s0, s1, d0, d1] = ports;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let [[sa, sb, sc, sd], [da, db, dc, dd]] = packet.address_words();
    let words = parameters.as_mut_ptr().cast::<u64>();
    // SAFETY: eight words, the length of the array, and every one of them is written.
    unsafe {
        words.write_volatile(u64::from_le_bytes([
            P::ADDRESS_FAMILY,
            packet.protocol(),
            s0,
            s1,
            d0,
            d1,
            l0,
            l1,
        ]));
        words.add(1).write_volatile(pair(ifindex, packet.flow_information()));
        words.add(2).write_volatile(pair(sa, sb));
        words.add(3).write_volatile(pair(sc, sd));
        words.add(4).write_volatile(pair(da, db));
        words.add(5).write_volatile(pair(dc, dd));
        words.add(6).write_volatile(0);
        words.add(7).write_volatile(0);
    }
}

/// The answer's addresses, in the order of the Ethernet header.
#[derive(Default)]
#[repr(C, align(8))]
struct Macs {
    destination: [u8; 6],
    source: [u8; 6],
}

impl Engine for KernelFib {
    type Scratch = Macs;
    type Early = ();

    #[inline(always)]
    fn destination<'a, const OFFSET: usize, P: Packet>(
        &self,
        frame: &Frame<OFFSET>,
        packet: &P,
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
    fn early4(&self, _: &Ipv4, _: &Port) {}

    #[inline(always)]
    fn source4(&self, _: &Ipv4, (): (), _: (&Port, &Port), _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }

    #[inline(always)]
    fn source6(&self, _: &Ipv6, _: &Port, _: &Port, _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }
}

/// No lookup at all: every packet goes to the same row.
struct Floor;

impl Engine for Floor {
    type Scratch = ();
    type Early = ();

    #[inline(always)]
    fn destination<'a, const OFFSET: usize, P: Packet>(
        &self,
        _frame: &Frame<OFFSET>,
        _packet: &P,
        _ingress: &Port,
        _scratch: &'a mut (),
        _steps: &mut Steps,
    ) -> Result<Hop<'a>, Reason> {
        let row = UP_NEXT_HOPS.get(FLOOR_ROW).ok_or(Reason::TableInconsistent)?;
        if row.state != NEXT_HOP_LIVE {
            return Err(Reason::NextHopNotLive);
        }
        Ok(Hop {
            ifindex: row.ifindex,
            mtu: row.mtu,
            destination_mac: &row.destination_mac,
            source_mac: &row.source_mac,
        })
    }

    #[inline(always)]
    fn early4(&self, _: &Ipv4, _: &Port) {}

    #[inline(always)]
    fn source4(&self, _: &Ipv4, (): (), _: (&Port, &Port), _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }

    #[inline(always)]
    fn source6(&self, _: &Ipv6, _: &Port, _: &Port, _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }
}

/// The forwarding program over `bpf_fib_lookup`.
#[xdp(frags)]
fn rival_fib(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &KernelFib)
}

/// The forwarding program without a lookup: everything to row 1.
#[xdp(frags)]
fn rival_floor(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &Floor)
}

/// The forwarding program over `BPF_MAP_TYPE_LPM_TRIE`, filled by the benchmark.
#[xdp]
fn rival_lpm(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &Tables(LpmTrie))
}

/// Plain `XDP_PASS`.
#[xdp]
fn rival_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Licence of the object: `bpf_fib_lookup` wants a GPL-compatible one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
