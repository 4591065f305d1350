//! Links and addresses.

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NlasIterator, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeader};
use netlink_packet_route::link::{LinkFlags, LinkHeader};

use super::attributes;
use crate::netlink::model::{Address, IfIndex, Link};

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

// Attributes of linux/if_link.h. Read raw: a link has dozens of others, some of them large.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

/// A link; `None` for the bridge's view of a port (`AF_BRIDGE`), whose removal is not the link's.
pub fn link(payload: &[u8]) -> Result<Option<Link>, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    if header.interface_family != AddressFamily::Unspec {
        return Ok(None);
    }
    let mut link = Link {
        index: header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        loopback: header.flags.contains(LinkFlags::Loopback),
        master: None,
        lower: None,
    };
    for attribute in attributes(payload, LINK_HEADER) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().filter(|mac| *mac != [0; 6]),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = number(value).unwrap_or_default(),
            IFLA_LINK => link.lower = number(value).filter(|index| *index != 0),
            IFLA_MASTER => link.master = number(value).filter(|index| *index != 0),
            IFLA_LINKINFO => {
                let nested = NlasIterator::new(value).map_while(Result::ok);
                link.kind = nested
                    .filter(|nested| nested.kind() == IFLA_INFO_KIND)
                    .map(|nested| text(nested.value()))
                    .next();
            }
            _ => {}
        }
    }
    // Wireless events come as links without a name.
    Ok((!link.name.is_empty()).then_some(link))
}

/// The index of a removed link; `None` when it only ceased to be a port of a bridge.
pub fn gone(payload: &[u8]) -> Result<Option<IfIndex>, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    Ok((header.interface_family == AddressFamily::Unspec).then_some(header.index))
}

/// An address: `IFA_LOCAL`, which on point-to-point links differs from `IFA_ADDRESS`, the peer's.
pub fn address(payload: &[u8]) -> Result<Option<Address>, DecodeError> {
    let header = AddressHeader::parse(payload)?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return Ok(None);
    }
    let (mut local, mut peer) = (None, None);
    for attribute in attributes(payload, ADDRESS_HEADER) {
        match AddressAttribute::parse(&attribute) {
            Ok(AddressAttribute::Local(address)) => local = Some(address),
            Ok(AddressAttribute::Address(address)) => peer = Some(address),
            Ok(_) | Err(_) => {}
        }
    }
    let address =
        local.or(peer).ok_or_else(|| DecodeError::from("an address without IFA_LOCAL and IFA_ADDRESS"))?;
    let address = IpNet::new(address, header.prefix_len)
        .map_err(|_| DecodeError::from(format!("no prefix: {address}/{}", header.prefix_len)))?;
    Ok(Some(Address { ifindex: header.index, address }))
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// A NUL-terminated string.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
