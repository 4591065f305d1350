//! BGP sessions (RFC 4271). We receive; we announce nothing.
//!
//! ```text
//! speaker: all sessions, orders to them
//! listener ──stream──▶ peer (task) ◀─▶ connection (socket and buffers)
//!                        │  ▲
//!                  event ▼  │ action          wire: bytes ◀─▶ messages, the only user of the codec crate
//!                       fsm (pure) ─────────▶ capabilities: what two OPENs agree on
//!                        │                    update: UPDATE ─▶ events, RFC 7606
//!                        ▼
//!                 mpsc::Sender<RibEvent>
//! ```
//!
//! One task per peer and one per listening address. A peer's task owns its sockets and its clock; the state
//! machine in `fsm` decides, without either. The channel to the RIB is bounded: while it is full, the task stops
//! reading (TCP slows the peer down) and goes on sending KEEPALIVEs.

pub mod bad_update;
pub mod capabilities;
mod connection;
pub mod fsm;
mod gtsm;
mod listener;
mod log_limit;
pub mod notification;
mod password;
mod peer;
mod session;
mod socket;
mod speaker;
mod status;
#[cfg(test)]
mod testing;
pub mod timers;
pub mod update;
pub mod wire;

pub use listener::Rejected;
pub use session::OrderError;
pub use speaker::{ReconfigureError, ShutdownKind, Speaker, StartError};
pub use status::{SessionStatus, State};
