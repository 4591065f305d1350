//! Random histories: the RIB, which works incrementally, against one that replays the whole history
//! for every single path and decides by the text of RFC 4271 §9.1.2.2.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::config::model::{Peer, Rule, RuleAction};

const PEERS: [u8; 3] = [1, 2, 3];
const PREFIXES: [&str; 4] = ["10.233.1.0/24", "10.233.2.0/24", "192.0.2.0/24", "fd00:10:1::/64"];
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Communities that the peers' rules are about.
const WEIGHTED: u32 = 1;
const PREFERRED: u32 = 2;
const REJECTED: u32 = 3;

fn rules() -> Policy {
    let rule = |community: u32| Rule {
        communities: vec![format!("0:{community}").parse().unwrap()],
        ..Rule::default()
    };
    let rules = vec![
        Rule { set_weight: Some(1), ..rule(WEIGHTED) },
        Rule { set_local_pref: Some(101), ..rule(PREFERRED) },
        Rule { action: RuleAction::Reject, ..rule(REJECTED) },
    ];
    let accept = Some(RuleAction::Accept);
    Policy::new(&Peer { rules, rules_default: accept, ..Peer::new(peer(1), LOCAL_AS) }, &[].into())
}

#[derive(Clone, Debug)]
enum Step {
    Up { peer: u8, external: bool, families: u8, preserved: u8 },
    Down { peer: u8, retain: u8 },
    Update { peer: u8, withdrawn: Vec<(usize, u32)>, announced: Vec<(usize, u32)>, with: Attributes },
    EndOfRib { peer: u8, family: usize },
    Refresh { peer: u8, family: usize },
    Wait { seconds: u64 },
    Own { addresses: Vec<u8> },
}

fn nlri() -> impl Strategy<Value = Vec<(usize, u32)>> {
    prop::collection::vec((0..PREFIXES.len(), 0..3_u32), 0..4)
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let next_hop = prop_oneof![
        (11..15_u8).prop_map(peer),
        (1..4_u16).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
    ];
    let path = prop_oneof![
        Just(vec![]),
        (1..4_u32).prop_map(|first| vec![AsSegment::Sequence(vec![first, 9])]),
        (1..4_u32).prop_map(|first| vec![AsSegment::Sequence(vec![first]), AsSegment::Set(vec![5, 6])]),
        Just(vec![AsSegment::Sequence(vec![1, LOCAL_AS])]),
    ];
    let id = prop::option::of((1..4_u8).prop_map(|n| Ipv4Addr::new(10, 0, 0, n)));
    let small = || prop::option::of(0..2_u32);
    let community = prop::sample::select(vec![0, 0, 0, WEIGHTED, PREFERRED, REJECTED]);
    (next_hop, path, small(), prop::option::of(99..102_u32), id, 0..2_usize, 0..4_u8, community).prop_map(
        |(next_hop, as_path, med, local_pref, originator_id, clusters, origin, community)| Attributes {
            origin: if origin == 0 { Origin::Egp } else { Origin::Igp },
            as_path,
            next_hop,
            med,
            local_pref,
            originator_id,
            cluster_list: vec![Ipv4Addr::LOCALHOST; clusters],
            communities: vec![community],
            large_communities: vec![],
            settings: Settings::default(),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || prop::sample::select(PEERS.to_vec());
    prop_oneof![
        5 => (peer(), any::<bool>(), 0..4_u8, 0..4_u8)
            .prop_map(|(peer, external, families, preserved)| Step::Up { peer, external, families, preserved }),
        3 => (peer(), 0..4_u8).prop_map(|(peer, retain)| Step::Down { peer, retain }),
        12 => (peer(), nlri(), nlri(), any_attributes())
            .prop_map(|(peer, withdrawn, announced, with)| Step::Update { peer, withdrawn, announced, with }),
        3 => (peer(), 0..2_usize).prop_map(|(peer, family)| Step::EndOfRib { peer, family }),
        1 => (peer(), 0..2_usize).prop_map(|(peer, family)| Step::Refresh { peer, family }),
        4 => prop::sample::select(vec![20, 59, 60, 239, 300]).prop_map(|seconds| Step::Wait { seconds }),
        1 => prop::collection::vec(11..15_u8, 0..3).prop_map(|addresses| Step::Own { addresses }),
    ]
}

fn chosen(mask: u8) -> Vec<Family> {
    (0..2).filter(|bit| mask & (1 << bit) != 0).map(|bit| FAMILIES[bit]).collect()
}

/// The event that a step stands for; `None` for one that no session would send in its state.
fn event(step: &Step, up: &BTreeSet<u8>) -> Option<RibEvent> {
    let list = |list: &[(usize, u32)]| -> Vec<Nlri> {
        list.iter().map(|(i, path_id)| Nlri { prefix: prefix(PREFIXES[*i]), path_id: *path_id }).collect()
    };
    match step {
        Step::Up { peer, external, families, preserved } => (!up.contains(peer)).then(|| {
            RibEvent::PeerUp(PeerInfo {
                external: *external,
                families: chosen(*families),
                forwarding_preserved: chosen(*preserved),
                ..session(*peer)
            })
        }),
        Step::Down { peer: number, retain } => up.contains(number).then(|| RibEvent::PeerDown {
            peer: peer(*number),
            loss: Loss::Lost(chosen(*retain).into_iter().map(|family| (family, RESTART_TIME)).collect()),
        }),
        Step::Update { peer: number, withdrawn, announced, with } => {
            up.contains(number).then(|| RibEvent::Update {
                peer: peer(*number),
                withdrawn: list(withdrawn),
                announced: Some((Arc::new(with.clone()), list(announced))),
            })
        }
        Step::EndOfRib { peer: number, family } => {
            up.contains(number).then(|| RibEvent::EndOfRib { peer: peer(*number), family: FAMILIES[*family] })
        }
        Step::Refresh { peer: number, family } => up
            .contains(number)
            .then(|| RibEvent::RefreshStarted { peer: peer(*number), family: FAMILIES[*family] }),
        Step::Wait { .. } | Step::Own { .. } => None,
    }
}

/// What is left of one path at the end of the history, and the session it is from.
fn replay(history: &[(Instant, RibEvent)], end: Instant, of: PeerId, key: Nlri) -> Option<Naive> {
    let family = Family::of(key.prefix.addr());
    let mut session = None;
    let mut path: Option<(Arc<Attributes>, bool)> = None;
    let mut stale_until: Option<(Instant, Instant)> = None;
    let ending = RibEvent::EndOfRib { peer: IpAddr::from([0; 4]), family };
    for (time, event) in history.iter().chain([&(end, ending)]) {
        if stale_until.is_some_and(|(deadline, _)| deadline <= *time) {
            path = path.filter(|(_, stale)| !stale);
            stale_until = None;
        }
        if event.peer() != of {
            continue;
        }
        match event {
            RibEvent::PeerUp(info) => {
                let kept = info.families.contains(&family) && info.forwarding_preserved.contains(&family);
                stale_until = stale_until.filter(|_| kept).map(|(_, bound)| (bound, bound));
                if stale_until.is_none() {
                    path = None;
                }
                session = Some(info.clone());
            }
            RibEvent::PeerDown { loss, .. } => {
                let Loss::Lost(retain) = loss else { panic!("steps make no other: {loss:?}") };
                let restart_time = retain.iter().find(|(f, _)| *f == family).map(|(_, restart)| *restart);
                path = path.filter(|(_, stale)| restart_time.is_some() && !stale).map(|(a, _)| (a, true));
                stale_until = restart_time.map(|r| (*time + r.min(STALE_TIME), *time + STALE_TIME));
            }
            RibEvent::Update { withdrawn, announced, .. } => {
                if withdrawn.contains(&key) {
                    path = None;
                }
                if let Some((attributes, list)) = announced
                    && list.contains(&key)
                {
                    let acceptable = session.as_ref().is_some_and(|s| acceptable(s, attributes, key.prefix));
                    path = acceptable.then(|| (attributes.clone(), false));
                }
            }
            RibEvent::EndOfRib { family: f, .. } if *f == family => {
                path = path.filter(|(_, stale)| !stale);
                stale_until = None;
            }
            RibEvent::RefreshStarted { family: f, .. } if *f == family => {
                path = path.map(|(a, _)| (a, true));
                stale_until = Some((*time + STALE_TIME, *time + STALE_TIME));
            }
            RibEvent::EndOfRib { .. } | RibEvent::RefreshStarted { .. } => {}
        }
    }
    let (attributes, _) = path?;
    Some(Naive { attributes, session: session?, path_id: key.path_id })
}

/// The guards, for the few kinds of paths that this test makes.
fn acceptable(session: &PeerInfo, attributes: &Attributes, prefix: IpNet) -> bool {
    let family = Family::of(prefix.addr());
    let has_own_as =
        attributes.as_path.iter().any(|s| matches!(s, AsSegment::Sequence(list) if list.contains(&LOCAL_AS)));
    session.families.contains(&family)
        && prefix.to_string() != "192.0.2.0/24"
        && Family::of(attributes.next_hop) == family
        && !has_own_as
        && !attributes.communities.contains(&REJECTED)
}

struct Naive {
    attributes: Arc<Attributes>,
    session: PeerInfo,
    path_id: u32,
}

impl Naive {
    fn preference(&self) -> u32 {
        if self.attributes.communities.contains(&PREFERRED) {
            return 101;
        }
        if self.session.external { 100 } else { self.attributes.local_pref.unwrap_or(100) }
    }

    fn weight(&self) -> bool {
        self.attributes.communities.contains(&WEIGHTED)
    }

    fn length(&self) -> usize {
        let length = |segment: &AsSegment| if let AsSegment::Sequence(l) = segment { l.len() } else { 1 };
        self.attributes.as_path.iter().map(length).sum()
    }

    fn neighbour(&self) -> Option<u32> {
        match self.attributes.as_path.first() {
            Some(AsSegment::Sequence(list)) => Some(list[0]),
            _ => None,
        }
    }

    fn med(&self) -> u32 {
        self.attributes.med.unwrap_or(0)
    }

    fn last_resort(&self) -> (Ipv4Addr, usize, PeerId, u32) {
        let id = self.attributes.originator_id.unwrap_or(self.session.router_id);
        (id, self.attributes.cluster_list.len(), self.session.peer, self.path_id)
    }

    /// Whether the path is out of the race because of another one in it.
    fn loses_to(&self, other: &Self, step: usize) -> bool {
        match step {
            0 => other.weight() && !self.weight(),
            1 => other.preference() > self.preference(),
            2 => other.length() < self.length(),
            3 => other.attributes.origin < self.attributes.origin,
            4 => other.neighbour() == self.neighbour() && other.med() < self.med(),
            _ => other.session.external && !self.session.external,
        }
    }
}

fn naive_next_hops(mut paths: Vec<Naive>, maximum_paths: usize) -> Vec<IpAddr> {
    for step in 0..6 {
        let loses: Vec<bool> =
            paths.iter().map(|path| paths.iter().any(|other| path.loses_to(other, step))).collect();
        let mut loses = loses.into_iter();
        paths.retain(|_| !loses.next().unwrap());
    }
    let Some(best) = paths.iter().min_by_key(|path| path.last_resort()) else { return vec![] };
    let neighbour = best.neighbour();
    paths.retain(|path| path.neighbour() == neighbour);
    paths.sort_by_key(Naive::last_resort);
    let mut next_hops: Vec<IpAddr> = vec![];
    for path in paths {
        if !next_hops.contains(&path.attributes.next_hop) {
            next_hops.push(path.attributes.next_hop);
        }
    }
    next_hops.truncate(maximum_paths);
    next_hops.sort();
    next_hops
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn incremental_is_the_same_as_from_scratch(
        steps in prop::collection::vec(step(), 1..60),
        maximum_paths in 1..4_usize,
    ) {
        let mut config = config(&PEERS);
        config.peers.values_mut().for_each(|peer| peer.policy = rules());
        let mut lab = Lab::new(RibConfig { maximum_paths: both(maximum_paths), ..config });
        let mut history: Vec<(Instant, RibEvent)> = vec![];
        let mut up = BTreeSet::new();
        let mut own = BTreeSet::new();
        for step in steps {
            let before = lab.rib.selected_routes().clone();
            let changed = match &step {
                Step::Wait { seconds } => {
                    lab.now += Duration::from_secs(*seconds);
                    lab.rib.tick(lab.now)
                }
                Step::Own { addresses } => {
                    own = addresses.iter().map(|number| peer(*number)).collect::<BTreeSet<IpAddr>>();
                    lab.rib.set_own(own.iter().copied().map(IpNet::from).collect())
                }
                _ => {
                    let Some(event) = event(&step, &up) else { continue };
                    match &step {
                        Step::Up { peer, .. } => { up.insert(*peer); }
                        Step::Down { peer, .. } => { up.remove(peer); }
                        _ => {}
                    }
                    history.push((lab.now, event.clone()));
                    lab.rib.handle(event, lab.now)
                }
            };
            for text in PREFIXES {
                let prefix = prefix(text);
                let paths = PEERS.iter().flat_map(|number| (0..3).map(move |path_id| (*number, path_id)));
                let alive: Vec<Naive> = paths
                    .filter_map(|(number, path_id)| {
                        replay(&history, lab.now, peer(number), Nlri { prefix, path_id })
                    })
                    .filter(|path| !own.contains(&path.attributes.next_hop))
                    .collect();
                let expected = naive_next_hops(alive, maximum_paths);
                let selected = lab.rib.selected(&prefix);
                prop_assert_eq!(
                    selected.map(|route| route.next_hops.clone()).unwrap_or_default(), expected,
                    "{} after {:?}", text, step
                );
                prop_assert_eq!(
                    changed.contains(&prefix), before.get(&prefix) != selected,
                    "{} reported as changed after {:?}", text, step
                );
            }
        }
    }
}
