//! What the operator wants of a session, and what a bound that the peer exceeds wants.

use std::time::{Duration, Instant};

use super::{Action, Cause, Fsm, Mode};
use crate::bgp::capabilities::Settings;
use crate::bgp::notification::{self, Notification};
use crate::bgp::timers::BackOff;
use crate::bgp::wire;

impl Fsm {
    pub(super) fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            self.dial_pause.reset();
            self.error_pause.reset();
            self.run(now, out);
        }
    }

    /// Ends all connections and stays down.
    pub(super) fn admin_down(&mut self, now: Instant, text: &str, out: &mut Vec<Action>) {
        self.cancel_dial(out);
        self.mode = Mode::Stopped;
        let cease = Notification::cease_with_text(notification::ADMINISTRATIVE_SHUTDOWN, text);
        self.end_all(now, &Cause::AdminDown(cease), out);
    }

    /// Ends the session of a peer that sends too much, for a time or until an operator wants it again.
    pub(super) fn prefix_limit(
        &mut self,
        now: Instant,
        cease: Notification,
        restart: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        if self.established().is_none() {
            return;
        }
        self.cancel_dial(out);
        self.mode = Mode::Stopped;
        self.end_all(now, &Cause::PrefixLimit(cease), out);
        if let Some(pause) = restart {
            self.mode = Mode::Held { until: now + pause, refuse: true };
        }
    }

    /// Ends all connections and begins anew, perhaps with another configuration.
    pub(super) fn reset(
        &mut self,
        now: Instant,
        cease: Notification,
        settings: Option<Settings>,
        out: &mut Vec<Action>,
    ) {
        let is_down = self.is_down();
        self.mode = Mode::Stopped;
        self.cancel_dial(out);
        self.end_all(now, &Cause::AdminReset(cease), out);
        if let Some(settings) = settings {
            self.configure(settings);
        }
        if !is_down {
            self.start(now, out);
        }
    }

    pub(super) fn configure(&mut self, settings: Settings) {
        let back_off = BackOff::new(settings.connect_retry, settings.connect_retry_max);
        self.dial_pause = back_off.clone();
        self.error_pause = back_off;
        self.settings = settings;
    }

    fn end_all(&mut self, now: Instant, cause: &Cause, out: &mut Vec<Action>) {
        for id in self.connections.iter().map(|connection| connection.id).collect::<Vec<_>>() {
            self.fail(now, id, cause.clone(), out);
        }
    }

    pub(super) fn stop(&mut self, notification: Option<&Notification>, out: &mut Vec<Action>) {
        self.cancel_dial(out);
        for connection in self.connections.drain(..) {
            if let Some(notification) = notification {
                out.push(Action::Send(connection.id, wire::notification(notification)));
            }
            out.push(Action::Close(connection.id));
        }
        self.mode = Mode::Stopped;
    }
}
