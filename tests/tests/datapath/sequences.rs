//! Random edits of the prefix table through the production maps, and what the real program then finds:
//! compared with `prefix-trie`, for both engines and both families.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::joint::map::JointPrefixMap;
use underpass::datapath::maps::{FibMaps, PrefixChange};
use underpass::datapath::probe::{Addresses, Flow, udp_frame};
use underpass::datapath::{Datapath, Engine};
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{PORT_INGRESS, PORT_INGRESS6, Port, Target, TargetKind};
use underpass_common::reason::Reason;

use crate::rig::{LEASE, Rig, index, mac};

/// Targets that prefixes lead to. All leave the packet to the kernel: which one it was the probe tells.
const TARGETS: u32 = 40;
/// Views that take turns on the port.
const VIEWS: ViewId = 3;
/// Rounds of edits for an engine, and questions after each.
const ROUNDS: usize = 60;
const QUESTIONS: usize = 50;

/// What the table should hold.
#[derive(Default)]
struct Model(BTreeMap<ViewId, JointPrefixMap<IpNet, TargetId>>);

impl Model {
    fn make(&mut self, ((view, prefix), target): PrefixChange) {
        let prefixes = self.0.entry(view).or_default();
        match target {
            Some(target) => prefixes.insert(prefix, target),
            None => prefixes.remove(&prefix),
        };
    }

    fn lookup(&self, view: ViewId, address: IpAddr) -> Option<TargetId> {
        let prefixes = self.0.get(&view)?;
        prefixes.get_lpm(&IpNet::from(address)).map(|(_, target)| *target)
    }
}

/// A prefix of any length near one of a few addresses, so that they cover each other.
fn prefix(rng: &mut Rng) -> IpNet {
    // Few are so short that nothing is missed any more.
    let shortest = if rng.u8(0..200) == 0 { 0 } else { 9 };
    let flips = |rng: &mut Rng, width: u32| 1u128 << rng.u32(0..width) | 1 << rng.u32(0..width);
    if rng.bool() {
        let base = [0x0ae9_4000u32, 0x0ae9_0000, 0xc633_6400, 0x6440_0001][rng.usize(0..4)];
        let bits = base ^ u32::try_from(flips(rng, 32)).expect("32 bits");
        IpNet::V4(Ipv4Net::new(bits.into(), rng.u8(shortest..=32)).expect("a length").trunc())
    } else {
        let base = [0x2001_0db8_000a_0001u64, 0xfd00_0233_0000_0000][rng.usize(0..2)];
        let bits = u128::from(base) << 64 ^ flips(rng, 128);
        IpNet::V6(Ipv6Net::new(bits.into(), rng.u8(shortest..=128)).expect("a length").trunc())
    }
}

/// Whether the program looks the address up at all.
fn is_asked(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..) && !address.is_link_local(),
        // 2000::/3 and fc00::/7.
        IpAddr::V6(address) => matches!(address.segments()[0] >> 9, 0x10..=0x1f | 0x7e),
    }
}

/// The first and the last address of a prefix and their neighbours outside of it.
fn edges(prefix: IpNet) -> Vec<IpAddr> {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            let all = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            all.map(|bits| IpAddr::V4(Ipv4Addr::from(bits))).to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            let all = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            all.map(|bits| IpAddr::V6(Ipv6Addr::from(bits))).to_vec()
        }
    }
}

struct Asker {
    datapath: Datapath,
    own: [u8; 6],
}

impl Asker {
    fn see(&mut self, view: ViewId) {
        let port = Port {
            ifindex: index("e0"),
            number: 1,
            view,
            flags: PORT_INGRESS | PORT_INGRESS6,
            mac: self.own,
            ..Port::default()
        };
        self.datapath.maps().set_port(port).expect("written");
    }

    /// The target that the program finds.
    fn ask(&mut self, address: IpAddr) -> Option<TargetId> {
        let addresses = match address {
            IpAddr::V4(address) => Addresses::V4([192, 0, 2, 1].into(), address),
            IpAddr::V6(address) => Addresses::V6("2001:db8:1::1".parse().expect("an address"), address),
        };
        let flow = Flow {
            source_mac: [6; 6],
            destination_mac: self.own,
            addresses,
            source_port: 4096,
            destination_port: 9,
        };
        let answer = self.datapath.probe(index("e0"), &udp_frame(&flow)).expect("the probe runs");
        match answer.reason {
            Reason::NoRoute => None,
            Reason::NotAccelerated => Some(answer.target),
            other => panic!("{address}: {other:?}"),
        }
    }
}

fn run(engine: Engine, seed: u64) {
    let Some(rig) = Rig::raise() else { return };
    let own = mac(&rig.router, "e0");
    rig.in_router(|| {
        let mut datapath = rig.load_with(engine);
        datapath.renew_lease(LEASE).expect("renewed");
        datapath.set_enabled(true).expect("written");
        let index = Reason::NotAccelerated as u32;
        let target = Target { kind: TargetKind::Pass as u32, index, ..Target::default() };
        for id in 1..=TARGETS {
            datapath.maps().set_target(id, target).expect("written");
        }
        let mut asker = Asker { datapath, own };
        let (mut model, mut rng) = (Model::default(), Rng::with_seed(seed));
        let mut known: Vec<(ViewId, IpNet)> = Vec::new();
        let mut answers = [0; 2];
        for round in 0..ROUNDS {
            // Single edits, a batch, and a batch that makes the flat table rebuild its views.
            let count = [6, 40, 900][round % 3];
            let mut changes: BTreeMap<(ViewId, IpNet), Option<TargetId>> = BTreeMap::new();
            for _ in 0..count {
                let again = !known.is_empty() && rng.u8(0..10) < 4;
                let key = if again {
                    known[rng.usize(0..known.len())]
                } else {
                    (rng.u32(0..VIEWS), prefix(&mut rng))
                };
                known.push(key);
                changes.insert(key, (rng.u8(0..10) < 7).then(|| rng.u32(1..=TARGETS)));
            }
            let mut changes: Vec<PrefixChange> = changes.into_iter().collect();
            rng.shuffle(&mut changes);
            for change in &changes {
                model.make(*change);
            }
            let maps = asker.datapath.maps();
            if round % 3 == 0 {
                for ((view, prefix), target) in &changes {
                    match target {
                        Some(target) => maps.set_prefix(*view, *prefix, *target),
                        None => maps.delete_prefix(*view, *prefix),
                    }
                    .expect("room");
                }
            } else {
                maps.set_prefixes(&changes).into_iter().for_each(|result| result.expect("room"));
            }
            let view = rng.u32(0..VIEWS);
            asker.see(view);
            let of_view: Vec<_> = changes.iter().filter(|((of, _), _)| *of == view).collect();
            let addresses = (0..).flat_map(|_| {
                let near = of_view.get(rng.usize(0..of_view.len().max(1))).map(|((_, prefix), _)| *prefix);
                edges(near.unwrap_or_else(|| prefix(&mut rng)))
            });
            let asked: Vec<IpAddr> =
                addresses.take(400).filter(|address| is_asked(*address)).take(QUESTIONS).collect();
            for address in asked {
                let expected = model.lookup(view, address);
                answers[usize::from(expected.is_some())] += 1;
                assert_eq!(
                    asker.ask(address),
                    expected,
                    "{engine:?}, round {round}, view {view}, {address}; repeat with UNDERPASS_SEED={seed}"
                );
            }
        }
        assert!(answers.iter().all(|count| *count > 100), "misses and hits: {answers:?}");
    });
}

fn seed() -> u64 {
    let given = std::env::var("UNDERPASS_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| Rng::new().u64(..));
    println!("seed {seed}");
    seed
}

#[test]
fn the_program_finds_what_the_flat_table_was_told() {
    run(Engine::Flat, seed());
}

#[test]
fn the_program_finds_what_the_tries_were_told() {
    run(Engine::LpmTrie, seed());
}
