//! Routes of our own in a real kernel: written by rtnetlink, read back by `ip`.

#[path = "kernel_target/followed.rs"]
mod followed;
#[path = "kernel_target/gap.rs"]
mod gap;
#[path = "kernel_target/network.rs"]
mod network;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use network::{in_network, ip, read_back};
use underpass::netlink::model::{Delta, State};
use underpass::netlink::route_writer::RouteWriter;
use underpass::reconcile::kernel::plan::{self, plan};
use underpass::reconcile::kernel::{KernelReconciler, Op, Ownership, RouteError, RouteTarget as _};
use underpass::rib::model::SelectedRoute;

const TABLE: u32 = 254;
const OURS: Ownership = Ownership { table: TABLE, protocol: 210, metric: 200 };
const V4: &str = "10.9.0.0/26";
const V6: &str = "fd00:9::/64";

type Desired = BTreeMap<IpNet, SelectedRoute>;

fn route(next_hops: &[&str]) -> SelectedRoute {
    SelectedRoute { next_hops: next_hops.iter().map(|text| text.parse().unwrap()).collect() }
}

fn desired(list: &[(&str, &[&str])]) -> Desired {
    list.iter().map(|(prefix, next_hops)| (prefix.parse().unwrap(), route(next_hops))).collect()
}

/// Plans from what `ip` shows, carries it out and expects nothing to be left to do.
async fn apply(writer: &mut RouteWriter, wanted: &Desired) -> Vec<Op> {
    let ops = plan(wanted, &read_back(TABLE), OURS, true);
    for (op, result) in ops.iter().zip(writer.execute(&ops).await) {
        result.unwrap_or_else(|error| panic!("{op:?}: {error}"));
    }
    assert_eq!(plan(wanted, &read_back(TABLE), OURS, true), [], "read back as wanted");
    ops
}

/// Our routes as `prefix via gateways`, from `ip`.
fn ours() -> Vec<String> {
    described(&read_back(TABLE), |protocol| protocol == OURS.protocol)
}

/// Everybody else's but the kernel's own.
fn foreign() -> Vec<String> {
    described(&read_back(TABLE), |protocol| protocol != OURS.protocol && protocol != 2)
}

fn described(state: &State, of: impl Fn(u8) -> bool) -> Vec<String> {
    let routes = state.routes.iter().filter(|route| of(route.protocol));
    routes
        .map(|route| {
            let mut gateways: Vec<IpAddr> = route.next_hops.iter().filter_map(|hop| hop.gateway).collect();
            gateways.sort();
            let gateways: Vec<String> = gateways.iter().map(ToString::to_string).collect();
            format!(
                "{} via {} proto {} metric {}",
                route.prefix,
                gateways.join(" "),
                route.protocol,
                route.metric
            )
        })
        .collect()
}

#[test]
fn add_replace_delete() {
    in_network(async || {
        let mut writer = RouteWriter::new().unwrap();
        let steps: [(&[&str], &[&str]); 7] = [
            (&["10.0.0.2"], &["fd00::2"]),
            (&["10.0.0.2", "10.0.0.3", "10.0.0.4"], &["fd00::2", "fd00::3", "fd00::4"]),
            (&["10.0.0.3", "10.0.0.5"], &["fd00::3", "fd00::5"]),
            (&["10.0.0.3"], &["fd00::3"]),
            (&["10.0.0.3", "10.0.0.6"], &["fd00::3", "fd00::6"]),
            (&["10.0.0.7"], &["fd00::7"]),
            (&["10.0.0.8", "10.0.0.9"], &["fd00::8", "fd00::9"]),
        ];
        for (v4, v6) in steps {
            apply(&mut writer, &desired(&[(V4, v4), (V6, v6)])).await;
            let expected = [
                format!("{V4} via {} proto 210 metric 200", v4.join(" ")),
                format!("{V6} via {} proto 210 metric 200", v6.join(" ")),
            ];
            assert_eq!(ours(), expected);
        }
        assert_eq!(apply(&mut writer, &desired(&[])).await.len(), 2);
        assert_eq!(ours(), [""; 0]);
    });
}

#[test]
fn a_table_of_its_own() {
    in_network(async || {
        let ownership = Ownership { table: 1000, ..OURS };
        let wanted = desired(&[(V4, &["10.0.0.2", "10.0.0.3"]), (V6, &["fd00::2"])]);
        let mut writer = RouteWriter::new().unwrap();
        for want in [&wanted, &desired(&[])] {
            let ops = plan(want, &read_back(1000), ownership, true);
            assert_eq!(ops.len(), 2);
            assert!(writer.execute(&ops).await.iter().all(Result::is_ok));
            assert_eq!(plan(want, &read_back(1000), ownership, true), []);
            assert_eq!(ours(), [""; 0], "table main is left alone");
        }
    });
}

#[test]
fn foreign_routes_are_never_touched() {
    in_network(async || {
        ip("route add 10.9.0.0/26 via 10.0.0.99 proto bird metric 50
            route add 10.9.0.0/26 via 10.0.0.98 proto static metric 300
            route add 10.9.1.0/26 via 10.0.0.97 proto bird metric 200
            -6 route add fd00:9::/64 via fd00::99 proto bird metric 50
            -6 route add fd00:9:1::/64 via fd00::97 proto bird metric 200");
        let before = foreign();
        let mut writer = RouteWriter::new().unwrap();
        let blocked: [(&str, &[&str]); 2] = [("10.9.1.0/26", &["10.0.0.2"]), ("fd00:9:1::/64", &["fd00::2"])];
        for (v4, v6) in [("10.0.0.2", "fd00::2"), ("10.0.0.3", "fd00::3")] {
            let mut wanted = desired(&blocked);
            wanted.extend(desired(&[(V4, &[v4]), (V6, &[v6])]));
            apply(&mut writer, &wanted).await;
            let expected = [
                format!("{V4} via {v4} proto 210 metric 200"),
                format!("{V6} via {v6} proto 210 metric 200"),
            ];
            assert_eq!(ours(), expected);
            assert_eq!(foreign(), before);
        }
        // Somebody puts a route with our very key in front of ours.
        ip("route prepend 10.9.0.0/26 via 10.0.0.96 proto static metric 200");
        let before = foreign();
        apply(&mut writer, &desired(&[(V4, &["10.0.0.4", "10.0.0.5"]), (V6, &["fd00::4"])])).await;
        assert_eq!(foreign(), before);
        let found = plan::plan_prefix(
            V4.parse().unwrap(),
            Some(&route(&["10.0.0.4", "10.0.0.5"])),
            &read_back(TABLE),
            OURS,
            true,
        );
        assert_eq!(found.blocked.unwrap().protocol, 4, "who is in front is named");

        let ops = plan::flush(&read_back(TABLE), OURS);
        assert!(writer.execute(&ops).await.iter().all(Result::is_ok));
        assert_eq!(ours(), [""; 0]);
        assert_eq!(foreign(), before, "flush takes only ours");
    });
}

/// Two programs race for a key: what was planned when it was free finds it taken.
#[test]
fn a_key_that_was_taken_meanwhile() {
    in_network(async || {
        let wanted = desired(&[(V4, &["10.0.0.2"]), (V6, &["fd00::2", "fd00::3"])]);
        let ops = plan(&wanted, &read_back(TABLE), OURS, true);
        ip("route add 10.9.0.0/26 via 10.0.0.99 proto bird metric 200
            -6 route add fd00:9::/64 via fd00::99 proto bird metric 200");
        let before = foreign();
        let results = RouteWriter::new().unwrap().execute(&ops).await;
        for result in results {
            assert_eq!(result.unwrap_err().errno, nix::errno::Errno::EEXIST as i32);
        }
        assert_eq!((ours(), foreign()), (vec![], before));
    });
}

/// The reconciler with the real kernel, read back by `ip` after every step; its clock is moved by hand.
struct Agent {
    reconciler: KernelReconciler,
    writer: RouteWriter,
    now: Instant,
}

impl Agent {
    fn new() -> Self {
        let mut reconciler = KernelReconciler::new(OURS);
        reconciler.allow_deletes(&read_back(TABLE));
        Self { reconciler, writer: RouteWriter::new().unwrap(), now: Instant::now() }
    }

    fn want(&mut self, wanted: &Desired) {
        let changes = wanted.iter().map(|(prefix, route)| (*prefix, Some(Arc::new(route.clone()))));
        self.reconciler.on_desired_changed(changes);
    }

    /// After anything may have happened, works until nothing is left to do without waiting.
    async fn settle(&mut self) {
        let mut delta = Delta::full();
        for _ in 0..10 {
            let state = read_back(TABLE);
            self.reconciler.on_kernel_changed(&state, &delta);
            self.reconciler.tick(self.now);
            let ops = self.reconciler.next_ops(&state, self.now, usize::MAX);
            if ops.is_empty() {
                return;
            }
            let results = self.writer.execute(&ops).await;
            self.reconciler.on_results(&ops, results, self.now);
            delta = Delta { prefixes: ops.iter().map(Op::prefix).collect(), ..Delta::default() };
        }
        panic!("does not come to rest: {:?}", self.reconciler);
    }

    fn status(&self, prefix: &str) -> String {
        self.reconciler.status(&prefix.parse().unwrap()).unwrap().to_string()
    }
}

#[test]
fn what_others_delete_or_change_is_put_right() {
    in_network(async || {
        let mut agent = Agent::new();
        agent.want(&desired(&[(V4, &["10.0.0.2", "10.0.0.3"]), (V6, &["fd00::2", "fd00::3"])]));
        agent.settle().await;
        let settled = ours();
        assert_eq!((agent.status(V4), agent.status(V6)), ("synced".into(), "synced".into()));
        for damage in [
            "route delete 10.9.0.0/26 proto 210",
            "route replace 10.9.0.0/26 via 10.0.0.66 proto 210 metric 200",
            "-6 route delete fd00:9::/64 proto 210",
            "-6 route delete fd00:9::/64 via fd00::2 proto 210",
            "-6 route replace fd00:9::/64 via fd00::66 proto 210 metric 200",
            "route add 10.9.7.0/26 via 10.0.0.2 proto 210 metric 7",
        ] {
            ip(damage);
            assert_ne!(ours(), settled, "{damage}");
            agent.settle().await;
            assert_eq!(ours(), settled, "{damage}");
        }
        assert_eq!(agent.reconciler.repairs(), 5);
    });
}

/// A foreign next hop under our IPv6 key becomes part of our route for the kernel, and ours part of
/// theirs once they are first.
#[test]
fn an_ipv6_key_that_somebody_joins_is_given_up() {
    in_network(async || {
        for changes_meanwhile in [false, true] {
            let mut agent = Agent::new();
            agent.want(&desired(&[(V6, &["fd00::2", "fd00::3"])]));
            agent.settle().await;
            ip("-6 route append fd00:9::/64 via fd00::99 proto bird metric 200");
            if changes_meanwhile {
                agent.want(&desired(&[(V6, &["fd00::4"])]));
            }
            for _ in 0..4 {
                agent.settle().await;
                agent.now += Duration::from_secs(2);
            }
            assert_eq!(foreign(), ["fd00:9::/64 via fd00::99 proto 12 metric 200"]);
            assert_eq!(ours(), [""; 0]);
            assert!(agent.status(V6).contains("protocol 12"), "{}", agent.status(V6));
            ip("-6 route delete fd00:9::/64 via fd00::99 proto bird metric 200");
            agent.settle().await;
            let expected = if changes_meanwhile { "fd00::4" } else { "fd00::2 fd00::3" };
            assert_eq!(ours(), [format!("fd00:9::/64 via {expected} proto 210 metric 200")]);
        }
    });
}

#[test]
fn a_next_hop_that_is_not_on_link_is_tried_again() {
    in_network(async || {
        let mut agent = Agent::new();
        agent.want(&desired(&[(V4, &["10.77.0.2"]), (V6, &["fd77::2"])]));
        agent.settle().await;
        for prefix in [V4, V6] {
            assert!(agent.status(prefix).starts_with("error: "), "{}", agent.status(prefix));
            assert!(
                agent.status(prefix).ends_with("(a next hop is not on-link)"),
                "{}",
                agent.status(prefix)
            );
        }
        assert!(agent.status(V4).contains("Nexthop has invalid gateway"), "{}", agent.status(V4));
        ip("address add 10.77.0.1/24 dev uplink
            address add fd77::1/64 dev uplink nodad");
        agent.settle().await;
        assert_eq!((agent.status(V4), agent.status(V6)), ("synced".into(), "synced".into()));
        assert_eq!(ours().len(), 2);
    });
}

/// Setting a link down takes IPv4 routes without a notification, IPv6 ones with one.
#[test]
fn a_link_that_goes_down_and_comes_back() {
    in_network(async || {
        let mut agent = Agent::new();
        agent.want(&desired(&[(V4, &["10.0.0.2", "10.0.0.3"]), (V6, &["fd00::2", "fd00::3"])]));
        agent.settle().await;
        let settled = ours();
        ip("link set uplink down");
        agent.settle().await;
        assert_eq!(ours(), [""; 0]);
        assert!(agent.status(V4).starts_with("error: "), "{}", agent.status(V4));
        ip("link set uplink up
            address replace fd00::1/64 dev uplink nodad");
        agent.settle().await;
        assert_eq!(ours(), settled);
    });
}

/// Times are printed, not judged.
#[test]
fn ten_thousand_routes() {
    in_network(async || {
        let set = |next_hops: &[&str]| -> Desired {
            (0..10_000_u32)
                .map(|number| {
                    let address = Ipv4Addr::from(0x0b00_0000 + number * 64);
                    (IpNet::new(address.into(), 26).unwrap(), route(next_hops))
                })
                .collect()
        };
        let mut writer = RouteWriter::new().unwrap();
        for (what, wanted) in [
            ("add", set(&["10.0.0.2"])),
            ("replace", set(&["10.0.0.2", "10.0.0.3"])),
            ("delete", Desired::new()),
        ] {
            let state = read_back(TABLE);
            let started = Instant::now();
            let ops = plan(&wanted, &state, OURS, true);
            let planned = started.elapsed();
            let started = Instant::now();
            let results: Vec<Result<(), RouteError>> = writer.execute(&ops).await;
            println!("{what} 10,000 routes: planned in {planned:?}, written in {:?}", started.elapsed());
            assert_eq!((ops.len(), results.iter().filter(|result| result.is_ok()).count()), (10_000, 10_000));
            assert_eq!(plan(&wanted, &read_back(TABLE), OURS, true), []);
        }
    });
}
