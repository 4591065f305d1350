//! Watch, dump, watch.

use std::time::Duration;

use super::model::{Delta, State};

/// Why the monitor stopped.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A netlink socket cannot be opened or used.
    #[error("netlink socket: {operation}: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Settings of a [`Monitor`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Receive buffer of the watching socket, in bytes.
    pub receive_buffer: usize,
    /// How often the settings that the kernel does not announce (`send_redirects`) are read again.
    pub settings_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { receive_buffer: 32 << 20, settings_interval: Duration::from_secs(5) }
    }
}

/// Follows the forwarding state of the network namespace it was started in.
#[derive(Debug)]
pub struct Monitor {
    state: State,
    resyncs: u64,
}

impl Monitor {
    /// Subscribes, then reads everything. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Netlink sockets cannot be opened, or the kernel refuses a dump.
    pub fn start() -> Result<Self, MonitorError> {
        Self::start_with(Options::default())
    }

    /// As [`Self::start`], with settings.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(_options: Options) -> Result<Self, MonitorError> {
        unimplemented!()
    }

    /// Waits until something changed and tells what. Cancel-safe.
    ///
    /// # Errors
    /// A netlink socket fails for good.
    #[expect(clippy::unused_async, reason = "signature first")]
    pub async fn next(&mut self) -> Result<Delta, MonitorError> {
        unimplemented!()
    }

    /// The state as of the last [`Self::next`] (or start).
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How often everything was read again because notifications were lost.
    pub const fn resyncs(&self) -> u64 {
        self.resyncs
    }
}
