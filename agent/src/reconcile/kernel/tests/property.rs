//! Any order of events ends with what is wanted.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Changes of what is wanted and meddling by others, in any order and with read-backs at any time.
#[derive(Clone, Debug)]
enum Step {
    Want(usize, Vec<u8>),
    Foreign(usize, u8),
    ForeignGoes(usize),
    Meddle(usize),
    Write,
    ReadBack(usize),
    Wait(u64),
}

const PREFIXES: [&str; 3] = ["10.9.0.0/26", "10.9.1.0/26", "fd00:9::/64"];

fn step() -> impl Strategy<Value = Step> {
    let any_prefix = || 0..PREFIXES.len();
    prop_oneof![
        4 => (any_prefix(), prop::collection::btree_set(2..6_u8, 0..4))
            .prop_map(|(of, hops)| Step::Want(of, hops.into_iter().collect())),
        1 => (any_prefix(), 90..92_u8).prop_map(|(of, hop)| Step::Foreign(of, hop)),
        1 => any_prefix().prop_map(Step::ForeignGoes),
        1 => any_prefix().prop_map(Step::Meddle),
        4 => Just(Step::Write),
        3 => any_prefix().prop_map(Step::ReadBack),
        1 => prop::sample::select(vec![10, 500, 1000, 70_000]).prop_map(Step::Wait),
    ]
}

fn gateways(of: usize, hops: &[u8]) -> Vec<String> {
    let family = if PREFIXES[of].contains(':') { "fd00::" } else { "10.0.0." };
    hops.iter().map(|hop| format!("{family}{hop}")).collect()
}

fn all_of(kernel: &MemoryKernel, prefix: IpNet, protocol: u8) -> Vec<crate::netlink::model::Route> {
    let state = kernel.state();
    state.routes.to(254, prefix).filter(|route| route.protocol == protocol).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn comes_to_rest_with_what_is_wanted(steps in prop::collection::vec(step(), 1..40)) {
        let mut lab = Lab::new();
        let mut wanted: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut foreign: BTreeMap<usize, String> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Want(of, hops) => {
                    let hops = gateways(of, &hops);
                    lab.want(PREFIXES[of], &hops.iter().map(String::as_str).collect::<Vec<_>>());
                    wanted.insert(of, hops);
                }
                Step::Foreign(of, hop) => {
                    let hop = gateways(of, &[hop]).remove(0);
                    let new = route(PREFIXES[of], 12, &[&hop]);
                    if !foreign.contains_key(&of) && lab.kernel.add(&new, AddMode::Append).is_ok() {
                        foreign.insert(of, hop);
                    }
                }
                Step::ForeignGoes(of) => {
                    if let Some(hop) = foreign.remove(&of) {
                        let mut scratch = MemoryKernel::new(lab.kernel.connected.clone());
                        scratch.add(&route(PREFIXES[of], 12, &[&hop]), AddMode::Append).unwrap();
                        lab.kernel.delete(&scratch.state().routes.iter().next().unwrap());
                    }
                }
                Step::Meddle(of) => {
                    if let Some(ours) = all_of(&lab.kernel, prefix(PREFIXES[of]), 210).first() {
                        lab.kernel.delete(ours);
                    }
                }
                Step::Write => { lab.write(); }
                Step::ReadBack(of) => lab.read_back(&[PREFIXES[of]]),
                Step::Wait(milliseconds) => lab.now += Duration::from_millis(milliseconds),
            }
            // Never touched, whatever we do.
            for (of, hop) in &foreign {
                let list = lab.kernel.all_next_hops(prefix(PREFIXES[*of]), 12);
                prop_assert_eq!(&list, &[hop.parse::<IpAddr>().unwrap()], "{}", PREFIXES[*of]);
            }
        }
        for _ in 0..8 {
            lab.read_back(&PREFIXES);
            lab.write();
            lab.now += Duration::from_mins(2);
        }
        for (of, text) in PREFIXES.iter().enumerate() {
            let mut ours = lab.kernel.all_next_hops(prefix(text), 210);
            ours.sort();
            let hops = wanted.get(&of).cloned().unwrap_or_default();
            let hops: Vec<IpAddr> = hops.iter().map(|hop| hop.parse().unwrap()).collect();
            let status = lab.status(text);
            if hops.is_empty() {
                prop_assert_eq!(&ours, &hops, "{} is not wanted", text);
            } else if foreign.contains_key(&of) {
                prop_assert!(ours.is_empty() || ours == hops, "{text}: {ours:?} beside a foreign route");
                prop_assert!(status == "synced" || status.contains("protocol 12"), "{text}: {status}");
            } else {
                prop_assert_eq!(&ours, &hops, "{}", text);
                prop_assert_eq!(status, "synced", "{}", text);
            }
        }
        let at_rest = lab.kernel.executed.len();
        lab.read_back(&PREFIXES);
        lab.write();
        prop_assert_eq!(lab.kernel.executed.len(), at_rest, "at rest");
    }
}
