//! Asks the kernel to resolve neighbours.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as Nud,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode::{Event, decode};
use super::model::{IfIndex, NeighbourState};
use super::requests::{RequestError, Requests};

/// Pause after the first question about a neighbour; doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// When each neighbour may be asked for again: at once, then after 1 s, 2 s, 4 s, ... up to 32 s. Pure.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    neighbours: BTreeMap<(IfIndex, IpAddr), Next>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    at: Instant,
    pause: Duration,
}

impl Backoff {
    /// Whether the neighbour is due at `now`; if so, the next time is moved on.
    pub fn due(&mut self, neighbour: (IfIndex, IpAddr), now: Instant) -> bool {
        let next = self.neighbours.entry(neighbour).or_insert(Next { at: now, pause: FIRST_PAUSE });
        if now < next.at {
            return false;
        }
        next.at = now + next.pause;
        next.pause = LONGEST_PAUSE.min(next.pause * 2);
        true
    }

    /// Forgets all neighbours that `keep` does not name: the next question is due at once.
    pub fn retain(&mut self, keep: impl Fn(&(IfIndex, IpAddr)) -> bool) {
        self.neighbours.retain(|neighbour, _| keep(neighbour));
    }

    /// When the next neighbour is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.neighbours.values().map(|next| next.at).min()
    }
}

/// Asks the kernel for neighbours, through a netlink socket of its own. Blocking, but the kernel
/// answers at once: resolving goes on behind the answer.
#[derive(Debug)]
pub struct Solicitor {
    requests: Requests,
}

impl Solicitor {
    /// Opens the socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self { requests: Requests::new()? })
    }

    /// Has the kernel resolve `address` on `ifindex`, as `ip neigh add ... nud none use` does.
    ///
    /// A valid entry is left as it is: the first request only creates a missing entry, and one that
    /// exists is looked at first, because the kernel takes `NTF_USE` on a permanent entry as a reason
    /// to forget its address (`__neigh_update`).
    ///
    /// # Errors
    /// The kernel refuses (no such interface, neighbour table full).
    pub fn solicit(&mut self, ifindex: IfIndex, address: IpAddr) -> Result<(), RequestError> {
        match self.use_entry(ifindex, address, NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.errno() == Some(libc::EEXIST) => match self.state(ifindex, address)? {
                Some(NeighbourState::Valid) => Ok(()),
                _ => self.use_entry(ifindex, address, NLM_F_CREATE),
            },
            other => other,
        }
    }

    fn use_entry(&mut self, ifindex: IfIndex, address: IpAddr, flags: u16) -> Result<(), RequestError> {
        let mut message = question(ifindex, address);
        message.header.state = Nud::None;
        message.header.flags = NeighbourFlags::Use;
        self.requests.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_ACK | flags, |_| {}).map(drop)
    }

    /// The entry's state; `None` when there is none any more.
    fn state(&mut self, ifindex: IfIndex, address: IpAddr) -> Result<Option<NeighbourState>, RequestError> {
        let mut state = None;
        let message = RouteNetlinkMessage::GetNeighbour(question(ifindex, address));
        let answer = self.requests.ask(message, 0, |reply| {
            if let Ok(Some(Event::Neighbour(entry))) = decode(reply.message_type, reply.payload) {
                state = Some(entry.state);
            }
        });
        match answer {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            other => other.map(|_| state),
        }
    }
}

fn question(ifindex: IfIndex, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let destination = match address {
        IpAddr::V4(address) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(address)
        }
        IpAddr::V6(address) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(address)
        }
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rarer_until_forgotten() {
        let start = Instant::now();
        let one = (2, "10.0.0.1".parse().expect("an address"));
        let other = (2, "10.0.0.2".parse().expect("an address"));
        let mut backoff = Backoff::default();
        let mut asked = |neighbour, from: u64, to: u64| -> Vec<u64> {
            (from..to).filter(|second| backoff.due(neighbour, start + Duration::from_secs(*second))).collect()
        };
        assert_eq!(asked(one, 0, 130), [0, 1, 3, 7, 15, 31, 63, 95, 127], "doubling, at most 32 s");
        assert_eq!(asked(other, 0, 4), [0, 1, 3], "each neighbour by itself");

        let now = start + Duration::from_secs(130);
        assert!(!backoff.due(one, now));
        assert_eq!(backoff.next_due(), Some(start + Duration::from_secs(7)));
        backoff.retain(|neighbour| *neighbour == other);
        assert!(backoff.due(one, now), "resolved meanwhile: at once");
    }
}
