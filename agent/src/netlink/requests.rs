//! A netlink socket for questions and answers, one at a time. Blocking.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// No message of the kernel is larger.
pub const MESSAGE_BUFFER: usize = 256 << 10;
/// The kernel answers at once; this only keeps a lost answer from blocking for ever.
const TIMEOUT: Duration = Duration::from_secs(10);
/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS` of an `NLMSG_ERROR`, and the text among its attributes.
const ERROR_CAPPED: u16 = 0x100;
const ERROR_HAS_ATTRIBUTES: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER_LENGTH: usize = 16;

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The kernel refuses.
    #[error("{}{}", io::Error::from_raw_os_error(*errno), message.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// Error number.
        errno: i32,
        /// The kernel's text (`NLMSGERR_ATTR_MSG`).
        message: Option<String>,
    },
    /// The socket fails.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
}

impl RequestError {
    /// The error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(error) => error.raw_os_error(),
        }
    }
}

/// One message of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// `nlmsg_type`.
    pub message_type: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages in a datagram; ends at the first malformed one.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u32, Reply<'_>)> {
    std::iter::from_fn(move || {
        // Its error at the end would be a text that nobody reads.
        if datagram.len() < HEADER_LENGTH {
            return None;
        }
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        let reply = Reply {
            message_type: buffer.message_type(),
            flags: buffer.flags(),
            payload: datagram.get(HEADER_LENGTH..length)?,
        };
        let sequence = buffer.sequence_number();
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((sequence, reply))
    })
}

/// The socket.
pub struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Requests {
    /// Opens the socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        // Leaves cached routes out of dumps (Linux 4.20); without it they are recognised by their flag.
        let _ = socket.set_netlink_get_strict_chk(true);
        let timeout = TimeVal::new(TIMEOUT.as_secs().cast_signed(), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(MESSAGE_BUFFER) })
    }

    /// Asks, and hands every message of the answer to `each`. With [`NLM_F_DUMP`] in `flags` the
    /// answer is many messages; with [`NLM_F_ACK`] none but a confirmation; else one.
    ///
    /// Gives whether the answer is consistent: `false` when what was dumped changed meanwhile.
    ///
    /// # Errors
    /// The kernel refuses, or the socket fails.
    pub fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(Reply<'_>),
    ) -> Result<bool, RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let single = flags & (NLM_F_DUMP | NLM_F_ACK) == 0;
        let mut consistent = true;
        loop {
            self.receive()?;
            // Answers to a request that timed out are not ours.
            for (_, reply) in messages(&self.buffer).filter(|(sequence, _)| *sequence == self.sequence) {
                consistent &= reply.flags & NLM_F_DUMP_INTR == 0;
                match reply.message_type {
                    NLMSG_DONE | NLMSG_ERROR => return verdict(reply).map(|()| consistent),
                    _ => each(reply),
                }
                if single {
                    return Ok(consistent);
                }
            }
        }
    }
}

impl Requests {
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

/// `NLMSG_ERROR` (whose error 0 is a confirmation) and `NLMSG_DONE` both start with an error number.
///
/// # Errors
/// It is not 0.
pub(super) fn verdict(reply: Reply<'_>) -> Result<(), RequestError> {
    let code = reply.payload.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Ok(());
    }
    Err(RequestError::Refused { errno: code.saturating_abs(), message: error_text(reply) })
}

/// The kernel's words, behind the error number and the header (or all) of the request.
fn error_text(reply: Reply<'_>) -> Option<String> {
    if reply.flags & ERROR_HAS_ATTRIBUTES == 0 {
        return None;
    }
    let attributes = if reply.message_type == NLMSG_DONE {
        reply.payload.get(4..)?
    } else {
        let request = reply.payload.get(4..)?;
        let length = u32::from_ne_bytes(*request.first_chunk()?);
        let length =
            if reply.flags & ERROR_CAPPED == 0 { usize::try_from(length).ok()? } else { HEADER_LENGTH };
        request.get(length.next_multiple_of(4)..)?
    };
    let text = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    Some(String::from_utf8_lossy(text.value()).trim_end_matches('\0').to_owned())
}
