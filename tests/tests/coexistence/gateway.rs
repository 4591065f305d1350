//! On the gateway, where Underpass writes routes of its own beside foreign ones.

use std::fs;
use std::path::PathBuf;

use anyhow::ensure;
use underpass_tests::daemon::Process;
use underpass_tests::netns::Netns;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::wait;

use super::{LAB, SOON, check_flush_is_refused, flush, traffic};

/// Routes of somebody else: in our table, in another one, and with our protocol number in another one.
const FOREIGN: &str = "route add 10.99.0.0/24 via 172.20.0.254 proto static
route add 10.99.1.0/24 via 172.20.0.11 metric 200 proto bird
route add blackhole 10.99.2.0/24 proto 99
route add 10.233.66.0/26 via 172.20.0.254 table 300 proto static
route add 10.99.3.0/24 via 172.20.0.254 table 300 proto 210
";
const PATH: [&str; 2] = ["gwclient", "pod3b"];

#[test]
fn our_routes_stay_and_foreign_ones_are_left_alone() {
    let Some(mut lab) = LAB.take() else { return };
    let gw1 = lab.netns("gw1");
    gw1.ip(FOREIGN).expect("foreign routes");
    let (ours, foreign) = routes(&gw1);
    assert!(ours.len() >= 8, "a route per block and one to the services: {ours:#?}");
    assert!(foreign.len() >= FOREIGN.lines().count(), "{foreign:#?}");
    let check = |what: &str| {
        let now = routes(&gw1);
        assert_eq!(now.0, ours, "our routes after {what}");
        assert_eq!(now.1, foreign, "foreign routes after {what}");
    };
    let programs = [gw1.xdp_program("eth0"), gw1.xdp_program("eth1")].map(|id| id.expect("an interface"));
    assert!(programs.iter().all(Option::is_some), "{programs:?}");

    let monitor = Monitor::start(&lab);
    traffic::during(&mut lab, PATH, "kill -9 and start", |lab| {
        lab.agent_mut("gw1").kill().expect("killed");
        check("kill -9");
        lab.agent_mut("gw1").restart().expect("started");
        lab.agent_mut("gw1").wait_synced(SOON).expect("synced");
    });
    check("kill -9 and start");
    check_flush_is_refused(lab.agent("gw1"));

    traffic::during(&mut lab, PATH, "stop", |lab| {
        let status = lab.agent_mut("gw1").stop().expect("stopped");
        assert!(status.success(), "{status}");
    });
    check("stop");
    assert_eq!(monitor.events(&gw1), Vec::<String>::new(), "no route was touched");

    let text = flush(lab.agent("gw1"));
    assert!(text.starts_with("detached 2 programs"), "{text}");
    assert!(text.contains(&format!("the routes of {} prefixes", ours.len())), "{text}");
    let now = routes(&gw1);
    assert_eq!((now.0, &now.1), (Vec::new(), &foreign), "only ours are gone");
    for port in ["eth0", "eth1"] {
        assert_eq!(gw1.xdp_program(port).expect("an interface"), None, "{port}");
    }

    gw1.ip(&FOREIGN.replace("route add", "route del")).expect("foreign routes");
    lab.agent_mut("gw1").restart().expect("started");
    lab.agent_mut("gw1").wait_synced(SOON).expect("synced");
    wait::until("our routes are back", SOON, || {
        let now = routes(&gw1).0;
        ensure!(now == ours, "{now:#?}");
        Ok(())
    })
    .expect("as before");
}

/// Ours and all others, of all tables, sorted.
fn routes(netns: &Netns) -> (Vec<String>, Vec<String>) {
    let text = netns.run("ip", ["route", "show", "table", "all"]).expect("routes");
    // A next hop of a multipath route is on a line of its own.
    let text = text.replace("\n\t", " ");
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines.into_iter().partition(|line| line.contains("proto 210") && !line.contains("table"))
}

/// `ip monitor route`, which prints every change of a route.
struct Monitor {
    _process: Process,
    log: PathBuf,
}

/// A route that is made and removed, to see that the monitor works.
const MARKS: [&str; 2] = ["10.98.1.0/24", "10.98.2.0/24"];

impl Monitor {
    fn start(lab: &ReferenceLab) -> Self {
        let gw1 = lab.netns("gw1");
        let log = lab.lab().machine_dir("gw1").expect("a folder").join("routes.log");
        let mut command = gw1.command("ip");
        command.args(["monitor", "route"]);
        let process = Process::start("ip monitor", command, &log).expect("started");
        let monitor = Self { _process: process, log };
        wait::until("the monitor sees changes", SOON, || monitor.mark(&gw1, MARKS[0])).expect("it does");
        monitor
    }

    /// What it has seen since its start, without the marks.
    fn events(&self, netns: &Netns) -> Vec<String> {
        // When it has seen this, it has seen everything before.
        wait::until("the monitor has caught up", SOON, || self.mark(netns, MARKS[1])).expect("it has");
        let text = fs::read_to_string(&self.log).expect("a log");
        let is_mark = |line: &&str| MARKS.iter().any(|mark| line.contains(mark));
        text.lines().filter(|line| !is_mark(line)).map(str::to_owned).collect()
    }

    fn mark(&self, netns: &Netns, prefix: &str) -> anyhow::Result<()> {
        netns.ip(&format!("route add blackhole {prefix}\nroute del blackhole {prefix}\n"))?;
        let text = fs::read_to_string(&self.log)?;
        ensure!(text.contains(prefix), "not seen yet");
        Ok(())
    }
}
