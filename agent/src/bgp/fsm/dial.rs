//! How a connection comes about: dialling, and what is made of one that is there.

use std::net::IpAddr;
use std::time::Instant;

use super::{
    Action, Cause, Connection, ConnectionId, DIAL_TIMEOUT, Dial, Direction, Fsm, Mode, OPEN_HOLD, Phase,
};
use crate::bgp::wire;

impl Fsm {
    /// Leaves Idle: dials, or waits for the peer.
    pub(super) fn run(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.mode = Mode::Running;
        if !self.settings.passive && self.connections.is_empty() {
            self.dial(now, out);
        }
    }

    pub(super) fn dial(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.dial = Dial::Connecting(now + DIAL_TIMEOUT);
        out.push(Action::Dial);
    }

    pub(super) fn cancel_dial(&mut self, out: &mut Vec<Action>) {
        if matches!(self.dial, Dial::Connecting(_)) {
            out.push(Action::CancelDial);
        }
        self.dial = Dial::Off;
    }

    pub(super) fn dial_failed(&mut self, now: Instant, cause: Cause, out: &mut Vec<Action>) {
        self.dial = Dial::Off;
        self.note(false, cause, out);
        self.dial_later(now);
    }

    /// Dials again after a pause, if nothing else is there.
    pub(super) fn dial_later(&mut self, now: Instant) {
        if self.mode == Mode::Running && !self.settings.passive && self.connections.is_empty() {
            self.dial = Dial::Waiting(now + self.dial_pause.next(&mut self.jitter));
        }
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        direction: Direction,
        local: IpAddr,
        out: &mut Vec<Action>,
    ) {
        match direction {
            Direction::Outgoing if self.mode == Mode::Stopped => return out.push(Action::Close(id)),
            Direction::Outgoing => self.dial = Dial::Off,
            Direction::Incoming => {
                if let Some(refusal) = self.refusal() {
                    out.extend([Action::Send(id, wire::notification(&refusal)), Action::Close(id)]);
                    return;
                }
                self.drop_older_incoming(out);
            }
        }
        if matches!(self.dial, Dial::Waiting(_)) {
            self.dial = Dial::Off;
        }
        self.mode = Mode::Running;
        out.push(Action::Send(id, wire::open(&self.settings.open())));
        self.connections.push(Connection {
            id,
            direction,
            local,
            phase: Phase::OpenSent,
            since: now,
            negotiated: None,
            hold: Some(now + OPEN_HOLD),
            keepalive: None,
            quiet: 0,
        });
    }
}
