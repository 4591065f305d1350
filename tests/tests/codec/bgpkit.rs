//! `bgpkit-parser`. Differences: path identifiers are a matter of the whole message, not of a family; errors are
//! warnings beside the message, which must not be there for a good one.

use std::net::{IpAddr, Ipv4Addr};

use bgpkit_parser::models::{
    AsPath, AsPathSegment, Asn, AsnLength, AttributeValue, BgpMessage, Community, MetaCommunity,
    NetworkPrefix, NextHopAddress, Origin,
};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use bytes::Bytes;

use super::plan::{Attributes, Kind, Path, Said};

/// A whole message.
pub fn message(bytes: &[u8], kind: Kind) -> BgpMessage {
    let length = if kind.four_octet_as { AsnLength::Bits32 } else { AsnLength::Bits16 };
    let mut bytes = Bytes::copy_from_slice(bytes);
    let message = parse_bgp_message(&mut bytes, kind.add_path, &length).expect("bgpkit reads it");
    assert!(bytes.is_empty(), "bgpkit reads all of it");
    message
}

pub fn read(bytes: &[u8], kind: Kind) -> Said {
    let BgpMessage::Update(update) = message(bytes, kind) else { panic!("an UPDATE") };
    let all = &update.attributes;
    assert!(all.validation_warnings().is_empty(), "{:?}", all.validation_warnings());
    let mut said =
        Said { withdrawn: update.withdrawn_prefixes.iter().map(path).collect(), ..Said::default() };
    let next_hop = all.next_hop().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    said.announced.extend(update.announced_prefixes.iter().map(|prefix| (next_hop, path(prefix))));
    for value in all {
        match value {
            AttributeValue::MpReachNlri(reach) => {
                let next_hop = match reach.next_hop {
                    Some(NextHopAddress::Ipv6(global) | NextHopAddress::Ipv6LinkLocal(global, _)) => global,
                    other => panic!("not sent: {other:?}"),
                };
                said.announced
                    .extend(reach.prefixes.iter().map(|prefix| (IpAddr::V6(next_hop), path(prefix))));
            }
            AttributeValue::MpUnreachNlri(unreach) => {
                said.withdrawn.extend(unreach.prefixes.iter().map(path));
            }
            _ => {}
        }
    }
    said.attributes = (!said.announced.is_empty()).then(|| Attributes {
        origin: match all.origin() {
            Origin::IGP => 0,
            Origin::EGP => 1,
            Origin::INCOMPLETE => 2,
        },
        as_path: all.effective_as_path().map(|path| sequences(&path)).unwrap_or_default(),
        med: all.multi_exit_discriminator(),
        local_pref: all.local_preference(),
        originator: all.origin_id(),
        clusters: all.clusters().unwrap_or_default().iter().map(|id| Ipv4Addr::from(*id)).collect(),
        communities: all.iter_communities().map(community).collect(),
    });
    said.sorted()
}

fn path(prefix: &NetworkPrefix) -> Path {
    (prefix.prefix, prefix.path_id.unwrap_or(0))
}

fn sequences(path: &AsPath) -> Vec<Vec<u32>> {
    path.segments
        .iter()
        .map(|segment| match segment {
            AsPathSegment::AsSequence(list) => list.iter().map(Asn::to_u32).collect(),
            other => panic!("not sent: {other:?}"),
        })
        .collect()
}

/// It gives three well-known ones names.
fn community(community: MetaCommunity) -> u32 {
    match community {
        MetaCommunity::Plain(Community::NoExport) => 0xffff_ff01,
        MetaCommunity::Plain(Community::NoAdvertise) => 0xffff_ff02,
        MetaCommunity::Plain(Community::NoExportSubConfed) => 0xffff_ff03,
        MetaCommunity::Plain(Community::Custom(number, value)) => number.to_u32() << 16 | u32::from(value),
        other => panic!("not sent: {other:?}"),
    }
}
