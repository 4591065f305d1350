//! The reconciler with a kernel in memory.

mod property;

use std::net::IpAddr;

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

/// A large table does not run ahead of what is known of the kernel, and what is there is not written again.
#[test]
fn no_more_is_written_than_is_read_back_in_time() {
    let mut lab = Lab::new();
    let prefixes: Vec<String> =
        (0..10_000).map(|n| format!("10.{}.{}.0/24", 100 + n / 256, n % 256)).collect();
    for text in &prefixes {
        lab.want(text, &["10.0.0.2"]);
    }
    assert_eq!(lab.write(), MOST_AWAITED);
    assert!(!lab.reconciler.has_work());
    assert_eq!(lab.write(), 0, "nothing was read back");
    let names: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    lab.read_back(&names[..1000]);
    assert!(lab.reconciler.has_work());
    assert_eq!(lab.write(), 1000);
    lab.read_back(&names);
    assert_eq!(lab.write(), 10_000 - MOST_AWAITED - 1000);
    lab.read_back(&names);
    assert_eq!((lab.write(), lab.reconciler.counts().synced), (0, 10_000));
    assert_eq!(lab.reconciler.awaited, 0);
}

/// The kernel tells of a route before the writer tells that it took it: what comes late is about another operation.
#[test]
fn a_late_result_is_not_that_of_the_next_operation() {
    let mut lab = Lab::new();
    let text = "10.9.0.0/26";
    lab.want(text, &["10.0.0.2"]);
    let first = lab.reconciler.next_ops(&lab.kernel.state(), lab.now, usize::MAX);
    let results = futures_util::FutureExt::now_or_never(lab.kernel.execute(&first)).unwrap();
    lab.want(text, &["10.0.0.3"]);
    lab.read_back(&[text]);
    let second = lab.reconciler.next_ops(&lab.kernel.state(), lab.now, usize::MAX);
    assert_eq!([first[0].label(), second[0].label()], ["add", "replace"]);
    let refusal = RouteError::new(prefix(text), libc::EEXIST, None);
    for late in [results, vec![Err(refusal)]] {
        lab.reconciler.on_results(&first, late, lab.now);
        assert_eq!(lab.reconciler.status(&prefix(text)), Some(&RouteStatus::Pending));
        assert_eq!(lab.reconciler.next_deadline(), None, "the clock of the second has not begun");
        assert_eq!(lab.write(), 0, "it is under way");
    }
    let results = futures_util::FutureExt::now_or_never(lab.kernel.execute(&second)).unwrap();
    lab.reconciler.on_results(&second, results, lab.now);
    assert_eq!(lab.reconciler.next_deadline(), Some(lab.now + READ_BACK_TIME));
    lab.read_back(&[text]);
    assert_eq!((lab.write(), lab.status(text).as_str()), (0, "synced"));
}
