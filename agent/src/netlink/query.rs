//! The kernel's own answer for one packet (`ip route get`).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::DecodeError;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode::{message_type, route_answer};
use super::model::{IfIndex, Route, RouteType};
use super::requests::{RequestError, Requests};

/// What the kernel would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelAnswer {
    /// The route lookup has a result.
    Route {
        /// Type: unicast is forwarded, local delivered, ...
        kind: RouteType,
        /// Table that it is from. As long as the kernel keeps tables local and main in one trie,
        /// local addresses are said to be from main.
        table: u32,
        /// Egress, or `None`.
        egress: Option<IfIndex>,
        /// Gateway, or `None` when the destination is on-link.
        gateway: Option<IpAddr>,
    },
    /// The kernel refuses: the text of the error ("Network is unreachable (os error 101)").
    Refused(String),
}

/// Asks the kernel, through a netlink socket of its own. Blocking, but the kernel answers at once.
#[derive(Debug)]
pub struct Query {
    requests: Requests,
}

impl Query {
    /// Opens the socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self { requests: Requests::new()? })
    }

    /// What the kernel would do with a packet to `address` from `source` that comes in on `ingress`
    /// (`RTM_GETROUTE` with `RTA_IIF`; without ingress: a packet of our own). The source should be
    /// one that the kernel accepts on that port, or its answer is about the source.
    ///
    /// # Errors
    /// The socket fails; a refusal of the kernel is an answer, not an error.
    pub fn route_get(
        &mut self,
        address: IpAddr,
        source: Option<IpAddr>,
        ingress: Option<IfIndex>,
    ) -> io::Result<KernelAnswer> {
        let flags = match address {
            IpAddr::V4(_) => RouteFlags::LookupTable,
            // IPv6 names the table anyway and refuses the flag (`inet6_rtm_valid_getroute_req`).
            IpAddr::V6(_) => RouteFlags::empty(),
        };
        match self.ask(question(address, source, ingress, flags))? {
            Err(refused) => Ok(KernelAnswer::Refused(refused)),
            Ok(route) => {
                let hop = route.next_hops.first();
                Ok(KernelAnswer::Route {
                    kind: route.kind,
                    table: route.table,
                    egress: hop.map(|hop| hop.ifindex).filter(|ifindex| *ifindex != 0),
                    gateway: hop.and_then(|hop| hop.gateway),
                })
            }
        }
    }

    /// The route that such a packet matches, with all its next hops (`RTM_F_FIB_MATCH`), or the kernel's error.
    ///
    /// # Errors
    /// As [`Self::route_get`].
    pub fn matching_route(
        &mut self,
        address: IpAddr,
        source: Option<IpAddr>,
        ingress: Option<IfIndex>,
    ) -> io::Result<Result<Route, String>> {
        self.ask(question(address, source, ingress, RouteFlags::FibMatch))
    }

    fn ask(&mut self, message: RouteMessage) -> io::Result<Result<Route, String>> {
        let mut answer: Result<Option<Route>, DecodeError> = Ok(None);
        let asked = self.requests.ask(RouteNetlinkMessage::GetRoute(message), 0, |reply| {
            if reply.message_type == message_type::NEWROUTE {
                answer = route_answer(reply.payload);
            }
        });
        match (asked, answer) {
            (Err(RequestError::Socket(error)), _) => Err(error),
            (Err(refused @ RequestError::Refused { .. }), _) => Ok(Err(refused.to_string())),
            (Ok(_), Ok(Some(route))) => Ok(Ok(route)),
            (Ok(_), Ok(None)) => Err(io::Error::other("the kernel's answer is no route")),
            (Ok(_), Err(error)) => {
                Err(io::Error::other(format!("the kernel's answer cannot be read: {error}")))
            }
        }
    }
}

fn question(
    address: IpAddr,
    source: Option<IpAddr>,
    ingress: Option<IfIndex>,
    flags: RouteFlags,
) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.flags = flags;
    message.attributes.push(RouteAttribute::Destination(address.into()));
    if let Some(source) = source {
        message.header.source_prefix_length = length;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message.attributes.extend(ingress.map(RouteAttribute::Iif));
    message
}
