//! The table of prefixes in the maps of the program: the flat table, or the tries of the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use ipnet::{IpNet, Ipv4Net};
use underpass_common::abi::{FIB_SLACK, map, program};
use underpass_common::fib::{TargetId, VIEW_BITS, ViewId, lpm_key4};

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
            Self::Flat => name == map::FIB4,
            Self::LpmTrie => name == map::FIB,
        }
    }
}

/// The prefixes.
pub enum PrefixTable {
    /// The flat table.
    Flat(Box<FlatTable<Mapping>>),
    /// The tries of the kernel.
    LpmTrie(LpmTrie<MapData, [u8; 8], TargetId>),
}

impl PrefixTable {
    /// Takes the table of `engine` out of a loaded object, with what it holds.
    ///
    /// # Errors
    /// The map is missing, of another type, or cannot be mapped.
    pub fn take(ebpf: &mut Ebpf, engine: Engine) -> Result<Self, MapError> {
        if engine == Engine::LpmTrie {
            return Ok(Self::LpmTrie(take(ebpf, map::FIB4)?));
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
            Self::LpmTrie(trie) => {
                let key = lpm_key(view, prefix)
                    .map_err(|source| MapError::new(map::FIB4, "set", prefix, source))?;
                let written = match target {
                    Some(target) => trie.insert(&key, target, 0),
                    None => missing_is_fine(trie.remove(&key)),
                };
                written.map_err(|error| failed(map::FIB4, "set", prefix, error))
            }
        }
    }

    /// Reads all prefixes back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&self, contents: &mut Contents) -> Result<(), MapError> {
        match self {
            Self::Flat(table) => contents.prefixes.extend(table.prefixes()),
            Self::LpmTrie(trie) => {
                for entry in trie {
                    let (key, target) = entry.map_err(|error| failed(map::FIB4, "read", "all", error))?;
                    let data = key.data();
                    let view = ViewId::from_be_bytes([data[0], data[1], data[2], data[3]]);
                    let address = Ipv4Addr::new(data[4], data[5], data[6], data[7]);
                    let length = u8::try_from(key.prefix_len().saturating_sub(VIEW_BITS)).unwrap_or(u8::MAX);
                    // A key shorter than the view or longer than an address was never written by us.
                    if let Ok(prefix) = Ipv4Net::new(address, length) {
                        contents.prefixes.insert((view, IpNet::V4(prefix)), target);
                    }
                }
            }
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

fn lpm_key(view: ViewId, prefix: IpNet) -> Result<Key<[u8; 8]>, io::Error> {
    match (prefix.addr(), prefix.prefix_len()) {
        (IpAddr::V4(address), length) => {
            Ok(Key::new(VIEW_BITS + u32::from(length), lpm_key4(view, address.octets())))
        }
        (IpAddr::V6(_), _) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the LPM engine holds IPv4 only"))
        }
    }
}
