//! The body of an UPDATE in every session that there may be.

use bytes::BytesMut;
use underpass::bgp::update::{Outcome, Session, outcome};
use underpass::bgp::wire::{self, Encoding, MAX_MESSAGE, Message, Update};
use underpass::netlink::model::Family;
use underpass::rib::model::{AsSegment, Attributes, Nlri, RibEvent};

use super::stream::decode;
use crate::fake_peer::{self, message};

const FAMILIES: [&[Family]; 4] = [&[], &[Family::Ipv4], &[Family::Ipv6], &[Family::Ipv4, Family::Ipv6]];

/// The input as the body of an UPDATE, read under every combination of what sessions agree on.
pub fn update(data: &[u8]) {
    let body = &data[..data.len().min(MAX_MESSAGE - wire::HEADER)];
    let mut buffer = BytesMut::from(&message(fake_peer::UPDATE, body)[..]);
    let Ok(Some(Message::Update(update))) = decode(&mut buffer) else { return };
    for families in &FAMILIES[1..] {
        for add_path in FAMILIES.iter().filter(|list| list.iter().all(|family| families.contains(family))) {
            for bits in 0..8 {
                let [four_octet_as, external, extended_next_hop] = [1, 2, 4].map(|bit| bits & bit != 0);
                let encoding = Encoding { four_octet_as, external, families, extended_next_hop, add_path };
                check(&update, body, encoding);
            }
        }
    }
}

fn check(update: &Update, body: &[u8], encoding: Encoding<'_>) {
    let remote_as = if encoding.external { 64513 } else { 64512 };
    let session = Session { peer: [10, 0, 0, 1].into(), remote_as, external: encoding.external };
    match wire::parse(update, encoding).and_then(|parsed| outcome(session, parsed)) {
        Ok(outcome) => check_outcome(&outcome, body, encoding),
        Err(reset) => {
            assert_eq!(reset.code, 3, "{reset}");
            assert!(reset.data.len() <= body.len() + 1, "{} octets of data", reset.data.len());
            assert!(wire::notification(&reset).len() <= MAX_MESSAGE);
        }
    }
}

fn check_outcome(outcome: &Outcome, body: &[u8], encoding: Encoding<'_>) {
    let mut prefixes = 0;
    assert!(outcome.events.len() <= 3, "{:?}", outcome.events);
    for event in &outcome.events {
        match event {
            RibEvent::EndOfRib { family, .. } => {
                assert!(encoding.families.contains(family));
                assert_eq!((outcome.end_of_rib, outcome.events.len()), (Some(*family), 1));
            }
            RibEvent::Update { withdrawn, announced, .. } => {
                let announced = announced.as_ref();
                assert!(!outcome.treated_as_withdraw || announced.is_none(), "withdrawn and announced");
                let list = announced.map_or(&[][..], |(_, list)| list);
                for nlri in withdrawn.iter().chain(list) {
                    check_nlri(nlri, encoding);
                }
                prefixes += withdrawn.len() + list.len();
                if let Some((attributes, list)) = announced {
                    assert!(!list.is_empty(), "an announcement of nothing");
                    check_attributes(attributes, body, encoding);
                }
            }
            other => panic!("an UPDATE gives no {other:?}"),
        }
    }
    assert!(prefixes <= body.len(), "{prefixes} prefixes of {} octets", body.len());
    assert!(outcome.faults.len() <= body.len() + 4, "{} faults", outcome.faults.len());
    assert_eq!(outcome.treated_as_withdraw, outcome.faults.iter().any(|fault| fault.withdraw));
    for fault in &outcome.faults {
        assert!(fault.notification.data.len() <= body.len() + 1);
    }
}

fn check_nlri(nlri: &Nlri, encoding: Encoding<'_>) {
    let family = Family::of(nlri.prefix.addr());
    assert!(encoding.families.contains(&family), "{} was not agreed on", nlri.prefix);
    assert_eq!(nlri.prefix, nlri.prefix.trunc(), "host bits");
    assert!(nlri.path_id == 0 || encoding.add_path.contains(&family), "a path identifier from nowhere");
}

/// Nothing is longer than the bytes could carry, and nothing is told that an external peer may not say.
fn check_attributes(attributes: &Attributes, body: &[u8], encoding: Encoding<'_>) {
    let numbers: usize = attributes
        .as_path
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(list) => list.len(),
            other => panic!("let through in AS_PATH: {other:?}"),
        })
        .sum();
    assert!(2 * numbers <= body.len());
    assert!(4 * attributes.communities.len() <= body.len());
    assert!(4 * attributes.cluster_list.len() <= body.len());
    assert!(!attributes.next_hop.is_unspecified() && !attributes.next_hop.is_loopback());
    if encoding.external {
        assert_eq!(attributes.local_pref, None);
        assert_eq!(attributes.originator_id, None);
        assert!(attributes.cluster_list.is_empty());
        assert!(
            matches!(attributes.as_path.first(), Some(AsSegment::Sequence(list)) if list.first() == Some(&64513))
        );
    }
}
