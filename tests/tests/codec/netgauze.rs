//! `netgauze-bgp-pkt`. Differences: it does not merge `AS4_PATH` (RFC 6793 §4.2.3), so the reader takes the wider of
//! the two; it refuses multicast and broadcast prefixes as unicast NLRI.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::community::Community;
use netgauze_bgp_pkt::nlri::{Ipv4Unicast, Ipv4UnicastAddress, Ipv6Unicast, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{
    As4PathSegment, AsPath, AsPathSegmentType, ClusterId, ClusterList, Communities, LocalPreference, MpReach,
    MpUnreach, MultiExitDiscriminator, NextHop, Origin, Originator, PathAttribute, PathAttributeValue,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::WritablePdu as _;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;

use super::plan::{Attributes, Kind, Path, Plan, Said};

/// A whole message.
pub fn message(bytes: &[u8], kind: Kind) -> BgpMessage {
    let families = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
    let add_path: HashMap<_, _> = families.map(|family| (family, kind.add_path)).into_iter().collect();
    let mut context =
        BgpParsingContext::new(kind.four_octet_as, HashMap::new(), add_path, true, true, true, true);
    let mut reader = SliceReader::new(bytes);
    let message = BgpMessage::parse(&mut reader, &mut context).expect("netgauze reads it");
    assert!(reader.is_empty(), "netgauze reads all of it");
    message
}

pub fn read(bytes: &[u8], kind: Kind) -> Said {
    let BgpMessage::Update(update) = message(bytes, kind) else { panic!("an UPDATE") };
    let (mut said, mut attributes, mut next_hop, mut wide) =
        (Said::default(), Attributes::default(), None, None);
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::Origin(origin) => attributes.origin = *origin as u8,
            PathAttributeValue::AsPath(path) => attributes.as_path = sequences(path),
            PathAttributeValue::As4Path(path) => {
                wide = Some(path.segments().iter().map(wide_numbers).collect());
            }
            PathAttributeValue::NextHop(address) => next_hop = Some(address.next_hop()),
            PathAttributeValue::MultiExitDiscriminator(med) => attributes.med = Some(med.metric()),
            PathAttributeValue::LocalPreference(value) => attributes.local_pref = Some(value.metric()),
            PathAttributeValue::Originator(id) => attributes.originator = Some(id.id()),
            PathAttributeValue::ClusterList(list) => {
                attributes.clusters = list.cluster_list().iter().map(ClusterId::id).collect();
            }
            PathAttributeValue::Communities(list) => {
                attributes.communities = list.communities().iter().map(Community::value).collect();
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast { next_hop_global, nlri, .. }) => {
                said.announced.extend(nlri.iter().map(|nlri| (IpAddr::V6(*next_hop_global), path_v6(nlri))));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                said.withdrawn.extend(nlri.iter().map(path_v6));
            }
            other => panic!("not sent: {other:?}"),
        }
    }
    said.withdrawn.extend(update.withdraw_routes().iter().map(path_v4));
    let next_hop = next_hop.unwrap_or(Ipv4Addr::UNSPECIFIED);
    said.announced.extend(update.nlri().iter().map(|nlri| (IpAddr::V4(next_hop), path_v4(nlri))));
    attributes.as_path = wide.unwrap_or(attributes.as_path);
    said.attributes = (!said.announced.is_empty()).then_some(attributes);
    said.sorted()
}

fn sequences(path: &AsPath) -> Vec<Vec<u32>> {
    match path {
        AsPath::As2PathSegments(list) => list
            .iter()
            .map(|segment| segment.as_numbers().iter().map(|number| (*number).into()).collect())
            .collect(),
        AsPath::As4PathSegments(list) => list.iter().map(wide_numbers).collect(),
    }
}

fn wide_numbers(segment: &As4PathSegment) -> Vec<u32> {
    segment.as_numbers().to_vec()
}

fn path_v4(nlri: &Ipv4UnicastAddress) -> Path {
    (IpNet::V4(nlri.network().address()), nlri.path_id().unwrap_or(0))
}

fn path_v6(nlri: &Ipv6UnicastAddress) -> Path {
    (IpNet::V6(nlri.network().address()), nlri.path_id().unwrap_or(0))
}

/// The UPDATE as netgauze writes it, with AS numbers of four octets.
pub fn write(plan: &Plan) -> Vec<u8> {
    let update = BgpUpdateMessage::new(
        plan.withdrawn_v4.iter().map(|path| address_v4(path, plan.kind)).collect::<Vec<_>>(),
        values(plan).into_iter().map(attribute).collect::<Vec<_>>(),
        plan.announced_v4.iter().map(|path| address_v4(path, plan.kind)).collect::<Vec<_>>(),
    );
    let mut bytes = Vec::new();
    BgpMessage::Update(update).write(&mut bytes).expect("netgauze writes it");
    bytes
}

fn values(plan: &Plan) -> Vec<PathAttributeValue> {
    use PathAttributeValue as Value;
    let said = &plan.attributes;
    let mut list = Vec::new();
    let v6 = |paths: &[Path]| paths.iter().map(|path| address_v6(path, plan.kind)).collect::<Box<[_]>>();
    if !plan.withdrawn_v6.is_empty() {
        list.push(Value::MpUnreach(MpUnreach::Ipv6Unicast { nlri: v6(&plan.withdrawn_v6) }));
    }
    if plan.announced_v4.is_empty() && plan.announced_v6.is_empty() {
        return list;
    }
    let segment = |list: &Vec<u32>| As4PathSegment::new(AsPathSegmentType::AsSequence, list.clone());
    list.push(Value::Origin(Origin::try_from(said.origin).expect("0 to 2")));
    list.push(Value::AsPath(AsPath::as4_path_segments(said.as_path.iter().map(segment).collect::<Vec<_>>())));
    if !plan.announced_v4.is_empty() {
        list.push(Value::NextHop(NextHop::new(plan.next_hop_v4)));
    }
    list.extend(said.med.map(|value| Value::MultiExitDiscriminator(MultiExitDiscriminator::new(value))));
    list.extend(said.local_pref.map(|value| Value::LocalPreference(LocalPreference::new(value))));
    list.extend(said.originator.map(|id| Value::Originator(Originator::new(id))));
    if !said.communities.is_empty() {
        let communities = said.communities.iter().map(|value| Community::new(*value)).collect::<Vec<_>>();
        list.push(Value::Communities(Communities::new(communities)));
    }
    if !said.clusters.is_empty() {
        let clusters = said.clusters.iter().map(|id| ClusterId::new(*id)).collect::<Vec<_>>();
        list.push(Value::ClusterList(ClusterList::new(clusters)));
    }
    if !plan.announced_v6.is_empty() {
        list.push(Value::MpReach(MpReach::Ipv6Unicast {
            next_hop_global: plan.next_hop_v6,
            next_hop_local: plan.link_local,
            nlri: v6(&plan.announced_v6),
        }));
    }
    list
}

fn attribute(value: PathAttributeValue) -> PathAttribute {
    let optional = value.can_be_optional().unwrap_or(false);
    let transitive = value.can_be_transitive().unwrap_or(false);
    PathAttribute::from(optional, transitive, false, true, value).expect("flags as netgauze asks for them")
}

fn address_v4((prefix, path_id): &Path, kind: Kind) -> Ipv4UnicastAddress {
    let IpNet::V4(prefix) = prefix else { panic!("an IPv4 prefix") };
    Ipv4UnicastAddress::new(
        kind.add_path.then_some(*path_id),
        Ipv4Unicast::from_net(*prefix).expect("unicast"),
    )
}

fn address_v6((prefix, path_id): &Path, kind: Kind) -> Ipv6UnicastAddress {
    let IpNet::V6(prefix) = prefix else { panic!("an IPv6 prefix") };
    Ipv6UnicastAddress::new(
        kind.add_path.then_some(*path_id),
        Ipv6Unicast::from_net(*prefix).expect("unicast"),
    )
}
