//! The table of prefixes in the maps of the program: the flat table, or the tries of the kernel.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use ipnet::IpNet;
use underpass_common::abi::{FIB_SLACK, map, program};
use underpass_common::fib::{TargetId, VIEW_BITS, ViewId, lpm_key4, lpm_key6};

use super::bpf_maps::{failed, grace_period, missing_is_fine, take};
use super::flat::{FlatTable, Refusal};
use super::maps::{Contents, MapError, PrefixChange};
use crate::sys::mapping::Mapping;

/// Which table holds the prefixes (`datapath.fib`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The flat table, in size classes: `"flat"`.
    #[default]
    Flat,
    /// `BPF_MAP_TYPE_LPM_TRIE`, the reference: `"lpm-trie"`.
    LpmTrie,
}

impl Engine {
    /// The forwarding program over this table.
    pub const fn forward(self) -> &'static str {
        match self {
            Self::Flat => program::FORWARD,
            Self::LpmTrie => program::FORWARD_LPM,
        }
    }

    /// The probe over this table.
    pub const fn probe(self) -> &'static str {
        match self {
            Self::Flat => program::PROBE,
            Self::LpmTrie => program::PROBE_LPM,
        }
    }

    /// Whether the map belongs to the other table: such a one is not pinned, so that nothing of a former
    /// run is found in it.
    pub fn is_foreign(self, name: &str) -> bool {
        match self {
            Self::Flat => matches!(name, map::FIB4 | map::FIB6),
            Self::LpmTrie => name == map::FIB,
        }
    }
}

/// The prefixes.
pub enum PrefixTable {
    /// The flat table.
    Flat(Box<FlatTable<Mapping>>),
    /// The tries of the kernel.
    LpmTrie(Box<Tries>),
}

/// The tries of the kernel, one per family.
pub struct Tries {
    ipv4: LpmTrie<MapData, [u8; 8], TargetId>,
    ipv6: LpmTrie<MapData, [u8; 20], TargetId>,
}

impl Tries {
    fn set(&mut self, view: ViewId, prefix: IpNet, target: Option<TargetId>) -> Result<(), MapError> {
        let length = VIEW_BITS + u32::from(prefix.prefix_len());
        let (name, written) = match prefix.network() {
            IpAddr::V4(address) => {
                let key = Key::new(length, lpm_key4(view, address.octets()));
                (map::FIB4, write(&mut self.ipv4, &key, target))
            }
            IpAddr::V6(address) => {
                let key = Key::new(length, lpm_key6(view, address.octets()));
                (map::FIB6, write(&mut self.ipv6, &key, target))
            }
        };
        written.map_err(|error| failed(name, "set", prefix, error))
    }

    fn read(&self, contents: &mut Contents) -> Result<(), MapError> {
        for entry in &self.ipv4 {
            let (key, target) = entry.map_err(|error| failed(map::FIB4, "read", "all", error))?;
            let [v0, v1, v2, v3, a, b, c, d] = key.data();
            note(contents, [v0, v1, v2, v3], IpAddr::from([a, b, c, d]), key.prefix_len(), target);
        }
        for entry in &self.ipv6 {
            let (key, target) = entry.map_err(|error| failed(map::FIB6, "read", "all", error))?;
            let data = key.data();
            let (Some(view), Some(address)) = (data.first_chunk::<4>(), data.last_chunk::<16>()) else {
                continue;
            };
            note(contents, *view, IpAddr::from(*address), key.prefix_len(), target);
        }
        Ok(())
    }
}

fn write<K: aya::Pod>(
    trie: &mut LpmTrie<MapData, K, TargetId>,
    key: &Key<K>,
    target: Option<TargetId>,
) -> Result<(), aya::maps::MapError> {
    match target {
        Some(target) => trie.insert(key, target, 0),
        None => missing_is_fine(trie.remove(key)),
    }
}

/// A key that is shorter than the view or longer than an address was never written by us.
fn note(contents: &mut Contents, view: [u8; 4], address: IpAddr, length: u32, target: TargetId) {
    let length = u8::try_from(length.saturating_sub(VIEW_BITS)).unwrap_or(u8::MAX);
    if let Ok(prefix) = IpNet::new(address, length) {
        contents.prefixes.insert((ViewId::from_be_bytes(view), prefix), target);
    }
}

impl PrefixTable {
    /// Takes the table of `engine` out of a loaded object, with what it holds.
    ///
    /// # Errors
    /// The map is missing, of another type, or cannot be mapped.
    pub fn take(ebpf: &mut Ebpf, engine: Engine) -> Result<Self, MapError> {
        if engine == Engine::LpmTrie {
            let tries = Tries { ipv4: take(ebpf, map::FIB4)?, ipv6: take(ebpf, map::FIB6)? };
            return Ok(Self::LpmTrie(Box::new(tries)));
        }
        let table = FlatTable::adopt(words(ebpf)?);
        let table = match table {
            Ok(table) => table,
            Err(problem) => {
                tracing::warn!(%problem, "the prefix table of a former run is given up");
                let table = FlatTable::new(words(ebpf)?);
                // Packets may still be on their way through the old nodes.
                grace_period();
                table
            }
        };
        Ok(Self::Flat(Box::new(table)))
    }

    /// Inserts or replaces a prefix, or removes it.
    ///
    /// # Errors
    /// The table is full ([`io::ErrorKind::StorageFull`]), or the kernel refuses.
    pub fn set(&mut self, ((view, prefix), target): PrefixChange) -> Result<(), MapError> {
        match self {
            Self::Flat(table) => {
                table.set((view, prefix), target).map_err(|refusal| refused(prefix, refusal))
            }
            Self::LpmTrie(tries) => tries.set(view, prefix, target),
        }
    }

    /// Reads all prefixes back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&self, contents: &mut Contents) -> Result<(), MapError> {
        match self {
            Self::Flat(table) => contents.prefixes.extend(table.prefixes()),
            Self::LpmTrie(tries) => tries.read(contents)?,
        }
        Ok(())
    }
}

/// A refusal of the flat table as an error of its map.
pub fn refused(prefix: IpNet, refusal: Refusal) -> MapError {
    let kind = match refusal {
        Refusal::Full => io::ErrorKind::StorageFull,
        Refusal::View(_) | Refusal::Target(_) => io::ErrorKind::InvalidInput,
    };
    MapError::new(map::FIB, "set", prefix, io::Error::new(kind, refusal))
}

/// Maps the words of the flat table, as many as the map in the kernel has.
///
/// # Errors
/// The object has no such map, or it cannot be mapped.
pub fn words(ebpf: &Ebpf) -> Result<Mapping, MapError> {
    let Some(Map::Array(data)) = ebpf.map(map::FIB) else {
        let source = io::Error::new(io::ErrorKind::NotFound, "no array of this name in the object");
        return Err(MapError::new(map::FIB, "open", "", source));
    };
    let size = data.info().map_err(|error| failed(map::FIB, "examine", "", error))?.value_size();
    Mapping::new(data.fd().as_fd(), size.saturating_sub(FIB_SLACK) as usize)
        .map_err(|source| MapError::new(map::FIB, "map", "", source))
}
