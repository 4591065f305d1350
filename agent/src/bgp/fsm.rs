//! The state machine of one peer (RFC 4271 §8). Pure: events in, actions out, time is a parameter.
//!
//! One machine holds what belongs to the peer (dialling, back-off, counters) and at most two connections: the one
//! in use and one that collides with it (RFC 4271 §6.8) or replaces it (RFC 4724 §5). `messages` handles what
//! comes in on a connection, `collision` decides between two, `dial` makes new ones.

mod action;
mod cause;
mod collision;
mod dial;
mod event;
mod messages;
mod operator;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::capabilities::{Negotiated, Settings};
use super::notification::{self, Notification};
use super::status::State;
use super::timers::{BackOff, Jitter};
use super::wire::{self, RefreshKind};
use crate::netlink::model::Family;
use crate::rib::model::{Loss, RibEvent};

pub use action::Action;
pub use cause::Cause;
pub use event::{ConnectionId, Direction, Event};

/// Hold time before OPENs are exchanged (RFC 4271 §8.2.2: "a large value", four minutes suggested).
const OPEN_HOLD: Duration = Duration::from_mins(4);
/// How long an attempt to connect may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// A session that lasted as long as this was no mistake: errors start again with the first pause.
const STABLE: Duration = Duration::from_mins(1);

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Clone, Debug)]
struct Connection {
    id: ConnectionId,
    direction: Direction,
    local: IpAddr,
    phase: Phase,
    /// When the connection was made, then when the phase changed to Established.
    since: Instant,
    negotiated: Option<Negotiated>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    /// `KEEPALIVE`s in Established since the last UPDATE.
    quiet: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// Not now: passive, or a connection is there.
    Off,
    /// Wait until then.
    Waiting(Instant),
    /// In progress, until then at most.
    Connecting(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Stopped,
    Running,
    /// Idle after an error until then (RFC 4271 §8.1.1, `IdleHoldTimer`).
    Held {
        until: Instant,
        refuse: bool,
    },
}

/// Counters and facts for [`super::SessionStatus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times that Established was left.
    pub flaps: u64,
    /// UPDATE messages received.
    pub updates: u64,
    /// UPDATEs taken for withdrawals (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Attributes left out (RFC 7606).
    pub attributes_discarded: u64,
    /// Attributes that count for nothing from an external peer.
    pub attributes_ignored: u64,
    /// Families whose End-of-RIB was seen in this session.
    pub end_of_rib: Vec<Family>,
    /// Last error.
    pub last_error: Option<Cause>,
}

/// The machine.
#[derive(Debug)]
pub struct Fsm {
    settings: Settings,
    jitter: Jitter,
    dial_pause: BackOff,
    error_pause: BackOff,
    mode: Mode,
    dial: Dial,
    connections: Vec<Connection>,
    reading_paused: bool,
    counters: Counters,
}

impl Fsm {
    /// A stopped machine. The seed decides the jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let back_off = BackOff::new(settings.connect_retry, settings.connect_retry_max);
        Self {
            settings,
            jitter: Jitter::new(seed),
            dial_pause: back_off.clone(),
            error_pause: back_off,
            mode: Mode::Stopped,
            dial: Dial::Off,
            connections: Vec::new(),
            reading_paused: false,
            counters: Counters::default(),
        }
    }

    /// The state for people.
    pub fn state(&self) -> State {
        match (self.connections.iter().map(|connection| connection.phase).max(), self.mode, self.dial) {
            (Some(Phase::Established), ..) => State::Established,
            (Some(Phase::OpenConfirm), ..) => State::OpenConfirm,
            (Some(Phase::OpenSent), ..) => State::OpenSent,
            (None, Mode::Running, Dial::Connecting(_)) => State::Connect,
            (None, Mode::Running, _) => State::Active,
            (None, ..) => State::Idle,
        }
    }

    /// Counters.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the established session uses and since when it is up.
    pub fn session(&self) -> Option<(&Negotiated, Instant)> {
        let connection = self.established()?;
        Some((connection.negotiated.as_ref()?, connection.since))
    }

    /// When [`Event::Tick`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::Waiting(at) | Dial::Connecting(at) => Some(at),
        };
        let held = match self.mode {
            Mode::Held { until, .. } => Some(until),
            _ => None,
        };
        let timers = self.connections.iter().flat_map(|connection| [connection.hold, connection.keepalive]);
        timers.chain([dial, held]).flatten().min()
    }

    /// Takes an event and says what to do about it, in order.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Stop(notification) => self.stop(notification.as_ref(), &mut out),
            Event::AdminDown(text) => self.admin_down(now, &text, &mut out),
            Event::AdminReset(text) => {
                let cease = Notification::cease_with_text(notification::ADMINISTRATIVE_RESET, &text);
                self.reset(now, cease, None, &mut out);
            }
            Event::PrefixLimit { family, limit, restart } => {
                let cease = Notification::maximum_prefixes(family, limit);
                self.prefix_limit(now, cease, restart, &mut out);
            }
            Event::Reconfigure { settings, reset: true } => {
                let cease = Notification::cease(notification::OTHER_CONFIGURATION_CHANGE);
                self.reset(now, cease, Some(*settings), &mut out);
            }
            Event::Reconfigure { settings, reset: false } => self.configure(*settings),
            Event::Connected { id, direction, local } => {
                self.connected(now, id, direction, local, &mut out);
            }
            Event::DialFailed(error) => self.dial_failed(now, Cause::Dial(error), &mut out),
            Event::Received(id, message) => self.received(now, id, message, &mut out),
            Event::Invalid(id, notification) => self.fail(now, id, Cause::Sent(notification), &mut out),
            Event::Closed(id, error) => {
                let cause = error.map_or(Cause::PeerClosed, Cause::Lost);
                self.fail(now, id, cause, &mut out);
            }
            Event::SendBlocked(id) => {
                let blocked = Notification::new(notification::SEND_HOLD_TIMER_EXPIRED, 0, "");
                self.fail(now, id, Cause::Sent(blocked), &mut out);
            }
            Event::ReadingPaused => self.reading_paused = true,
            Event::ReadingResumed => self.resume_reading(now),
            Event::Refresh(family) => self.refresh(family, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// The configuration in use.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Administratively down.
    pub fn is_down(&self) -> bool {
        self.mode == Mode::Stopped
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Mode::Held { until, .. } = self.mode
            && until <= now
        {
            self.run(now, out);
        }
        match self.dial {
            Dial::Waiting(at) if at <= now => self.dial(now, out),
            Dial::Connecting(at) if at <= now => {
                out.push(Action::CancelDial);
                self.dial_failed(now, Cause::Dial(self.settings.silence.to_owned()), out);
            }
            _ => {}
        }
        for id in self.connections.iter().map(|connection| connection.id).collect::<Vec<_>>() {
            self.tick_connection(now, id, out);
        }
    }

    fn tick_connection(&mut self, now: Instant, id: ConnectionId, out: &mut Vec<Action>) {
        let (jitter, paused) = (&mut self.jitter, self.reading_paused);
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        if connection.hold.is_some_and(|at| at <= now) {
            if !paused {
                let expired = Notification::new(notification::HOLD_TIMER_EXPIRED, 0, "");
                self.fail(now, id, Cause::Sent(expired), out);
                return;
            }
            // What the peer sent lies unread in our socket: it is not the peer that is silent.
            connection.hold = Some(now + connection.hold_time());
        }
        if connection.keepalive.is_some_and(|at| at <= now) {
            connection.keepalive = Some(now + jitter.apply(connection.hold_time() / 3));
            out.push(Action::Send(id, wire::keepalive()));
        }
    }

    fn resume_reading(&mut self, now: Instant) {
        self.reading_paused = false;
        for connection in &mut self.connections {
            connection.restart_hold(now);
        }
    }

    fn refresh(&mut self, family: Family, out: &mut Vec<Action>) {
        if let Some(connection) = self.established()
            && let Some(negotiated) = &connection.negotiated
            && negotiated.route_refresh
            && negotiated.families.contains(&family)
        {
            out.push(Action::Send(connection.id, wire::route_refresh(family, RefreshKind::Request)));
        }
    }

    /// Ends a connection and decides what comes next.
    fn fail(&mut self, now: Instant, id: ConnectionId, cause: Cause, out: &mut Vec<Action>) {
        let Some(connection) = self.remove(id) else { return };
        if let Some(notification) = cause.farewell() {
            let restarts = connection.negotiated.as_ref().is_some_and(Negotiated::notification_is_restart);
            let bytes = if restarts && cause.is_final() {
                wire::notification(&notification.clone().into_hard_reset())
            } else {
                wire::notification(notification)
            };
            out.push(Action::Send(id, bytes));
        }
        out.push(Action::Close(id));
        let established = connection.phase == Phase::Established;
        if established {
            self.leave_established(now, &connection, &cause, out);
        }
        let pause = cause.pause();
        self.note(established, cause, out);
        if !self.connections.is_empty() || self.mode == Mode::Stopped {
            return;
        }
        match pause {
            cause::Pause::Retry => {
                if !matches!(self.dial, Dial::Connecting(_)) {
                    self.dial_later(now);
                }
            }
            cause::Pause::Hold { refuse } => {
                self.cancel_dial(out);
                let until = now + self.error_pause.next(&mut self.jitter);
                self.mode = Mode::Held { until, refuse };
            }
        }
    }

    fn leave_established(
        &mut self,
        now: Instant,
        connection: &Connection,
        cause: &Cause,
        out: &mut Vec<Action>,
    ) {
        self.counters.flaps += 1;
        self.counters.end_of_rib.clear();
        if now.duration_since(connection.since) >= STABLE {
            self.error_pause.reset();
        }
        let loss = match (cause, &connection.negotiated) {
            (cause, _) if cause.is_final() => Loss::Final,
            (Cause::AdminReset(_), Some(negotiated)) => Loss::Reset(negotiated.families.clone()),
            (cause, Some(negotiated)) if cause.may_be_restart(negotiated.notification_is_restart()) => {
                Loss::Lost(negotiated.retain(self.settings.stale_time))
            }
            _ => Loss::Lost(Vec::new()),
        };
        out.push(Action::Rib(RibEvent::PeerDown { peer: self.settings.peer, loss }));
    }

    fn note(&mut self, established: bool, cause: Cause, out: &mut Vec<Action>) {
        self.counters.last_error = Some(cause.clone());
        out.push(Action::Ended { established, cause });
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.phase == Phase::Established)
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let position = self.connections.iter().position(|connection| connection.id == id)?;
        Some(self.connections.remove(position))
    }
}

impl Connection {
    /// Negotiated, or the large one before that.
    fn hold_time(&self) -> Duration {
        self.negotiated.as_ref().map_or(OPEN_HOLD, |negotiated| negotiated.hold_time)
    }

    /// The peer was heard.
    fn restart_hold(&mut self, now: Instant) {
        if self.hold.is_some() {
            self.hold = Some(now + self.hold_time());
        }
    }

    fn router_id(&self) -> Option<Ipv4Addr> {
        self.negotiated.as_ref().map(|negotiated| negotiated.router_id)
    }
}
