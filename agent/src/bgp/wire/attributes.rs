//! The path attributes before the codec sees them: what it would judge otherwise than the RFCs do.
//!
//! The codec knows families that we never negotiate, and resets the session over prefixes in them that it cannot
//! read or over families that it does not know. They are taken out here.

use bytes::{Bytes, BytesMut};

use super::{Encoding, family_from};
use crate::bgp::notification::{self, Notification};
use crate::netlink::model::Family;

const PARTIAL: u8 = 0x20;
const EXTENDED_LENGTH: u8 = 0x10;

const MULTI_EXIT_DISC: u8 = 4;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;

/// AFI, SAFI, length of the next hop, reserved octet (RFC 7606 §5.3).
const SHORTEST_REACH: usize = 5;
/// AFI and SAFI (RFC 7606 §5.3).
const SHORTEST_UNREACH: usize = 3;

/// A section of path attributes for the codec.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The attributes.
    pub section: Bytes,
    /// An `MP_REACH_NLRI` of a family that was not negotiated was taken out.
    pub foreign_reach: bool,
}

/// One attribute in a section.
struct Attribute<'a> {
    kind: u8,
    value: &'a [u8],
    /// With flags, type and length.
    whole: &'a [u8],
}

/// Takes out `MP_REACH_NLRI` and `MP_UNREACH_NLRI` of families that were not negotiated, and the Partial bit where
/// it does not matter: RFC 7606 §3 (c) counts the Optional and Transitive bits alone.
///
/// # Errors
/// The NOTIFICATION to reset the session with: one of the two attributes is there twice (RFC 7606 §3 (g)), it is too
/// short (RFC 7606 §5.3), or the length of the next hop does not fit the family (RFC 7606 §7.11).
pub(super) fn prepare(section: &Bytes, encoding: Encoding<'_>) -> Result<Prepared, Notification> {
    let mut prepared = BytesMut::with_capacity(section.len());
    let mut seen = [false; 2];
    let mut foreign_reach = false;
    let mut rest = &section[..];
    while let Some((attribute, after)) = split(rest) {
        rest = after;
        if let MP_REACH_NLRI | MP_UNREACH_NLRI = attribute.kind {
            let reach = attribute.kind == MP_REACH_NLRI;
            if std::mem::replace(&mut seen[usize::from(reach)], true) {
                return Err(twice(attribute.kind));
            }
            check_length(&attribute)?;
            if foreign(&attribute, encoding.families) {
                foreign_reach |= reach;
                continue;
            }
            if reach {
                check_next_hop_length(&attribute, encoding.extended_next_hop)?;
            }
        }
        let start = prepared.len();
        prepared.extend_from_slice(attribute.whole);
        if let MULTI_EXIT_DISC | ORIGINATOR_ID | CLUSTER_LIST = attribute.kind {
            prepared[start] &= !PARTIAL;
        }
    }
    // What cannot be split is the codec's to report.
    prepared.extend_from_slice(rest);
    Ok(Prepared { section: prepared.freeze(), foreign_reach })
}

/// The first attribute and what follows it; `None` at the end, and where an attribute does not end in the section.
fn split(section: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (flags, kind) = (*section.first()?, *section.get(1)?);
    let (header, length) = if flags & EXTENDED_LENGTH == 0 {
        (3, usize::from(*section.get(2)?))
    } else {
        (4, usize::from(u16::from_be_bytes([*section.get(2)?, *section.get(3)?])))
    };
    let value = section.get(header..header + length)?;
    let (whole, rest) = section.split_at(header + length);
    Some((Attribute { kind, value, whole }, rest))
}

/// RFC 7606 §5.3: an attribute that ends before its prefixes begin. No length follows from the type of these two, so
/// the subcode is that of RFC 4760 §7, not that of RFC 4271 §6.3 for a wrong length.
fn check_length(attribute: &Attribute<'_>) -> Result<(), Notification> {
    let (name, shortest) = match attribute.kind {
        MP_REACH_NLRI => ("MP_REACH_NLRI", SHORTEST_REACH),
        _ => ("MP_UNREACH_NLRI", SHORTEST_UNREACH),
    };
    let length = attribute.value.len();
    if length >= shortest {
        return Ok(());
    }
    let detail = format!("{name} of {length} octets, {shortest} at least");
    Err(Notification::new(notification::UPDATE, notification::OPTIONAL_ATTRIBUTE, detail)
        .with_data(attribute.whole.to_vec()))
}

/// Whether the attribute is of a family that was not negotiated.
fn foreign(attribute: &Attribute<'_>, negotiated: &[Family]) -> bool {
    family(attribute.value).is_none_or(|family| !negotiated.contains(&family))
}

fn family(value: &[u8]) -> Option<Family> {
    match value {
        [high, low, safi, ..] => family_from(u16::from_be_bytes([*high, *low]), *safi),
        _ => None,
    }
}

/// RFC 7606 §7.11: where the next hop has another length than expected, the prefixes cannot be located.
fn check_next_hop_length(attribute: &Attribute<'_>, extended: bool) -> Result<(), Notification> {
    let (Some(family), Some(length)) = (family(attribute.value), attribute.value.get(3)) else {
        return Ok(());
    };
    let expected = match family {
        // RFC 8950 §3, where it was negotiated.
        Family::Ipv4 => *length == 4 || extended && matches!(length, 16 | 32),
        // RFC 2545 §3: a global address, or a global and a link-local one.
        Family::Ipv6 => matches!(length, 16 | 32),
    };
    if expected {
        return Ok(());
    }
    let detail = format!("MP_REACH_NLRI: a next hop of {length} octets for {}", family.name());
    Err(Notification::new(notification::UPDATE, notification::OPTIONAL_ATTRIBUTE, detail)
        .with_data(attribute.whole.to_vec()))
}

fn twice(kind: u8) -> Notification {
    let name = if kind == MP_REACH_NLRI { "MP_REACH_NLRI" } else { "MP_UNREACH_NLRI" };
    Notification::new(notification::UPDATE, notification::MALFORMED_ATTRIBUTE_LIST, format!("{name} twice"))
}
