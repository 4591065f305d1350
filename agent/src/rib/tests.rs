//! The RIB as a whole: guards, bounds, restarts, readiness. Against a naive model: [`model_check`].

mod graceful_restart;
mod hostile;
mod last_known;
mod limits;
mod model_check;
mod recursion;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::guard::Refusal;
use super::limit::PrefixLimit;
use super::model::{AsSegment, Attributes, Loss, Nlri, Origin, PeerId, PeerInfo, RibEvent};
use super::multipath::MaximumPaths;
use super::own::Own;
use super::peer::PeerConfig;
use super::policy::{Policy, Settings};
use super::{PeerCounts, Rib, RibConfig};
use crate::config::model::{Import, NextHopPeer, PrefixRange};
use crate::netlink::model::Family;
use crate::prefix_map::PrefixSet;

const STALE_TIME: Duration = Duration::from_mins(5);
const STARTUP_TIME: Duration = Duration::from_mins(2);
const RESTART_TIME: Duration = Duration::from_mins(1);
const LOCAL_AS: u32 = 64512;

fn peer(number: u8) -> PeerId {
    IpAddr::from([10, 0, 0, number])
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn both(paths: usize) -> MaximumPaths {
    MaximumPaths { ebgp: paths, ibgp: paths }
}

fn peer_config(max_prefixes: usize) -> PeerConfig {
    PeerConfig {
        limit: PrefixLimit::discard(max_prefixes),
        stale_time: STALE_TIME,
        policy: Policy::default(),
        next_hop_peer: NextHopPeer::Accept,
        stand_in: Some(LOCAL_AS),
    }
}

fn config(peers: &[u8]) -> RibConfig {
    let range = |text: &str, min, max| PrefixRange { prefix: prefix(text), min, max };
    let of_peer = |number: &u8| (peer(*number), peer_config(1000));
    RibConfig {
        router_id: Ipv4Addr::new(10, 0, 0, 200),
        peers: peers.iter().map(of_peer).collect(),
        import: Import {
            prefixes: vec![range("10.233.0.0/16", 16, 32), range("fd00:10::/32", 48, 128)],
            next_hops: vec![prefix("10.0.0.0/16"), prefix("fd00::/64")],
            max_paths_per_prefix: 8,
            ..Import::default()
        },
        service_ranges: vec![],
        maximum_paths: both(8),
        keep_last_known: Duration::ZERO,
        startup_time: STARTUP_TIME,
    }
}

fn session(number: u8) -> PeerInfo {
    PeerInfo {
        peer: peer(number),
        external: false,
        remote_as: LOCAL_AS,
        local_as: LOCAL_AS,
        router_id: Ipv4Addr::new(10, 0, 0, number),
        local_router_id: Ipv4Addr::new(10, 0, 0, 201),
        local_address: peer(99),
        families: vec![Family::Ipv4],
        extended_next_hop: false,
        forwarding_preserved: vec![],
    }
}

fn attributes(next_hop: &str) -> Arc<Attributes> {
    Arc::new(Attributes {
        origin: Origin::Igp,
        as_path: vec![],
        next_hop: next_hop.parse().unwrap(),
        med: None,
        local_pref: Some(100),
        originator_id: None,
        cluster_list: vec![],
        communities: vec![],
        large_communities: vec![],
        settings: Settings::default(),
    })
}

/// A RIB with a clock that tests move.
struct Lab {
    rib: Rib,
    now: Instant,
}

impl Lab {
    fn new(config: RibConfig) -> Self {
        let now = Instant::now();
        Self { rib: Rib::new(config, Own::default(), now), now }
    }

    /// One peer that is up.
    fn up() -> Self {
        let mut lab = Self::new(config(&[1]));
        lab.handle(RibEvent::PeerUp(session(1)));
        lab
    }

    fn handle(&mut self, event: RibEvent) -> Vec<String> {
        names(&self.rib.handle(event, self.now))
    }

    fn announce(&mut self, number: u8, path_id: u32, prefixes: &[&str], next_hop: &str) -> Vec<String> {
        let list = prefixes.iter().map(|text| Nlri { prefix: prefix(text), path_id }).collect();
        let announced = Some((attributes(next_hop), list));
        self.handle(RibEvent::Update { peer: peer(number), withdrawn: vec![], announced })
    }

    fn withdraw(&mut self, number: u8, path_id: u32, text: &str) -> Vec<String> {
        let withdrawn = vec![Nlri { prefix: prefix(text), path_id }];
        self.handle(RibEvent::Update { peer: peer(number), withdrawn, announced: None })
    }

    fn end_of_rib(&mut self, number: u8) -> Vec<String> {
        self.handle(RibEvent::EndOfRib { peer: peer(number), family: Family::Ipv4 })
    }

    fn restart_begins(&mut self, number: u8) -> Vec<String> {
        self.handle(RibEvent::PeerDown {
            peer: peer(number),
            loss: Loss::Lost(vec![(Family::Ipv4, RESTART_TIME)]),
        })
    }

    fn comes_back(&mut self, number: u8, preserved: bool) -> Vec<String> {
        let forwarding_preserved = if preserved { vec![Family::Ipv4] } else { vec![] };
        self.handle(RibEvent::PeerUp(PeerInfo { forwarding_preserved, ..session(number) }))
    }

    fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        names(&self.rib.tick(self.now))
    }

    fn next_hops(&self, text: &str) -> Vec<String> {
        let route = self.rib.selected(&prefix(text));
        route.map(|route| route.next_hops.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn counts(&self, number: u8) -> PeerCounts {
        self.rib.peer_counts(&peer(number)).unwrap()
    }
}

fn names(prefixes: &PrefixSet) -> Vec<String> {
    prefixes.iter().map(|prefix| prefix.to_string()).collect()
}

const A: &str = "10.233.64.0/26";
const B: &str = "10.233.65.0/26";

#[test]
fn two_reflectors_and_add_path_merge_by_next_hop() {
    let mut lab = Lab::new(config(&[1, 2]));
    lab.handle(RibEvent::PeerUp(session(1)));
    lab.handle(RibEvent::PeerUp(session(2)));
    assert_eq!(lab.announce(1, 1, &[A], "10.0.0.11"), [A]);
    assert_eq!(lab.announce(1, 2, &[A], "10.0.0.12"), [A]);
    assert_eq!(lab.announce(2, 7, &[A], "10.0.0.12"), [""; 0], "nothing new");
    assert_eq!(lab.next_hops(A), ["10.0.0.11", "10.0.0.12"]);
    assert_eq!(lab.withdraw(1, 2, A), [""; 0], "the other reflector still has it");
    assert_eq!(lab.withdraw(2, 7, A), [A]);
    assert_eq!(lab.next_hops(A), ["10.0.0.11"]);
    assert_eq!(lab.withdraw(1, 1, A), [A]);
    assert_eq!(lab.rib.selected_routes().len(), 0);
}

#[test]
fn withdrawals_of_an_update_come_before_its_announcements() {
    let mut lab = Lab::up();
    lab.announce(1, 0, &[A], "10.0.0.11");
    let nlri = Nlri { prefix: prefix(A), path_id: 0 };
    let announced = Some((attributes("10.0.0.12"), vec![nlri]));
    lab.handle(RibEvent::Update { peer: peer(1), withdrawn: vec![nlri], announced });
    assert_eq!(lab.next_hops(A), ["10.0.0.12"]);
}

#[test]
fn a_refused_announcement_withdraws_what_was_accepted_before() {
    let mut lab = Lab::up();
    lab.announce(1, 0, &[A], "10.0.0.11");
    assert_eq!(lab.announce(1, 0, &[A, B], "192.0.2.1"), [A]);
    assert_eq!(lab.rib.filtered()[&Refusal::NextHopOutside], 2);
    assert_eq!(lab.counts(1), PeerCounts { received: 2, ..PeerCounts::default() });
    assert_eq!(lab.announce(1, 0, &[A], "10.0.0.11"), [A], "accepted again");
    assert_eq!(lab.counts(1), PeerCounts { received: 2, accepted: 1, ..PeerCounts::default() });
    lab.withdraw(1, 0, B);
    assert_eq!(lab.counts(1), PeerCounts { received: 1, accepted: 1, ..PeerCounts::default() });
}

#[test]
fn own_next_hops_are_left_out_for_as_long_as_they_are_own() {
    let mut lab = Lab::up();
    let own = |list: &[u8]| list.iter().map(|number| IpNet::from(peer(*number))).collect::<Own>();
    lab.announce(1, 1, &[A], "10.0.0.11");
    lab.announce(1, 2, &[A, B], "10.0.0.12");
    assert_eq!(names(&lab.rib.set_own(own(&[12]))), [A, B]);
    assert_eq!(lab.next_hops(A), ["10.0.0.11"]);
    assert_eq!(lab.next_hops(B), [""; 0]);
    assert_eq!(lab.counts(1), PeerCounts { received: 3, accepted: 1, ..PeerCounts::default() });
    lab.announce(1, 3, &[B], "10.0.0.12");
    assert_eq!(lab.rib.filtered()[&Refusal::NextHopOwn], 1, "counted when announced");
    assert_eq!(names(&lab.rib.set_own(own(&[]))), [A, B]);
    assert_eq!(lab.next_hops(A), ["10.0.0.11", "10.0.0.12"]);
}

#[test]
fn bounds_keep_what_came_first() {
    let mut config = config(&[1]);
    config.import.max_paths_per_prefix = 2;
    config.peers.insert(peer(1), peer_config(3));
    let mut lab = Lab::new(config);
    lab.handle(RibEvent::PeerUp(session(1)));
    for path_id in [5, 4, 3] {
        lab.announce(1, path_id, &[A], &format!("10.0.0.1{path_id}"));
    }
    assert_eq!(lab.next_hops(A), ["10.0.0.14", "10.0.0.15"]);
    lab.announce(1, 5, &[A], "10.0.0.20");
    assert_eq!(lab.next_hops(A), ["10.0.0.14", "10.0.0.20"], "what is there may change");
    lab.announce(1, 0, &[B, "10.233.66.0/26"], "10.0.0.11");
    assert_eq!(lab.next_hops("10.233.66.0/26"), [""; 0]);
    assert_eq!(lab.rib.filtered()[&Refusal::MaxPathsPerPrefix], 1);
    assert_eq!(lab.rib.filtered()[&Refusal::MaxPrefixes], 1);
    assert_eq!(lab.counts(1), PeerCounts { received: 5, accepted: 3, ..PeerCounts::default() });
    lab.withdraw(1, 4, A);
    lab.announce(1, 0, &["10.233.66.0/26"], "10.0.0.11");
    assert_eq!(lab.next_hops("10.233.66.0/26"), ["10.0.0.11"], "there is room again");
}

#[test]
fn a_lost_session_takes_its_paths_along() {
    let mut lab = Lab::up();
    lab.announce(1, 0, &[A, B], "10.0.0.11");
    assert_eq!(lab.handle(RibEvent::PeerDown { peer: peer(1), loss: Loss::Lost(vec![]) }), [A, B]);
    assert_eq!(lab.counts(1), PeerCounts::default());
}

#[test]
fn route_refresh_sweeps_what_was_not_repeated() {
    let mut lab = Lab::up();
    lab.announce(1, 0, &[A, B], "10.0.0.11");
    lab.end_of_rib(1);
    let refresh = RibEvent::RefreshStarted { peer: peer(1), family: Family::Ipv4 };
    assert_eq!(lab.handle(refresh.clone()), [""; 0]);
    lab.announce(1, 0, &[B], "10.0.0.11");
    assert_eq!(lab.end_of_rib(1), [A]);
    lab.handle(refresh);
    assert_eq!(lab.wait(STALE_TIME), [B], "without End-of-RIB the stale time bounds it");
}

#[test]
fn ready_when_every_peer_has_sent_everything_or_the_time_is_over() {
    let mut lab = Lab::new(config(&[1, 2]));
    assert!(!lab.rib.ready());
    let both = vec![Family::Ipv4, Family::Ipv6];
    lab.handle(RibEvent::PeerUp(PeerInfo { families: both, ..session(1) }));
    lab.handle(RibEvent::PeerUp(session(2)));
    lab.end_of_rib(2);
    lab.end_of_rib(1);
    assert!(!lab.rib.ready(), "peer 1 owes the other family");
    lab.handle(RibEvent::PeerDown { peer: peer(2), loss: Loss::Lost(vec![]) });
    lab.handle(RibEvent::EndOfRib { peer: peer(1), family: Family::Ipv6 });
    assert!(lab.rib.ready(), "peer 2 had sent everything before it went");
    lab.handle(RibEvent::PeerDown { peer: peer(1), loss: Loss::Lost(vec![]) });
    assert!(lab.rib.ready(), "for good");

    let mut lab = Lab::new(config(&[1]));
    assert_eq!(lab.rib.next_deadline(), Some(lab.now + STARTUP_TIME));
    lab.wait(STARTUP_TIME);
    assert!(lab.rib.ready());
    assert_eq!(lab.rib.next_deadline(), None);

    assert!(Lab::new(config(&[])).rib.ready(), "nobody to wait for");
}

#[test]
fn events_out_of_place_change_nothing() {
    let mut lab = Lab::new(config(&[1]));
    assert_eq!(lab.announce(1, 0, &[A], "10.0.0.11"), [""; 0], "not up yet");
    assert_eq!(lab.handle(RibEvent::PeerUp(session(77))), [""; 0], "not configured");
    assert_eq!(lab.announce(77, 0, &[A], "10.0.0.11"), [""; 0]);
    assert_eq!(lab.rib.peer_counts(&peer(77)), None);
    assert_eq!(lab.rib.selected_routes().len(), 0);
}

/// Two peers with the same 100,000 prefixes, in UPDATEs of 100; the time is printed, not judged.
#[test]
fn a_large_table_from_two_peers() {
    let mut config = config(&[1, 2]);
    config.import.prefixes = vec![PrefixRange { prefix: prefix("11.0.0.0/8"), min: 24, max: 32 }];
    for peer in config.peers.values_mut() {
        *peer = peer_config(100_000);
    }
    let mut lab = Lab::new(config);
    let prefixes: Vec<IpNet> = (0..100_000_u32)
        .map(|number| IpNet::new(Ipv4Addr::from(0x0b00_0000 + number * 64).into(), 26).unwrap())
        .collect();
    let started = Instant::now();
    for number in [1, 2] {
        lab.handle(RibEvent::PeerUp(session(number)));
        for chunk in prefixes.chunks(100) {
            let list = chunk.iter().map(|prefix| Nlri { prefix: *prefix, path_id: 0 }).collect();
            let announced = Some((attributes(&format!("10.0.0.1{number}")), list));
            let event = RibEvent::Update { peer: peer(number), withdrawn: vec![], announced };
            assert_eq!(lab.rib.handle(event, lab.now).len(), 100);
        }
        lab.end_of_rib(number);
    }
    println!("200,000 paths taken in: {:?}", started.elapsed());
    assert_eq!(lab.rib.selected_routes().len(), 100_000);
    assert_eq!(lab.rib.selected(&prefixes[7]).unwrap().next_hops.len(), 2);
    let started = Instant::now();
    let changed = lab.handle(RibEvent::PeerDown { peer: peer(1), loss: Loss::Lost(vec![]) });
    println!("one peer lost: {:?}", started.elapsed());
    assert_eq!(changed.len(), 100_000);
}
