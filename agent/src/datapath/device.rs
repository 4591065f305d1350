//! Reads [`DriverFacts`] by rtnetlink and by the `netdev` family of generic netlink.
//!
//! Blocking, one short exchange per question: a port is attached once, not per packet.

use std::io;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use super::preflight::{AttachMode, AttachedProgram, DriverFacts};
use crate::netlink::model::IfIndex;

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// include/uapi/linux/netdev.h
const NETDEV_FAMILY_NAME: &[u8] = b"netdev\0";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// Asks the kernel about an interface of this thread's network namespace.
///
/// # Errors
/// No such interface (`ENODEV`), or netlink fails.
pub fn driver_facts(ifindex: IfIndex) -> io::Result<DriverFacts> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let answer = request(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(message))?;
    let RouteNetlinkMessage::NewLink(link) = answer else {
        return Err(invalid("the kernel did not answer RTM_GETLINK with a link"));
    };
    let mut facts = facts_of_link(&link);
    facts.xdp_features = xdp_features(ifindex)?;
    Ok(facts)
}

/// The part that rtnetlink tells.
fn facts_of_link(link: &LinkMessage) -> DriverFacts {
    let mut facts = DriverFacts {
        ifindex: link.header.index,
        name: String::new(),
        kind: None,
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        ethernet: false,
        master: None,
        mtu: 0,
        max_mtu: 0,
        xdp_features: None,
        attached: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => facts.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => facts.mtu = *mtu,
            LinkAttribute::MaxMtu(mtu) => facts.max_mtu = *mtu,
            LinkAttribute::Controller(master) => facts.master = Some(*master),
            LinkAttribute::Address(address) => {
                facts.ethernet = address.len() == 6 && link.header.link_layer_type == LinkLayerType::Ether;
            }
            LinkAttribute::LinkInfo(infos) => {
                facts.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(xdp) => facts.attached = attached_program(xdp),
            _ => {}
        }
    }
    facts
}

fn attached_program(xdp: &[LinkXdp]) -> Option<AttachedProgram> {
    let id = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    let mode = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver) => Some(AttachMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(AttachMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(AttachMode::Hardware),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(AttachMode::Multiple),
        _ => None,
    })?;
    Some(AttachedProgram { id: id.unwrap_or(0), mode })
}

/// `NETDEV_A_DEV_XDP_FEATURES` of the interface, or `None` on a kernel without the family.
fn xdp_features(ifindex: IfIndex) -> io::Result<Option<u64>> {
    let question = Generic {
        family: GENL_ID_CTRL,
        command: CTRL_CMD_GETFAMILY,
        attributes: vec![(CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY_NAME.to_vec())],
    };
    let family = match request(NETLINK_GENERIC, question) {
        Ok(answer) => answer,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let id: [u8; 2] = family
        .attribute(CTRL_ATTR_FAMILY_ID)
        .ok_or_else(|| invalid("the netdev family came without an id"))?;
    let question = Generic {
        family: u16::from_ne_bytes(id),
        command: NETDEV_CMD_DEV_GET,
        attributes: vec![(NETDEV_A_DEV_IFINDEX, ifindex.to_ne_bytes().to_vec())],
    };
    let answer = request(NETLINK_GENERIC, question)?;
    Ok(answer.attribute(NETDEV_A_DEV_XDP_FEATURES).map(u64::from_ne_bytes))
}

/// A generic-netlink message: `struct genlmsghdr` and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// `sizeof(struct genlmsghdr)`.
const GENERIC_HEADER_LEN: usize = 4;

impl Generic {
    /// The value of an attribute that is `N` bytes long.
    fn attribute<const N: usize>(&self, kind: u16) -> Option<[u8; N]> {
        let (_, value) = self.attributes.iter().find(|(k, _)| *k == kind)?;
        value.as_slice().try_into().ok()
    }

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
fn request<M>(protocol: isize, question: M) -> io::Result<M>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(question));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
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
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => return Ok(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => {
                    return Err(invalid("the kernel acknowledged without an answer"));
                }
                _ => {}
            }
            // Messages are padded to four bytes; the last one may lack the padding.
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        }
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_messages_survive_the_wire() {
        let question = Generic {
            family: 33,
            command: NETDEV_CMD_DEV_GET,
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

    #[test]
    fn loopback_is_told_apart() {
        // Reading facts changes nothing, so the namespace of the test run will do.
        let facts = driver_facts(1).expect("every namespace has a loopback interface");
        assert!(facts.loopback);
        assert!(!facts.ethernet);
        assert_eq!(facts.attached, None);
    }

    #[test]
    fn missing_interface_is_an_error() {
        let error = driver_facts(0x7fff_fff0).expect_err("no such interface");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{error}");
    }
}
