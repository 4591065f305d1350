//! Reading the kernel's state whole. Blocking.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::apply::Part;
use super::decode::{Decoder, Event};
use super::install::Dump;
use super::model::{IfIndex, Link, State};
use super::order;
use super::requests::{Reply, RequestError, Requests};
use super::settings;

/// How often a part is read again at once that changed while it was read.
const ATTEMPTS: u32 = 4;

/// A finished dump.
#[derive(Debug, Default)]
pub struct Finished {
    /// What was read.
    pub dump: Dump,
    /// Parts that changed while they were read each time.
    pub inconsistent: BTreeSet<Part>,
    /// Objects that could not be read.
    pub undecodable: u64,
}

/// Reads `parts`. `links` are those known, for [`Part::Settings`] without [`Part::Links`].
///
/// Links come first: that dump waits for the lock under which a link goes down, so that the routes
/// read next are those after it.
///
/// # Errors
/// The kernel refuses, or the socket fails.
pub fn read(
    requests: &mut Requests,
    parts: &BTreeSet<Part>,
    links: &BTreeMap<IfIndex, Link>,
) -> Result<Finished, RequestError> {
    let mut finished = Finished::default();
    finished.dump.parts.clone_from(parts);
    for part in Part::ALL.into_iter().filter(|part| parts.contains(part)) {
        if part == Part::Settings {
            let links = if parts.contains(&Part::Links) { &finished.dump.state.links } else { links };
            finished.dump.state.ipv4_conf = settings::ipv4(links);
            finished.dump.state.ipv6_conf = settings::ipv6(links);
            continue;
        }
        let mut consistent = false;
        for _ in 0..ATTEMPTS {
            let mut reader = Reader::default();
            consistent = true;
            for family in families(part) {
                reader.family = *family;
                consistent &= ask(requests, part, *family, &mut reader)?;
            }
            finished.undecodable += reader.undecodable;
            reader.give(part, &mut finished.dump.state);
            if consistent {
                break;
            }
        }
        if !consistent {
            finished.inconsistent.insert(part);
        }
    }
    Ok(finished)
}

/// Families that a part is asked for separately. Neighbours and addresses come together.
const fn families(part: Part) -> &'static [AddressFamily] {
    match part {
        Part::Rules | Part::Routes => &[AddressFamily::Inet, AddressFamily::Inet6],
        _ => &[AddressFamily::Unspec],
    }
}

fn ask(
    requests: &mut Requests,
    part: Part,
    family: AddressFamily,
    reader: &mut Reader,
) -> Result<bool, RequestError> {
    match requests.ask(question(part, family), NLM_F_DUMP, |reply| reader.read(reply)) {
        // A kernel without IPv6 has none.
        Err(error) if family == AddressFamily::Inet6 && is_unknown_family(&error) => Ok(true),
        other => other,
    }
}

fn is_unknown_family(error: &RequestError) -> bool {
    matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
}

fn question(part: Part, family: AddressFamily) -> RouteNetlinkMessage {
    match part {
        Part::Links => {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
            RouteNetlinkMessage::GetLink(message)
        }
        Part::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        Part::Neighbours => RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        Part::Rules => {
            let mut message = RuleMessage::default();
            message.header.family = family;
            RouteNetlinkMessage::GetRule(message)
        }
        Part::Routes | Part::Settings => {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            RouteNetlinkMessage::GetRoute(message)
        }
    }
}

/// Collects the objects of one part.
#[derive(Debug, Default)]
struct Reader {
    family: AddressFamily,
    state: State,
    decoder: Decoder,
    undecodable: u64,
}

impl Reader {
    fn read(&mut self, reply: Reply<'_>) {
        // A family without a dump of its own may be answered with those of all others.
        let family = reply.payload.first().copied().map(AddressFamily::from);
        if self.family != AddressFamily::Unspec && family != Some(self.family) {
            return;
        }
        match self.decoder.decode(reply.message_type, 0, reply.payload) {
            Ok(Some(event)) => self.add(event),
            Ok(None) => {}
            Err(error) => {
                self.undecodable += 1;
                tracing::warn!(%error, message_type = reply.message_type, "an object of the kernel cannot be read");
            }
        }
    }

    /// The kernel dumps routes in the order of its choice, and rules in the order of the walk.
    fn add(&mut self, event: Event) {
        let state = &mut self.state;
        match event {
            Event::Link(link) => drop(state.links.insert(link.index, link)),
            Event::Address(address) => drop(state.addresses.insert(address)),
            Event::Neighbour(entry) => drop(state.neighbours.insert((entry.ifindex, entry.address), entry)),
            Event::Rule(rule) => state.rules.push(rule),
            Event::Route(route, _) => {
                state.routes.edit(route.key(), |routes| order::append(routes, route));
            }
            _ => {}
        }
    }

    /// Hands over the part that was read.
    fn give(self, part: Part, to: &mut State) {
        match part {
            Part::Links => to.links = self.state.links,
            Part::Addresses => to.addresses = self.state.addresses,
            Part::Neighbours => to.neighbours = self.state.neighbours,
            Part::Rules => to.rules = self.state.rules,
            Part::Routes => to.routes = self.state.routes,
            Part::Settings => {
                to.ipv4_conf = self.state.ipv4_conf;
                to.ipv6_conf = self.state.ipv6_conf;
            }
        }
    }
}
