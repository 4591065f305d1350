//! A BGP peer that does what the test says, byte by byte. It shares no code with the agent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How long a fake peer waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// OPEN.
pub const OPEN: u8 = 1;
/// UPDATE.
pub const UPDATE: u8 = 2;
/// NOTIFICATION.
pub const NOTIFICATION: u8 = 3;
/// KEEPALIVE.
pub const KEEPALIVE: u8 = 4;
/// ROUTE-REFRESH.
pub const ROUTE_REFRESH: u8 = 5;

/// A message with marker and length.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message below 64 KiB");
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An UPDATE from its three sections.
pub fn update(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = |section: &[u8]| u16::try_from(section.len()).expect("a short section").to_be_bytes();
    message(UPDATE, &[&length(withdrawn)[..], withdrawn, &length(&attributes), &attributes, nlri].concat())
}

/// An OPEN to send.
#[derive(Clone, Debug)]
pub struct Open {
    /// Version octet.
    pub version: u8,
    /// AS; beyond two octets the fixed field says 23456.
    pub autonomous_system: u32,
    /// Hold time in seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities, each with code and length.
    pub capabilities: Vec<Vec<u8>>,
}

impl Open {
    /// IPv4 and IPv6 unicast, route refresh and 4-octet AS.
    pub fn new(autonomous_system: u32, router_id: Ipv4Addr, hold_time: u16) -> Self {
        let four_octets = [&[65, 4][..], &autonomous_system.to_be_bytes()].concat();
        Self {
            version: 4,
            autonomous_system,
            hold_time,
            router_id,
            capabilities: vec![vec![1, 4, 0, 1, 0, 1], vec![1, 4, 0, 2, 0, 1], vec![2, 0], four_octets],
        }
    }

    /// One more capability.
    #[must_use]
    pub fn with(mut self, capability: &[u8]) -> Self {
        self.capabilities.push(capability.to_vec());
        self
    }

    /// Graceful restart for both families with this restart time and these F bits.
    #[must_use]
    pub fn with_graceful_restart(self, seconds: u16, restarted: bool, preserved: [bool; 2]) -> Self {
        let flags = seconds | if restarted { 0x8000 } else { 0 };
        let [high, low] = flags.to_be_bytes();
        let [v4, v6] = preserved.map(|bit| if bit { 0x80 } else { 0 });
        self.with(&[64, 10, high, low, 0, 1, 1, v4, 0, 2, 1, v6])
    }

    /// ADD-PATH for both families: able to send.
    #[must_use]
    pub fn with_add_path(self) -> Self {
        self.with(&[69, 8, 0, 1, 1, 2, 0, 2, 1, 2])
    }

    /// The message.
    pub fn bytes(&self) -> Vec<u8> {
        let capabilities = self.capabilities.concat();
        let length = u8::try_from(capabilities.len()).expect("few capabilities");
        let short_as = u16::try_from(self.autonomous_system).unwrap_or(23456).to_be_bytes();
        let parameters = if length == 0 { Vec::new() } else { [&[2, length][..], &capabilities].concat() };
        let total = u8::try_from(parameters.len()).expect("few parameters");
        let body = [
            &[self.version][..],
            &short_as,
            &self.hold_time.to_be_bytes(),
            &self.router_id.octets(),
            &[total],
            &parameters,
        ];
        message(OPEN, &body.concat())
    }
}

/// Waits for connections.
#[derive(Debug)]
pub struct Listening(TcpListener);

impl Listening {
    /// On this address; port 0 is any.
    pub fn on(address: SocketAddr) -> Self {
        Self(TcpListener::bind(address).expect("the fake peer's address is free"))
    }

    /// The socket, to set options.
    pub fn socket(&self) -> &TcpListener {
        &self.0
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound listener has an address")
    }

    /// The next connection.
    pub fn accept(&self) -> FakePeer {
        self.0.set_nonblocking(true).expect("nonblocking");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return FakePeer::over(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "nobody connected to {}", self.address());
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("accept: {error}"),
            }
        }
    }
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message: type and body.
    Message(u8, Vec<u8>),
    /// The other side has closed in order.
    Closed,
    /// The connection was reset.
    Reset,
}

/// One connection of a fake peer.
#[derive(Debug)]
pub struct FakePeer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl FakePeer {
    fn over(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).expect("blocking");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, buffer: Vec::new() }
    }

    /// Connects from one address to another.
    pub fn connect(from: IpAddr, to: SocketAddr) -> Self {
        Self::try_connect(from, to, PATIENCE, |_| {}).expect("connect")
    }

    /// Connects with a socket that is prepared first; the error of `connect`.
    ///
    /// # Errors
    /// Nobody answers in time, or refuses.
    pub fn try_connect(
        from: IpAddr,
        to: SocketAddr,
        time: Duration,
        prepare: impl FnOnce(&Socket),
    ) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("socket");
        prepare(&socket);
        socket.bind(&SocketAddr::new(from, 0).into()).expect("bind");
        socket.connect_timeout(&to.into(), time)?;
        Ok(Self::over(socket.into()))
    }

    /// A second handle on the connection, to send from another thread.
    #[must_use]
    pub fn second_handle(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a second descriptor"), buffer: Vec::new() }
    }

    /// The socket, to set options.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends with this TTL from now on.
    pub fn set_ttl(&self, ttl: u32) {
        self.stream.set_ttl(ttl).expect("a TTL");
    }

    /// The other side's address.
    pub fn remote(&self) -> SocketAddr {
        self.stream.peer_addr().expect("a connected stream")
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// Sends each byte in a segment of its own.
    pub fn dribble(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]);
        }
    }

    /// The next message, or how the connection ended; panics after [`PATIENCE`].
    pub fn receive(&mut self) -> Received {
        self.receive_within(PATIENCE).expect("a message or the end of the connection")
    }

    /// The next message if one comes in time.
    pub fn receive_within(&mut self, time: Duration) -> Option<Received> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(message) = self.take_message() {
                return Some(message);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).expect("timeout");
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some(Received::Closed),
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return None,
                    ErrorKind::ConnectionReset => return Some(Received::Reset),
                    _ => panic!("receive: {error}"),
                },
            }
        }
    }

    /// Takes a whole message off the buffer. Marker and length must be right: the agent wrote them.
    fn take_message(&mut self) -> Option<Received> {
        let header = self.buffer.get(..19)?;
        assert_eq!(header[..16], [0xff; 16], "marker");
        let (length, kind) = (usize::from(u16::from_be_bytes([header[16], header[17]])), header[18]);
        let body = self.buffer.get(19..length)?.to_vec();
        self.buffer.drain(..length);
        Some(Received::Message(kind, body))
    }

    /// The next message; it must be of this type.
    pub fn expect(&mut self, kind: u8) -> Vec<u8> {
        match self.receive() {
            Received::Message(found, body) if found == kind => body,
            other => panic!("expected a message of type {kind}, got {other:?}"),
        }
    }

    /// Messages are skipped until a NOTIFICATION, which the connection must end with: its body.
    pub fn expect_notification(&mut self) -> Vec<u8> {
        loop {
            match self.receive() {
                Received::Message(NOTIFICATION, body) => {
                    assert_eq!(self.receive(), Received::Closed, "after NOTIFICATION {body:?}");
                    return body;
                }
                Received::Message(..) => {}
                other => panic!("expected a NOTIFICATION, got {other:?}"),
            }
        }
    }

    /// Exchanges OPENs and KEEPALIVEs and takes both End-of-RIBs: the body of the agent's OPEN.
    pub fn establish(&mut self, open: &Open) -> Vec<u8> {
        let theirs = self.expect(OPEN);
        self.send(&open.bytes());
        self.expect(KEEPALIVE);
        self.send(&message(KEEPALIVE, &[]));
        for end_of_rib in [&[0, 0, 0, 0][..], &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]] {
            assert_eq!(self.expect(UPDATE), end_of_rib);
        }
        theirs
    }
}
