//! The agent's codec.

use bytes::BytesMut;
use underpass::bgp::update::{Session, outcome};
use underpass::bgp::wire::{self, Encoding, Message};
use underpass::netlink::model::Family;
use underpass::rib::model::{self, AsSegment, Nlri, Origin, RibEvent};

use super::plan::{Attributes, Kind, Path, Said};

/// A whole message.
pub fn message(bytes: &[u8]) -> Message {
    wire::decode(&mut BytesMut::from(bytes), wire::MAX_MESSAGE).expect("no error").expect("a whole message")
}

/// An UPDATE from an internal peer, all the way to what the RIB is told.
pub fn read(bytes: &[u8], kind: Kind) -> Said {
    let Message::Update(update) = message(bytes) else { panic!("an UPDATE") };
    let families = [Family::Ipv4, Family::Ipv6];
    let encoding = Encoding {
        four_octet_as: kind.four_octet_as,
        external: false,
        families: &families,
        extended_next_hop: false,
        add_path: if kind.add_path { &families } else { &[] },
    };
    let session = Session { peer: [10, 0, 0, 1].into(), remote_as: 64512, external: false };
    let outcome =
        wire::parse(&update, encoding).and_then(|parsed| outcome(session, parsed)).expect("no reset");
    assert_eq!(outcome.faults, [], "no error");
    let mut said = Said::default();
    for event in outcome.events {
        match event {
            RibEvent::Update { withdrawn, announced, .. } => {
                said.withdrawn.extend(withdrawn.iter().map(path));
                if let Some((attributes, list)) = announced {
                    said.announced.extend(list.iter().map(|nlri| (attributes.next_hop, path(nlri))));
                    said.attributes = Some(understood(&attributes));
                }
            }
            RibEvent::EndOfRib { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    said.sorted()
}

fn path(nlri: &Nlri) -> Path {
    (nlri.prefix, nlri.path_id)
}

fn understood(attributes: &model::Attributes) -> Attributes {
    Attributes {
        origin: match attributes.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        },
        as_path: attributes
            .as_path
            .iter()
            .map(|segment| match segment {
                AsSegment::Sequence(list) => list.clone(),
                other => panic!("not sent: {other:?}"),
            })
            .collect(),
        med: attributes.med,
        local_pref: attributes.local_pref,
        originator: attributes.originator_id,
        clusters: attributes.cluster_list.clone(),
        communities: attributes.communities.clone(),
    }
}
