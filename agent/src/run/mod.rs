//! The running agent: one loop that owns all state and serves until told to stop.
//!
//! Kernel notifications, session events, API calls, timers and signals come in one at a time; each is
//! carried through in the direction of the data flow before the next is looked at. Nothing here is
//! shared, so there are no locks, and a report never shows half of a change.

mod forwarding;
mod lookup;
mod reload;
mod report;
mod routes;
mod routing;
mod writing;

use std::io;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info};

use self::forwarding::Forwarding;
use self::routing::{Routing, Wake};
use crate::api::model::{Done, PeerAction, Request, Response, SCHEMA};
use crate::api::server::{Call, SOCKET_MODE, Server};
use crate::bgp::OrderError;
use crate::config::{Config, Source};
use crate::netlink::model::Delta;
use crate::netlink::monitor::Monitor;
use crate::netlink::query::Query;

/// API calls that may wait for the loop.
const CALLS: usize = 64;

/// The agent's state.
struct Agent {
    config: Config,
    source: Source,
    started: Instant,
    monitor: Monitor,
    query: Query,
    forwarding: Option<Forwarding>,
    routing: Option<Routing>,
    /// Why the fast path does not run although it is configured.
    no_fast_path: Option<String>,
}

/// Runs the agent in the current network namespace until SIGTERM or SIGINT. On SIGHUP it reads its `source`
/// again.
///
/// # Errors
/// Another agent holds the socket, netlink cannot be opened, or nothing that is configured can start.
pub async fn run(config: Config, source: Source) -> anyhow::Result<()> {
    // First of all: a stop while the agent starts is a stop like any other, as soon as it has started.
    let mut signals = Signals::new().context("signal handler")?;
    let server = Server::bind(&config.agent.socket, SOCKET_MODE)?;
    let mut agent = Agent::start(config, source)?;
    let (sender, mut calls) = mpsc::channel(CALLS);
    let api = tokio::spawn(server.serve(sender));
    let result = agent.serve(&mut calls, &mut signals).await;
    Box::pin(agent.stop()).await;
    drop(calls);
    api.abort();
    // The socket goes with the server: wait for it, so that nobody finds it after we are gone.
    let _aborted = api.await;
    result
}

/// SIGTERM and SIGINT end the agent, SIGHUP has it read its configuration again.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Agent {
    fn start(config: Config, source: Source) -> anyhow::Result<Self> {
        let now = Instant::now();
        let monitor = Monitor::start().context("cannot follow the kernel's state")?;
        let query = Query::new().context("netlink socket for lookups")?;
        let mut no_fast_path = None;
        let routing = match &config.bgp {
            Some(bgp) => Some(Routing::start(&config, bgp, monitor.state(), now)?),
            None => None,
        };
        let forwarding = match &config.datapath {
            Some(datapath) => match Forwarding::start(datapath, &config.agent, monitor.state(), now) {
                Ok(forwarding) => Some(forwarding),
                // With sessions to keep, routes in the kernel are worth more than no agent at all.
                Err(problem) if routing.is_some() => {
                    error!(%problem, "packets stay with the kernel");
                    no_fast_path = Some(format!("no fast path: {problem}"));
                    None
                }
                Err(problem) => return Err(problem.into()),
            },
            None => None,
        };
        info!(
            version = env!("CARGO_PKG_VERSION"),
            fast_path = forwarding.is_some(),
            sessions = config.bgp.as_ref().map_or(0, |bgp| bgp.peers.len()),
            "started"
        );
        Ok(Self { config, source, started: now, monitor, query, forwarding, routing, no_fast_path })
    }

    async fn serve(&mut self, calls: &mut mpsc::Receiver<Call>, signals: &mut Signals) -> anyhow::Result<()> {
        loop {
            let deadline = self.next_deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                delta = self.monitor.next() => {
                    let delta = delta.context("cannot follow the kernel's state")?;
                    self.kernel_changed(&delta);
                }
                wake = routing_wakes(self.routing.as_mut()) => {
                    if let (Some(routing), Some(wake)) = (self.routing.as_mut(), wake) {
                        routing.handle(wake, Instant::now());
                    }
                }
                Some(call) = calls.recv() => {
                    let response = self.answer(call.request);
                    // A client that has gone needs no answer.
                    let _gone = call.reply.send(response);
                }
                () = rules_changed(self.forwarding.as_mut()) => {}
                () = sleep_until(deadline) => {}
                _ = signals.hangup.recv() => {
                    if let Err(problem) = self.reload() {
                        error!("the configuration stays as it was: {problem:#}");
                    }
                }
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
            self.work();
        }
        info!("stopping");
        Ok(())
    }

    /// One direction: the kernel's state first to the routes of our own, then to the fast path. But
    /// packets leave dead next hops before anything is computed.
    fn kernel_changed(&mut self, delta: &Delta) {
        let state = self.monitor.state();
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.refresh_rows(state, delta);
        }
        if let Some(routing) = &mut self.routing {
            routing.kernel_changed(state, delta);
        }
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.kernel_changed(state, delta, Instant::now());
        }
    }

    /// Does what is due.
    fn work(&mut self) {
        let now = Instant::now();
        if let Some(routing) = &mut self.routing {
            routing.work(self.monitor.state(), now);
        }
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.work(self.monitor.state(), now);
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let routing = self.routing.as_mut().and_then(|routing| routing.next_deadline(now));
        let forwarding = self.forwarding.as_ref().map(Forwarding::next_deadline);
        routing.into_iter().chain(forwarding).min()
    }

    fn answer(&mut self, request: Request) -> Response {
        if let Some(routing) = &mut self.routing {
            routing.catch_up(Instant::now());
        }
        match request {
            Request::Status => Response::Status(self.status()),
            Request::Peers => Response::Peers(self.peers()),
            Request::Routes => Response::Routes(self.routes()),
            Request::Counters => self.counters(),
            Request::Peer { peer, action, message } => self
                .peer(&peer, action, message)
                .map_or_else(|problem| Response::Error { message: problem.to_string() }, Response::Done),
            Request::Reload => self.reload().map_or_else(
                |problem| Response::Error { message: format!("nothing was changed: {problem:#}") },
                Response::Reloaded,
            ),
            Request::Lookup { address, source, interface } => self
                .lookup(address, source, interface.as_deref())
                .map_or_else(|problem| Response::Error { message: problem.to_string() }, Response::Lookup),
        }
    }

    /// Does with a session what the operator says.
    fn peer(&self, peer: &str, action: PeerAction, message: String) -> Result<Done, OrderError> {
        let Some(routing) = &self.routing else { return Err(OrderError::UnknownPeer(peer.to_owned())) };
        let speaker = &routing.speaker;
        let peer = speaker.find(peer)?;
        match action {
            PeerAction::Up => speaker.up(peer)?,
            PeerAction::Down => speaker.down(peer, message)?,
            PeerAction::Reset => speaker.reset(peer, message)?,
            PeerAction::Refresh => speaker.refresh_all(peer)?,
        }
        info!(%peer, ?action, "told to by an operator");
        Ok(Done { schema: SCHEMA, peer, action })
    }

    async fn stop(self) {
        if let Some(routing) = self.routing {
            routing.stop(self.config.kernel.flush_on_stop).await;
        }
        // Programs, maps and routes stay: the data plane goes on until the lease ends, and a new
        // agent takes over what is there.
    }
}

/// What routing waits for, or never where there are no sessions.
async fn routing_wakes(routing: Option<&mut Routing>) -> Option<Wake> {
    match routing {
        Some(routing) => routing.wake().await,
        None => std::future::pending().await,
    }
}

/// When the kernel's rules have to be looked at, or never without a fast path.
async fn rules_changed(forwarding: Option<&mut Forwarding>) {
    match forwarding {
        Some(forwarding) => forwarding.rules_changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
