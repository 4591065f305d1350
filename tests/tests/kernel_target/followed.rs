//! Reconciler, writer and monitor together, as the agent runs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use underpass::netlink::model::Delta;
use underpass::netlink::monitor::Monitor;
use underpass::netlink::route_writer::RouteWriter;
use underpass::reconcile::kernel::{KernelReconciler, RouteTarget as _};

use super::network::{in_network, ip};
use super::{Desired, OURS, V4, V6, desired, foreign, ours};

/// Longest time for anything to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent's loop without sessions.
struct Agent {
    monitor: Monitor,
    reconciler: KernelReconciler,
    writer: RouteWriter,
    written: usize,
}

impl Agent {
    fn start() -> Self {
        let monitor = Monitor::start().unwrap();
        let mut reconciler = KernelReconciler::new(OURS);
        reconciler.on_kernel_changed(monitor.state(), &Delta::full());
        reconciler.allow_deletes(monitor.state());
        Self { monitor, reconciler, writer: RouteWriter::new().unwrap(), written: 0 }
    }

    fn want(&mut self, wanted: &Desired) {
        self.reconciler.on_desired_changed(
            wanted.iter().map(|(prefix, route)| (*prefix, Some(Arc::new(route.clone())))),
        );
    }

    /// Runs until `done` says so.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let now = Instant::now();
            self.reconciler.tick(now);
            let ops = self.reconciler.next_ops(self.monitor.state(), now, usize::MAX);
            if !ops.is_empty() {
                let results = self.writer.execute(&ops).await;
                self.reconciler.on_results(&ops, results, Instant::now());
                self.written += ops.len();
            }
            if done(self) {
                return;
            }
            assert!(Instant::now() < give_up, "{what}: {:?}, {:?}", self.reconciler, ours());
            // What `done` looks at may not be announced: look again now and then.
            let soon = Instant::now() + Duration::from_millis(50);
            let wake = self.reconciler.next_deadline().map_or(soon, |deadline| deadline.min(soon));
            if let Ok(delta) = tokio::time::timeout_at(wake.into(), self.monitor.next()).await {
                self.reconciler.on_kernel_changed(self.monitor.state(), &delta.unwrap());
            }
        }
    }

    async fn until_synced(&mut self, what: &str) {
        self.until(what, |agent| {
            let counts = agent.reconciler.counts();
            counts.synced == counts.desired && !agent.reconciler.has_work()
        })
        .await;
    }

    fn status(&self, prefix: &str) -> String {
        self.reconciler.status(&prefix.parse().unwrap()).unwrap().to_string()
    }
}

fn both(v4: &str, v6: &str) -> Vec<String> {
    vec![format!("{V4} via {v4} proto 210 metric 200"), format!("{V6} via {v6} proto 210 metric 200")]
}

#[test]
fn every_change_is_read_back_and_written_once() {
    in_network(async || {
        let mut agent = Agent::start();
        let steps: [(&[&str], &[&str]); 6] = [
            (&["10.0.0.2"], &["fd00::2"]),
            (&["10.0.0.2", "10.0.0.3"], &["fd00::2", "fd00::3"]),
            (&["10.0.0.3", "10.0.0.4"], &["fd00::3", "fd00::4"]),
            (&["10.0.0.5", "10.0.0.6"], &["fd00::5", "fd00::6"]),
            (&["10.0.0.6"], &["fd00::6"]),
            (&["10.0.0.7"], &["fd00::7"]),
        ];
        for (number, (v4, v6)) in steps.iter().enumerate() {
            agent.want(&desired(&[(V4, v4), (V6, v6)]));
            agent.until_synced("synced").await;
            assert_eq!(ours(), both(&v4.join(" "), &v6.join(" ")));
            assert_eq!(agent.written, 2 * (number + 1), "one operation per change");
        }
        assert_eq!(agent.reconciler.repairs(), 0, "our own changes are nobody else's");
    });
}

#[test]
fn damage_is_noticed_and_repaired() {
    in_network(async || {
        let mut agent = Agent::start();
        agent.want(&desired(&[(V4, &["10.0.0.2", "10.0.0.3"]), (V6, &["fd00::2", "fd00::3"])]));
        agent.until_synced("synced").await;
        let whole = both("10.0.0.2 10.0.0.3", "fd00::2 fd00::3");
        for damage in [
            "route delete 10.9.0.0/26 proto 210",
            "route replace 10.9.0.0/26 via 10.0.0.66 proto 210 metric 200",
            "-6 route delete fd00:9::/64 proto 210",
            "-6 route delete fd00:9::/64 via fd00::2 proto 210",
            "-6 route append fd00:9::/64 via fd00::66 proto 210 metric 200",
            "-6 route replace fd00:9::/64 via fd00::66 proto 210 metric 200",
            "route add 10.9.7.0/26 via 10.0.0.2 proto 210 metric 7",
        ] {
            ip(damage);
            agent.until(damage, |_| ours() == whole).await;
            agent.until_synced(damage).await;
        }
        ip("link set uplink down");
        agent.until("down", |agent| ours().is_empty() && agent.status(V4).starts_with("error")).await;
        ip("link set uplink up
            address replace fd00::1/64 dev uplink nodad");
        agent.until("up again", |_| ours() == whole).await;
        agent.until_synced("up again").await;
    });
}

#[test]
fn a_foreign_route_in_the_way_is_named_until_it_goes() {
    in_network(async || {
        let mut agent = Agent::start();
        agent.want(&desired(&[(V4, &["10.0.0.2"]), (V6, &["fd00::2", "fd00::3"])]));
        agent.until_synced("synced").await;
        ip("-6 route append fd00:9::/64 via fd00::99 proto bird metric 200
            route delete 10.9.0.0/26 proto 210
            route prepend 10.9.0.0/26 via 10.0.0.99 proto bird metric 200");
        let theirs = foreign();
        agent
            .until("given up", |agent| {
                let blocked = [V4, V6].iter().all(|prefix| agent.status(prefix).contains("protocol 12"));
                blocked && !ours().iter().any(|route| route.starts_with(V6))
            })
            .await;
        assert_eq!(foreign()[0], theirs[0]);
        assert_eq!(foreign()[1], "fd00:9::/64 via fd00::99 proto 12 metric 200");
        ip("-6 route delete fd00:9::/64 proto bird
            route delete 10.9.0.0/26 proto bird");
        agent.until_synced("free again").await;
        assert_eq!(ours(), both("10.0.0.2", "fd00::2 fd00::3"));
    });
}

/// The kernel refuses a multipath route as a whole when one of its next hops is not on-link.
#[test]
fn one_of_two_uplinks_goes_down_and_comes_back() {
    in_network(async || {
        ip("link add second type veth peer name beyond
            link set second up
            link set beyond up
            address add 10.1.0.1/16 dev second");
        let mut agent = Agent::start();
        let late = "10.9.1.0/26";
        agent.want(&desired(&[(V4, &["10.0.0.2", "10.1.0.2"])]));
        agent.until_synced("synced").await;
        ip("link set second down");
        agent.want(&desired(&[(late, &["10.0.0.2", "10.1.0.2"])]));
        let left_out = "error: left out next hops that are not on-link: 10.1.0.2";
        agent.until("left out", |agent| [V4, late].iter().all(|of| agent.status(of) == left_out)).await;
        let expected = [V4, late].map(|of| format!("{of} via 10.0.0.2 proto 210 metric 200"));
        assert_eq!(ours(), expected);
        ip("link set second up");
        agent.until_synced("both again").await;
        let expected = [V4, late].map(|of| format!("{of} via 10.0.0.2 10.1.0.2 proto 210 metric 200"));
        assert_eq!(ours(), expected);
        assert_eq!(agent.reconciler.repairs(), 0, "nobody meddled");
    });
}
