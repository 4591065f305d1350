//! The eBPF object with the generator, the sink and the rival programs.

use anyhow::Context;
use aya::maps::Map;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, include_bytes_aligned};

static OBJECT: &[u8] = include_bytes_aligned!(env!("RIVALS_OBJECT"));

/// A private copy of the object's maps, and its programs.
///
/// # Errors
/// The kernel refuses a map.
pub fn open() -> anyhow::Result<Ebpf> {
    Ebpf::load(OBJECT).context("cannot load the benchmark's eBPF object; it needs root")
}

/// Loads a program into the kernel.
///
/// # Errors
/// The object has no such program, or the kernel refuses it.
pub fn load<'a>(object: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program = xdp(object, name)?;
    program.load().with_context(|| format!("cannot load the program {name}"))?;
    Ok(program)
}

/// A program of the object.
///
/// # Errors
/// The object has no such program.
pub fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    program
        .try_into()
        .map_err(|error: ProgramError| anyhow::Error::new(error).context(format!("program {name}")))
}

/// A map of the object.
///
/// # Errors
/// The object has no such map.
pub fn map<'a>(object: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Map> {
    object.map_mut(name).with_context(|| format!("the object has no map {name}"))
}
