//! TCP sockets as BGP wants them: source address and interface, TTL, signatures, DSCP, no delay.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::gtsm;
use super::password::Password;
use crate::sys::tcp;

/// DSCP CS6 (internetwork control, RFC 4594 §3.1) as the TOS or traffic class octet.
const TOS_CS6: u32 = 0xc0;

/// Connections that wait for `accept`.
const BACKLOG: i32 = 32;

/// How to reach a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Peer's address and TCP port.
    pub peer: SocketAddr,
    /// Our address; `None` is the kernel's choice.
    pub source: Option<IpAddr>,
    /// The interface that the session stays on.
    pub interface: Option<String>,
    /// TTL or hop limit of our packets.
    pub ttl: u8,
    /// Least TTL or hop limit of the peer's packets (RFC 5082); 0 takes any.
    pub least_ttl: u8,
    /// Signs the session (RFC 2385).
    pub password: Option<Arc<Password>>,
    /// How long sent data may stay unacknowledged; `None` is the kernel's choice.
    pub user_timeout: Option<Duration>,
}

/// Opens a listening socket. Must be called inside a tokio runtime.
///
/// # Errors
/// What `socket`, `bind` and `listen` say.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // The kernel answers a SYN with the listening socket's TTL, and a peer with GTSM drops less than 255.
    if address.is_ipv6() {
        // `[::]:179` beside `0.0.0.0:179` is refused otherwise.
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(u8::MAX.into())?;
        socket.set_tclass_v6(TOS_CS6)?;
    } else {
        socket.set_ttl_v4(u8::MAX.into())?;
        socket.set_tos_v4(TOS_CS6)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Demands the peer's signature, or no longer, on connections that it opens.
///
/// # Errors
/// What the kernel says, which may be built without TCP-MD5.
pub fn expect_password(listener: &TcpListener, peer: IpAddr, password: Option<&Password>) -> io::Result<()> {
    if listener.local_addr()?.is_ipv6() != peer.is_ipv6() {
        return Ok(());
    }
    match tcp::set_md5_key(listener, peer, password.map_or(&[], Password::as_bytes)) {
        // There was none.
        Err(error) if password.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Bounds the hops that segments from these peers have come, also on the connections that will be accepted.
///
/// # Errors
/// What the kernel says; `E2BIG` for more peers than a filter can hold.
pub fn bound_hops(listener: &TcpListener, peers: &[(IpAddr, u8)]) -> io::Result<()> {
    let is_ipv6 = listener.local_addr()?.is_ipv6();
    let peers: Vec<_> = peers.iter().filter(|(peer, _)| peer.is_ipv6() == is_ipv6).copied().collect();
    let filter = gtsm::filter(&peers).ok_or_else(|| io::Error::from_raw_os_error(libc::E2BIG))?;
    let socket = SockRef::from(listener);
    if !filter.is_empty() {
        let compiled: Vec<SockFilter> = filter
            .iter()
            .map(|step| SockFilter::new(step.code, step.jump_true, step.jump_false, step.operand))
            .collect();
        return socket.attach_filter(&compiled);
    }
    match socket.detach_filter() {
        // There was none.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Connects to a peer. Dropping the future gives the attempt up.
///
/// # Errors
/// What `bind` and `connect` say.
pub async fn dial(endpoint: Endpoint) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(endpoint.peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let scoped = |address: SocketAddr| match (address, &endpoint.interface) {
        (SocketAddr::V6(address), Some(name)) if address.ip().is_unicast_link_local() => {
            let index = if_nametoindex(name.as_str())?;
            Ok::<_, io::Error>(SocketAddrV6::new(*address.ip(), address.port(), 0, index).into())
        }
        _ => Ok(address),
    };
    if let Some(password) = &endpoint.password {
        tcp::set_md5_key(&socket, endpoint.peer.ip(), password.as_bytes())?;
    }
    prepare(&SockRef::from(&socket), &endpoint)?;
    if let Some(source) = endpoint.source {
        socket.bind(&scoped(SocketAddr::new(source, 0))?.into())?;
    }
    let peer = scoped(endpoint.peer)?;
    TcpSocket::from_std_stream(socket.into()).connect(peer).await
}

/// Sets the options of a peer on an accepted connection. Its signatures are the listening socket's.
///
/// # Errors
/// What `setsockopt` says.
pub fn adopt(stream: &TcpStream, endpoint: &Endpoint) -> io::Result<()> {
    prepare(&SockRef::from(stream), endpoint)
}

fn prepare(socket: &SockRef<'_>, endpoint: &Endpoint) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(endpoint.user_timeout)?;
    if let Some(name) = &endpoint.interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    if endpoint.least_ttl > 0 {
        tcp::set_least_ttl(&**socket, endpoint.peer.ip(), endpoint.least_ttl)?;
    }
    match endpoint.peer {
        SocketAddr::V4(_) => {
            socket.set_ttl_v4(endpoint.ttl.into())?;
            socket.set_tos_v4(TOS_CS6)
        }
        SocketAddr::V6(_) => {
            socket.set_unicast_hops_v6(endpoint.ttl.into())?;
            socket.set_tclass_v6(TOS_CS6)
        }
    }
}
