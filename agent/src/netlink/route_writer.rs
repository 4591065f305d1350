//! Writes routes of our own by rtnetlink.
//!
//! Requests are sent in batches, many to a datagram: the kernel works them off in order and answers those that fail,
//! and the last one. So a batch costs one round trip instead of one per route, and a route that is taken costs no
//! answer.

use std::future::{Future, ready};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use tracing::warn;

use super::decode::message_type::{DELROUTE, NEWROUTE};
use super::encode::{Hop, RouteRequest, Way, ask_for_answer};
use super::requests::{MESSAGE_BUFFER, RequestError, messages, verdict};
use crate::netlink::model::{Family, Route, RouteType};
use crate::reconcile::kernel::{Op, OwnRoute, RouteError, RouteTarget};

/// Bytes of requests per datagram: below the default send buffer of 208 KiB.
const BATCH: usize = 96 << 10;
/// Room for the answers if every request of a batch fails (1 KiB each, as the kernel accounts them): one that finds
/// no room is lost.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel answers at once unless the RTNL lock is held by something slow.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Values of `rtm_scope`.
const SCOPE_UNIVERSE: u8 = 0;
/// Any, in a request to take out.
const SCOPE_NOWHERE: u8 = 255;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refused {
    /// Positive error number and the kernel's text.
    Kernel(i32, Option<String>),
    /// No answer came.
    Silence,
}

/// Carries out route operations in the network namespace that it was made in. Blocks while the kernel works.
pub struct RouteWriter {
    /// `None` after the socket failed: opened again when it is next needed.
    socket: Option<Socket>,
    batch: Batch,
    received: Vec<u8>,
}

/// Requests that are to be sent together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Which operation each request is for.
    owners: Vec<usize>,
    /// Where the last request begins.
    last: usize,
    /// Sequence number of the first request.
    first: u32,
    /// Reused for the next hops of a request.
    hops: Vec<Hop>,
}

impl std::fmt::Debug for RouteWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteWriter").finish_non_exhaustive()
    }
}

impl RouteWriter {
    /// Opens the netlink socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            socket: Some(open()?),
            batch: Batch::default(),
            received: Vec::with_capacity(MESSAGE_BUFFER),
        })
    }

    /// Carries operations out; one result each, in the order given. See [`RouteTarget::execute`].
    pub fn write(&mut self, ops: &[Op]) -> Vec<Result<(), RouteError>> {
        let mut results: Vec<Result<(), RouteError>> = ops.iter().map(|_| Ok(())).collect();
        // What comes is acknowledged before anything goes.
        for requests_of in [additions, removals] {
            for (index, op) in ops.iter().enumerate() {
                if results[index].is_ok() {
                    requests_of(op, index, &mut self.batch);
                }
                if self.batch.bytes.len() >= BATCH {
                    self.send(ops, &mut results);
                }
            }
            self.send(ops, &mut results);
        }
        results
    }

    /// Sends the batch and notes what was refused of it.
    fn send(&mut self, ops: &[Op], results: &mut [Result<(), RouteError>]) {
        if self.batch.owners.is_empty() {
            return;
        }
        ask_for_answer(&mut self.batch.bytes, self.batch.last);
        let Batch { owners, .. } = &self.batch;
        let mut refused: Vec<(usize, Refused)> = Vec::new();
        if let Err(error) = exchange(&mut self.socket, &self.batch, &mut self.received, &mut refused) {
            warn!(%error, "the netlink socket for routes fails, opening a new one");
            self.socket = None;
            // Which of the others were carried out is not known.
            refused = (0..owners.len()).map(|at| (at, Refused::Silence)).collect();
        }
        for (at, refused) in refused {
            let Some(index) = owners.get(at).copied() else { continue };
            if let Err(error) = judge(&ops[index], refused) {
                results[index] = Err(error);
            }
        }
        self.batch.clear();
    }
}

/// Sends a batch and waits for the answer to its last request. `refused`: requests of it by their place.
fn exchange(
    socket: &mut Option<Socket>,
    batch: &Batch,
    received: &mut Vec<u8>,
    refused: &mut Vec<(usize, Refused)>,
) -> io::Result<()> {
    let socket = match socket.take().map_or_else(open, Ok) {
        Ok(opened) => socket.insert(opened),
        Err(error) => return Err(error),
    };
    socket.send(&batch.bytes, 0)?;
    loop {
        received.clear();
        match socket.recv(received, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        for (sequence, reply) in messages(received).filter(|(_, reply)| reply.message_type == NLMSG_ERROR) {
            let at = usize::try_from(sequence.wrapping_sub(batch.first)).unwrap_or(usize::MAX);
            match verdict(reply) {
                Ok(()) => {}
                Err(RequestError::Refused { errno, message }) => {
                    refused.push((at, Refused::Kernel(errno, message)));
                }
                Err(RequestError::Socket(error)) => return Err(error),
            }
            if at + 1 == batch.owners.len() {
                return Ok(());
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // The kernel caps what is not forced at `net.core.rmem_max`.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIME.as_secs().cast_signed(), 0))?;
    Ok(socket)
}

impl RouteTarget for RouteWriter {
    fn execute(&mut self, ops: &[Op]) -> impl Future<Output = Vec<Result<(), RouteError>>> + Send {
        ready(self.write(ops))
    }
}

impl Batch {
    fn push(&mut self, request: &RouteRequest<'_>, owner: usize) {
        self.last = self.bytes.len();
        let number = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        request.append_to(&mut self.bytes, self.first.wrapping_add(number));
        self.owners.push(owner);
    }

    /// Begins the next batch, whose answers cannot be taken for those to this one.
    fn clear(&mut self) {
        self.first = self.first.wrapping_add(u32::try_from(self.owners.len()).unwrap_or(u32::MAX));
        self.bytes.clear();
        self.owners.clear();
    }
}

/// A route that is there already, or gone already, is what was asked for; only a route that must be
/// the first of its key ([`Op::Add`]) may not find one.
fn judge(op: &Op, refused: Refused) -> Result<(), RouteError> {
    match (op, refused) {
        (Op::Replace { .. }, Refused::Kernel(libc::EEXIST | libc::ESRCH, _))
        | (Op::Delete { .. }, Refused::Kernel(libc::ESRCH, _)) => Ok(()),
        (_, Refused::Kernel(errno, text)) => Err(RouteError::new(op.prefix(), errno, text.as_deref())),
        (_, Refused::Silence) => Err(RouteError::no_answer(op.prefix())),
    }
}

/// Requests that add what the operation adds.
fn additions(op: &Op, owner: usize, batch: &mut Batch) {
    match op {
        Op::Add(route) => add(route, &route.next_hops, NLM_F_EXCL, owner, batch),
        Op::Replace { new, .. } => match Family::of(new.prefix.addr()) {
            Family::Ipv4 => add(new, &new.next_hops, NLM_F_APPEND, owner, batch),
            // One by one: of several in one request, a single one that is there already would take
            // back all the others (`ip6_route_multipath_add`).
            Family::Ipv6 => {
                for hop in new.next_hops.iter() {
                    add(new, std::slice::from_ref(hop), NLM_F_APPEND, owner, batch);
                }
            }
        },
        Op::Delete { .. } => {}
    }
}

fn add(route: &OwnRoute, next_hops: &[IpAddr], flag: u16, owner: usize, batch: &mut Batch) {
    let mut hops = std::mem::take(&mut batch.hops);
    hops.clear();
    hops.extend(next_hops.iter().map(|hop| Hop { gateway: Some(*hop), ifindex: 0, weight: 1 }));
    let request = RouteRequest {
        message_type: NEWROUTE,
        flags: NLM_F_REQUEST | NLM_F_CREATE | flag,
        prefix: route.prefix,
        tos: 0,
        table: route.table,
        protocol: route.protocol,
        scope: SCOPE_UNIVERSE,
        kind: RouteType::Unicast.number(),
        metric: route.metric,
        way: Way::Hops(&hops),
    };
    batch.push(&request, owner);
    batch.hops = hops;
}

/// Requests that take out what the operation takes out.
///
/// IPv4 routes are taken out as a whole, IPv6 ones next hop by next hop: without a gateway in the
/// request the kernel would take out the next hops of other protocols along with ours
/// (`ip6_route_del`).
fn removals(op: &Op, owner: usize, batch: &mut Batch) {
    let routes = match op {
        Op::Add(_) => return,
        Op::Replace { old, .. } => old,
        Op::Delete { routes, .. } => routes,
    };
    for route in routes {
        let hops: Vec<Hop> = route
            .next_hops
            .iter()
            .map(|hop| Hop { gateway: hop.gateway, ifindex: hop.ifindex, weight: hop.weight })
            .collect();
        match (route.nexthop_id, Family::of(route.prefix.addr())) {
            (Some(id), _) => batch.push(&removal(route, Way::Object(id)), owner),
            (None, Family::Ipv6) if hops.len() > 1 => {
                for hop in &hops {
                    batch.push(&removal(route, Way::Hops(std::slice::from_ref(hop))), owner);
                }
            }
            (None, _) => batch.push(&removal(route, Way::Hops(&hops)), owner),
        }
    }
}

fn removal<'a>(route: &Route, way: Way<'a>) -> RouteRequest<'a> {
    RouteRequest {
        message_type: DELROUTE,
        flags: NLM_F_REQUEST,
        prefix: route.prefix,
        tos: route.tos,
        table: route.table,
        protocol: route.protocol,
        scope: SCOPE_NOWHERE,
        kind: route.kind.number(),
        metric: route.metric,
        way,
    }
}
