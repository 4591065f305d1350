//! The eBPF object with the generator, the sink and the rival programs.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;
use aya::maps::{Array, Map};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use underpass_common::abi;
use underpass_common::bench::{self, DESTINATIONS};
use underpass_common::fib::flat::UNIT_WORDS;

use crate::routes::Family;

static OBJECT: &[u8] = include_bytes_aligned!(env!("RIVALS_OBJECT"));

/// A private copy of the object's maps, and its programs.
///
/// # Errors
/// The kernel refuses a map.
pub fn open() -> anyhow::Result<Ebpf> {
    Ebpf::load(OBJECT).context("cannot load the benchmark's eBPF object; it needs root")
}

/// As [`open`], with the flat table in the map of `bytes` that is pinned at `pin`.
///
/// # Errors
/// The pin is another map, or the kernel refuses one.
pub fn open_with_table(pin: &Path, bytes: u32) -> anyhow::Result<Ebpf> {
    let mask = bytes / (4 * UNIT_WORDS) - 1;
    let mut loader = EbpfLoader::new();
    loader.map_pin_path(abi::map::FIB, pin).override_global(abi::FIB_UNIT_MASK, &mask, true);
    loader.load(OBJECT).context("cannot load the benchmark's eBPF object; it needs root")
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

/// Writes the destinations that generator and lookup loops go through.
///
/// # Errors
/// They are not [`DESTINATIONS`] of the family, or the kernel refuses.
pub fn aim(object: &mut Ebpf, family: Family, destinations: &[IpAddr]) -> anyhow::Result<()> {
    match family {
        Family::Ipv4 => fill(object, bench::map::DESTINATIONS, destinations, |address| match address {
            IpAddr::V4(address) => Some(u32::from_ne_bytes(address.octets())),
            IpAddr::V6(_) => None,
        }),
        Family::Ipv6 => fill(object, bench::map::DESTINATIONS6, destinations, |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => {
                let octets = address.octets();
                let word = |at: usize| {
                    u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
                };
                Some([word(0), word(4), word(8), word(12)])
            }
        }),
    }
}

fn fill<T: Pod>(
    object: &mut Ebpf,
    name: &str,
    destinations: &[IpAddr],
    word: impl FnMut(&IpAddr) -> Option<T>,
) -> anyhow::Result<()>
where
    [T; DESTINATIONS]: Pod,
{
    let words = destinations.iter().map(word).collect::<Option<Box<[T]>>>();
    let words: Option<Box<[T; DESTINATIONS]>> = words.and_then(|words| words.try_into().ok());
    let words = words.with_context(|| format!("{name} takes {DESTINATIONS} destinations of one family"))?;
    let mut map: Array<_, [T; DESTINATIONS]> = map(object, name)?.try_into()?;
    let words: &[T; DESTINATIONS] = &words;
    map.set(0, words, 0)?;
    Ok(())
}
