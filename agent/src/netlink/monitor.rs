//! Watch, dump, watch.
//!
//! The socket is subscribed before the first dump, so that nothing falls between. Notifications keep
//! being applied while a dump runs on a thread of its own; when its result is in, those that came
//! meanwhile are applied to it again, because the dump may or may not show them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::apply::Part;
use super::decode::Event;
use super::dump::{Finished, read};
use super::model::{Delta, IfIndex, State};
use super::requests::{RequestError, Requests};
use super::watch::{Batch, Watch};

/// Shortest pause between two dumps that notifications asked for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Dumps take at most one part in this many of the time.
const PAUSE_FACTOR: u32 = 5;
/// A change of a link or address is announced before the kernel is done with the routes: look once more.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Dumps that may fail in a row.
const FAILURES: u32 = 5;
/// Pause after a failed dump.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Most events kept for a running dump; with more, another one follows.
const REPLAY_LIMIT: usize = 1 << 20;

/// Why the monitor stopped.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A netlink socket cannot be opened or used.
    #[error("netlink: {operation}: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's state cannot be read.
    #[error("netlink: reading the kernel's state: {0}; is CAP_NET_ADMIN there?")]
    Dump(#[from] RequestError),
    /// The thread that reads the kernel's state ended by a panic.
    #[error("netlink: the dump thread failed")]
    Thread,
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

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Everything was read again because notifications were lost.
    pub resyncs: u64,
    /// Parts were read again because notifications do not tell all.
    pub rereads: u64,
    /// Notifications applied.
    pub events: u64,
    /// Messages that could not be read.
    pub undecodable: u64,
}

/// What the thread of a dump gives back.
type Outcome = Box<(Requests, Result<Finished, RequestError>)>;

/// A dump that runs.
#[derive(Debug)]
struct Running {
    task: JoinHandle<Outcome>,
    parts: BTreeSet<Part>,
    started: Instant,
    /// What came meanwhile.
    replay: Vec<Event>,
}

/// Follows the forwarding state of the network namespace it was started in.
#[derive(Debug)]
pub struct Monitor {
    state: State,
    counters: Counters,
    watch: Watch,
    /// For dumps; `None` while one runs.
    requests: Option<Requests>,
    running: Option<Running>,
    /// Parts to read again, and not before when.
    wanted: BTreeSet<Part>,
    not_before: Instant,
    /// Links that changed, and whether in their state: all routes have to be gone through for what that
    /// means for them, which waits until the caller has carried the change through.
    links: BTreeMap<IfIndex, bool>,
    /// When routes are looked at once more after a link or address changed.
    settles: Option<Instant>,
    settings: Interval,
    /// Notifications were lost, the next dump is a resync.
    overrun: bool,
    /// Dumps that failed in a row.
    failures: u32,
}

/// What the monitor woke up for.
enum Wake {
    Batch(io::Result<Batch>),
    Dumped(Result<Outcome, JoinError>),
    Due,
    Settings,
}

impl Monitor {
    /// Subscribes, then reads everything, which blocks. Must be called inside a tokio runtime, on a
    /// thread of the network namespace to follow.
    ///
    /// # Errors
    /// Netlink sockets cannot be opened, or the kernel refuses a dump.
    pub fn start() -> Result<Self, MonitorError> {
        Self::start_with(&Options::default())
    }

    /// As [`Self::start`], with settings.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(options: &Options) -> Result<Self, MonitorError> {
        let socket = |operation| move |source| MonitorError::Socket { operation, source };
        let watch = Watch::new(options.receive_buffer).map_err(socket("subscribing to notifications"))?;
        let mut requests = Requests::new().map_err(socket("opening a socket"))?;
        let finished = read(&mut requests, &Part::ALL.into(), &super::model::State::default().links)?;
        let now = Instant::now();
        let mut settings = interval_at(now + options.settings_interval, options.settings_interval);
        settings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            counters: Counters { undecodable: finished.undecodable, ..Counters::default() },
            wanted: finished.inconsistent,
            state: finished.dump.state,
            watch,
            requests: Some(requests),
            running: None,
            not_before: now,
            links: BTreeMap::new(),
            settles: None,
            settings,
            overrun: false,
            failures: 0,
        })
    }

    /// Waits until something changed and tells what, all that could be read at once in one.
    /// Cancel-safe.
    ///
    /// # Errors
    /// A netlink socket fails for good.
    pub async fn next(&mut self) -> Result<Delta, MonitorError> {
        self.settle_links();
        loop {
            let delta = match self.wake().await {
                Wake::Batch(batch) => {
                    let batch = batch.map_err(|source| MonitorError::Socket {
                        operation: "reading notifications",
                        source,
                    })?;
                    self.take_batch(batch)
                }
                Wake::Dumped(result) => {
                    let (requests, finished) = *result.map_err(|_| MonitorError::Thread)?;
                    self.requests = Some(requests);
                    self.take_dump(finished)?
                }
                Wake::Due => {
                    self.start_dump();
                    Delta::default()
                }
                Wake::Settings => {
                    self.wanted.insert(Part::Settings);
                    Delta::default()
                }
            };
            if !delta.is_empty() {
                return Ok(delta);
            }
            self.settle_links();
        }
    }

    /// Asks for what changed links leave uncertain.
    fn settle_links(&mut self) {
        let reread = self.state.reread_for(&std::mem::take(&mut self.links));
        if reread.contains(&Part::Routes) {
            self.settles = Some(Instant::now() + SETTLED_AFTER);
        }
        self.wanted.extend(reread);
    }

    /// The state as of the last [`Self::next`], or as of the start.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How often everything was read again because notifications were lost.
    pub const fn resyncs(&self) -> u64 {
        self.counters.resyncs
    }

    /// What happened so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    async fn wake(&mut self) -> Wake {
        let due = self.due();
        let idle = self.running.is_none();
        tokio::select! {
            batch = self.watch.read() => Wake::Batch(batch),
            result = joined(self.running.as_mut()) => Wake::Dumped(result),
            () = until(due) => Wake::Due,
            _ = self.settings.tick(), if idle => Wake::Settings,
        }
    }

    /// When the next dump starts, if one is wanted and none runs.
    fn due(&self) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        let wanted = (!self.wanted.is_empty()).then_some(self.not_before);
        wanted.into_iter().chain(self.settles).min()
    }

    fn take_batch(&mut self, batch: Batch) -> Delta {
        self.counters.undecodable += batch.undecodable;
        if batch.overrun {
            self.overrun = true;
            self.wanted = Part::ALL.into();
        }
        if let Some(running) = &mut self.running {
            if running.replay.len() + batch.events.len() > REPLAY_LIMIT {
                self.overrun = true;
                self.wanted = Part::ALL.into();
            } else {
                running.replay.extend(batch.events.iter().cloned());
            }
        }
        self.counters.events += u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
        self.apply(batch.events)
    }

    fn apply(&mut self, events: Vec<Event>) -> Delta {
        let applied = self.state.apply(events);
        if applied.unsettled {
            self.settles = Some(Instant::now() + SETTLED_AFTER);
        }
        self.wanted.extend(applied.reread);
        for (index, moved) in applied.links {
            *self.links.entry(index).or_default() |= moved;
        }
        applied.delta
    }

    fn start_dump(&mut self) {
        let Some(mut requests) = self.requests.take() else { return };
        let now = Instant::now();
        let mut parts = std::mem::take(&mut self.wanted);
        if self.settles.is_some_and(|settles| settles <= now) {
            self.settles = None;
            parts.extend([Part::Links, Part::Neighbours, Part::Routes]);
        }
        if parts.contains(&Part::Routes) {
            // See `dump::read`.
            parts.insert(Part::Links);
        }
        if std::mem::take(&mut self.overrun) {
            self.counters.resyncs += 1;
            tracing::info!("notifications were lost, reading everything again");
        } else if parts.iter().any(|part| *part != Part::Settings) {
            self.counters.rereads += 1;
            tracing::debug!(?parts, "reading again");
        }
        let links = self.state.links.clone();
        let read_parts = parts.clone();
        let task = tokio::task::spawn_blocking(move || {
            let finished = read(&mut requests, &read_parts, &links);
            Box::new((requests, finished))
        });
        self.running = Some(Running { task, parts, started: now, replay: Vec::new() });
    }

    fn take_dump(&mut self, finished: Result<Finished, RequestError>) -> Result<Delta, MonitorError> {
        let Some(running) = self.running.take() else { return Ok(Delta::default()) };
        let now = Instant::now();
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) if self.failures < FAILURES => {
                tracing::warn!(%error, "the kernel's state cannot be read, trying again");
                self.failures += 1;
                self.wanted.extend(running.parts);
                self.not_before = now + PAUSE_AFTER_FAILURE;
                return Ok(Delta::default());
            }
            Err(error) => return Err(error.into()),
        };
        self.failures = 0;
        self.not_before = now + SHORTEST_PAUSE.max((now - running.started) * PAUSE_FACTOR);
        self.counters.undecodable += finished.undecodable;
        self.wanted.extend(finished.inconsistent);
        let mut delta = self.state.install(finished.dump);
        let missed = running.replay.into_iter().filter(|event| running.parts.contains(&event.part()));
        delta.merge(self.apply(missed.collect()));
        delta.full |= running.parts.len() == Part::ALL.len();
        Ok(delta)
    }
}

/// The end of a running dump; never, without one.
async fn joined(running: Option<&mut Running>) -> Result<Outcome, JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
