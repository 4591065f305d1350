//! A monitor with a compiler behind it, beside what a fresh look gives.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use underpass::fib::compile::Compiler;
use underpass::fib::model::{CompileConfig, Fib, Port, Target};
use underpass::netlink::apply::Part;
use underpass::netlink::dump;
use underpass::netlink::model::{Delta, IfIndex, NeighbourState, Route, State};
use underpass::netlink::monitor::{Monitor, Options};
use underpass::netlink::requests::Requests;

/// How long a change of the kernel may take to be seen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `work` in a runtime of this thread, which has to be inside of the namespace.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// The state that a fresh dump shows.
pub fn fresh() -> State {
    let mut requests = Requests::new().expect("a socket");
    let finished = dump::read(&mut requests, &Part::ALL.into(), &State::default().links).expect("a dump");
    assert_eq!(finished.undecodable, 0);
    finished.dump.state
}

/// Without what comes and goes unannounced: neighbours that are being asked for, and which of the next hops of
/// an IPv6 route the preferred source is told of, which matters to the machine's own packets only.
fn settled(state: &State) -> State {
    let mut state = state.clone();
    state.neighbours.retain(|_, neighbour| neighbour.state == NeighbourState::Valid);
    state.routes.retain_mut(|route| {
        if route.prefix.addr().is_ipv6() {
            route.preferred_source = None;
        }
        true
    });
    state
}

/// The kernel's state followed by notifications, and the table compiled from it by increments.
pub struct Follower {
    pub monitor: Monitor,
    pub compiler: Compiler,
    config: CompileConfig,
}

impl Follower {
    pub fn start(options: &Options, config: CompileConfig) -> Self {
        let monitor = Monitor::start_with(options).expect("a monitor");
        let mut compiler = Compiler::new(config.clone());
        compiler.update(monitor.state(), &Delta::full());
        Self { monitor, compiler, config }
    }

    /// Follows until state and table are those of a fresh look.
    pub async fn catch_up(&mut self, what: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // Whatever is there now, and what a moment brings.
            while let Ok(delta) = tokio::time::timeout(Duration::from_millis(20), self.monitor.next()).await {
                let delta = delta.expect("the monitor works");
                self.compiler.update(self.monitor.state(), &delta);
            }
            let fresh = fresh();
            let difference = self.difference(&fresh);
            match difference {
                None => return,
                Some(difference) if Instant::now() > deadline => panic!("{what}: {difference}"),
                Some(_) => {}
            }
        }
    }

    fn difference(&self, fresh: &State) -> Option<String> {
        let (seen, expected) = (settled(self.monitor.state()), settled(fresh));
        if seen != expected {
            return Some(format!("the state differs: {}", first_difference(&seen, &expected)));
        }
        let mut compiler = Compiler::new(self.config.clone());
        compiler.update(fresh, &Delta::full());
        let (seen, expected) = (by_port(self.compiler.fib()), by_port(compiler.fib()));
        (seen != expected).then(|| format!("the table differs: {seen:#?}, fresh: {expected:#?}"))
    }
}

/// The first part that differs, to keep failures readable.
fn first_difference(seen: &State, expected: &State) -> String {
    fn only<T: PartialEq + std::fmt::Debug>(seen: &T, expected: &T) -> Option<String> {
        (seen != expected).then(|| format!("{seen:#?}, fresh: {expected:#?}"))
    }
    let routes = || {
        let differing = |one: &State, other: &State| {
            let differ = |route: &Route| {
                let (table, prefix) = (route.table, route.prefix);
                !one.routes.to(table, prefix).eq(other.routes.to(table, prefix))
            };
            let list: Vec<_> = one.routes.iter().filter(differ).take(3).collect();
            format!("{list:#?}")
        };
        format!("routes {}, fresh: {}", differing(seen, expected), differing(expected, seen))
    };
    only(&seen.links, &expected.links)
        .or_else(|| only(&seen.addresses, &expected.addresses))
        .or_else(|| only(&seen.neighbours, &expected.neighbours))
        .or_else(|| only(&seen.rules, &expected.rules))
        .or_else(|| only(&seen.ipv4_conf, &expected.ipv4_conf))
        .or_else(|| only(&seen.ipv6_conf, &expected.ipv6_conf))
        .unwrap_or_else(routes)
}

/// A port, and the prefixes of its view.
type Seen<'a> = (IfIndex, Port, Vec<(IpNet, &'a Target)>);

/// What ports see, whatever the ids of their views.
fn by_port(fib: &Fib) -> Vec<Seen<'_>> {
    let seen = |(&index, port): (&IfIndex, &Port)| {
        let prefixes = fib.prefixes.iter().filter(|((view, _), _)| *view == port.view);
        (
            index,
            Port { view: 0, ..port.clone() },
            prefixes.map(|((_, prefix), target)| (prefix, target.as_ref())).collect(),
        )
    };
    fib.ports.iter().map(seen).collect()
}
