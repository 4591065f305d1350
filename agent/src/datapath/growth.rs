//! The flat table in its size classes: an array map cannot grow, so the next larger one takes its place,
//! with a new generation of the programs.
//!
//! The new map is filled before any packet sees it; it takes over the pin, and then each port's link gets
//! the new program in one step. A crash before the pin changes leaves everything as it was; one after it
//! leaves ports on the old program and map, whose answers are the same, until the next agent attaches.

use std::path::Path;

use aya::Ebpf;
use aya::maps::MapData;
use aya_obj::Object;
use underpass_common::abi::{FIB_BYTES, FIB_SLACK, map};

use super::OBJECT;
use super::flat::FlatTable;
use super::loader::{self, LoadError};
use super::maps::MapError;
use super::pins::{self, PinError};
use super::prefix_table::{Engine, refused, words};
use crate::sys::bpf_link::XdpLink;
use crate::sys::mapping::Mapping;

/// Pin of a map that is being filled.
pub const NEXT: &str = "UP_FIB_NEXT";

/// What a prefix takes at least when it does not share its answer with its neighbours: 11 bytes in an IPv4 table
/// of the Internet, up to 60 in one of IPv6.
const BYTES_PER_PREFIX: u64 = 10;

/// A table cannot grow.
#[derive(Debug, thiserror::Error)]
pub enum GrowthError {
    /// It has the largest size.
    #[error("the prefix table has its largest size of {} MiB", FIB_BYTES[FIB_BYTES.len() - 1] >> 20)]
    Largest,
    /// The map or the programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The words of the new map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The pins.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// Makes sure that a map for the flat table is pinned in `folder`: the one that is there, or one of the
/// smallest class. Gives its size in bytes.
///
/// # Errors
/// The kernel refuses the map or the pin.
pub fn ensure(folder: &Path) -> Result<u32, LoadError> {
    pins::remove(&pins::map(folder, NEXT))?;
    let path = pins::map(folder, map::FIB);
    if !path.exists() {
        create(FIB_BYTES[0], &path)?;
        return Ok(FIB_BYTES[0]);
    }
    let info = aya::maps::MapInfo::from_pin(&path)
        .map_err(|source| LoadError::ReadPin { path: path.clone(), source })?;
    Ok(info.value_size().saturating_sub(FIB_SLACK))
}

/// The size class, in bytes, that comes after `size` and is likely to hold so many prefixes; the largest when
/// none is. `None`: `size` is the largest already.
fn class(size: u64, prefixes: usize) -> Option<u32> {
    let wanted = (prefixes as u64).saturating_mul(BYTES_PER_PREFIX);
    let mut larger = FIB_BYTES.into_iter().filter(|bytes| u64::from(*bytes) > size);
    let largest = larger.clone().next_back();
    larger.find(|bytes| u64::from(*bytes) >= wanted).or(largest)
}

/// Makes a map of `bytes` bytes for the flat table and pins it.
fn create(bytes: u32, path: &Path) -> Result<(), LoadError> {
    let object = Object::parse(OBJECT).map_err(|error| LoadError::Object(error.to_string()))?;
    let mut definition = object.maps.get(map::FIB).cloned();
    let Some(aya_obj::Map::Legacy(legacy)) = &mut definition else {
        return Err(LoadError::Object(format!(
            "it has no map {}; rebuild with `cargo xtask setup`",
            map::FIB
        )));
    };
    legacy.def.value_size = bytes + FIB_SLACK;
    let made = definition.ok_or_else(|| LoadError::Object("no definition".to_owned()));
    let data = MapData::create(made?, map::FIB, None)
        .map_err(|error| LoadError::Object(format!("a prefix table of {bytes} bytes: {error}")))?;
    data.pin(path).map_err(|error| LoadError::Object(format!("cannot pin {}: {error}", path.display())))
}

/// The same table in a map of a larger class, the first that is likely to hold `more` further prefixes, with
/// programs that read it on every port. What the old programs and the old map are is given up by dropping them.
///
/// # Errors
/// Nothing has changed then.
pub fn grow(
    folder: &Path,
    table: &FlatTable<Mapping>,
    more: usize,
) -> Result<(Ebpf, FlatTable<Mapping>), GrowthError> {
    let larger = class(table.usage().capacity, table.len() + more).ok_or(GrowthError::Largest)?;
    let next = pins::map(folder, NEXT);
    pins::remove(&next)?;
    create(larger, &next)?;
    let mut ebpf = loader::load_with_fib(OBJECT, folder, Engine::Flat, Some((&next, larger)))?;
    let prefix = ipnet::IpNet::V4(ipnet::Ipv4Net::default());
    let copy = table.copy_to(words(&ebpf)?).map_err(|refusal| refused(prefix, refusal))?;
    pins::rename(&next, &pins::map(folder, map::FIB))?;
    let program = loader::xdp(&mut ebpf, Engine::Flat.forward())?;
    let fd = program.fd().map_err(|error| LoadError::Object(error.to_string()))?;
    for (ifindex, pin) in pins::links(folder)? {
        let replaced = XdpLink::open(&pin).and_then(|link| link.replace(std::os::fd::AsFd::as_fd(fd)));
        if let Err(problem) = replaced {
            // The old program would go on with a table that nobody keeps right.
            tracing::warn!(ifindex, %problem, "the port does not take the program of the larger table");
            pins::remove(&pin)?;
        }
    }
    tracing::info!(bytes = larger, "the prefix table has grown");
    Ok((ebpf, copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_may_hold_the_prefixes() {
        const MIB: u64 = 1 << 20;
        for (size, prefixes, expected) in [
            (2 * MIB, 1, Some(8)),
            (2 * MIB, 800_000, Some(8)),
            (2 * MIB, 1_000_000, Some(32)),
            (8 * MIB, 1_000_000, Some(32)),
            (2 * MIB, 100_000_000, Some(64)),
            (32 * MIB, 1, Some(64)),
            (64 * MIB, 1, None),
        ] {
            let found = class(size, prefixes).map(|bytes| bytes >> 20);
            assert_eq!(found, expected, "{prefixes} prefixes after {size} bytes");
        }
    }
}
