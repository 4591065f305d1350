//! Programs that the benchmark compares with: the forwarding program with another engine, everything
//! else the same code.
#![no_std]
#![no_main]
#![expect(clippy::inline_always, reason = "the programs make no calls between BPF functions")]
#![expect(clippy::needless_pass_by_value, reason = "`#[xdp]` hands the context over by value")]

mod generator;
mod kernel_fib;
mod lookups;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use underpass_common::nexthop::{NEXT_HOP_LIVE, Port};
use underpass_common::parse::Ipv4;
use underpass_common::reason::Reason;
use underpass_ebpf::forward::{self, Engine, Hop, Steps};
use underpass_ebpf::frame::Frame;
use underpass_ebpf::maps::UP_NEXT_HOPS;
use underpass_ebpf::tables::{LpmTrie, Tables};

use self::kernel_fib::KernelFib;

/// The next-hop row that [`rival_floor`] sends everything to.
const FLOOR_ROW: u32 = 1;

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
