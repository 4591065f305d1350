//! A netlink socket for dumps of any protocol. Blocking.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::netlink::requests::{MESSAGE_BUFFER, messages};

/// The kernel answers at once; this only keeps a lost answer from blocking for ever.
const TIMEOUT: Duration = Duration::from_secs(2);
const HEADER: usize = 16;

/// What was answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// Messages: type and what follows the header.
    pub messages: Vec<(u16, Vec<u8>)>,
    /// Nothing changed meanwhile.
    pub consistent: bool,
}

/// The socket.
pub struct DumpSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for DumpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DumpSocket").finish_non_exhaustive()
    }
}

impl DumpSocket {
    /// Opens one of `protocol` in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel's: `EPROTONOSUPPORT` it does not have the protocol.
    pub fn new(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let timeout = TimeVal::new(TIMEOUT.as_secs().cast_signed(), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(MESSAGE_BUFFER) })
    }

    /// Asks for everything of a kind; `request` is what follows the header.
    ///
    /// # Errors
    /// The kernel refuses, or the socket fails.
    pub fn dump(&mut self, message_type: u16, request: &[u8]) -> io::Result<Answer> {
        self.ask(message_type, NLM_F_DUMP, request)
    }

    /// Asks for one object.
    ///
    /// # Errors
    /// As [`Self::dump`].
    pub fn get(&mut self, message_type: u16, request: &[u8]) -> io::Result<Answer> {
        self.ask(message_type, 0, request)
    }

    fn ask(&mut self, message_type: u16, flags: u16, request: &[u8]) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + request.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + request.len());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(message_type.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(request);
        self.socket.send(&bytes, 0)?;
        let mut answer = Answer { messages: Vec::new(), consistent: true };
        loop {
            self.receive()?;
            for (_, reply) in messages(&self.buffer).filter(|(sequence, _)| *sequence == self.sequence) {
                answer.consistent &= reply.flags & NLM_F_DUMP_INTR == 0;
                match reply.message_type {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let code = reply.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code == 0 {
                            Ok(answer)
                        } else {
                            Err(io::Error::from_raw_os_error(code.saturating_abs()))
                        };
                    }
                    kind => answer.messages.push((kind, reply.payload.to_vec())),
                }
                if flags & NLM_F_DUMP == 0 {
                    return Ok(answer);
                }
            }
        }
    }

    /// Reads one datagram. A signal ends a system call with a timeout even under `SA_RESTART`.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }
}
