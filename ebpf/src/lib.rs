//! The Underpass data plane: maps and the way of one packet.
//!
//! A library, so that the forwarding program and the benchmark's rivals are built from the same code.
//! Everything is inlined into the programs: no tail calls, no calls between BPF functions.
#![no_std]
#![expect(clippy::inline_always, reason = "the programs make no calls between BPF functions")]

pub mod flat;
pub mod forward;
pub mod frame;
pub mod maps;
pub mod probe;
pub mod stats;
pub mod tables;

/// Never reached: nothing in the programs can panic, and the verifier would refuse the loop.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
