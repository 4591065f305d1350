//! From a decoded UPDATE to what the RIB is told (RFC 4271 §9, RFC 7606).

use std::net::IpAddr;
use std::sync::Arc;

use super::notification::{self, Notification};
use super::wire::{Fault, Parsed, ParsedAttributes};
use crate::netlink::model::Family;
use crate::rib::model::{AsSegment, Attributes, Nlri, PeerId, RibEvent};
use crate::rib::policy::Settings;

/// The session that an UPDATE came in on.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Peer.
    pub peer: PeerId,
    /// Peer's AS.
    pub remote_as: u32,
    /// Peer's AS differs from ours.
    pub external: bool,
}

/// What follows from an UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the RIB, in this order.
    pub events: Vec<RibEvent>,
    /// Errors that were survived.
    pub faults: Vec<Fault>,
    /// The routes of the message were taken for withdrawn (RFC 7606 §2).
    pub treated_as_withdraw: bool,
    /// Attributes that count for nothing from an external peer (RFC 7606 §7.5, §7.9, §7.10).
    pub ignored: u64,
    /// It was an End-of-RIB.
    pub end_of_rib: Option<Family>,
}

/// Turns a decoded UPDATE into events.
///
/// # Errors
/// The NOTIFICATION to reset the session with: an error that asks for treat-as-withdraw in a message without
/// announced prefixes, so that it is not known what to withdraw (RFC 7606 §5.2).
pub fn outcome(session: Session, parsed: Parsed) -> Result<Outcome, Notification> {
    let peer = session.peer;
    if let Some(family) = parsed.end_of_rib {
        return Ok(Outcome {
            events: vec![RibEvent::EndOfRib { peer, family }],
            end_of_rib: Some(family),
            ..Outcome::default()
        });
    }
    let Parsed { mut withdrawn, body, reach, attributes, mut faults, foreign_reach, .. } = parsed;
    let announces = !body.is_empty() || reach.as_ref().is_some_and(|reach| !reach.nlri.is_empty());
    if announces && !faults.iter().any(|fault| fault.withdraw) {
        faults.extend(first_as_fault(session, &attributes));
    }

    // One group per next hop: an UPDATE may carry IPv4 in its body and another family in MP_REACH_NLRI.
    let mut groups: Vec<(Option<IpAddr>, Vec<Nlri>)> = Vec::new();
    if !body.is_empty() {
        groups.push((attributes.next_hop.map(IpAddr::V4), body));
    }
    if let Some(reach) = reach {
        groups.push((Some(reach.next_hop), reach.nlri));
    }

    let withdraw_all = faults.iter().find(|fault| fault.withdraw);
    if let Some(fault) = withdraw_all
        && !announces
        && !foreign_reach
    {
        return Err(fault.notification.clone());
    }
    let treated_as_withdraw = withdraw_all.is_some();
    let ignored = if session.external { ignored(&attributes) } else { 0 };
    let mut announced = Vec::new();
    for (next_hop, nlri) in groups {
        match (next_hop, treated_as_withdraw) {
            (Some(next_hop), false) => {
                if let Some(attributes) = attributes_for(session, &attributes, next_hop)
                    && !nlri.is_empty()
                {
                    announced.push((Arc::new(attributes), nlri));
                }
            }
            _ => withdrawn.extend(nlri),
        }
    }
    Ok(Outcome {
        events: events(peer, withdrawn, announced),
        faults,
        treated_as_withdraw,
        ignored,
        end_of_rib: None,
    })
}

/// How many attributes there are that an external peer has no business to send.
fn ignored(attributes: &ParsedAttributes) -> u64 {
    let ParsedAttributes { local_pref, originator_id, cluster_list, .. } = attributes;
    [local_pref.is_some(), originator_id.is_some(), !cluster_list.is_empty()].map(u64::from).iter().sum()
}

fn events(peer: PeerId, withdrawn: Vec<Nlri>, announced: Vec<(Arc<Attributes>, Vec<Nlri>)>) -> Vec<RibEvent> {
    let mut announced = announced.into_iter();
    let first = announced.next();
    let mut events = Vec::new();
    if !withdrawn.is_empty() || first.is_some() {
        events.push(RibEvent::Update { peer, withdrawn, announced: first });
    }
    events.extend(announced.map(|group| RibEvent::Update {
        peer,
        withdrawn: Vec::new(),
        announced: Some(group),
    }));
    events
}

/// The attributes for a group of prefixes; `None` only if a mandatory one is missing, which `wire::parse` has
/// reported as a fault already.
fn attributes_for(session: Session, parsed: &ParsedAttributes, next_hop: IpAddr) -> Option<Attributes> {
    // RFC 7606 §7.5, §7.9, §7.10: from external peers these three are left out.
    let internal = !session.external;
    Some(Attributes {
        origin: parsed.origin?,
        as_path: parsed.as_path.clone()?,
        next_hop,
        med: parsed.med,
        local_pref: parsed.local_pref.filter(|_| internal),
        originator_id: parsed.originator_id.filter(|_| internal),
        cluster_list: if internal { parsed.cluster_list.clone() } else { Vec::new() },
        communities: parsed.communities.clone(),
        large_communities: parsed.large_communities.clone(),
        settings: Settings::default(),
    })
}

/// The leftmost AS from an external peer is the peer's (RFC 4271 §6.3, with RFC 7606 §7.2).
fn first_as_fault(session: Session, attributes: &ParsedAttributes) -> Option<Fault> {
    if !session.external {
        return None;
    }
    let first = match attributes.as_path.as_deref()?.first() {
        Some(AsSegment::Sequence(list)) => list.first().copied(),
        _ => None,
    };
    (first != Some(session.remote_as)).then(|| Fault {
        withdraw: true,
        notification: Notification::new(
            notification::UPDATE,
            11,
            first.map_or_else(
                || format!("AS_PATH does not start with the peer's AS {}", session.remote_as),
                |first| format!("AS_PATH starts with {first}, not with the peer's AS {}", session.remote_as),
            ),
        ),
    })
}

#[cfg(test)]
mod tests;
