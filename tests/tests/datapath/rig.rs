//! A router with one port, and what tests ask about it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nix::net::if_::if_nametoindex;
use serde_json::Value;
use underpass::datapath::{Datapath, Engine, PortFacts};
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::xdp::PassProgram;

/// How long anything may take.
pub const SOON: Duration = Duration::from_secs(10);
/// A lease that outlives a test.
pub const LEASE: Duration = Duration::from_mins(1);

/// A router whose port `e0` is a veth; the other end, `far0`, is a port of the rack's bridge, on which
/// a client and a server hang.
pub struct Rig {
    pub lab: Lab,
    pub router: Netns,
    pub rack: Netns,
    pub client: Netns,
    pub server: Netns,
}

impl Rig {
    pub fn raise() -> Option<Self> {
        can_raise_labs().then(|| Self::build().expect("the rig comes up"))
    }

    fn build() -> Result<Self> {
        let lab = Lab::new()?;
        lab.add_machines(&["router", "rack", "client", "server"])?;
        let ns = |machine| lab.netns(machine);
        let (router, rack, client, server) = (ns("router"), ns("rack"), ns("client"), ns("server"));
        let mut commands = String::from("link add br0 type bridge\n");
        for (machine, near, far) in
            [(&router, "e0", "far0"), (&client, "c0", "far1"), (&server, "s0", "far2")]
        {
            let machine = machine.name();
            commands = format!(
                "{commands}link add {far} type veth peer name {near} netns {machine}\n\
                 link set {far} master br0 up\n"
            );
        }
        rack.ip(&(commands + "link set br0 up\n"))?;
        router.ip("link set e0 up\naddr add 10.0.0.1/24 dev e0\n")?;
        client.ip("link set c0 up\naddr add 10.0.0.2/24 dev c0\nroute add 10.1.1.0/24 via 10.0.0.1\n")?;
        server.ip("link set s0 up\naddr add 10.0.0.3/24 dev s0\naddr add 10.1.1.1/32 dev lo\n")?;
        Ok(Self { lab, router, rack, client, server })
    }

    pub fn bpffs(&self) -> PathBuf {
        self.lab.bpffs().join("underpass")
    }

    /// Makes `far0` a peer that takes XDP frames.
    pub fn attach_pass_program(&self) {
        let pass = PassProgram::load(&self.lab).expect("the pass program loads");
        pass.attach(&self.rack, "far0").expect("a veth runs XDP");
    }

    /// Runs `test` in a thread inside of the router.
    pub fn in_router<T: Send>(&self, test: impl FnOnce() -> T + Send) -> T {
        self.router.enter(test).expect("the router's namespace")
    }

    pub fn load(&self) -> Datapath {
        self.load_with(Engine::Flat)
    }

    pub fn load_with(&self, engine: Engine) -> Datapath {
        Datapath::load(&self.bpffs(), engine).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Name and mode (1: driver) of the XDP program on an interface of the router.
    pub fn program(&self, interface: &str) -> Option<(String, u64, u64)> {
        let links: Vec<Value> =
            self.router.ip_json(&format!("link show dev {interface}")).expect("the interface exists");
        let xdp = links[0].get("xdp")?;
        let program = xdp.get("prog")?;
        Some((
            program["name"].as_str().unwrap_or_default().to_owned(),
            program["id"].as_u64().unwrap_or_default(),
            xdp["mode"].as_u64().unwrap_or_default(),
        ))
    }
}

pub fn index(interface: &str) -> u32 {
    if_nametoindex(interface).expect("the interface exists")
}

pub fn mac(netns: &Netns, interface: &str) -> [u8; 6] {
    let links: Vec<Value> =
        netns.ip_json(&format!("link show dev {interface}")).expect("the interface exists");
    let text = links[0]["address"].as_str().expect("an address");
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("six bytes")
}

pub fn problem(facts: &PortFacts) -> &str {
    facts.problem.as_deref().expect("a problem")
}
