//! Programs that the benchmark compares with: the forwarding program with another engine, everything
//! else the same code.
#![no_std]
#![no_main]
#![expect(clippy::inline_always, reason = "the programs make no calls between BPF functions")]
#![expect(clippy::needless_pass_by_value, reason = "`#[xdp]` hands the context over by value")]

mod generator;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT,
    BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE, BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup,
};
use aya_ebpf::helpers;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use underpass_common::nexthop::{NEXT_HOP_LIVE, Port};
use underpass_common::parse::Ipv4;
use underpass_common::reason::Reason;
use underpass_ebpf::forward::{self, Engine, Hop, Steps};
use underpass_ebpf::frame::Frame;
use underpass_ebpf::maps::UP_NEXT_HOPS;
use underpass_ebpf::tables;

const AF_INET: u8 = 2;
/// The next-hop row that [`rival_floor`] sends everything to.
const FLOOR_ROW: u32 = 1;

/// The kernel's FIB by `bpf_fib_lookup`: route and neighbour in one helper, MTU checked by it.
/// The helper does not validate the source, so this engine does not either.
struct KernelFib;

/// `bpf_fib_lookup`'s parameters; all zero means "not asked for".
struct Parameters(bpf_fib_lookup);

#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "64 bytes")]
const PARAMETERS_LEN: i32 = size_of::<bpf_fib_lookup>() as i32;

impl Default for Parameters {
    #[inline(always)]
    fn default() -> Self {
        // SAFETY: plain integers and unions of such; zero is valid for all.
        Self(unsafe { core::mem::zeroed() })
    }
}

impl Engine for KernelFib {
    type Scratch = Parameters;

    #[inline(always)]
    fn destination<'a, const OFFSET: usize>(
        &self,
        frame: &Frame<OFFSET>,
        packet: &Ipv4,
        ingress: &Port,
        scratch: &'a mut Parameters,
        _steps: &mut Steps,
    ) -> Result<Hop<'a>, Reason> {
        let parameters = &mut scratch.0;
        let [s0, s1, d0, d1] = tables::ports(frame, packet);
        parameters.family = AF_INET;
        parameters.l4_protocol = packet.protocol;
        parameters.sport = u16::from_ne_bytes([s0, s1]);
        parameters.dport = u16::from_ne_bytes([d0, d1]);
        #[expect(clippy::cast_possible_truncation, reason = "comes from a 16-bit field")]
        let length = packet.total_length as u16;
        parameters.__bindgen_anon_1.tot_len = length;
        parameters.ifindex = ingress.ifindex;
        parameters.__bindgen_anon_2.tos = packet.tos;
        parameters.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(packet.source);
        parameters.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(packet.destination);
        // SAFETY: the context is the kernel's, the parameters are a live struct of the given size.
        let result =
            unsafe { helpers::bpf_fib_lookup(frame.context().cast(), parameters, PARAMETERS_LEN, 0) };
        match u32::try_from(result) {
            Ok(BPF_FIB_LKUP_RET_SUCCESS) => Ok(Hop {
                ifindex: parameters.ifindex,
                mtu: u32::MAX,
                destination_mac: &parameters.dmac,
                source_mac: &parameters.smac,
            }),
            Ok(BPF_FIB_LKUP_RET_BLACKHOLE | BPF_FIB_LKUP_RET_UNREACHABLE | BPF_FIB_LKUP_RET_PROHIBIT) => {
                Err(Reason::Refused)
            }
            Ok(BPF_FIB_LKUP_RET_NOT_FWDED) => Err(Reason::Local),
            Ok(BPF_FIB_LKUP_RET_FWD_DISABLED) => Err(Reason::PortNotReady),
            Ok(BPF_FIB_LKUP_RET_UNSUPP_LWT) => Err(Reason::Unsupported),
            Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => Err(Reason::NextHopNotLive),
            Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => Err(Reason::TooBig),
            _ => Err(Reason::NoRoute),
        }
    }

    #[inline(always)]
    fn source(&self, _: &Ipv4, _: &Port, _: &Port, _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }
}

/// No lookup at all: every packet goes to the same row.
struct Floor;

impl Engine for Floor {
    type Scratch = ();

    #[inline(always)]
    fn destination<'a, const OFFSET: usize>(
        &self,
        _frame: &Frame<OFFSET>,
        _packet: &Ipv4,
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
    fn source(&self, _: &Ipv4, _: &Port, _: &Port, _: &mut Steps) -> Result<(), Reason> {
        Ok(())
    }
}

/// The forwarding program over `bpf_fib_lookup`.
#[xdp]
fn rival_fib(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &KernelFib)
}

/// The forwarding program without a lookup: everything to row 1.
#[xdp]
fn rival_floor(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &Floor)
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
