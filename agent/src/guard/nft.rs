//! Tables, chains and rules of nftables, by nfnetlink. iptables-nft writes there, too.

use std::collections::BTreeMap;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::attributes::{attributes, find, find_be32, find_text, text};
use super::model::{Base, Chain, Hook, Owner, Table};
use super::nft_rule;
use super::socket::{Answer, DumpSocket};

// Messages of linux/netfilter/nf_tables.h, below the subsystem's number.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
/// `struct nfgenmsg` for all families.
const ANY_FAMILY: [u8; 4] = [0; 4];
/// `NFT_TABLE_F_DORMANT`: its hooks are not in use.
const DORMANT: u32 = 1;
/// How often it is read again at once when it changed meanwhile.
const ATTEMPTS: u32 = 5;

/// Reads nftables.
#[derive(Debug)]
pub struct Nft {
    socket: DumpSocket,
    /// What was read last, and the generation of the rules then.
    last: Option<(u32, Vec<Table>)>,
}

impl Nft {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel's: `EPROTONOSUPPORT` it has no netfilter.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: DumpSocket::new(NETLINK_NETFILTER)?, last: None })
    }

    /// All tables. Nothing is read when the kernel's generation is that of the last time.
    ///
    /// # Errors
    /// The kernel refuses, or the rules change all the time.
    pub fn read(&mut self) -> io::Result<Vec<Table>> {
        for _ in 0..ATTEMPTS {
            let before = match self.generation() {
                // No nftables in this kernel.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
                other => other?,
            };
            if let Some((generation, tables)) = &self.last
                && *generation == before
            {
                return Ok(tables.clone());
            }
            self.last = None;
            let tables = match self.dump() {
                Ok(Some(tables)) => tables,
                // EINTR: the kernel says so itself.
                Ok(None) => continue,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) => return Err(error),
            };
            if self.generation()? == before {
                self.last = Some((before, tables.clone()));
                return Ok(tables);
            }
        }
        Err(io::Error::other("the rules change faster than they can be read"))
    }

    fn generation(&mut self) -> io::Result<u32> {
        let answer = self.socket.get(GET_GENERATION, &ANY_FAMILY)?;
        let message = answer.messages.first().map(|(_, message)| message.as_slice()).unwrap_or_default();
        // NFTA_GEN_ID.
        find_be32(message.get(4..).unwrap_or_default(), 1)
            .ok_or_else(|| io::Error::other("the kernel's answer has no generation"))
    }

    /// `None`: they changed meanwhile.
    fn dump(&mut self) -> io::Result<Option<Vec<Table>>> {
        let tables = self.socket.dump(GET_TABLE, &ANY_FAMILY)?;
        let chains = self.socket.dump(GET_CHAIN, &ANY_FAMILY)?;
        let rules = self.socket.dump(GET_RULE, &ANY_FAMILY)?;
        let consistent = tables.consistent && chains.consistent && rules.consistent;
        Ok(consistent.then(|| assemble(&tables, &chains, &rules)))
    }
}

/// Puts together what the three dumps say.
fn assemble(tables: &Answer, chains: &Answer, rules: &Answer) -> Vec<Table> {
    let mut found: BTreeMap<(u8, String), Table> = BTreeMap::new();
    for (family, message) in messages(tables, NEW_TABLE) {
        let dormant = find_be32(message, 2).unwrap_or(0) & DORMANT != 0;
        if let (Some(owner), Some(name), false) = (owner(family), find_text(message, 1), dormant) {
            found.insert((family, name.clone()), Table { owner, name, chains: BTreeMap::new() });
        }
    }
    for (family, message) in messages(chains, NEW_CHAIN) {
        let table = found.get_mut(&(family, find_text(message, 1).unwrap_or_default()));
        if let (Some(table), Some(name)) = (table, find_text(message, 3)) {
            let chain = Chain { base: base(family, message), rules: Vec::new() };
            table.chains.insert(name, chain);
        }
    }
    for (family, message) in messages(rules, NEW_RULE) {
        let table = found.get_mut(&(family, find_text(message, 1).unwrap_or_default()));
        let chain = table.zip(find_text(message, 2)).and_then(|(table, name)| table.chains.get_mut(&name));
        if let Some(chain) = chain {
            chain.rules.push(nft_rule::read(message));
        }
    }
    found.into_values().collect()
}

/// Family and attributes of the messages of a type.
fn messages(answer: &Answer, of: u16) -> impl Iterator<Item = (u8, &[u8])> {
    let right = answer.messages.iter().filter(move |(kind, _)| *kind == of);
    right.filter_map(|(_, message)| Some((*message.first()?, message.get(4..)?)))
}

/// By `NFPROTO_*`. Bridges' packets are no transit: their ports are refused as ports.
const fn owner(family: u8) -> Option<Owner> {
    match family {
        1 => Some(Owner::Nft("inet")),
        2 => Some(Owner::Nft("ip")),
        5 => Some(Owner::Nft("netdev")),
        10 => Some(Owner::Nft("ip6")),
        _ => None,
    }
}

fn base(family: u8, message: &[u8]) -> Option<Base> {
    let attributes_of_hook = find(message, 4)?;
    let number = find_be32(attributes_of_hook, 1)?;
    let hook = match (family, number) {
        (5, 0) | (1, 5) => Hook::Ingress,
        (5, 1) => Hook::Egress,
        (1 | 2 | 10, 0) => Hook::Prerouting,
        (1 | 2 | 10, 2) => Hook::Forward,
        (1 | 2 | 10, 4) => Hook::Postrouting,
        _ => Hook::Elsewhere,
    };
    let mut devices: Vec<String> = find_text(attributes_of_hook, 3).into_iter().collect();
    for (kind, value) in attributes(find(attributes_of_hook, 4).unwrap_or_default()) {
        // NFTA_DEVICE_NAME, and NFTA_DEVICE_PREFIX.
        devices.push(if kind == 2 { format!("{}*", text(value)) } else { text(value) });
    }
    Some(Base {
        hook,
        priority: find_be32(attributes_of_hook, 2).map_or(0, u32::cast_signed),
        drops: find_be32(message, 5) == Some(0),
        devices,
    })
}
