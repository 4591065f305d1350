//! Offloads and channels of an interface, by the `ethtool` family of generic netlink.

use std::collections::BTreeSet;
use std::io;

use super::facts::{Channels, Offload, Offloads, offload};
use super::genetlink::{self, Attribute, invalid, nested, parse, value};
use crate::netlink::model::IfIndex;

// include/uapi/linux/ethtool_netlink.h
const FAMILY: &str = "ethtool";
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
/// `ETHTOOL_A_FEATURES_HEADER` and `ETHTOOL_A_CHANNELS_HEADER`.
const HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_HW: u16 = 2;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_FEATURES_NOCHANGE: u16 = 5;
const ETHTOOL_A_BITSET_NOMASK: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;
const ETHTOOL_A_CHANNELS_RX_MAX: u16 = 2;
const ETHTOOL_A_CHANNELS_TX_MAX: u16 = 3;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_TX_COUNT: u16 = 7;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;
/// `NLA_F_NESTED` of include/uapi/linux/netlink.h.
const NLA_F_NESTED: u16 = 1 << 15;

/// `ethtool -k`, as far as [`offload::ALL`] goes; `None` on a kernel before 5.7.
///
/// # Errors
/// No such interface, or netlink fails.
pub fn offloads(ifindex: IfIndex) -> io::Result<Option<Offloads>> {
    let Some(answer) = genetlink::ask(FAMILY, ETHTOOL_MSG_FEATURES_GET, question(ifindex))? else {
        return Ok(None);
    };
    let bits = |kind| nested(&answer, kind).map_or_else(|| Ok(BTreeSet::new()), names);
    let (active, changeable) = (bits(ETHTOOL_A_FEATURES_ACTIVE)?, bits(ETHTOOL_A_FEATURES_HW)?);
    let never = bits(ETHTOOL_A_FEATURES_NOCHANGE)?;
    let state = |name: &str| Offload {
        on: active.contains(name),
        fixed: !changeable.contains(name) || never.contains(name),
    };
    Ok(Some(offload::ALL.iter().map(|name| ((*name).to_owned(), state(name))).collect()))
}

/// `ethtool -l`; `None` when the device has no channels to tell of.
///
/// # Errors
/// No such interface, or netlink fails.
pub fn channels(ifindex: IfIndex) -> io::Result<Option<Channels>> {
    let answer = genetlink::ask(FAMILY, ETHTOOL_MSG_CHANNELS_GET, question(ifindex))?;
    Ok(answer.map(|answer| {
        let count = |kind| value(&answer, kind).map_or(0, u32::from_ne_bytes);
        Channels {
            rx: count(ETHTOOL_A_CHANNELS_RX_COUNT),
            tx: count(ETHTOOL_A_CHANNELS_TX_COUNT),
            combined: count(ETHTOOL_A_CHANNELS_COMBINED_COUNT),
            max_rx: count(ETHTOOL_A_CHANNELS_RX_MAX),
            max_tx: count(ETHTOOL_A_CHANNELS_TX_MAX),
            max_combined: count(ETHTOOL_A_CHANNELS_COMBINED_MAX),
        }
    }))
}

/// A header that names the interface.
fn question(ifindex: IfIndex) -> Vec<Attribute> {
    let mut header = Vec::from(8u16.to_ne_bytes());
    header.extend(ETHTOOL_A_HEADER_DEV_INDEX.to_ne_bytes());
    header.extend(ifindex.to_ne_bytes());
    vec![(HEADER | NLA_F_NESTED, header)]
}

/// The names of the bits that are set in a bitset of the verbose form. Without a mask only those are
/// listed, with one all that the mask has.
fn names(bitset: &[u8]) -> io::Result<BTreeSet<String>> {
    let bitset = parse(bitset)?;
    let all_set = nested(&bitset, ETHTOOL_A_BITSET_NOMASK).is_some();
    let bits = nested(&bitset, ETHTOOL_A_BITSET_BITS).map_or_else(|| Ok(Vec::new()), parse)?;
    let mut names = BTreeSet::new();
    for (_, bit) in bits.iter().filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT) {
        let bit = parse(bit)?;
        if !all_set && nested(&bit, ETHTOOL_A_BITSET_BIT_VALUE).is_none() {
            continue;
        }
        let name = nested(&bit, ETHTOOL_A_BITSET_BIT_NAME).ok_or_else(|| invalid("a bit without a name"))?;
        names.insert(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).expect("short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn bit_names_are_read_and_garbage_is_an_error() {
        let bit = |name: &[u8], set: bool| {
            let mut value =
                [attribute(1, &[7, 0, 0, 0]), attribute(ETHTOOL_A_BITSET_BIT_NAME, name)].concat();
            if set {
                value.extend(attribute(ETHTOOL_A_BITSET_BIT_VALUE, &[]));
            }
            attribute(ETHTOOL_A_BITSET_BITS_BIT | NLA_F_NESTED, &value)
        };
        let bitset = |bits: [Vec<u8>; 2]| attribute(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, &bits.concat());
        let masked = bitset([bit(b"rx-gro\0", true), bit(b"rx-lro\0", false)]);
        assert_eq!(names(&masked).expect("well formed"), ["rx-gro".to_owned()].into());
        let bitset = [
            attribute(ETHTOOL_A_BITSET_NOMASK, &[]),
            bitset([bit(b"rx-gro\0", false), bit(b"rx-lro\0", false)]),
        ]
        .concat();
        let expected: BTreeSet<String> = ["rx-gro", "rx-lro"].map(str::to_owned).into();
        assert_eq!(names(&bitset).expect("well formed"), expected);
        assert_eq!(names(&[]).expect("nothing set"), BTreeSet::new());
        for cut in [3, 9, bitset.len() - 9] {
            assert!(names(&bitset[..cut]).is_err(), "{cut}");
        }
    }
}
