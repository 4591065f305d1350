//! What an nftables register holds, and what a comparison with it says.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::model::{Match, Range};
use super::nft_rule::interface_name;
use crate::netlink::model::Family;

/// Keys of `meta` (`NFT_META_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// Ethernet type, big endian.
    Protocol,
    /// Mark.
    Mark,
    /// Index of the input interface.
    Input,
    /// Index of the output interface.
    Output,
    /// Name of the input interface.
    InputName,
    /// Name of the output interface.
    OutputName,
    /// `NFPROTO_*`.
    Family,
    /// Another.
    Other(u32),
}

impl Meta {
    /// By number.
    pub const fn of(key: u32) -> Self {
        match key {
            1 => Self::Protocol,
            3 => Self::Mark,
            4 => Self::Input,
            5 => Self::Output,
            6 => Self::InputName,
            7 => Self::OutputName,
            15 => Self::Family,
            other => Self::Other(other),
        }
    }
}

/// The content of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// `meta`.
    Meta(Meta),
    /// Bytes of the packet.
    Payload {
        /// `NFT_PAYLOAD_*_HEADER`: 1 is the network header.
        base: u32,
        /// From there, in bytes.
        offset: u32,
        /// In bytes.
        length: u32,
    },
    /// `fib daddr type`.
    DestinationType,
    /// `ct`, by key.
    Ct(u32),
    /// A constant.
    Data(Vec<u8>),
    /// `(value & mask) ^ xor`.
    Masked(Box<Loaded>, Vec<u8>, Vec<u8>),
    /// Not followed.
    Unknown,
}

/// The network header.
const NETWORK: u32 = 1;
/// `RTN_UNICAST` and `RTN_LOCAL` to `RTN_MULTICAST`.
const UNICAST: u32 = 1;
const NOT_IN_TRANSIT: std::ops::RangeInclusive<u32> = 2..=5;

impl Loaded {
    /// Slots of 4 bytes that it fills, at most.
    pub fn slots(&self) -> u32 {
        match self {
            Self::Payload { length, .. } => length.div_ceil(4).max(1),
            Self::Data(value) => u32::try_from(value.len().div_ceil(4)).unwrap_or(16).max(1),
            Self::Masked(inner, ..) => inner.slots(),
            Self::Meta(Meta::Mark | Meta::Protocol | Meta::Family | Meta::Input | Meta::Output)
            | Self::DestinationType => 1,
            Self::Meta(_) | Self::Ct(_) | Self::Unknown => 4,
        }
    }

    /// `value == data`, or not.
    pub fn equals(&self, data: &[u8], invert: bool) -> Match {
        self.try_equals(data, invert).unwrap_or(Match::Maybe)
    }

    fn try_equals(&self, data: &[u8], invert: bool) -> Option<Match> {
        let number = || data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        match self {
            Self::Meta(Meta::InputName) => Some(Match::Input(interface_name(data), invert)),
            Self::Meta(Meta::OutputName) => Some(Match::Output(interface_name(data), invert)),
            Self::Meta(Meta::Input) => Some(Match::InputIndex(number()?, invert)),
            Self::Meta(Meta::Output) => Some(Match::OutputIndex(number()?, invert)),
            Self::Meta(Meta::Mark) => Some(Match::Mark { mask: u32::MAX, value: number()?, invert }),
            Self::Meta(Meta::Family) => Some(family(*data.first()?, invert)),
            Self::Meta(Meta::Protocol) => Some(ethernet_type(*data.first_chunk()?, invert)),
            Self::DestinationType => destination_type(number()?, invert),
            Self::Payload { .. } => {
                let (source, width) = self.address()?;
                address(source, data, u32::try_from(data.len()).ok()? * 8, width, invert)
            }
            Self::Masked(inner, mask, xor) if xor.iter().all(|byte| *byte == 0) => {
                masked(inner, mask, data, invert)
            }
            _ => None,
        }
    }

    /// Whether an address lies in a range.
    pub fn in_range(&self, range: Range, invert: bool) -> Match {
        match self.address() {
            Some((source, width)) if width == bytes(range.family) && self.slots() * 4 == width => {
                side(source, range, invert)
            }
            _ => Match::Maybe,
        }
    }

    /// Whether the payload begins at an address (`true`: the source), and the bytes of one.
    const fn address(&self) -> Option<(bool, u32)> {
        match self {
            Self::Payload { base: NETWORK, offset: 12, length: 1..=4 } => Some((true, 4)),
            Self::Payload { base: NETWORK, offset: 16, length: 1..=4 } => Some((false, 4)),
            Self::Payload { base: NETWORK, offset: 8, length: 5..=16 } => Some((true, 16)),
            Self::Payload { base: NETWORK, offset: 24, length: 1..=16 } => Some((false, 16)),
            _ => None,
        }
    }

    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Meta(Meta::Protocol) => "meta protocol".to_owned(),
            Self::Meta(Meta::Mark) => "mark".to_owned(),
            Self::Meta(Meta::Input) => "iif".to_owned(),
            Self::Meta(Meta::Output) => "oif".to_owned(),
            Self::Meta(Meta::InputName) => "iifname".to_owned(),
            Self::Meta(Meta::OutputName) => "oifname".to_owned(),
            Self::Meta(Meta::Family) => "nfproto".to_owned(),
            Self::Meta(Meta::Other(16)) => "l4proto".to_owned(),
            Self::Meta(Meta::Other(key)) => format!("meta key {key}"),
            Self::Payload { base: 1, offset: 9, length: 1 } => "ip protocol".to_owned(),
            Self::Payload { base: 2, offset: 0, length: 2 } => "sport".to_owned(),
            Self::Payload { base: 2, offset: 2, length: 2 } => "dport".to_owned(),
            Self::Payload { base, offset, length } => match self.address() {
                Some((true, _)) => "saddr".to_owned(),
                Some((false, _)) => "daddr".to_owned(),
                None => format!("@{base},{},{}", offset * 8, length * 8),
            },
            Self::DestinationType => "fib daddr type".to_owned(),
            Self::Ct(0) => "ct state".to_owned(),
            Self::Ct(key) => format!("ct key {key}"),
            Self::Data(_) => "constant".to_owned(),
            Self::Masked(inner, ..) => inner.name(),
            Self::Unknown => "?".to_owned(),
        }
    }

    /// A comparison for people.
    pub fn describe(&self, data: &[u8], operator: Option<u32>) -> String {
        let operator = match operator {
            Some(0) => "",
            Some(1) => "!= ",
            Some(2) => "< ",
            Some(3) => "<= ",
            Some(4) => "> ",
            Some(5) => ">= ",
            _ => "? ",
        };
        let masked = match self {
            Self::Masked(inner, mask, _) if matches!(**inner, Self::Payload { .. }) => {
                prefix_length(mask).map(|bits| format!("/{bits}"))
            }
            Self::Masked(_, mask, _) => Some(format!("/{}", hexadecimal(mask))),
            _ => None,
        };
        let value = self.value(data);
        format!("{} {operator}{value}{}", self.name(), masked.unwrap_or_default())
    }

    fn value(&self, data: &[u8]) -> String {
        match self {
            Self::Masked(inner, ..) => inner.value(data),
            Self::Meta(Meta::InputName | Meta::OutputName) => {
                let name = interface_name(data);
                format!("\"{}{}\"", name.text, if name.prefix { "*" } else { "" })
            }
            Self::Meta(Meta::Family) => match data.first() {
                Some(2) => "ipv4".to_owned(),
                Some(10) => "ipv6".to_owned(),
                _ => hexadecimal(data),
            },
            Self::Payload { base: 2, length: 2, .. } => data
                .first_chunk()
                .map_or_else(|| hexadecimal(data), |port| u16::from_be_bytes(*port).to_string()),
            Self::Meta(Meta::Other(16)) | Self::Payload { base: 1, offset: 9, length: 1 } => {
                match data.first() {
                    Some(6) => "tcp".to_owned(),
                    Some(17) => "udp".to_owned(),
                    Some(1) => "icmp".to_owned(),
                    Some(58) => "icmpv6".to_owned(),
                    _ => hexadecimal(data),
                }
            }
            Self::Payload { .. } => match (self.address(), data.len()) {
                (Some((_, 4)), 1..=3) => {
                    let mut whole = [0; 4];
                    whole[..data.len()].copy_from_slice(data);
                    format!("{}/{}", Ipv4Addr::from(whole), data.len() * 8)
                }
                (Some((_, 4)), 4) => data
                    .first_chunk::<4>()
                    .map_or_else(String::new, |bytes| Ipv4Addr::from(*bytes).to_string()),
                (Some((_, 16)), 1..=15) => {
                    let mut whole = [0; 16];
                    whole[..data.len()].copy_from_slice(data);
                    format!("{}/{}", Ipv6Addr::from(whole), data.len() * 8)
                }
                (Some((_, 16)), 16) => data
                    .first_chunk::<16>()
                    .map_or_else(String::new, |bytes| Ipv6Addr::from(*bytes).to_string()),
                _ => hexadecimal(data),
            },
            Self::DestinationType => match data.first() {
                Some(2) => "local".to_owned(),
                Some(1) => "unicast".to_owned(),
                _ => hexadecimal(data),
            },
            Self::Ct(0) => states(data),
            Self::Meta(Meta::Mark | Meta::Input | Meta::Output) => data
                .first_chunk()
                .map_or_else(|| hexadecimal(data), |bytes| format!("{:#x}", u32::from_ne_bytes(*bytes))),
            _ => hexadecimal(data),
        }
    }
}

const fn bytes(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    }
}

fn hexadecimal(data: &[u8]) -> String {
    data.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// `NF_CT_STATE_BIT`s. A set is looked for as "not none of them".
fn states(data: &[u8]) -> String {
    match data.first_chunk().map(|bits| u32::from_ne_bytes(*bits)) {
        Some(0) => "none of".to_owned(),
        Some(bits) => {
            let names = [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
            let set: Vec<_> =
                names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
            set.join(",")
        }
        None => hexadecimal(data),
    }
}

const fn family(number: u8, invert: bool) -> Match {
    match number {
        2 => Match::Family(Family::Ipv4, invert),
        10 => Match::Family(Family::Ipv6, invert),
        // Packets in transit are one of the two.
        _ if invert => Match::Always,
        _ => Match::Never,
    }
}

const fn ethernet_type(bytes: [u8; 2], invert: bool) -> Match {
    match u16::from_be_bytes(bytes) {
        0x0800 => family(2, invert),
        0x86dd => family(10, invert),
        _ => family(0, invert),
    }
}

fn destination_type(kind: u32, invert: bool) -> Option<Match> {
    match (NOT_IN_TRANSIT.contains(&kind), invert) {
        (true, false) => Some(Match::Never),
        (true, true) => Some(Match::Always),
        (false, _) if kind == UNICAST => Some(Match::Maybe),
        (false, _) => None,
    }
}

/// An address whose first `bits` bits are those of `data`, `width` bytes long when whole.
fn address(source: bool, data: &[u8], bits: u32, width: u32, invert: bool) -> Option<Match> {
    let mut whole = vec![0; usize::try_from(width).ok()?];
    whole.get_mut(..data.len())?.copy_from_slice(data);
    Some(side(source, Range::prefix(&whole, bits)?, invert))
}

const fn side(source: bool, range: Range, invert: bool) -> Match {
    if source { Match::Source(range, invert) } else { Match::Destination(range, invert) }
}

/// Length of the prefix that a mask is, or `None` when it is something else.
fn prefix_length(mask: &[u8]) -> Option<u32> {
    let bits: u32 = mask.iter().map(|byte| byte.leading_ones()).take_while(|ones| *ones == 8).sum();
    let rest = mask.get(usize::try_from(bits / 8).ok()?).copied().unwrap_or(0);
    let length = bits + rest.leading_ones();
    (mask.iter().map(|byte| byte.count_ones()).sum::<u32>() == length).then_some(length)
}

fn masked(inner: &Loaded, mask: &[u8], data: &[u8], invert: bool) -> Option<Match> {
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    match inner {
        Loaded::Meta(Meta::Mark) => Some(Match::Mark { mask: number(mask)?, value: number(data)?, invert }),
        Loaded::Payload { length, .. } if usize::try_from(*length).ok()? == data.len() => {
            let (source, width) = inner.address()?;
            address(source, data, prefix_length(mask)?, width, invert)
        }
        _ => None,
    }
}
