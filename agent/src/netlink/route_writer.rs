//! Writes routes of our own by rtnetlink.
//!
//! Requests are sent in batches, many to a datagram: the kernel works them off in order and
//! acknowledges each, so a batch costs one round trip instead of one per route.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteNextHop as WireNextHop, RouteScope,
    RouteType as WireType, RouteVia,
};
use netlink_packet_route::{AddressFamily, route::RouteAddress};
use rtnetlink::proto::{ConnectionHandle, sys::SocketAddr};
use rtnetlink::sys::{AsyncSocket, protocols::NETLINK_ROUTE};
use tokio::task::AbortHandle;
use tracing::warn;

use crate::netlink::model::{Family, Route, RouteType};
use crate::reconcile::kernel::{Op, OwnRoute, RouteError, RouteTarget};

/// Requests per datagram. Their acknowledgements (less than 1 KiB each, as the kernel accounts them)
/// must fit in the default receive buffer of 208 KiB, or the kernel drops some.
const BATCH: usize = 128;

/// The kernel answers at once unless the RTNL lock is held by something slow.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// `NLMSGERR_ATTR_MSG`: text of an extended acknowledgement.
const EXT_ACK_MESSAGE: u16 = 1;

type Request = NetlinkMessage<RouteNetlinkMessage>;

/// The kernel's answer to one request.
type Answer = Result<(), Refused>;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refused {
    /// Positive error number and the kernel's text.
    Kernel(i32, Option<String>),
    /// No answer came.
    Silence,
}

/// Carries out route operations in the network namespace that it was made in.
#[derive(Debug)]
pub struct RouteWriter {
    /// `None` after the socket failed: opened again when it is next needed.
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    handle: ConnectionHandle<RouteNetlinkMessage>,
    task: AbortHandle,
}

impl RouteWriter {
    /// Opens the netlink socket. Needs a tokio runtime whose I/O runs in the wanted namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self { connection: Some(Connection::open()?) })
    }

    /// One answer per request, in the same order.
    async fn send(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let batch: Vec<Request> = requests.by_ref().take(BATCH).collect();
            let size = batch.len();
            let mut received = self.send_batch(batch).await;
            if received.len() < size {
                warn!(missing = size - received.len(), "netlink socket lost answers, opening a new one");
                received.resize(size, Err(Refused::Silence));
                self.connection = None;
            }
            answers.append(&mut received);
        }
        answers
    }

    /// The answers to one datagram, fewer than requests if the socket failed.
    async fn send_batch(&mut self, batch: Vec<Request>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(batch.len());
        let connection = match self.connection.take().map_or_else(Connection::open, Ok) {
            Ok(connection) => self.connection.insert(connection),
            Err(error) => {
                warn!(%error, "cannot open a netlink socket");
                return answers;
            }
        };
        let size = batch.len();
        let Ok(mut stream) = connection.handle.request_batch(batch, SocketAddr::new(0, 0)) else {
            return answers;
        };
        while answers.len() < size {
            match tokio::time::timeout(ANSWER_TIME, stream.next()).await {
                Ok(Some(message)) => match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => answers.push(Ok(())),
                    NetlinkPayload::Error(error) => answers
                        .push(Err(Refused::Kernel(error.raw_code().abs(), ext_ack_message(&error.header)))),
                    // Acknowledgements were dropped: which ones is not known.
                    NetlinkPayload::Overrun(_) => return Vec::new(),
                    _ => {}
                },
                Ok(None) | Err(_) => return answers,
            }
        }
        answers
    }
}

impl RouteTarget for RouteWriter {
    async fn execute(&mut self, ops: &[Op]) -> Vec<Result<(), RouteError>> {
        let mut results: Vec<Result<(), RouteError>> = ops.iter().map(|_| Ok(())).collect();
        // What comes is acknowledged before anything goes.
        for requests_of in [additions, removals] {
            let mut requests = Vec::new();
            let mut owners = Vec::new();
            for (index, op) in ops.iter().enumerate().filter(|(index, _)| results[*index].is_ok()) {
                let list = requests_of(op);
                owners.extend(std::iter::repeat_n(index, list.len()));
                requests.extend(list);
            }
            let answers = self.send(requests).await;
            for (index, answer) in owners.into_iter().zip(answers) {
                if let Err(error) = judge(&ops[index], answer) {
                    results[index] = Err(error);
                }
            }
        }
        results
    }
}

impl Connection {
    fn open() -> io::Result<Self> {
        let (mut connection, handle, _) =
            rtnetlink::proto::new_connection::<RouteNetlinkMessage>(NETLINK_ROUTE)?;
        connection.set_forward_ack(true);
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        let task = tokio::spawn(connection).abort_handle();
        Ok(Self { handle, task })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A route that is there already, or gone already, is what was asked for; only a route that must be
/// the first of its key ([`Op::Add`]) may not find one.
fn judge(op: &Op, answer: Answer) -> Result<(), RouteError> {
    match (op, answer) {
        (_, Ok(()))
        | (Op::Replace { .. }, Err(Refused::Kernel(libc::EEXIST | libc::ESRCH, _)))
        | (Op::Delete { .. }, Err(Refused::Kernel(libc::ESRCH, _))) => Ok(()),
        (_, Err(Refused::Kernel(errno, text))) => Err(RouteError::new(op.prefix(), errno, text.as_deref())),
        (_, Err(Refused::Silence)) => Err(RouteError::no_answer(op.prefix())),
    }
}

/// Requests that add what the operation adds.
fn additions(op: &Op) -> Vec<Request> {
    match op {
        Op::Add(route) => vec![addition(route, NLM_F_EXCL)],
        Op::Replace { new, .. } => match Family::of(new.prefix.addr()) {
            Family::Ipv4 => vec![addition(new, NLM_F_APPEND)],
            // One by one: of several in one request, a single one that is there already would take
            // back all the others (`ip6_route_multipath_add`).
            Family::Ipv6 => new
                .next_hops
                .iter()
                .map(|hop| addition(&OwnRoute { next_hops: vec![*hop], ..new.clone() }, NLM_F_APPEND))
                .collect(),
        },
        Op::Delete { .. } => Vec::new(),
    }
}

/// Requests that take out what the operation takes out.
fn removals(op: &Op) -> Vec<Request> {
    let routes = match op {
        Op::Add(_) => return Vec::new(),
        Op::Replace { old, .. } => old,
        Op::Delete { routes, .. } => routes,
    };
    routes.iter().flat_map(removal).collect()
}

fn addition(route: &OwnRoute, flag: u16) -> Request {
    let mut message = header(route.prefix, route.table, route.protocol, route.metric);
    message.header.scope = RouteScope::Universe;
    message.header.kind = WireType::Unicast;
    match route.next_hops.as_slice() {
        [only] => message.attributes.push(gateway_attribute(route.prefix, *only)),
        several => message.attributes.push(RouteAttribute::MultiPath(
            several.iter().map(|hop| wire_next_hop(route.prefix, Some(*hop), 0, 1)).collect(),
        )),
    }
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | flag;
    request
}

/// IPv4 routes are taken out as a whole, IPv6 ones next hop by next hop: without a gateway in the
/// request the kernel would take out the next hops of other protocols along with ours
/// (`ip6_route_del`).
fn removal(route: &Route) -> Vec<Request> {
    match Family::of(route.prefix.addr()) {
        Family::Ipv6 if route.next_hops.len() > 1 => route
            .next_hops
            .iter()
            .map(|hop| removal_request(&Route { next_hops: vec![hop.clone()], ..route.clone() }))
            .collect(),
        _ => vec![removal_request(route)],
    }
}

fn removal_request(route: &Route) -> Request {
    let mut message = header(route.prefix, route.table, route.protocol, route.metric);
    message.header.tos = route.tos;
    // Any scope.
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = wire_type(route.kind);
    match (route.nexthop_id, route.next_hops.as_slice()) {
        (Some(id), _) => message.attributes.push(RouteAttribute::NhId(id)),
        (None, []) => {}
        (None, [only]) => {
            message.attributes.extend(only.gateway.map(|gateway| gateway_attribute(route.prefix, gateway)));
            if only.ifindex != 0 {
                message.attributes.push(RouteAttribute::Oif(only.ifindex));
            }
        }
        (None, several) => {
            let hops = several
                .iter()
                .map(|hop| wire_next_hop(route.prefix, hop.gateway, hop.ifindex, hop.weight))
                .collect();
            message.attributes.push(RouteAttribute::MultiPath(hops));
        }
    }
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelRoute(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    request
}

fn header(prefix: IpNet, table: u32, protocol: u8, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match Family::of(prefix.addr()) {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = prefix.prefix_len();
    message.header.protocol = protocol.into();
    message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes = vec![
        RouteAttribute::Table(table),
        RouteAttribute::Destination(prefix.network().into()),
        RouteAttribute::Priority(metric),
    ];
    message
}

/// `RTA_GATEWAY`, or `RTA_VIA` for an IPv6 gateway of an IPv4 route.
fn gateway_attribute(prefix: IpNet, gateway: IpAddr) -> RouteAttribute {
    match (prefix, gateway) {
        (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        (_, gateway) => RouteAttribute::Gateway(RouteAddress::from(gateway)),
    }
}

fn wire_next_hop(prefix: IpNet, gateway: Option<IpAddr>, ifindex: u32, weight: u16) -> WireNextHop {
    let mut hop = WireNextHop::default();
    hop.interface_index = ifindex;
    hop.hops = u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
    hop.attributes = gateway.map(|gateway| gateway_attribute(prefix, gateway)).into_iter().collect();
    hop
}

const fn wire_type(kind: RouteType) -> WireType {
    match kind {
        RouteType::Unicast => WireType::Unicast,
        RouteType::Local => WireType::Local,
        RouteType::Broadcast => WireType::Broadcast,
        RouteType::Anycast => WireType::Anycast,
        RouteType::Multicast => WireType::Multicast,
        RouteType::Blackhole => WireType::BlackHole,
        RouteType::Unreachable => WireType::Unreachable,
        RouteType::Prohibit => WireType::Prohibit,
        RouteType::Throw => WireType::Throw,
        RouteType::Unknown(number) => WireType::Other(number),
    }
}

/// The text in an extended acknowledgement. With `NETLINK_CAP_ACK` the request's header (16 bytes) is
/// followed by attributes: length and type (2 bytes each, host byte order), value, padding to 4.
fn ext_ack_message(error: &[u8]) -> Option<String> {
    let mut rest = error.get(16..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(4..length)?;
        if kind == EXT_ACK_MESSAGE {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_extended_acknowledgement() {
        let header = [0_u8; 16];
        let offset = [8_u8, 0, 2, 0, 1, 2, 3, 4];
        let text = [9_u8, 0, 1, 0, b'h', b'o', b'p', b'!', 0, 0, 0, 0];
        let cases: [(&str, Vec<u8>, Option<&str>); 5] = [
            ("nothing", vec![], None),
            ("header only", header.to_vec(), None),
            ("text after another attribute", [&header[..], &offset, &text].concat(), Some("hop!")),
            ("length beyond the end", [&header[..], &[64, 0, 1, 0, b'x']].concat(), None),
            ("length below the header", [&header[..], &[0, 0, 1, 0]].concat(), None),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(ext_ack_message(&bytes).as_deref(), expected, "{name}");
        }
    }
}
