//! A session of one kind: sends a case and reports what followed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use underpass::bgp::State;
use underpass::rib::model::{Loss, Nlri, RibEvent};
use underpass_tests::fake_peer::{FakePeer, KEEPALIVE, Listening, OPEN, Open, UPDATE, message, update};

use super::case::{Case, Kind, Outcome, SHORT_AS_PATH, attributes};
use super::harness::{AS_PATH, Agent, NEXT_HOP, ORIGIN, OUR_AS, PEER_AS, PEER_ID, Place, nlri};

/// What a good UPDATE announces after each case.
const PROBE: &str = "203.0.113.0/24";

/// What followed from an UPDATE.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Body of the NOTIFICATION, if the session was reset.
    notification: Option<Vec<u8>>,
    /// What the RIB was told before the good UPDATE.
    told: Vec<RibEvent>,
    /// By how much the counter rose.
    treated_as_withdraw: u64,
    /// By how much the counter rose.
    attributes_discarded: u64,
}

/// A session that is opened again whenever it was reset.
pub struct Lane {
    kind: Kind,
    external: bool,
    address: IpAddr,
    listening: Listening,
    agent: Agent,
    peer: FakePeer,
}

impl Lane {
    pub fn open(place: Place, kind: Kind, external: bool) -> Self {
        let listening = place.listen();
        let mut config = place.config(listening.address().port());
        let peer = &mut config.peers[0];
        peer.remote_as = if external { PEER_AS } else { OUR_AS };
        // Each reset costs a pause.
        (peer.connect_retry, peer.connect_retry_max) = (Duration::from_millis(5), Duration::from_millis(10));
        let mut agent = Agent::start(&config);
        let peer = establish(&listening, kind, external);
        agent.peer_up();
        Self { kind, external, address: place.peer(), listening, agent, peer }
    }

    /// What the table says.
    pub fn expected(&self, case: &Case) -> Seen {
        let outcome = if self.external { &case.external } else { &case.internal };
        let mut withdrawn = case.withdraws.clone();
        let (notification, treated_as_withdraw, attributes_discarded, announced) = match outcome {
            Outcome::Reset(body) => {
                withdrawn.clear();
                (Some(body.clone()), 0, 0, None)
            }
            Outcome::Withdrawn(discarded) => {
                withdrawn.extend(&case.announces);
                (None, 1, *discarded, None)
            }
            Outcome::Accepted(discarded, kept) => {
                let ipv6 = case.announces.iter().any(|nlri| nlri.prefix.addr().is_ipv6());
                let announced = (!case.announces.is_empty())
                    .then(|| (Arc::new(attributes(ipv6, kept)), case.announces.clone()));
                (None, 0, *discarded, announced)
            }
        };
        let told = (!withdrawn.is_empty() || announced.is_some()).then_some(RibEvent::Update {
            peer: self.address,
            withdrawn,
            announced,
        });
        Seen { notification, told: told.into_iter().collect(), treated_as_withdraw, attributes_discarded }
    }

    /// Sends the UPDATE and a good one; the session must take the second or be reset by the first.
    pub fn observe(&mut self, update: &[u8]) -> Seen {
        let before = self.agent.status();
        self.peer.send(&[update, &self.probe()].concat());
        let (mut told, mut notification) = (Vec::new(), None);
        loop {
            match self.agent.event() {
                RibEvent::PeerDown { loss, .. } => {
                    assert_eq!(loss, Loss::Lost(vec![]), "a reset is no restart");
                    notification = Some(self.peer.expect_notification());
                    break;
                }
                RibEvent::Update { announced: Some((_, prefixes)), .. }
                    if prefixes == [self.probe_prefix()] =>
                {
                    assert_eq!(self.agent.status().state, State::Established);
                    break;
                }
                event => told.push(event),
            }
        }
        let after = self.agent.status();
        if notification.is_some() {
            self.peer = establish(&self.listening, self.kind, self.external);
            self.agent.peer_up();
        }
        Seen {
            notification,
            told,
            treated_as_withdraw: after.treated_as_withdraw - before.treated_as_withdraw,
            attributes_discarded: after.attributes_discarded - before.attributes_discarded,
        }
    }

    fn probe(&self) -> Vec<u8> {
        let path = if self.kind == Kind::TwoOctet { SHORT_AS_PATH } else { AS_PATH };
        let path_id: &[u8] = if self.kind == Kind::AddPath { &[0, 0, 0, 1] } else { &[] };
        update(&[], &[ORIGIN, path, NEXT_HOP], &[path_id, &[24, 203, 0, 113]].concat())
    }

    fn probe_prefix(&self) -> Nlri {
        nlri(PROBE, u32::from(self.kind == Kind::AddPath))
    }
}

fn establish(listening: &Listening, kind: Kind, external: bool) -> FakePeer {
    let mut open = Open::new(if external { PEER_AS } else { OUR_AS }, PEER_ID, 90);
    match kind {
        Kind::FourOctet => {}
        Kind::TwoOctet => open.capabilities.retain(|capability| capability[0] != 65),
        Kind::AddPath => open = open.with_add_path(),
        Kind::Ipv4Only => open.capabilities.retain(|capability| capability[..] != [1, 4, 0, 2, 0, 1]),
    }
    let mut peer = listening.accept();
    peer.expect(OPEN);
    peer.send(&open.bytes());
    peer.expect(KEEPALIVE);
    peer.send(&message(KEEPALIVE, &[]));
    let families = if kind == Kind::Ipv4Only { 1 } else { 2 };
    for _ in 0..families {
        peer.expect(UPDATE);
    }
    peer
}
