//! What comes in on a connection (RFC 4271 §8.2.2).

use std::time::Instant;

use super::{Action, Cause, Connection, ConnectionId, Fsm, Phase};
use crate::bgp::bad_update::BadUpdate;
use crate::bgp::capabilities::negotiate;
use crate::bgp::notification::{self, Notification};
use crate::bgp::update;
use crate::bgp::wire::{self, Message, Open, RefreshKind, RouteRefresh, Update};
use crate::rib::model::{PeerInfo, RibEvent};

/// A peer without graceful restart need not send End-of-RIB. After this many KEEPALIVEs without an UPDATE
/// between them its table counts as complete.
const QUIET_KEEPALIVES: u8 = 2;

impl Fsm {
    pub(super) fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        message: Message,
        out: &mut Vec<Action>,
    ) {
        let Some(phase) = self.connection(id).map(|connection| connection.phase) else { return };
        match (phase, message) {
            (_, Message::Notification(received)) => self.fail(now, id, Cause::Received(received), out),
            (Phase::OpenSent, Message::Open(open)) => self.open(now, id, &open, out),
            (Phase::OpenConfirm, Message::Keepalive) => self.confirm(now, id, out),
            (Phase::Established, Message::Keepalive) => {
                self.heard(now, id);
                self.keepalive(id, out);
            }
            (Phase::Established, Message::Update(update)) => {
                self.heard(now, id);
                self.update(now, id, &update, out);
            }
            (Phase::Established, Message::RouteRefresh(refresh)) => {
                self.heard(now, id);
                self.peer_refresh(id, refresh, out);
            }
            (phase, message) => {
                let unexpected = unexpected(phase, &message);
                self.fail(now, id, Cause::Sent(unexpected), out);
            }
        }
    }

    fn open(&mut self, now: Instant, id: ConnectionId, open: &Open, out: &mut Vec<Action>) {
        let negotiated = match negotiate(&self.settings, open) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return self.fail(now, id, Cause::Sent(refusal), out),
        };
        if !self.survives_collision(now, id, negotiated.router_id, out) {
            return;
        }
        let jitter = &mut self.jitter;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        let hold_time = negotiated.hold_time;
        connection.phase = Phase::OpenConfirm;
        connection.negotiated = Some(negotiated);
        (connection.hold, connection.keepalive) = if hold_time.is_zero() {
            (None, None)
        } else {
            (Some(now + hold_time), Some(now + jitter.apply(hold_time / 3)))
        };
        out.push(Action::Send(id, wire::keepalive()));
    }

    /// The peer has accepted our OPEN: the session is up.
    fn confirm(&mut self, now: Instant, id: ConnectionId, out: &mut Vec<Action>) {
        self.cancel_dial(out);
        self.dial_pause.reset();
        self.heard(now, id);
        let settings = &self.settings;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        let Some(negotiated) = &connection.negotiated else { return };
        connection.phase = Phase::Established;
        connection.since = now;
        self.counters.end_of_rib.clear();
        out.push(Action::Established(Box::new(negotiated.clone())));
        out.push(Action::Rib(RibEvent::PeerUp(PeerInfo {
            peer: settings.peer,
            external: settings.external(),
            remote_as: settings.remote_as,
            local_as: settings.local_as,
            router_id: negotiated.router_id,
            local_router_id: settings.router_id,
            local_address: connection.local,
            families: negotiated.families.clone(),
            extended_next_hop: negotiated.extended_next_hop,
            forwarding_preserved: negotiated.forwarding_preserved(),
        })));
        // All that we have to announce is nothing: say so, a restarting peer waits for it (RFC 4724 §4.1).
        out.extend(negotiated.families.iter().map(|family| Action::Send(id, wire::end_of_rib(*family))));
    }

    /// Takes silence for End-of-RIB where none is to be expected.
    fn keepalive(&mut self, id: ConnectionId, out: &mut Vec<Action>) {
        let peer = self.settings.peer;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        let Some(negotiated) = &connection.negotiated else { return };
        if negotiated.graceful_restart.is_some() || connection.quiet == QUIET_KEEPALIVES {
            return;
        }
        connection.quiet += 1;
        if connection.quiet == QUIET_KEEPALIVES {
            for family in &negotiated.families {
                if !self.counters.end_of_rib.contains(family) {
                    self.counters.end_of_rib.push(*family);
                    out.push(Action::Rib(RibEvent::EndOfRib { peer, family: *family }));
                }
            }
        }
    }

    fn update(&mut self, now: Instant, id: ConnectionId, update: &Update, out: &mut Vec<Action>) {
        self.counters.updates += 1;
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id)
            && connection.quiet < QUIET_KEEPALIVES
        {
            connection.quiet = 0;
        }
        let settings = &self.settings;
        let Some(negotiated) = self.connection(id).and_then(|connection| connection.negotiated.as_ref())
        else {
            return;
        };
        let encoding = wire::Encoding {
            four_octet_as: negotiated.four_octet_as,
            external: settings.external(),
            families: &negotiated.families,
            extended_next_hop: negotiated.extended_next_hop,
            add_path: &negotiated.add_path,
        };
        let session = update::Session {
            peer: settings.peer,
            remote_as: settings.remote_as,
            external: settings.external(),
        };
        let outcome = wire::parse(update, encoding).and_then(|parsed| update::outcome(session, parsed));
        match outcome {
            Ok(outcome) => {
                let bad = BadUpdate::survived(&outcome.faults, &outcome.events, update);
                out.extend(bad.map(|bad| Action::BadUpdate(Box::new(bad))));
                self.deliver(outcome, out);
            }
            Err(reset) => {
                out.push(Action::BadUpdate(Box::new(BadUpdate::reset(&reset, update))));
                self.fail(now, id, Cause::Sent(reset), out);
            }
        }
    }

    fn deliver(&mut self, outcome: update::Outcome, out: &mut Vec<Action>) {
        let counters = &mut self.counters;
        counters.treated_as_withdraw += u64::from(outcome.treated_as_withdraw);
        counters.attributes_ignored += outcome.ignored;
        if let Some(family) = outcome.end_of_rib
            && !counters.end_of_rib.contains(&family)
        {
            counters.end_of_rib.push(family);
        }
        let discarded = outcome.faults.iter().filter(|fault| !fault.withdraw);
        counters.attributes_discarded += discarded.map(|_| 1).sum::<u64>();
        out.extend(outcome.events.into_iter().map(Action::Rib));
    }

    /// ROUTE-REFRESH from the peer. A request is answered with all that we announce: nothing, and its end.
    fn peer_refresh(&mut self, id: ConnectionId, refresh: RouteRefresh, out: &mut Vec<Action>) {
        let peer = self.settings.peer;
        let Some(negotiated) = self.connection(id).and_then(|connection| connection.negotiated.as_ref())
        else {
            return;
        };
        let Some(family) = refresh.family.filter(|family| negotiated.families.contains(family)) else {
            return;
        };
        match refresh.kind {
            RefreshKind::Request if negotiated.enhanced_refresh => {
                let marks = [RefreshKind::Begin, RefreshKind::End];
                out.extend(marks.map(|mark| Action::Send(id, wire::route_refresh(family, mark))));
            }
            RefreshKind::Request => out.push(Action::Send(id, wire::end_of_rib(family))),
            RefreshKind::Begin => out.push(Action::Rib(RibEvent::RefreshStarted { peer, family })),
            RefreshKind::End => out.push(Action::Rib(RibEvent::EndOfRib { peer, family })),
            RefreshKind::Other(_) => {}
        }
    }

    fn heard(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.restart_hold(now);
        }
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }
}

/// A message that has no place in this state; the subcode tells the state (RFC 6608).
fn unexpected(phase: Phase, message: &Message) -> Notification {
    let (subcode, state) = match phase {
        Phase::OpenSent => (1, "OpenSent"),
        Phase::OpenConfirm => (2, "OpenConfirm"),
        Phase::Established => (3, "Established"),
    };
    Notification::new(notification::FSM, subcode, format!("{} in state {state}", message.name()))
}
