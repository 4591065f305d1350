//! What a peer's task is told.

use crate::bgp::capabilities::Settings;
use crate::bgp::fsm::Event;
use crate::bgp::notification::Notification;
use crate::bgp::socket::Endpoint;

/// Orders to a peer's task.
#[derive(Debug)]
pub enum Command {
    /// For its state machine.
    Tell(Event),
    /// The configuration changed.
    Reconfigure(Box<Reconfigure>),
    /// End the session with this NOTIFICATION, then the task.
    Stop(Option<Notification>),
}

/// What is new for a session.
#[derive(Debug)]
pub struct Reconfigure {
    /// Configured name.
    pub name: String,
    /// Configuration of the session.
    pub settings: Settings,
    /// Where to dial.
    pub endpoint: Endpoint,
    /// What is in use cannot go on with this: Cease, Other Configuration Change, and anew.
    pub reset: bool,
}
