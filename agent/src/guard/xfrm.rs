//! XFRM (`IPsec`) policies that packets in transit meet: `fwd` when they are forwarded, `out` when they
//! leave (`xfrm4_policy_check`, `xfrm4_route_forward`).

use std::io;

use netlink_sys::protocols::NETLINK_XFRM;

use super::attributes::u32_at;
use super::model::{Policy, Range};
use super::socket::DumpSocket;
use crate::netlink::model::Family;

// Messages of linux/xfrm.h.
const NEW_POLICY: u16 = 0x13;
const GET_POLICY: u16 = 0x15;
const NEW_OR_SET_DEFAULT: u16 = 0x27;
const GET_DEFAULT: u16 = 0x28;
/// `struct xfrm_userpolicy_id`, which says nothing: all.
const ALL: [u8; 64] = [0; 64];
/// `XFRM_POLICY_IN`, which is for packets to this machine; `fwd` is 2, `out` 1.
const INPUT: u8 = 0;
/// Directions from here on belong to sockets.
const SOCKETS: u8 = 3;
const FORWARD: u8 = 2;
/// `XFRM_USERPOLICY_BLOCK`, and `XFRM_POLICY_BLOCK`.
const DEFAULT_BLOCK: u8 = 1;
const BLOCK: u8 = 1;
/// Offsets in `struct xfrm_userpolicy_info`: members of its selector, then priority, index, direction,
/// action.
const DESTINATION: usize = 0;
const FAMILY: usize = 40;
const DESTINATION_BITS: usize = 42;
const INTERFACE: usize = 48;
const DIRECTION: usize = 160;
const ACTION: usize = 161;

/// Reads XFRM policies.
#[derive(Debug)]
pub struct Xfrm {
    /// `None`: the kernel has no XFRM.
    socket: Option<DumpSocket>,
}

impl Xfrm {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new() -> io::Result<Self> {
        match DumpSocket::new(NETLINK_XFRM) {
            Ok(socket) => Ok(Self { socket: Some(socket) }),
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(Self { socket: None }),
            Err(error) => Err(error),
        }
    }

    /// All policies for packets in transit, and defaults that block them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&mut self) -> io::Result<Vec<Policy>> {
        let Some(socket) = &mut self.socket else { return Ok(Vec::new()) };
        let answer = socket.dump(GET_POLICY, &ALL)?;
        let of_policies = answer.messages.iter().filter(|(kind, _)| *kind == NEW_POLICY);
        let mut policies: Vec<Policy> = of_policies.filter_map(|(_, message)| policy(message)).collect();
        match socket.get(GET_DEFAULT, &[0; 4]) {
            Ok(answer) => {
                let blocks = answer
                    .messages
                    .iter()
                    .filter(|(kind, _)| *kind == NEW_OR_SET_DEFAULT || *kind == GET_DEFAULT);
                policies.extend(blocks.flat_map(|(_, message)| defaults(message)));
            }
            // Linux before 5.15 has no defaults to set.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
            Err(error) => return Err(error),
        }
        Ok(policies)
    }
}

fn policy(message: &[u8]) -> Option<Policy> {
    let direction = *message.get(DIRECTION)?;
    if direction == INPUT || direction >= SOCKETS {
        return None;
    }
    let (family, width) = match message.get(FAMILY..).and_then(|rest| super::attributes::u16_at(rest, 0)) {
        Some(2) => (Some(Family::Ipv4), 4),
        Some(10) => (Some(Family::Ipv6), 16),
        _ => (None, 0),
    };
    let bits = u32::from(*message.get(DESTINATION_BITS)?);
    let destination = message.get(DESTINATION..width).and_then(|address| Range::prefix(address, bits));
    let interface = u32_at(message, INTERFACE).filter(|interface| *interface != 0);
    let direction = if direction == FORWARD { "fwd" } else { "out" };
    let action = if message.get(ACTION) == Some(&BLOCK) { "block" } else { "allow" };
    let to = match (family, destination) {
        (Some(_), Some(range)) => format!("dst {}/{bits}", address(range)),
        _ => "dst any".to_owned(),
    };
    Some(Policy {
        family,
        destination,
        interface,
        text: format!("policy dir {direction} {to} action {action}"),
    })
}

fn address(range: Range) -> String {
    match range.family {
        Family::Ipv4 => std::net::Ipv4Addr::from(u32::try_from(range.first).unwrap_or(0)).to_string(),
        Family::Ipv6 => std::net::Ipv6Addr::from(range.first).to_string(),
    }
}

/// `struct xfrm_userpolicy_default`: in, fwd, out.
fn defaults(message: &[u8]) -> Vec<Policy> {
    let blocks =
        [(1, "fwd"), (2, "out")].into_iter().filter(|(at, _)| message.get(*at) == Some(&DEFAULT_BLOCK));
    blocks
        .map(|(_, direction)| Policy {
            family: None,
            destination: None,
            interface: None,
            text: format!("default policy of {direction} is block"),
        })
        .collect()
}
