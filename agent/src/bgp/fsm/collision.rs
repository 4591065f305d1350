//! Two connections with the same peer (RFC 4271 §6.8, RFC 4724 §5).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::{Action, Cause, ConnectionId, Direction, Fsm, Mode, Phase};
use crate::bgp::notification::{self, Notification};
use crate::bgp::wire;

/// A connection that the peer opened up to this long after the session came up may have been on its way before;
/// it collides. A later one means that the peer has forgotten the session: it restarted.
const CROSSING: Duration = Duration::from_secs(5);

impl Fsm {
    /// Whether a connection that the peer opened is turned away, and with which words.
    pub(super) fn refusal(&self) -> Option<Notification> {
        match self.mode {
            Mode::Stopped | Mode::Held { refuse: true, .. } => {
                Some(Notification::cease(notification::CONNECTION_REJECTED))
            }
            // Without graceful restart an established session stays (RFC 4271 §6.8).
            Mode::Running | Mode::Held { refuse: false, .. } => self
                .session()
                .is_some_and(|(negotiated, _)| negotiated.graceful_restart.is_none())
                .then(|| Notification::cease(notification::COLLISION)),
        }
    }

    /// The peer opens a connection only when it has given up the one that it opened before. Beside an established
    /// session that means that it has restarted: what we opened before that goes too.
    pub(super) fn drop_older_incoming(&mut self, out: &mut Vec<Action>) {
        let established = self.session().is_some();
        let older = |connection: &super::Connection| {
            connection.phase != Phase::Established
                && (established || connection.direction == Direction::Incoming)
        };
        let dropped: Vec<ConnectionId> =
            self.connections.iter().filter(|connection| older(connection)).map(|found| found.id).collect();
        for id in dropped {
            self.give_way(id, out);
        }
    }

    /// An OPEN came in on connection `id`: closes either it or the other one, if there is one that got as far.
    /// Returns whether `id` lives on.
    pub(super) fn survives_collision(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer_id: Ipv4Addr,
        out: &mut Vec<Action>,
    ) -> bool {
        let other = self
            .connections
            .iter()
            .find(|connection| connection.id != id && connection.phase != Phase::OpenSent)
            .map(|connection| (connection.id, connection.phase, connection.since, connection.router_id()));
        let Some((other, phase, since, other_peer_id)) = other else { return true };
        let Some((direction, made)) =
            self.connection(id).map(|connection| (connection.direction, connection.since))
        else {
            return false;
        };
        let wins = match phase {
            Phase::Established => {
                let restarted = direction == Direction::Incoming && made >= since + CROSSING;
                if restarted {
                    self.fail(now, other, Cause::Replaced, out);
                    return true;
                }
                false
            }
            // Two processes behind one address: the later one is what is there now.
            _ if other_peer_id != Some(peer_id) => true,
            _ => direction == self.favoured(peer_id),
        };
        self.give_way(if wins { other } else { id }, out);
        wins
    }

    /// The connection opened by the side with the higher identifier stays; between equal identifiers the higher
    /// AS decides (RFC 6286 §2.3).
    fn favoured(&self, peer_id: Ipv4Addr) -> Direction {
        let ours = (self.settings.router_id, self.settings.local_as);
        if ours > (peer_id, self.settings.remote_as) { Direction::Outgoing } else { Direction::Incoming }
    }

    /// Closes a connection that was not yet in use.
    fn give_way(&mut self, id: ConnectionId, out: &mut Vec<Action>) {
        if self.remove(id).is_some() {
            let cease = Notification::cease(notification::COLLISION);
            out.extend([Action::Send(id, wire::notification(&cease)), Action::Close(id)]);
        }
    }
}
