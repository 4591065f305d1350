//! A speaker without a RIB, on loopback addresses of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use underpass::bgp::{SessionStatus, ShutdownKind, Speaker};
use underpass::config::model::{Bgp, Peer};
use underpass::netlink::model::Family;
use underpass::rib::model::{Loss, Nlri, PeerInfo, RibEvent};
use underpass_tests::fake_peer::{FakePeer, Listening, Open, PATIENCE};

pub const OUR_AS: u32 = 64512;
pub const PEER_AS: u32 = 64513;
pub const OUR_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
pub const PEER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

pub const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
pub const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x01];
pub const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 5];

/// Loopback addresses of one test, so that tests do not meet.
#[derive(Clone, Copy)]
pub struct Place(pub u8);

impl Place {
    pub fn peer(self) -> IpAddr {
        Ipv4Addr::new(127, 43, self.0, 1).into()
    }

    pub fn ours(self) -> IpAddr {
        Ipv4Addr::new(127, 43, self.0, 9).into()
    }

    /// A peer that is dialled at `port` and keeps its own hold time short.
    pub fn config(self, port: u16) -> Bgp {
        Bgp {
            peers: vec![Peer {
                name: "peer".to_owned(),
                port,
                source_address: Some(self.ours()),
                connect_retry: Duration::from_millis(200),
                connect_retry_max: Duration::from_millis(400),
                families: vec![Family::Ipv4, Family::Ipv6],
                max_prefixes: 10_000,
                ..Peer::new(self.peer(), PEER_AS)
            }],
            ..Bgp::new(OUR_AS, OUR_ID)
        }
    }

    pub fn passive(self) -> Bgp {
        let mut config = self.config(179);
        config.listen = vec![SocketAddr::new(self.ours(), 0)];
        config.peers[0].passive = true;
        config
    }

    pub fn listen(self) -> Listening {
        Listening::on(SocketAddr::new(self.peer(), 0))
    }
}

/// A speaker with the RIB's end of its channel.
pub struct Agent {
    runtime: Runtime,
    speaker: Option<Speaker>,
    pub events: mpsc::Receiver<RibEvent>,
}

impl Agent {
    pub fn start(config: &Bgp) -> Self {
        Self::with_channel(config, 1024)
    }

    pub fn with_channel(config: &Bgp, capacity: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let (sender, events) = mpsc::channel(capacity);
        let speaker = runtime.block_on(async { Speaker::start(config, sender) }).expect("the speaker starts");
        Self { runtime, speaker: Some(speaker), events }
    }

    /// Keeps the sessions' only thread busy; returns once it is.
    pub fn stall(&self, time: Duration) {
        let (busy, is_busy) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            busy.send(()).expect("the test waits");
            std::thread::sleep(time);
        });
        is_busy.recv().expect("the thread lives");
    }

    pub fn speaker(&self) -> &Speaker {
        self.speaker.as_ref().expect("not yet stopped")
    }

    pub fn status(&self) -> SessionStatus {
        self.speaker().sessions().remove(0)
    }

    pub fn listening(&self) -> SocketAddr {
        self.speaker().listening()[0]
    }

    pub fn event(&mut self) -> RibEvent {
        let Self { runtime, events, .. } = self;
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, events.recv()).await })
            .expect("an event in time")
            .expect("the speaker lives")
    }

    pub fn peer_up(&mut self) -> PeerInfo {
        match self.event() {
            RibEvent::PeerUp(info) => info,
            other => panic!("expected PeerUp, got {other:?}"),
        }
    }

    /// The session was lost: what stays of it.
    pub fn peer_down(&mut self) -> Vec<(Family, Duration)> {
        match self.loss() {
            Loss::Lost(retain) => retain,
            other => panic!("expected a loss, got {other:?}"),
        }
    }

    pub fn loss(&mut self) -> Loss {
        match self.event() {
            RibEvent::PeerDown { loss, .. } => loss,
            other => panic!("expected PeerDown, got {other:?}"),
        }
    }

    pub fn until(&self, what: &str, holds: impl Fn(&SessionStatus) -> bool) -> SessionStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not so in time: {what}; {status:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Does something that changes the speaker, inside of its runtime.
    pub fn change<T>(&mut self, act: impl FnOnce(&mut Speaker) -> T) -> T {
        let Self { runtime, speaker, .. } = self;
        let _inside = runtime.enter();
        act(speaker.as_mut().expect("not yet stopped"))
    }

    pub fn shutdown(&mut self, kind: ShutdownKind) {
        let speaker = self.speaker.take().expect("not yet stopped");
        self.runtime.block_on(speaker.shutdown(kind));
    }
}

pub fn open() -> Open {
    Open::new(PEER_AS, PEER_ID, 90)
}

/// An established session that the agent dialled.
pub fn session(place: Place, open: &Open) -> (Agent, Listening, FakePeer) {
    let listening = place.listen();
    let mut agent = Agent::start(&place.config(listening.address().port()));
    let mut peer = listening.accept();
    peer.establish(open);
    agent.peer_up();
    (agent, listening, peer)
}

pub fn nlri(prefix: &str, path_id: u32) -> Nlri {
    Nlri { prefix: prefix.parse().expect("a prefix"), path_id }
}

pub fn withdrawn(event: RibEvent) -> Vec<Nlri> {
    match event {
        RibEvent::Update { withdrawn, announced: None, .. } => withdrawn,
        other => panic!("expected withdrawals, got {other:?}"),
    }
}
