//! left - router - right, with Underpass on the router.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use underpass::api::model::Status;
use underpass_tests::agent::{Agent, forwarded};
use underpass_tests::lab::Lab;
use underpass_tests::netns;
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::traffic::udp::{self, Stream};
use underpass_tests::wait;
use underpass_tests::xdp::PassProgram;

pub const SOON: Duration = Duration::from_secs(20);
pub const LEFT: &str = "10.9.1.2";
pub const RIGHT: &str = "10.9.2.2";
const PACKETS: u64 = 50;

pub struct Rig {
    agent: Option<Agent>,
    pub lab: Lab,
}

impl Rig {
    pub fn new() -> Option<Self> {
        if !can_raise_labs() {
            return None;
        }
        let lab = Lab::new().expect("a lab");
        let machines = lab.add_machines(&["left", "router", "right"]).expect("namespaces");
        let [left, router, right] = [0, 1, 2].map(|index| machines[index].clone());
        netns::ip(&format!(
            "link add eth0 netns {left} address 02:00:00:00:01:02 type veth peer name eth0 netns {router} address 02:00:00:00:01:01\n\
             link add eth0 netns {right} address 02:00:00:00:02:02 type veth peer name eth1 netns {router} address 02:00:00:00:02:01\n",
            left = left.name(),
            router = router.name(),
            right = right.name(),
        ))
        .expect("links");
        router.sysctl(&[("ipv4.ip_forward", "1")]).expect("a router");
        router
            .ip("link set eth0 up\nlink set eth1 up\naddress add 10.9.1.1/24 dev eth0\naddress add 10.9.2.1/24 dev eth1\n\
                 neighbour add 10.9.1.2 lladdr 02:00:00:00:01:02 dev eth0 nud permanent\n\
                 neighbour add 10.9.2.2 lladdr 02:00:00:00:02:02 dev eth1 nud permanent\n")
            .expect("the router's addresses");
        let pass = PassProgram::load(&lab).expect("a program");
        for (machine, own, gateway, mac) in
            [(&left, LEFT, "10.9.1.1", "02:00:00:00:01:01"), (&right, RIGHT, "10.9.2.1", "02:00:00:00:02:01")]
        {
            machine
                .ip(&format!(
                    "link set eth0 up\naddress add {own}/24 dev eth0\nroute add default via {gateway}\n\
                     neighbour add {gateway} lladdr {mac} dev eth0 nud permanent\n"
                ))
                .expect("an end");
            pass.attach(machine, "eth0").expect("a link partner");
        }
        Some(Self { agent: None, lab })
    }

    /// Starts the agent with more lines of `[datapath]`.
    pub fn start(&mut self, datapath: &str) {
        let config = format!(
            "[datapath]\nports = [\"eth*\"]\naccelerate = [\"10.9.1.0/24\", \"10.9.2.0/24\"]\n{datapath}"
        );
        self.agent = Some(Agent::start(&self.lab, "router", &config).expect("started"));
    }

    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        assert!(agent.stop().expect("stopped").success());
    }

    pub fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("it runs")
    }

    pub fn status(&self) -> Status {
        self.agent().client().status().expect("it answers")
    }

    pub fn status_text(&self) -> String {
        let output = self.agent().cli(&["status"]).expect("underpass starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn wait_synced(&mut self) {
        self.agent.as_mut().expect("it runs").wait_synced(SOON).expect("synced");
    }

    /// Runs commands on the router.
    pub fn router(&self, commands: &[&str]) {
        run(&self.lab, "router", commands);
    }

    fn verdict(&self) -> anyhow::Result<(String, String)> {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let lookup = self.agent().client().lookup(address(RIGHT), Some(address(LEFT)), Some("eth0"))?;
        Ok((lookup.xdp.verdict, lookup.xdp.reason))
    }

    /// Waits until XDP forwards from left to right.
    pub fn wait_forwards(&mut self) {
        self.wait_synced();
        wait::until("XDP forwards", SOON, || {
            let (verdict, reason) = self.verdict()?;
            ensure!(
                verdict == "redirect",
                "{verdict} ({reason}): {:?}",
                self.status().datapath.map(|d| d.rules)
            );
            Ok(())
        })
        .expect("forwarded");
    }

    /// Waits until packets from left to right are the kernel's because of a rule.
    pub fn wait_left_to_kernel(&self) {
        wait::until("packets are the kernel's", SOON, || {
            let (verdict, reason) = self.verdict()?;
            ensure!(verdict == "pass" && reason == "kernel_rule", "{verdict} ({reason})");
            Ok(())
        })
        .expect("left to the kernel");
    }

    /// Sends from left to right; gives how many arrived and how many XDP forwarded.
    fn send(&self) -> (u64, u64) {
        let before = forwarded(&self.agent().client().counters().expect("counters"));
        let to = SocketAddr::new(RIGHT.parse().expect("an address"), 9000);
        let stream = Stream { count: PACKETS, ..Stream::default() };
        let report = udp::send(&self.lab.netns("left"), &self.lab.netns("right"), to, stream).expect("sent");
        assert_eq!((report.sent, report.corrupt), (PACKETS, 0), "{report:?}");
        let after = forwarded(&self.agent().client().counters().expect("counters"));
        (report.received, after - before)
    }

    pub fn check_by_xdp(&self, what: &str) {
        assert_eq!(self.send(), (PACKETS, PACKETS), "{what}: (received, forwarded by XDP)");
    }

    /// All arrive, and XDP forwards nothing.
    pub fn check_by_kernel(&self, what: &str) {
        assert_eq!(self.send(), (PACKETS, 0), "{what}: (received, forwarded by XDP)");
    }

    /// The rule has its effect, and XDP forwards nothing.
    pub fn check_kept_off(&self, what: &str) {
        assert_eq!(self.send(), (0, 0), "{what}: (received, forwarded by XDP)");
    }
}

/// Runs commands, with their words divided by spaces, on a machine.
pub fn run(lab: &Lab, machine: &str, commands: &[&str]) {
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        lab.netns(machine).run(words[0], &words[1..]).unwrap_or_else(|error| panic!("{command}: {error:#}"));
    }
}
