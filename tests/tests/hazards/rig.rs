//! The router that most hazards are shown on, once with the kernel alone and once with Underpass.
//!
//! ```text
//!   behind p0: 100.64.0.0/16, 10.233.128.0/24      behind p1: 100.65.0.0/16, 10.233.64.0/18
//!        10.10.0.2 (permanent) --- p0 [router] p1 --- 10.11.0.2 (permanent)
//!                                       p2 --- 10.12.0.2 (permanent)
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_tests::packet::{FrameBuilder, forwarded};
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::twin::{Outcome, Plan, PortPlan, Shot, Twin, describe, describe_outcome, port_mac};
use underpass_tests::wait;

/// For what the kernel or the agent needs a moment for.
pub const SOON: Duration = Duration::from_secs(20);
/// A source behind p0, and one that is on-link there.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 9);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
/// The usual destination, behind p1.
pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 233, 64, 7);
/// A destination behind p0.
pub const HAIRPIN: Ipv4Addr = Ipv4Addr::new(10, 233, 128, 7);
/// The router's address on p0.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);

/// The reasons by which XDP forwards.
pub const TX: &str = "forwarded_tx";
pub const REDIRECT: &str = "forwarded_redirect";

/// MAC address of host 2 or 3 of a port's network.
pub fn host_mac(port: u8, host: u8) -> [u8; 6] {
    [6, 0, 0, 0, port, host]
}

/// Both routers.
pub struct Rig {
    pub twin: Twin,
    tag: u16,
}

/// The plan before a hazard changes it.
fn plan() -> Plan {
    let ports = (0..3).map(|port| PortPlan { name: format!("p{port}"), mtu: 1500 }).collect();
    let mut commands = String::from("address add 10.255.0.1/32 dev lo\n");
    for port in 0..3 {
        let _ = writeln!(
            commands,
            "address add 10.1{port}.0.1/16 broadcast + dev p{port}\n\
             neighbour add 10.1{port}.0.2 lladdr 06:00:00:00:0{port}:02 nud permanent dev p{port}\n\
             neighbour add 10.1{port}.0.3 lladdr 06:00:00:00:0{port}:03 nud permanent dev p{port}"
        );
    }
    commands.push_str(
        "route add 100.64.0.0/16 via 10.10.0.2\n\
         route add 10.233.128.0/24 via 10.10.0.2\n\
         route add 100.65.0.0/16 via 10.11.0.2\n\
         route add 10.233.64.0/18 via 10.11.0.2\n",
    );
    let own = ["10.10.0.1/32", "10.11.0.1/32", "10.12.0.1/32", "10.255.0.1/32"];
    Plan {
        ports,
        sysctls: Vec::new(),
        commands,
        own: own.iter().map(|own| own.parse().expect("a prefix")).collect(),
        sections: "[datapath]\nports = [\"p*\"]\naccelerate = [\"10.233.0.0/16\"]\nlease = \"5s\"\n"
            .to_owned(),
        ..Plan::default()
    }
}

impl Rig {
    /// Raises both routers, after `change` has added what the hazard needs. `None`, with a line that says
    /// why, without the privilege.
    pub fn raise(change: impl FnOnce(&mut Plan)) -> Option<Self> {
        if !can_raise_labs() {
            return None;
        }
        let mut plan = plan();
        change(&mut plan);
        let twin = Twin::raise(&plan).unwrap_or_else(|error| panic!("{error:#}"));
        Some(Self { twin, tag: 0 })
    }

    /// With these `ip` commands.
    pub fn with(commands: &str) -> Option<Self> {
        Self::raise(|plan| plan.commands.push_str(commands))
    }

    /// A frame from a source behind p0 to [`DESTINATION`] that comes in on p0. The sources differ: the kernel
    /// limits some ICMP errors by address.
    pub fn frame(&mut self) -> FrameBuilder {
        self.frame_for(0)
    }

    /// The same for another port.
    pub fn frame_for(&mut self, port: usize) -> FrameBuilder {
        self.tag = self.tag.wrapping_add(1).max(1);
        let from = host_mac(u8::try_from(port).expect("few ports"), 2);
        let [high, low] = self.tag.to_be_bytes();
        let source = [100, 64, high, low].into();
        FrameBuilder::new(from, port_mac(port), source, DESTINATION).identification(self.tag)
    }

    /// Sends a frame into p0 of both routers. What comes out is the same, and XDP counted `reason`. Gives
    /// what came out.
    pub fn check(&mut self, name: &str, frame: &[u8], reason: &str) -> Outcome {
        self.check_on(0, name, frame, reason)
    }

    /// The same on another port.
    pub fn check_on(&mut self, port: usize, name: &str, frame: &[u8], reason: &str) -> Outcome {
        let seen = self.twin.fast.reached_stack;
        let (kernel, fast, reasons) = self.both(port, frame);
        assert_eq!(
            kernel,
            fast,
            "{name}: {}\nthe kernel alone: {}\nwith Underpass: {}",
            describe(frame),
            describe_outcome(&kernel),
            describe_outcome(&fast)
        );
        assert_eq!(reasons, BTreeMap::from([(reason.to_owned(), 1)]), "{name}: {}", describe(frame));
        let passed = u64::from(!reason.starts_with("forwarded"));
        assert_eq!(self.twin.fast.reached_stack - seen, passed, "{name}: seen by the stack");
        kernel
    }

    /// Sends a frame into a port of both routers and gives the kernel's outcome, that with Underpass and the
    /// reasons counted.
    pub fn both(&mut self, port: usize, frame: &[u8]) -> (Outcome, Outcome, BTreeMap<String, u64>) {
        let shot = Shot { port, tag: tag(frame), frame: frame.to_vec() };
        self.twin.try_one(&shot).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Sends a frame for which there is a choice, and gives the outcome with Underpass and the reasons.
    pub fn chosen(&mut self, port: usize, frame: &[u8]) -> (Outcome, BTreeMap<String, u64>) {
        let before = self.twin.reasons().expect("counters");
        self.twin.forget();
        let shot = Shot { port, tag: tag(frame), frame: frame.to_vec() };
        self.twin.send(&[shot]).unwrap_or_else(|error| panic!("{error:#}"));
        let reasons = self.twin.reasons().expect("counters").since(&before);
        (self.twin.fast.outcome(tag(frame)).clone(), reasons)
    }

    /// [`Rig::check`], and the frame leaves as the only one, by `port` to `host` of its network, as the
    /// kernel would have written it.
    pub fn check_forwarded(&mut self, name: &str, frame: &[u8], (port, host): (u8, u8), reason: &str) {
        let outcome = self.check(name, frame, reason);
        let [left] = outcome.as_slice() else { panic!("{name}: {}", describe_outcome(&outcome)) };
        assert_eq!(left.port, usize::from(port), "{name}");
        assert_eq!(left.frame, forwarded(frame, port_mac(left.port), host_mac(port, host)), "{name}");
    }

    /// Waits until XDP counts `reason` for frames that `make` builds, and the outcomes are the same.
    pub fn wait_for(&mut self, reason: &str, make: impl Fn(FrameBuilder) -> FrameBuilder) {
        wait::until(&format!("XDP says {reason}"), SOON, || {
            let frame = make(self.frame()).build();
            let (kernel, fast, reasons) = self.both(0, &frame);
            ensure!(reasons.contains_key(reason), "{reasons:?}");
            ensure!(kernel == fast, "{kernel:?} {fast:?}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Runs `ip` commands on both routers.
    pub fn ip(&self, commands: &str) {
        self.twin.ip(commands).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// A port as the agent reports it.
    pub fn wait_for_port(&self, name: &str, wanted: impl Fn(&underpass::api::model::PortStatus) -> bool) {
        wait::until(&format!("the agent sees {name} as it is"), SOON, || -> Result<()> {
            let status = self.twin.agent().client().status()?;
            let ports = status.datapath.map(|datapath| datapath.ports).unwrap_or_default();
            let port = ports.iter().find(|port| port.interface == name);
            ensure!(port.is_some_and(&wanted), "{port:?}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// The identification of an IPv4 packet, behind a tag or not, or the flow label of an IPv6 packet.
fn tag(frame: &[u8]) -> u32 {
    let at = match frame.get(12..14) {
        Some([0x81, 0x00] | [0x88, 0xa8]) => 22,
        Some([0x86, 0xdd]) => 16,
        _ => 18,
    };
    frame.get(at..at + 2).map_or(0, |id| u32::from(u16::from_be_bytes([id[0], id[1]])))
}
