//! The programs of the agent.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use underpass_ebpf as _;

/// Forwards.
#[xdp]
fn underpass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Probe.
#[xdp]
fn underpass_probe(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Passes everything: makes the far end of a veth able to transmit XDP frames.
#[xdp]
fn underpass_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Licence of the object, which decides about the kernel helpers it may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
