//! Programs that the benchmark compares with.
#![no_std]
#![no_main]

mod generator;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use underpass_ebpf as _;

/// Plain `XDP_PASS`.
#[xdp]
fn rival_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Licence of the object, which decides about the kernel helpers it may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
