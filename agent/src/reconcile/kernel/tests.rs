//! The reconciler with a kernel in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::memory::{AddMode, MemoryKernel};
use super::*;

const OURS: Ownership = Ownership { table: 254, protocol: 210, metric: 200 };
const V4: &str = "10.9.0.0/26";
const V6: &str = "fd00:9::/64";

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn selected(next_hops: &[&str]) -> SelectedRoute {
    SelectedRoute { next_hops: next_hops.iter().map(|text| text.parse().unwrap()).collect() }
}

fn route(text: &str, protocol: u8, next_hops: &[&str]) -> OwnRoute {
    let next_hops = selected(next_hops).next_hops;
    OwnRoute { table: 254, protocol, metric: 200, prefix: prefix(text), next_hops: next_hops.into() }
}

/// An agent's loop in small, with a clock that tests move.
struct Lab {
    reconciler: KernelReconciler,
    kernel: MemoryKernel,
    now: Instant,
}

impl Lab {
    fn new() -> Self {
        let connected = vec![(prefix("10.0.0.1/16"), 1), (prefix("fd00::1/64"), 1)];
        let mut reconciler = KernelReconciler::new(OURS);
        reconciler.allow_deletes(&State::default());
        Self { reconciler, kernel: MemoryKernel::new(connected), now: Instant::now() }
    }

    fn want(&mut self, text: &str, next_hops: &[&str]) {
        let route = selected(next_hops);
        let route = (!next_hops.is_empty()).then(|| Arc::new(route));
        self.reconciler.on_desired_changed([(prefix(text), route)]);
    }

    /// One turn: plan and carry out. The number of operations.
    fn write(&mut self) -> usize {
        self.reconciler.tick(self.now);
        let ops = self.reconciler.next_ops(&self.kernel.state(), self.now, usize::MAX);
        let results = futures_util::FutureExt::now_or_never(self.kernel.execute(&ops)).unwrap();
        self.reconciler.on_results(&ops, results, self.now);
        ops.len()
    }

    /// The monitor tells of routes that changed.
    fn read_back(&mut self, prefixes: &[&str]) {
        let prefixes = prefixes.iter().map(|text| prefix(text)).collect();
        let delta = Delta { prefixes, ..Delta::default() };
        self.reconciler.on_kernel_changed(&self.kernel.state(), &delta);
    }

    fn links_changed(&mut self) {
        let delta = Delta { interfaces: [1].into(), ..Delta::default() };
        self.reconciler.on_kernel_changed(&self.kernel.state(), &delta);
    }

    fn status(&self, text: &str) -> String {
        self.reconciler.status(&prefix(text)).map_or_else(|| "none".to_owned(), ToString::to_string)
    }

    fn routes(&self, of: u8) -> Vec<String> {
        let state = self.kernel.state();
        let routes = state.routes.iter().filter(|route| route.protocol == of);
        routes
            .map(|route| {
                let list: Vec<String> =
                    route.next_hops.iter().filter_map(|hop| hop.gateway).map(|g| g.to_string()).collect();
                format!("{} via {}", route.prefix, list.join(" "))
            })
            .collect()
    }
}

#[test]
fn a_route_is_pending_until_it_is_read_back() {
    let mut lab = Lab::new();
    lab.want(V4, &["10.0.0.2"]);
    assert!(lab.reconciler.has_work());
    assert_eq!((lab.write(), lab.status(V4).as_str()), (1, "pending"));
    assert_eq!(lab.reconciler.counts(), StatusCounts { desired: 1, pending: 1, ..StatusCounts::default() });
    lab.read_back(&[V4]);
    assert_eq!((lab.write(), lab.status(V4).as_str()), (0, "synced"));
    assert_eq!(lab.reconciler.counts(), StatusCounts { desired: 1, synced: 1, ..StatusCounts::default() });
    assert_eq!(lab.reconciler.next_deadline(), None);
    lab.want(V4, &[]);
    assert_eq!((lab.write(), lab.status(V4).as_str()), (1, "none"));
    assert_eq!(lab.routes(210), [""; 0]);
}

/// The state lags behind the kernel: it must not be planned from before the last write shows.
#[test]
fn one_operation_per_prefix_is_under_way() {
    let mut lab = Lab::new();
    let before = lab.kernel.state();
    lab.want(V4, &["10.0.0.2"]);
    assert_eq!(lab.write(), 1);
    lab.want(V4, &["10.0.0.3"]);
    assert_eq!(
        lab.reconciler.next_ops(&before, lab.now, usize::MAX),
        [],
        "the first write does not show yet"
    );
    lab.read_back(&[V4]);
    assert_eq!(lab.write(), 1);
    assert_eq!(lab.routes(210), ["10.9.0.0/26 via 10.0.0.3"]);
}

#[test]
fn no_more_operations_than_asked_for_are_handed_out() {
    let mut lab = Lab::new();
    lab.want(V4, &["10.0.0.2"]);
    lab.want("10.9.1.0/26", &["10.0.0.2"]);
    let state = lab.kernel.state();
    let counts: Vec<(usize, bool)> = (0..3)
        .map(|_| (lab.reconciler.next_ops(&state, lab.now, 1).len(), lab.reconciler.has_work()))
        .collect();
    assert_eq!(counts, [(1, true), (1, false), (0, false)]);
}

/// A caller may sit on operations as long as it likes.
#[test]
fn an_operation_without_a_result_is_not_handed_out_again() {
    let mut lab = Lab::new();
    lab.want(V4, &["10.0.0.2"]);
    assert_eq!(lab.reconciler.next_ops(&lab.kernel.state(), lab.now, usize::MAX).len(), 1);
    lab.now += READ_BACK_TIME * 100;
    assert_eq!(lab.reconciler.next_deadline(), None);
    lab.read_back(&[V4]);
    assert_eq!(lab.write(), 0);
}

#[test]
fn nothing_goes_before_deletes_are_allowed() {
    let mut lab = Lab::new();
    lab.reconciler = KernelReconciler::new(OURS);
    for text in [V4, "10.9.1.0/26"] {
        lab.kernel.add(&route(text, 210, &["10.0.0.2"]), AddMode::Exclusive).unwrap();
    }
    lab.want("10.9.1.0/26", &["10.0.0.3"]);
    lab.reconciler.on_kernel_changed(&lab.kernel.state(), &Delta::full());
    assert_eq!(lab.write(), 1, "another way for what is wanted");
    assert_eq!(lab.routes(210), ["10.9.0.0/26 via 10.0.0.2", "10.9.1.0/26 via 10.0.0.3"]);
    lab.reconciler.allow_deletes(&lab.kernel.state());
    lab.write();
    assert_eq!(lab.routes(210), ["10.9.1.0/26 via 10.0.0.3"]);
}

/// While a peer is not heard out, what this run has learned and lost goes; what was there before it stays.
#[test]
fn what_this_run_put_there_goes_before_deletes_are_allowed() {
    let mut lab = Lab::new();
    lab.reconciler = KernelReconciler::new(OURS);
    lab.kernel.add(&route("10.9.1.0/26", 210, &["10.0.0.2"]), AddMode::Exclusive).unwrap();
    lab.reconciler.on_kernel_changed(&lab.kernel.state(), &Delta::full());
    for text in [V4, V6] {
        lab.want(text, &[if text == V4 { "10.0.0.2" } else { "fd00::2" }]);
    }
    assert_eq!(lab.write(), 2);
    lab.read_back(&[V4, V6]);
    assert_eq!(lab.write(), 0);
    for text in [V4, V6] {
        lab.want(text, &[]);
    }
    assert_eq!(lab.write(), 2, "withdrawn");
    lab.read_back(&[V4, V6]);
    lab.write();
    assert_eq!(lab.routes(210), ["10.9.1.0/26 via 10.0.0.2"]);
}

/// Peers tell what they know one after the other.
#[test]
fn leftovers_lose_no_next_hop_before_deletes_are_allowed() {
    let all = ["2", "3", "4"];
    for (text, network) in [(V4, "10.0.0."), (V6, "fd00::")] {
        let hops = |of: &[&str]| of.iter().map(|host| format!("{network}{host}")).collect::<Vec<_>>();
        let want = |lab: &mut Lab, of: &[&str]| {
            lab.want(text, &hops(of).iter().map(String::as_str).collect::<Vec<_>>());
            let ops = lab.write();
            lab.read_back(&[text]);
            ops + lab.write()
        };
        let shown = |of: &[&str]| vec![format!("{text} via {}", hops(of).join(" "))];
        let restarted = || {
            let mut lab = Lab::new();
            lab.reconciler = KernelReconciler::new(OURS);
            let left = hops(&all);
            let left = route(text, 210, &left.iter().map(String::as_str).collect::<Vec<_>>());
            lab.kernel.add(&left, AddMode::Exclusive).unwrap();
            lab.reconciler.on_kernel_changed(&lab.kernel.state(), &Delta::full());
            lab
        };

        let mut lab = restarted();
        for of in [&all[..1], &all[1..], &all[..]] {
            assert_eq!(want(&mut lab, of), 0, "{of:?}");
        }
        assert_eq!((lab.status(text).as_str(), lab.routes(210)), ("synced", shown(&all)));
        assert_eq!(want(&mut lab, &all[..2]), 1, "the route was whole: this is a change");
        assert_eq!(lab.routes(210), shown(&all[..2]));

        let mut lab = restarted();
        assert_eq!(want(&mut lab, &all[..1]), 0);
        assert_eq!(lab.status(text), "pending");
        lab.reconciler.allow_deletes(&lab.kernel.state());
        assert_eq!((lab.write(), lab.routes(210)), (1, shown(&all[..1])), "nobody announced the others");

        let mut lab = restarted();
        assert_eq!(want(&mut lab, &["3", "9"]), 1, "a new next hop is no matter of patience");
        assert_eq!(lab.routes(210), shown(&["3", "9"]));
    }
}

#[test]
fn a_refused_route_is_tried_again_with_growing_pauses_or_when_links_change() {
    let mut lab = Lab::new();
    lab.want(V4, &["10.77.0.2"]);
    assert_eq!(lab.write(), 1);
    assert_eq!(lab.status(V4), "error: Network is unreachable (a next hop is not on-link)");
    assert_eq!(lab.reconciler.counts().errors, 1);
    for pause in [250, 500, 1000] {
        let pause = Duration::from_millis(pause);
        assert_eq!(lab.reconciler.next_deadline(), Some(lab.now + pause));
        lab.now += pause / 2;
        assert_eq!(lab.write(), 0, "not yet");
        lab.now += pause / 2;
        assert_eq!(lab.write(), 1);
    }
    lab.kernel.connected.push((prefix("10.77.0.1/24"), 2));
    lab.links_changed();
    assert_eq!(lab.write(), 1);
    lab.read_back(&[V4]);
    assert_eq!((lab.write(), lab.status(V4).as_str()), (0, "synced"));
    assert_eq!(lab.reconciler.next_deadline(), None);
}

#[test]
fn a_next_hop_without_link_is_left_out_until_it_has_one() {
    let mut lab = Lab::new();
    lab.want(V4, &["10.0.0.2", "10.77.0.2"]);
    lab.write();
    lab.read_back(&[V4]);
    assert_eq!(lab.write(), 0);
    assert_eq!(lab.status(V4), "error: left out next hops that are not on-link: 10.77.0.2");
    assert_eq!(lab.routes(210), ["10.9.0.0/26 via 10.0.0.2"]);
    assert!(lab.reconciler.next_deadline().is_some());
    lab.kernel.connected.push((prefix("10.77.0.1/24"), 2));
    lab.links_changed();
    assert_eq!(lab.write(), 1);
    lab.read_back(&[V4]);
    assert_eq!((lab.write(), lab.status(V4).as_str()), (0, "synced"));
    assert_eq!(lab.reconciler.repairs(), 0, "nobody meddled");
}

#[test]
fn what_somebody_deleted_is_put_right() {
    let mut lab = Lab::new();
    lab.want(V4, &["10.0.0.2"]);
    lab.write();
    lab.read_back(&[V4]);
    lab.write();
    let state = lab.kernel.state();
    lab.kernel.delete(&state.routes.iter().next().unwrap());
    lab.read_back(&[V4]);
    assert_eq!(lab.write(), 1);
    assert_eq!(lab.status(V4), "pending");
    assert_eq!((lab.routes(210).len(), lab.reconciler.repairs()), (1, 1));
}

#[test]
fn a_foreign_route_keeps_ours_out_until_it_goes() {
    let mut lab = Lab::new();
    lab.kernel.add(&route(V4, 12, &["10.0.0.99"]), AddMode::Exclusive).unwrap();
    lab.want(V4, &["10.0.0.2"]);
    assert_eq!(lab.write(), 0);
    assert_eq!(
        lab.status(V4),
        "error: a route of protocol 12 with the same metric 200 in table 254 is in the way, set \
         kernel.metric to another value"
    );
    let state = lab.kernel.state();
    lab.kernel.delete(&state.routes.iter().next().unwrap());
    lab.read_back(&[V4]);
    assert_eq!(lab.write(), 1);
    assert_eq!(lab.routes(210), ["10.9.0.0/26 via 10.0.0.2"]);
}

#[test]
fn a_foreign_next_hop_under_our_ipv6_key_makes_us_give_way() {
    let mut lab = Lab::new();
    lab.want(V6, &["fd00::2"]);
    lab.write();
    lab.read_back(&[V6]);
    lab.write();
    lab.kernel.add(&route(V6, 12, &["fd00::99"]), AddMode::Append).unwrap();
    for _ in 0..4 {
        lab.read_back(&[V6]);
        lab.write();
        lab.now += READ_BACK_TIME;
    }
    assert_eq!((lab.routes(210), lab.routes(12)), (vec![], vec!["fd00:9::/64 via fd00::99".to_owned()]));
    assert!(lab.status(V6).contains("protocol 12"), "{}", lab.status(V6));
    let executed = lab.kernel.executed.len();
    lab.now += Duration::from_mins(10);
    assert_eq!((lab.write(), lab.kernel.executed.len()), (0, executed), "at rest");
}

/// As before, but our next hops have changed meanwhile: the foreign one is first now, and the kernel
/// shows ours as part of a foreign route.
#[test]
fn next_hops_of_ours_behind_a_foreign_one_are_found() {
    for (name, next_hops) in [("changed", vec!["fd00::3"]), ("withdrawn after a change", vec![])] {
        let mut lab = Lab::new();
        lab.want(V6, &["fd00::2"]);
        lab.write();
        lab.read_back(&[V6]);
        lab.write();
        lab.kernel.add(&route(V6, 12, &["fd00::99"]), AddMode::Append).unwrap();
        lab.want(V6, &["fd00::3"]);
        lab.write();
        assert_eq!(lab.kernel.all_next_hops(prefix(V6), 210), ["fd00::3".parse::<IpAddr>().unwrap()]);
        assert_eq!(lab.routes(12), ["fd00:9::/64 via fd00::99 fd00::3"], "what the kernel shows");
        lab.want(V6, &next_hops);
        for _ in 0..4 {
            lab.read_back(&[V6]);
            lab.write();
            lab.now += READ_BACK_TIME;
        }
        assert_eq!(lab.routes(12), ["fd00:9::/64 via fd00::99"], "{name}");
        assert!(lab.kernel.all_next_hops(prefix(V6), 210).is_empty(), "{name}");
    }
}

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
