//! What an UPDATE says, and what is wrong with it (RFC 7606).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustbgpd_wire as codec;
use rustbgpd_wire::notification::NotificationCode;
use rustbgpd_wire::validate::validate_update_attributes_with_context;
use rustbgpd_wire::{Afi, ErrorDisposition, PathAttribute, Safi, UpdateValidationOptions};

use super::attributes::{Prepared, prepare};
use super::{Update, family_of, from_error};
use crate::bgp::notification::{self, Notification};
use crate::netlink::model::Family;
use crate::rib::model::{AsSegment, Nlri, Origin};

/// Path attribute flags (RFC 4271 §4.3).
const OPTIONAL: u8 = 0x80;
const EXTENDED_LENGTH: u8 = 0x10;

/// How a session encodes UPDATEs.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    /// AS numbers have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// The peer is of another AS.
    pub external: bool,
    /// Families negotiated.
    pub families: &'a [Family],
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Families whose prefixes carry a path identifier (RFC 7911).
    pub add_path: &'a [Family],
}

/// A decoded UPDATE. Prefixes of families that were not negotiated are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Withdrawn, from the body and from `MP_UNREACH_NLRI`.
    pub withdrawn: Vec<Nlri>,
    /// Announced in the body; the next hop is `NEXT_HOP`.
    pub body: Vec<Nlri>,
    /// Announced by `MP_REACH_NLRI`.
    pub reach: Option<Reach>,
    /// Path attributes that could be decoded.
    pub attributes: ParsedAttributes,
    /// The message is an End-of-RIB (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// Errors, each with what follows from it.
    pub faults: Vec<Fault>,
    /// Prefixes of a family that was not negotiated are announced.
    pub foreign_reach: bool,
}

/// `MP_REACH_NLRI` (RFC 4760 §3) of a negotiated family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Family.
    pub family: Family,
    /// Next hop; of a pair with a link-local address the global one (RFC 2545 §3).
    pub next_hop: IpAddr,
    /// Prefixes.
    pub nlri: Vec<Nlri>,
}

/// Path attributes as far as they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedAttributes {
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// `AS_PATH` with `AS4_PATH` merged in (RFC 6793 §4.2.3).
    pub as_path: Option<Vec<AsSegment>>,
    /// `NEXT_HOP`.
    pub next_hop: Option<Ipv4Addr>,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// `LOCAL_PREF`.
    pub local_pref: Option<u32>,
    /// `ORIGINATOR_ID`.
    pub originator_id: Option<Ipv4Addr>,
    /// `CLUSTER_LIST`.
    pub cluster_list: Vec<Ipv4Addr>,
    /// COMMUNITIES.
    pub communities: Vec<u32>,
    /// `LARGE_COMMUNITY` (RFC 8092), one of each.
    pub large_communities: Vec<[u32; 3]>,
}

/// An error in an UPDATE that does not reset the session by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `true`: the routes of the UPDATE count as withdrawn; `false`: the attribute is left out (RFC 7606 §2).
    pub withdraw: bool,
    /// What RFC 4271 §6.3 would have sent, with the description.
    pub notification: Notification,
}

/// Decodes an UPDATE and validates its attributes (RFC 4271 §6.3 as revised by RFC 7606).
///
/// # Errors
/// The NOTIFICATION to reset the session with: the prefixes cannot be located (RFC 7606 §5.3), or an attribute
/// claims to be well-known and is not (RFC 4271 §6.3).
pub fn parse(update: &Update, encoding: Encoding<'_>) -> Result<Parsed, Notification> {
    let add_path: Vec<(Afi, Safi)> = encoding.add_path.iter().map(|family| codec_family(*family)).collect();
    let Prepared { section, foreign_reach } = prepare(&update.0.path_attributes, encoding)?;
    let mut decoded = codec::UpdateMessage { path_attributes: section, ..update.0.clone() }
        .parse_revised(
            encoding.four_octet_as,
            !encoding.external,
            encoding.add_path.contains(&Family::Ipv4),
            &add_path,
        )
        .map_err(|error| from_error(&error))?;
    let mut parsed = Parsed {
        faults: decoded.malformed.iter().map(fault_of).collect(),
        end_of_rib: (decoded.malformed.is_empty())
            .then(|| end_of_rib(update, &decoded.update))
            .flatten()
            .filter(|family| encoding.families.contains(family)),
        foreign_reach,
        ..Parsed::default()
    };
    if encoding.families.contains(&Family::Ipv4) {
        parsed.withdrawn = decoded.update.withdrawn.iter().map(body_nlri).collect();
        parsed.body = decoded.update.announced.iter().map(body_nlri).collect();
    } else {
        parsed.foreign_reach |= !decoded.update.announced.is_empty();
    }
    refuse_unknown_well_known(&decoded.update.attributes)?;
    if decoded.update.announced.is_empty() && decoded.update.attributes.iter().any(is_reach) {
        // RFC 4760 §3: beside prefixes in MP_REACH_NLRI alone, NEXT_HOP is ignored.
        decoded.update.attributes.retain(|attribute| !matches!(attribute, PathAttribute::NextHop(_)));
    }
    validate(&decoded.update, encoding, &mut parsed.faults)?;
    for attribute in decoded.update.attributes {
        take(attribute, encoding.families, &mut parsed);
    }
    Ok(parsed)
}

const fn is_reach(attribute: &PathAttribute) -> bool {
    matches!(attribute, PathAttribute::MpReachNlri(_))
}

/// RFC 4271 §6.3. RFC 7606 leaves this case as it was: nothing is known about what the attribute means.
fn refuse_unknown_well_known(attributes: &[PathAttribute]) -> Result<(), Notification> {
    for attribute in attributes {
        if let PathAttribute::Unknown(raw) = attribute
            && raw.flags & OPTIONAL == 0
        {
            return Err(Notification::new(
                notification::UPDATE,
                notification::UNRECOGNIZED_WELL_KNOWN,
                format!("attribute {} is no well-known one", raw.type_code),
            )
            .with_data(whole(raw)));
        }
    }
    Ok(())
}

/// An attribute as it is sent.
fn whole(raw: &codec::RawAttribute) -> Vec<u8> {
    let length = u16::try_from(raw.data.len()).unwrap_or(u16::MAX).to_be_bytes();
    let length = if raw.flags & EXTENDED_LENGTH == 0 { &length[1..] } else { &length[..] };
    [&[raw.flags, raw.type_code], length, &raw.data[..]].concat()
}

fn fault_of(malformed: &codec::MalformedAttribute) -> Fault {
    let mut notification = from_error(&malformed.error);
    notification.detail = format!("attribute {}: {}", malformed.type_code, notification.detail);
    Fault { withdraw: malformed.disposition != ErrorDisposition::AttributeDiscard, notification }
}

/// Mandatory attributes and the meaning of values (RFC 4271 §6.3, RFC 7606 §3).
fn validate(
    update: &codec::ParsedUpdate,
    encoding: Encoding<'_>,
    faults: &mut Vec<Fault>,
) -> Result<(), Notification> {
    let body = !update.announced.is_empty();
    let reach = update.attributes.iter().any(is_reach);
    // An attribute that could not be decoded was reported already and would only be missed again here.
    if faults.iter().any(|fault| fault.withdraw) {
        return Ok(());
    }
    let checked = validate_update_attributes_with_context(
        &update.attributes,
        body || reach,
        body,
        encoding.external,
        UpdateValidationOptions::default(),
    );
    if let Err(invalid) = checked {
        let notification = Notification {
            code: NotificationCode::UpdateMessage.as_u8(),
            subcode: invalid.error.subcode,
            data: invalid.error.data.into(),
            detail: format!("attribute {}", invalid.type_code),
        };
        if invalid.error.disposition == ErrorDisposition::SessionReset {
            return Err(notification);
        }
        faults.push(Fault {
            withdraw: invalid.error.disposition == ErrorDisposition::TreatAsWithdraw,
            notification,
        });
    }
    let next_hop = update.attributes.iter().any(|attribute| matches!(attribute, PathAttribute::NextHop(_)));
    if body && !next_hop && !faults.iter().any(|fault| fault.withdraw) {
        // The crate asks for NEXT_HOP from external peers only; RFC 4271 §5.1.3 makes it mandatory for all.
        faults.push(Fault {
            withdraw: true,
            notification: Notification::new(
                notification::UPDATE,
                notification::MISSING_WELL_KNOWN,
                "NEXT_HOP is missing",
            )
            .with_data(vec![3]),
        });
    }
    Ok(())
}

/// RFC 4724 §2. The crate has no notion of it.
fn end_of_rib(update: &Update, decoded: &codec::ParsedUpdate) -> Option<Family> {
    if !decoded.withdrawn.is_empty() || !decoded.announced.is_empty() {
        return None;
    }
    match decoded.attributes.as_slice() {
        [] => update.0.path_attributes.is_empty().then_some(Family::Ipv4),
        [PathAttribute::MpUnreachNlri(unreach)] if unreach.withdrawn.is_empty() => {
            family_of(unreach.afi, unreach.safi)
        }
        _ => None,
    }
}

fn take(attribute: PathAttribute, families: &[Family], parsed: &mut Parsed) {
    let attributes = &mut parsed.attributes;
    match attribute {
        PathAttribute::Origin(origin) => attributes.origin = Some(origin_of(origin)),
        PathAttribute::AsPath(path) => {
            attributes.as_path = Some(path.segments.into_iter().map(segment_of).collect());
        }
        PathAttribute::NextHop(address) => attributes.next_hop = Some(address),
        PathAttribute::Med(value) => attributes.med = Some(value),
        PathAttribute::LocalPref(value) => attributes.local_pref = Some(value),
        PathAttribute::OriginatorId(id) => attributes.originator_id = Some(id),
        PathAttribute::ClusterList(list) => attributes.cluster_list = list,
        PathAttribute::Communities(list) | PathAttribute::CommunitiesPartial(list) => {
            attributes.communities = list;
        }
        PathAttribute::LargeCommunities(list) | PathAttribute::LargeCommunitiesPartial(list) => {
            let parts = |c: codec::LargeCommunity| [c.global_admin, c.local_data1, c.local_data2];
            attributes.large_communities = list.into_iter().map(parts).collect();
            // RFC 8092 §5.
            attributes.large_communities.sort_unstable();
            attributes.large_communities.dedup();
        }
        PathAttribute::MpReachNlri(reach) => match family_of(reach.afi, reach.safi) {
            Some(family) if families.contains(&family) => {
                parsed.reach = Some(Reach {
                    family,
                    next_hop: reach.next_hop,
                    nlri: reach.announced.iter().map(mp_nlri).collect(),
                });
            }
            _ => parsed.foreign_reach = true,
        },
        PathAttribute::MpUnreachNlri(unreach) => match family_of(unreach.afi, unreach.safi) {
            Some(family) if families.contains(&family) => {
                parsed.withdrawn.extend(unreach.withdrawn.iter().map(mp_nlri));
            }
            _ => {}
        },
        _ => {}
    }
}

const fn codec_family(family: Family) -> (Afi, Safi) {
    match family {
        Family::Ipv4 => (Afi::Ipv4, Safi::Unicast),
        Family::Ipv6 => (Afi::Ipv6, Safi::Unicast),
    }
}

const fn origin_of(origin: codec::Origin) -> Origin {
    match origin {
        codec::Origin::Igp => Origin::Igp,
        codec::Origin::Egp => Origin::Egp,
        codec::Origin::Incomplete => Origin::Incomplete,
    }
}

fn segment_of(segment: codec::AsPathSegment) -> AsSegment {
    match segment {
        codec::AsPathSegment::AsSequence(list) => AsSegment::Sequence(list),
        codec::AsPathSegment::AsSet(list) => AsSegment::Set(list),
    }
}

fn body_nlri(entry: &codec::Ipv4NlriEntry) -> Nlri {
    Nlri { prefix: v4(entry.prefix.addr, entry.prefix.len), path_id: entry.path_id }
}

fn mp_nlri(entry: &codec::NlriEntry) -> Nlri {
    let prefix = match entry.prefix {
        codec::Prefix::V4(prefix) => v4(prefix.addr, prefix.len),
        codec::Prefix::V6(prefix) => v6(prefix.addr, prefix.len),
    };
    Nlri { prefix, path_id: entry.path_id }
}

/// The codec has checked the length and cleared the host bits.
fn v4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length.min(32)))
}

fn v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length.min(128)))
}
