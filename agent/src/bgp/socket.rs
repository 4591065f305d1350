//! TCP sockets as BGP wants them: source address, TTL, DSCP, no delay.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// DSCP CS6 (internetwork control, RFC 4594 §3.1) as the TOS or traffic class octet.
const TOS_CS6: u32 = 0xc0;

/// Connections that wait for `accept`.
const BACKLOG: i32 = 32;

/// How to reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Peer's address and TCP port.
    pub peer: SocketAddr,
    /// Our address; `None` is the kernel's choice.
    pub source: Option<IpAddr>,
    /// TTL or hop limit of our packets.
    pub ttl: u8,
}

/// Opens a listening socket. Must be called inside a tokio runtime.
///
/// # Errors
/// What `socket`, `bind` and `listen` say.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:179` beside `0.0.0.0:179` is refused otherwise.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connects to a peer. Dropping the future gives the attempt up.
///
/// # Errors
/// What `bind` and `connect` say.
pub async fn dial(endpoint: Endpoint) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(endpoint.peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = endpoint.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    prepare(&SockRef::from(&socket), endpoint)?;
    TcpSocket::from_std_stream(socket.into()).connect(endpoint.peer).await
}

/// Sets the options of a peer on an accepted connection.
///
/// # Errors
/// What `setsockopt` says.
pub fn adopt(stream: &TcpStream, endpoint: Endpoint) -> io::Result<()> {
    prepare(&SockRef::from(stream), endpoint)
}

fn prepare(socket: &SockRef<'_>, endpoint: Endpoint) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
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
