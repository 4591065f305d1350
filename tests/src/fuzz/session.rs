//! The state machine of a peer under any order of events.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use underpass::bgp::State;
use underpass::bgp::capabilities::Settings;
use underpass::bgp::fsm::{Action, ConnectionId, Direction, Event, Fsm};
use underpass::bgp::notification::Notification;
use underpass::bgp::wire::Message;
use underpass::config;
use underpass::netlink::model::Family;
use underpass::rib::model::RibEvent;

use super::Source;
use super::stream::decode;
use crate::fake_peer::{KEEPALIVE, NOTIFICATION, Open, ROUTE_REFRESH, UPDATE, message, update};

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The longest that any timer runs: hold time and `connect_retry_max` are below.
const LONGEST: Duration = Duration::from_secs(65_536);
/// More actions than one event gives rise to, besides an UPDATE, whose errors are one action each.
const MOST_ACTIONS: usize = 24;
/// Octets in a message at most, as [`received`] makes them.
const MOST_OCTETS: usize = 700;

/// Sessions as the configuration gives them, by the low bits of an input's first byte.
static SETTINGS: LazyLock<Vec<Settings>> = LazyLock::new(|| (0..32).map(settings).collect());

/// The input is a program: who the peer is, then one event after another. The machine is driven as its task drives
/// it: a connection is known before it is spoken of, dialling is on before it succeeds or fails.
pub fn session(data: &[u8]) {
    let mut source = Source(data);
    let mut world = World::new(&mut source);
    for _ in 0..2000 {
        if source.is_empty() {
            break;
        }
        world.step(&mut source);
    }
}

/// What the task around the machine knows.
struct World {
    fsm: Fsm,
    now: Instant,
    started: Instant,
    remote_as: u32,
    next_id: ConnectionId,
    live: Vec<ConnectionId>,
    dialling: bool,
    /// The RIB was told that the peer is up.
    up: bool,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let settings = SETTINGS[usize::from(source.u8() % 32)].clone();
        let (remote_as, started) = (settings.remote_as, Instant::now());
        Self {
            fsm: Fsm::new(settings, u64::from(source.u8())),
            now: started,
            started,
            remote_as,
            next_id: 0,
            live: Vec::new(),
            dialling: false,
            up: false,
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let event = match source.u8() % 20 {
            0 => Event::Start,
            1 => self.operator(source.u8()),
            2 | 3 => self.connected(Direction::Incoming),
            4 | 5 if self.dialling => {
                self.dialling = false;
                self.connected(Direction::Outgoing)
            }
            6 if self.dialling => {
                self.dialling = false;
                Event::DialFailed("refused".to_owned())
            }
            7 => self.on_connection(source, |id, _| Event::Closed(id, None)),
            8 => self.on_connection(source, |id, _| Event::Closed(id, Some("reset".to_owned()))),
            9 => self.on_connection(source, |id, _| Event::SendBlocked(id)),
            10 => self.on_connection(source, |id, _| Event::Invalid(id, Notification::new(1, 1, "garbage"))),
            11 => Event::ReadingPaused,
            12 => Event::ReadingResumed,
            13 => Event::Refresh(if source.u8() & 1 == 0 { Family::Ipv4 } else { Family::Ipv6 }),
            14 => {
                self.now = self.fsm.deadline().map_or(self.now, |at| at.max(self.now));
                Event::Tick
            }
            15 => {
                self.now += Duration::from_millis(u64::from(source.u16()) * 10);
                Event::Tick
            }
            _ => {
                let remote_as = self.remote_as;
                self.on_connection(source, |id, source| match received(source, remote_as) {
                    Ok(message) => Event::Received(id, message),
                    Err(notification) => Event::Invalid(id, notification),
                })
            }
        };
        self.handle(event);
    }

    /// What the operator or the configuration wants.
    fn operator(&self, what: u8) -> Event {
        match what >> 5 {
            0..=3 => Event::Stop((what & 1 == 0).then(|| Notification::cease(2))),
            4 => Event::AdminDown("maintenance".to_owned()),
            5 => Event::AdminReset(String::new()),
            6 => {
                let same_peer = if self.remote_as == 64512 { 8 } else { 0 };
                let settings = Box::new(SETTINGS[usize::from(what & 0x17 | same_peer)].clone());
                Event::Reconfigure { settings, reset: what & 8 != 0 }
            }
            _ => {
                let restart = (what & 1 == 0).then_some(Duration::from_mins(1));
                Event::PrefixLimit { family: Family::Ipv4, limit: 1, restart }
            }
        }
    }

    fn connected(&mut self, direction: Direction) -> Event {
        let id = self.next_id;
        self.next_id += 1;
        self.live.push(id);
        Event::Connected { id, direction, local: IpAddr::from([10, 0, 0, 9]) }
    }

    /// An event on one of the connections, or a tick if there are none.
    fn on_connection(
        &self,
        source: &mut Source<'_>,
        event: impl FnOnce(ConnectionId, &mut Source<'_>) -> Event,
    ) -> Event {
        if self.live.is_empty() {
            return Event::Tick;
        }
        let id = self.live[usize::from(source.u8()) % self.live.len()];
        event(id, source)
    }

    fn handle(&mut self, event: Event) {
        let told = event.clone();
        let stopping = matches!(event, Event::Stop(_));
        let is_update = matches!(event, Event::Received(_, Message::Update(_)));
        let actions = self.fsm.handle(self.now, event);
        let most = MOST_ACTIONS + if is_update { MOST_OCTETS } else { 0 };
        assert!(actions.len() <= most, "{} actions after {told:?}", actions.len());
        for action in &actions {
            self.perform(action, &told);
        }
        if stopping {
            self.up = false;
            assert!(self.live.is_empty() && !self.dialling, "{:?} after {told:?}", self.live);
        }
        self.check(&told);
    }

    fn perform(&mut self, action: &Action, told: &Event) {
        match action {
            Action::Dial => {
                assert!(!self.dialling, "dials twice: {told:?}");
                self.dialling = true;
            }
            Action::CancelDial => {
                assert!(self.dialling, "nothing to cancel: {told:?}");
                self.dialling = false;
            }
            Action::Send(id, bytes) => {
                assert!(self.live.contains(id), "sends on {id}, which is gone: {told:?}");
                assert!(
                    decode(&mut BytesMut::from(&bytes[..])).is_ok_and(|read| read.is_some()),
                    "{bytes:?}"
                );
            }
            Action::Close(id) => {
                let position = self.live.iter().position(|live| live == id);
                self.live.remove(position.unwrap_or_else(|| panic!("closes {id}, which is gone: {told:?}")));
            }
            Action::Rib(RibEvent::PeerUp(_)) => {
                assert!(!self.up, "up twice: {told:?}");
                self.up = true;
            }
            Action::Rib(RibEvent::PeerDown { .. }) => {
                assert!(self.up, "down twice: {told:?}");
                self.up = false;
            }
            Action::Rib(event) => assert!(self.up, "{event:?} without a session: {told:?}"),
            Action::BadUpdate(bad) => {
                // What is logged of whatever came in.
                let text = [bad.error(), bad.prefixes(), bad.message()].concat();
                assert!(!text.contains(char::is_control), "{text:?}");
            }
            Action::Established(_) | Action::Ended { .. } => {}
        }
    }

    fn check(&self, told: &Event) {
        let tick = *told == Event::Tick;
        assert!(self.live.len() <= 2, "{} connections after {told:?}", self.live.len());
        let established = self.fsm.state() == State::Established;
        assert_eq!(established, self.fsm.session().is_some(), "{told:?}");
        assert_eq!(established, self.up, "{told:?}");
        if let Some((_, since)) = self.fsm.session() {
            assert!(self.started <= since && since <= self.now, "{told:?}");
        }
        if let Some(deadline) = self.fsm.deadline() {
            assert!(!tick || deadline > self.now, "due again at once after {told:?}");
            assert!(deadline <= self.now + LONGEST, "{:?} ahead after {told:?}", deadline - self.now);
        }
    }
}

fn settings(kind: u8) -> Settings {
    let bit = |mask: u8| kind & mask != 0;
    let remote_as = if bit(8) { 64512 } else { 64513 };
    let text = format!(
        r#"
        [bgp]
        local_as = 64512
        router_id = "10.0.0.9"
        listen = ["10.0.0.9:1790"]
        [[bgp.peers]]
        address = "{PEER}"
        remote_as = {remote_as}
        passive = {}
        add_path = {}
        graceful_restart = {}
        families = ["ipv4-unicast", "ipv6-unicast"]
        hold_time = "{}s"
        "#,
        bit(1),
        bit(2),
        bit(4),
        if bit(16) { 0 } else { 9 },
    );
    let bgp = config::parse(&text).config.bgp.expect("the section is there");
    Settings::new(&bgp, &bgp.peers[0])
}

/// A message as the task gets it: mostly what a peer would say, sometimes anything.
fn received(source: &mut Source<'_>, remote_as: u32) -> Result<Message, Notification> {
    let bytes = match source.u8() % 8 {
        0 | 1 => open(source, remote_as).bytes(),
        2 | 3 => message(KEEPALIVE, &[]),
        4 => message(NOTIFICATION, &[source.u8(), source.u8()]),
        5 => message(ROUTE_REFRESH, &[0, source.u8(), source.u8() % 4, 1]),
        6 => {
            let length = usize::from(source.u8());
            let prefixes = source.take(length);
            update(prefixes, &[&[0x40, 1, 1, 0], &[0x40, 2, 0], &[0x40, 3, 4, 10, 0, 0, 5]], prefixes)
        }
        _ => {
            let (kind, length) = (source.u8() % 7, usize::from(source.u16()) % 600);
            message(if kind == 6 { UPDATE } else { kind }, source.take(length))
        }
    };
    decode(&mut BytesMut::from(&bytes[..])).map(|whole| whole.expect("a whole message"))
}

fn open(source: &mut Source<'_>, remote_as: u32) -> Open {
    let (bits, hold_time, last) = (source.u8(), source.u8(), source.u8());
    let remote_as = if bits & 1 == 0 { remote_as } else { 65000 };
    let mut open = Open::new(remote_as, Ipv4Addr::new(10, 0, 0, last), hold_time.into());
    if bits & 2 != 0 {
        open = open.with_add_path();
    }
    if bits & 4 != 0 {
        open = open.with_graceful_restart(120, bits & 8 != 0, [bits & 16 != 0, bits & 32 != 0]);
    }
    if bits & 64 != 0 {
        open = open.with(&[70, 0]);
    }
    if bits & 128 != 0 {
        open.capabilities.retain(|capability| !matches!(capability[0], 1 | 65));
    }
    open
}
