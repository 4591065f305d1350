//! The task of one peer: sockets and clock around its state machine.

mod order;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::capabilities::{Negotiated, Settings};
use super::connection::{Connection, Input};
use super::fsm::{Action, Cause, ConnectionId, Counters, Direction, Event, Fsm};
use super::log_limit::Limit;
use super::socket::{self, Endpoint};
use super::status::State;
use crate::rib::model::RibEvent;

pub use order::{Command, Reconfigure};

/// What the task shows to the outside.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// State.
    pub state: State,
    /// Administratively down.
    pub is_down: bool,
    /// What the established session uses, and since when.
    pub session: Option<(Arc<Negotiated>, Instant)>,
    /// Counters.
    pub counters: Counters,
}

/// What a peer's task starts with.
#[derive(Debug)]
pub struct Start {
    /// Configured name.
    pub name: String,
    /// Configuration of the session.
    pub settings: Settings,
    /// Where to dial.
    pub endpoint: Endpoint,
    /// Whether to begin; otherwise [`Event::Start`] does.
    pub enabled: bool,
    /// Seed of the timers' jitter.
    pub seed: u64,
    /// Connections that the peer opened.
    pub incoming: mpsc::Receiver<TcpStream>,
    /// Orders.
    pub commands: mpsc::Receiver<Command>,
    /// The RIB.
    pub events: mpsc::Sender<RibEvent>,
    /// Where the state is shown.
    pub view: Arc<Mutex<View>>,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

struct Task {
    name: String,
    endpoint: Endpoint,
    fsm: Fsm,
    dialling: Option<Dialling>,
    connections: Vec<(ConnectionId, Connection)>,
    next_id: ConnectionId,
    closing: JoinSet<()>,
    /// For the RIB, which has not taken them yet. Nothing is read while there are any.
    pending: VecDeque<RibEvent>,
    rib: mpsc::Sender<RibEvent>,
    reading_paused: bool,
    view: Arc<Mutex<View>>,
    session: Option<Arc<Negotiated>>,
    shown_error: Option<Cause>,
    bad_updates_log: Limit,
}

enum Woken {
    Command(Option<Command>),
    Incoming(TcpStream),
    Dialled(io::Result<TcpStream>),
    Input(ConnectionId, Input),
    Delivered,
    RibGone,
    Time,
}

/// Runs the session until [`Command::Stop`], or until the RIB or the speaker is gone.
pub async fn run(start: Start) {
    let Start { name, settings, endpoint, enabled, seed, mut incoming, mut commands, events, view } = start;
    let mut task = Task {
        name,
        endpoint,
        fsm: Fsm::new(settings, seed),
        dialling: None,
        connections: Vec::new(),
        next_id: 0,
        closing: JoinSet::new(),
        pending: VecDeque::new(),
        rib: events,
        reading_paused: false,
        view,
        session: None,
        shown_error: None,
        bad_updates_log: Limit::default(),
    };
    if enabled {
        task.handle(Event::Start);
    } else {
        task.show(task.fsm.state());
    }
    loop {
        match task.wait(&mut incoming, &mut commands).await {
            Woken::Command(Some(Command::Stop(notification))) => {
                task.handle(Event::Stop(notification));
                break;
            }
            Woken::Command(Some(command)) => task.command(command),
            Woken::Command(None) | Woken::RibGone => {
                task.handle(Event::Stop(None));
                break;
            }
            Woken::Incoming(stream) => task.accepted(stream),
            Woken::Dialled(result) => task.dialled(result),
            Woken::Input(id, input) => task.input(id, input),
            Woken::Delivered => {}
            Woken::Time => {
                // After a stop of the whole process the runtime's wait for input ends without a result, and its
                // timers run first. This lets it ask which sockets have input.
                tokio::task::yield_now().await;
                for (id, input) in task.waiting_input().await {
                    task.input(id, input);
                }
                task.time();
            }
        }
    }
    while task.closing.join_next().await.is_some() {}
}

impl Task {
    fn command(&mut self, command: Command) {
        match command {
            Command::Tell(event) => self.handle(event),
            Command::Stop(notification) => self.handle(Event::Stop(notification)),
            Command::Reconfigure(new) => {
                let Reconfigure { name, settings, endpoint, reset } = *new;
                (self.name, self.endpoint) = (name, endpoint);
                self.handle(Event::Reconfigure { settings: Box::new(settings), reset });
            }
        }
    }

    async fn wait(
        &mut self,
        incoming: &mut mpsc::Receiver<TcpStream>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Woken {
        self.deliver();
        let deadline = self.deadline();
        let reading = self.pending.is_empty();
        self.pause_reading(!reading);
        let Self { dialling, connections, closing, pending, rib, .. } = self;
        tokio::select! {
            command = commands.recv() => Woken::Command(command),
            Some(stream) = incoming.recv() => Woken::Incoming(stream),
            result = poll_dial(dialling), if dialling.is_some() => Woken::Dialled(result),
            (id, input) = poll_connections(connections, reading) => Woken::Input(id, input),
            permit = rib.reserve(), if !reading => match (permit, pending.pop_front()) {
                (Ok(permit), Some(event)) => {
                    permit.send(event);
                    Woken::Delivered
                }
                (Ok(_), None) => Woken::Delivered,
                (Err(_), _) => Woken::RibGone,
            },
            () = sleep_until(deadline) => Woken::Time,
            Some(_) = closing.join_next() => Woken::Delivered,
        }
    }

    /// What has come in already, one message per connection. A task that was kept from running finds input and
    /// an expired timer at once; a peer that has spoken is not silent.
    async fn waiting_input(&mut self) -> Vec<(ConnectionId, Input)> {
        let (reading, connections) = (self.pending.is_empty(), &mut self.connections);
        poll_fn(|cx| {
            let inputs =
                connections.iter_mut().filter_map(|(id, connection)| match connection.poll(cx, reading) {
                    Poll::Ready(input) => Some((*id, input)),
                    Poll::Pending => None,
                });
            Poll::Ready(inputs.collect())
        })
        .await
    }

    /// Hands over what the RIB has room for.
    fn deliver(&mut self) {
        while !self.pending.is_empty()
            && let Ok(permit) = self.rib.try_reserve()
        {
            if let Some(event) = self.pending.pop_front() {
                permit.send(event);
            }
        }
    }

    /// Tells the machine when reading stops and goes on.
    fn pause_reading(&mut self, pause: bool) {
        if self.reading_paused != pause {
            self.reading_paused = pause;
            self.handle(if pause { Event::ReadingPaused } else { Event::ReadingResumed });
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = self.send_hold();
        let blocked = self.connections.iter().filter_map(|(_, connection)| connection.blocked_at(limit));
        blocked.map(tokio::time::Instant::into_std).chain(self.fsm.deadline()).min()
    }

    fn send_hold(&self) -> Duration {
        let hold_time = self.session.as_ref().map_or(Duration::ZERO, |session| session.hold_time);
        self.fsm.settings().send_hold_time.max(2 * hold_time)
    }

    fn time(&mut self) {
        let (now, limit) = (tokio::time::Instant::now(), self.send_hold());
        let blocked = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.blocked_at(limit).is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect::<Vec<_>>();
        for id in blocked {
            self.handle(Event::SendBlocked(id));
        }
        self.handle(Event::Tick);
    }

    fn accepted(&mut self, stream: TcpStream) {
        if let Err(error) = socket::adopt(&stream, &self.endpoint) {
            tracing::warn!(peer = self.name, %error, "closed a connection from the peer: cannot set its options");
            return;
        }
        self.connected(stream, Direction::Incoming);
    }

    fn dialled(&mut self, result: io::Result<TcpStream>) {
        self.dialling = None;
        match result {
            Ok(stream) => self.connected(stream, Direction::Outgoing),
            // TCP's own time was shorter than ours.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.handle(Event::DialFailed(self.fsm.settings().silence.to_owned()));
            }
            Err(error) => self.handle(Event::DialFailed(error.to_string())),
        }
    }

    fn connected(&mut self, stream: TcpStream, direction: Direction) {
        let local = match stream.local_addr() {
            Ok(address) => address.ip(),
            // The peer has closed it already.
            Err(error) => {
                if direction == Direction::Outgoing {
                    self.handle(Event::DialFailed(error.to_string()));
                }
                return;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        self.connections.push((id, Connection::new(stream, self.fsm.settings().longest_message())));
        self.handle(Event::Connected { id, direction, local });
    }

    fn input(&mut self, id: ConnectionId, input: Input) {
        self.handle(match input {
            Input::Message(message) => Event::Received(id, message),
            Input::Invalid(notification) => Event::Invalid(id, notification),
            Input::Closed(error) => Event::Closed(id, error.map(|error| error.to_string())),
        });
    }

    /// Feeds the machine and does what it says.
    fn handle(&mut self, event: Event) {
        let before = self.fsm.state();
        let now = tokio::time::Instant::now().into_std();
        for action in self.fsm.handle(now, event) {
            self.perform(action);
        }
        let after = self.fsm.state();
        if before != after {
            tracing::debug!(peer = self.name, from = %before, to = %after, "state");
        }
        self.show(after);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Dial => self.dialling = Some(Box::pin(socket::dial(self.endpoint.clone()))),
            Action::CancelDial => self.dialling = None,
            Action::Send(id, bytes) => {
                if let Some((_, connection)) = self.connections.iter_mut().find(|(other, _)| *other == id) {
                    connection.send(&bytes);
                }
            }
            Action::Close(id) => {
                if let Some(position) = self.connections.iter().position(|(other, _)| *other == id) {
                    self.closing.spawn(self.connections.swap_remove(position).1.close());
                }
            }
            Action::Rib(event) => self.pending.push_back(event),
            Action::Established(negotiated) => {
                tracing::info!(
                    peer = self.name, router_id = %negotiated.router_id, hold_time = ?negotiated.hold_time,
                    families = ?negotiated.families, add_path = ?negotiated.add_path, "session established"
                );
                self.session = Some(Arc::from(negotiated));
            }
            Action::Ended { established, cause } => self.log_end(established, cause),
            Action::BadUpdate(bad) => {
                if let Some(suppressed) = self.bad_updates_log.allow(Instant::now()) {
                    tracing::warn!(
                        peer = self.name,
                        error = bad.error(),
                        consequence = bad.consequence(),
                        prefixes = bad.prefixes(),
                        suppressed,
                        octets = bad.message(),
                        "bad UPDATE"
                    );
                }
            }
        }
    }

    /// A lost session wakes someone; a peer that cannot be reached is told once, not at every attempt.
    fn log_end(&mut self, established: bool, cause: Cause) {
        if established {
            tracing::warn!(peer = self.name, %cause, "session lost");
        } else if self.shown_error.as_ref() == Some(&cause) {
            tracing::debug!(peer = self.name, %cause, "no session");
        } else {
            tracing::info!(peer = self.name, %cause, "no session");
        }
        self.shown_error = Some(cause);
    }

    fn show(&mut self, state: State) {
        let since = self.fsm.session().map(|(_, since)| since);
        if since.is_none() {
            self.session = None;
        }
        // Under the lock: what is shown is never ahead of what the RIB can know, nor behind.
        let view = self.view.clone();
        let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
        self.deliver();
        view.state = state;
        view.is_down = self.fsm.is_down();
        view.session = self.session.clone().zip(since);
        view.counters.clone_from(self.fsm.counters());
    }
}

fn poll_dial(dialling: &mut Option<Dialling>) -> impl Future<Output = io::Result<TcpStream>> {
    poll_fn(|cx| match dialling {
        Some(future) => future.as_mut().poll(cx),
        None => Poll::Pending,
    })
}

fn poll_connections(
    connections: &mut [(ConnectionId, Connection)],
    reading: bool,
) -> impl Future<Output = (ConnectionId, Input)> {
    poll_fn(move |cx| {
        for (id, connection) in &mut *connections {
            if let Poll::Ready(input) = connection.poll(cx, reading) {
                return Poll::Ready((*id, input));
            }
        }
        Poll::Pending
    })
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
