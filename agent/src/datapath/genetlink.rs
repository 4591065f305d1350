//! Generic netlink, and one blocking exchange with the kernel.

use std::io;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// An attribute: type and value.
pub type Attribute = (u16, Vec<u8>);

/// Sends a command to the generic-netlink family of this name and returns the attributes of the answer,
/// or `None` when the kernel has no such family, the family no such command or the device no answer.
///
/// # Errors
/// No such interface, or netlink fails.
pub fn ask(family: &str, command: u8, attributes: Vec<Attribute>) -> io::Result<Option<Vec<Attribute>>> {
    let mut name = family.as_bytes().to_vec();
    name.push(0);
    let question = Generic {
        family: GENL_ID_CTRL,
        command: CTRL_CMD_GETFAMILY,
        attributes: vec![(CTRL_ATTR_FAMILY_NAME, name)],
    };
    let Some(answer) = unless_unsupported(request(NETLINK_GENERIC, question))? else { return Ok(None) };
    let id: [u8; 2] = value(&answer.attributes, CTRL_ATTR_FAMILY_ID)
        .ok_or_else(|| invalid(&format!("the {family} family came without an id")))?;
    let question = Generic { family: u16::from_ne_bytes(id), command, attributes };
    Ok(unless_unsupported(request(NETLINK_GENERIC, question))?.map(|answer| answer.attributes))
}

fn unless_unsupported(answer: io::Result<Generic>) -> io::Result<Option<Generic>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The value of an attribute that is `N` bytes long.
pub fn value<const N: usize>(attributes: &[Attribute], kind: u16) -> Option<[u8; N]> {
    nested(attributes, kind)?.try_into().ok()
}

/// The bytes of an attribute.
pub fn nested(attributes: &[Attribute], kind: u16) -> Option<&[u8]> {
    attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| value.as_slice())
}

/// Attributes one after the other.
///
/// # Errors
/// An attribute longer than what is there.
pub fn parse(bytes: &[u8]) -> io::Result<Vec<Attribute>> {
    NlasIterator::new(bytes)
        .map(|attribute| attribute.map(|attribute| (attribute.kind(), attribute.value().to_vec())))
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(&format!("netlink attribute: {error}")))
}

/// A generic-netlink message: `struct genlmsghdr` and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<Attribute>,
}

/// `sizeof(struct genlmsghdr)`.
const GENERIC_HEADER_LEN: usize = 4;

impl Generic {
    fn attributes(&self) -> Vec<DefaultNla> {
        self.attributes.iter().map(|(kind, value)| DefaultNla::new(*kind, value.clone())).collect()
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        GENERIC_HEADER_LEN + self.attributes().as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..GENERIC_HEADER_LEN].copy_from_slice(&[self.command, 1, 0, 0]);
        self.attributes().as_slice().emit(&mut buffer[GENERIC_HEADER_LEN..]);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = netlink_packet_core::DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        let (&command, rest) = payload.split_first().ok_or("empty generic netlink message")?;
        let rest = rest.get(GENERIC_HEADER_LEN - 1..).unwrap_or_default();
        let mut attributes = Vec::new();
        for attribute in NlasIterator::new(rest) {
            let attribute = attribute?;
            attributes.push((attribute.kind(), attribute.value().to_vec()));
        }
        Ok(Self { family: header.message_type, command, attributes })
    }
}

/// Sends one request and returns the first answer that carries a message.
///
/// # Errors
/// The kernel's answer, or what came is no netlink message of the kind.
pub fn request<M>(protocol: isize, question: M) -> io::Result<M>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let mut answer = None;
    exchange(protocol, question, NLM_F_ACK, |message| {
        answer = Some(message);
        true
    })?;
    answer.ok_or_else(|| invalid("the kernel acknowledged without an answer"))
}

/// Sends a request for a dump and returns all answers.
///
/// # Errors
/// As [`request`].
pub fn dump<M>(protocol: isize, question: M) -> io::Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let mut answers = Vec::new();
    exchange(protocol, question, NLM_F_DUMP, |message| {
        answers.push(message);
        false
    })?;
    Ok(answers)
}

/// Sends a request; `take` sees every message that comes back and says whether it was the last one.
fn exchange<M>(protocol: isize, question: M, flags: u16, mut take: impl FnMut(M) -> bool) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(question));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<M>::deserialize(rest)
                .map_err(|error| invalid(&format!("netlink answer: {error}")))?;
            let length = usize::try_from(answer.header.length).unwrap_or(rest.len());
            let last = match answer.payload {
                NetlinkPayload::InnerMessage(message) => take(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => true,
                _ => false,
            };
            if last {
                return Ok(());
            }
            // Messages are padded to four bytes; the last one may lack the padding.
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        }
    }
}

/// An answer that is not what was asked for.
pub fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_messages_survive_the_wire() {
        let question = Generic {
            family: 33,
            command: 1,
            attributes: vec![(1, vec![7, 0, 0, 0]), (9, b"netdev\0".to_vec())],
        };
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(question.clone()));
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        assert_eq!(buffer.len(), 16 + 4 + 8 + 12);
        let back = NetlinkMessage::<Generic>::deserialize(&buffer).expect("parses");
        assert_eq!(back.payload, NetlinkPayload::InnerMessage(question));
    }

    #[test]
    fn garbage_is_an_error() {
        let header = NetlinkHeader::default();
        for payload in [&[][..], &[1, 1, 0, 0, 3, 0, 1, 0], &[1, 1, 0, 0, 200, 0, 1, 0]] {
            assert!(Generic::deserialize(&header, payload).is_err(), "{payload:?}");
        }
    }
}
