//! The programs of the agent.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use underpass_ebpf::flat::FlatTable;
use underpass_ebpf::frame::Frame;
use underpass_ebpf::tables::{LpmTrie, Tables};
use underpass_ebpf::{forward, probe};

/// Forwards what the kernel would forward; attached to every managed port.
#[xdp(frags)]
fn underpass(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &Tables(FlatTable::open()))
}

/// The same decision on the frame behind a probe header; only ever run by `BPF_PROG_TEST_RUN`.
#[xdp(frags)]
fn underpass_probe(ctx: XdpContext) -> u32 {
    probe::answer(Frame::new(ctx), &Tables(FlatTable::open()))
}

/// [`underpass`] over the tries of the kernel (`datapath.fib = "lpm-trie"`).
#[xdp(frags)]
fn underpass_lpm(ctx: XdpContext) -> u32 {
    forward::run(Frame::new(ctx), &Tables(LpmTrie))
}

/// [`underpass_probe`] over the tries of the kernel.
#[xdp(frags)]
fn underpass_probl(ctx: XdpContext) -> u32 {
    probe::answer(Frame::new(ctx), &Tables(LpmTrie))
}

/// Passes everything: a veth sends XDP frames only when its peer runs a program.
#[xdp(frags)]
fn underpass_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Licence of the object: some kernel helpers want a GPL-compatible one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
