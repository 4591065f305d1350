//! Two reflectors of one make, two speakers that feed them, and the agent as their client, all on one segment.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use serde::Deserialize;
use underpass::api::model::PeerStatus;
use underpass::config::model::Kernel;
use underpass_tests::agent::{Agent, Client};
use underpass_tests::daemon::bird::Version;
use underpass_tests::daemon::{Bird, Frr};
use underpass_tests::lab::Lab;
use underpass_tests::netns::{self, Netns};
use underpass_tests::wait;

/// Time for anything to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The AS of all.
const AS: u32 = 64512;
/// The agent.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// The reflectors.
pub const REFLECTORS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
/// The feeders.
const FEEDERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 4)];
/// Machines on the segment with their addresses.
const MACHINES: [(&str, Ipv4Addr); 5] = [
    ("edge", ROUTER),
    ("rr1", REFLECTORS[0]),
    ("rr2", REFLECTORS[1]),
    ("feed1", FEEDERS[0]),
    ("feed2", FEEDERS[1]),
];

/// What the reflectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// BIRD 1.6.8, as Calico renders it.
    Bird1,
    /// BIRD 2.
    Bird2,
    /// FRR.
    Frr,
}

#[derive(Debug)]
enum Reflector {
    Bird(Bird),
    Frr(Frr),
}

/// The whole.
pub struct Rig {
    // Processes before the lab: what is dropped first ends first.
    pub agent: Agent,
    reflectors: [Reflector; 2],
    feeders: [Bird; 2],
    lab: Lab,
}

impl Rig {
    /// Raises everything and waits until both sessions of the agent are up and in sync.
    pub fn up(make: Make, feeds: [&[Feed]; 2]) -> Result<Self> {
        Self::up_with(make, feeds, &router(Dials::Agent))
    }

    /// As [`Rig::up`], with the agent listening: both ends of the first session dial, the second is passive.
    pub fn up_listening(make: Make, feeds: [&[Feed]; 2]) -> Result<Self> {
        Self::up_with(make, feeds, &router(Dials::Both))
    }

    /// As [`Rig::up`], with an agent that takes its routes along when it stops.
    pub fn up_flushing(make: Make, feeds: [&[Feed]; 2]) -> Result<Self> {
        Self::up_with(make, feeds, &(router(Dials::Agent) + "\n[kernel]\nflush_on_stop = true\n"))
    }

    fn up_with(make: Make, feeds: [&[Feed]; 2], config: &str) -> Result<Self> {
        let lab = Lab::new()?;
        segment(&lab)?;
        let reflectors = [
            Reflector::start(&lab, make, "rr1", REFLECTORS[0])?,
            Reflector::start(&lab, make, "rr2", REFLECTORS[1])?,
        ];
        let feeder = |number: usize| {
            let config = feeder(FEEDERS[number], feeds[number]);
            Bird::start(&lab, MACHINES[3 + number].0, Version::V1, &config)
        };
        let feeders = [feeder(0)?, feeder(1)?];
        let agent = Agent::start(&lab, "edge", config)?;
        let mut rig = Self { agent, reflectors, feeders, lab };
        rig.agent.wait_synced(PATIENCE)?;
        Ok(rig)
    }

    /// The agent's command line and socket.
    pub fn client(&self) -> &Client {
        self.agent.client()
    }

    /// The agent's namespace.
    pub fn router(&self) -> Netns {
        self.lab.netns("edge")
    }

    /// Makes a feeder announce something else.
    pub fn feed(&self, feeder: usize, feeds: &[Feed]) -> Result<()> {
        self.feeders[feeder].reconfigure(&self::feeder(FEEDERS[feeder], feeds))
    }

    /// Kills the daemon of a reflector: its connections end without a NOTIFICATION.
    pub fn kill_reflector(&mut self, number: usize) -> Result<()> {
        match &mut self.reflectors[number] {
            Reflector::Bird(bird) => bird.kill().map(drop),
            Reflector::Frr(frr) => frr.kill_bgpd(),
        }
    }

    /// Starts it again.
    pub fn restart_reflector(&mut self, number: usize) -> Result<()> {
        match &mut self.reflectors[number] {
            Reflector::Bird(bird) => bird.restart(),
            Reflector::Frr(frr) => frr.restart_bgpd(),
        }
    }

    /// Resets the reflector's session with the agent by a NOTIFICATION.
    pub fn reset_session(&self, number: usize) -> Result<()> {
        match &self.reflectors[number] {
            Reflector::Bird(bird) => bird.client().command("restart edge").map(drop),
            Reflector::Frr(frr) => {
                frr.client().command("bgpd", &format!("clear bgp ipv4 unicast {ROUTER}")).map(drop)
            }
        }
    }

    /// Takes the reflector's session with the agent down: Cease, Administrative Shutdown.
    pub fn shut_session(&self, number: usize) -> Result<()> {
        match &self.reflectors[number] {
            Reflector::Bird(bird) => bird.client().command("disable edge").map(drop),
            Reflector::Frr(frr) => configure(frr, &format!("neighbor {ROUTER} shutdown")),
        }
    }

    /// And lets it come up again.
    pub fn open_session(&self, number: usize) -> Result<()> {
        match &self.reflectors[number] {
            Reflector::Bird(bird) => bird.client().command("enable edge").map(drop),
            Reflector::Frr(frr) => configure(frr, &format!("no neighbor {ROUTER} shutdown")),
        }
    }

    /// What a BIRD reflector says of its session with the agent.
    pub fn reflector_says(&self, number: usize) -> Result<String> {
        match &self.reflectors[number] {
            Reflector::Bird(bird) => bird.client().command("show protocols all edge"),
            Reflector::Frr(_) => bail!("a question for BIRD"),
        }
    }

    /// The agent's session with a reflector.
    pub fn peer(&self, number: usize) -> Result<PeerStatus> {
        let found = self.client().peers()?.peers.into_iter().nth(number);
        found.context("a peer less than configured")
    }

    /// Waits until the session with a reflector is as it should be.
    pub fn wait_peer(&self, what: &str, number: usize, holds: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let look = || {
            let peer = self.peer(number)?;
            ensure!(holds(&peer), "{peer:?}");
            Ok(peer)
        };
        wait::until(what, PATIENCE, look).expect("in time")
    }

    /// Waits until RIB and kernel have exactly these routes and no others.
    pub fn wait_routes(&self, what: &str, expected: &[(&str, &[&str])]) {
        self.wait_routes_within(what, PATIENCE, expected);
    }

    /// As [`Self::wait_routes`], for this long.
    pub fn wait_routes_within(&self, what: &str, patience: Duration, expected: &[(&str, &[&str])]) {
        let expected: Vec<(IpNet, Vec<IpAddr>)> = expected
            .iter()
            .map(|(prefix, hops)| {
                let hops = hops.iter().map(|hop| hop.parse().expect("an address")).collect();
                (prefix.parse().expect("a prefix"), hops)
            })
            .collect();
        let look = || {
            let mut rib: Vec<(IpNet, Vec<IpAddr>)> = Vec::new();
            for route in self.client().routes()?.routes {
                let Some(hops) = route.rib else { continue };
                ensure!(
                    route.rib_state.as_deref() == Some("synced"),
                    "{}: {:?}",
                    route.prefix,
                    route.rib_state
                );
                rib.push((route.prefix, hops));
            }
            ensure!(rib == expected, "RIB has {rib:?}");
            let kernel = self.kernel_routes()?;
            ensure!(kernel == expected, "the kernel has {kernel:?}");
            Ok(())
        };
        wait::until(what, patience, look).expect("in time");
    }

    /// What `ip route` says of the agent's routes, sorted.
    pub fn kernel_routes(&self) -> Result<Vec<(IpNet, Vec<IpAddr>)>> {
        let routes: Vec<KernelRoute> =
            self.router().ip_json(&format!("route show proto {}", Kernel::default().protocol))?;
        kernel_routes(routes)
    }
}

fn configure(frr: &Frr, line: &str) -> Result<()> {
    let speaker = format!("router bgp {AS}");
    frr.client().commands("bgpd", &["configure terminal", &speaker, line]).map(drop)
}

/// Prefixes with their next hops, sorted.
pub fn kernel_routes(routes: Vec<KernelRoute>) -> Result<Vec<(IpNet, Vec<IpAddr>)>> {
    let mut routes: Vec<_> = routes.into_iter().map(KernelRoute::simple).collect::<Result<_>>()?;
    routes.sort();
    Ok(routes)
}

/// A route of `ip -json route`.
#[derive(Deserialize)]
pub struct KernelRoute {
    dst: String,
    gateway: Option<IpAddr>,
    #[serde(default)]
    nexthops: Vec<KernelHop>,
}

#[derive(Deserialize)]
struct KernelHop {
    gateway: IpAddr,
}

impl KernelRoute {
    fn simple(self) -> Result<(IpNet, Vec<IpAddr>)> {
        let host = self.dst.parse::<IpAddr>().map(IpNet::from);
        let prefix = host.or_else(|_| self.dst.parse()).with_context(|| format!("prefix {}", self.dst))?;
        let mut hops: Vec<_> =
            self.gateway.into_iter().chain(self.nexthops.into_iter().map(|hop| hop.gateway)).collect();
        hops.sort_unstable();
        Ok((prefix, hops))
    }
}

/// A bridge with a port for each machine.
fn segment(lab: &Lab) -> Result<()> {
    let names: Vec<_> = MACHINES.iter().map(|(name, _)| *name).chain(["segment"]).collect();
    lab.add_machines(&names)?;
    let segment = lab.netns("segment");
    let mut cables = String::new();
    let mut ports =
        String::from("link add segment type bridge stp_state 0 forward_delay 0\nlink set segment up\n");
    for (name, _) in MACHINES {
        let netns = lab.netns(name);
        let _ = writeln!(
            cables,
            "link add name eth0 netns {} type veth peer name {name} netns {}",
            netns.name(),
            segment.name()
        );
        let _ = writeln!(ports, "link set {name} master segment up");
    }
    netns::ip(&cables)?;
    segment.ip(&ports)?;
    for (name, address) in MACHINES {
        lab.netns(name).ip(&format!("address add {address}/24 dev eth0\nlink set eth0 up\n"))?;
    }
    Ok(())
}

/// What a feeder announces: `count` prefixes /26 from `10.64.0.0` on, starting with number `first`, to one
/// next hop.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    pub first: u32,
    pub count: u32,
    pub next_hop: Ipv4Addr,
}

impl Feed {
    /// One prefix.
    pub fn one(number: u32, next_hop: [u8; 4]) -> Self {
        Self { first: number, count: 1, next_hop: next_hop.into() }
    }
}

/// Number `n` of the /26 prefixes in 10.64.0.0/10.
pub fn prefix(number: u32) -> IpNet {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (number << 6));
    IpNet::new(address.into(), 26).expect("26 is a length")
}

fn feeder(address: Ipv4Addr, feeds: &[Feed]) -> String {
    let mut text = format!("router id {address};\nprotocol device {{ scan time 2; }}\n");
    text.push_str("protocol static feed {\n");
    for feed in feeds {
        for number in feed.first..feed.first + feed.count {
            let _ = writeln!(text, "  route {} via {};", prefix(number), feed.next_hop);
        }
    }
    text.push_str("}\n");
    for (number, reflector) in REFLECTORS.iter().enumerate() {
        let _ = write!(
            text,
            "protocol bgp rr{number} {{\n  local {address} as {AS};\n  neighbor {reflector} as {AS};\n  \
             import none;\n  export all;\n  connect delay time 1;\n  connect retry time 1;\n  \
             error wait time 1,2;\n}}\n"
        );
    }
    text
}

impl Reflector {
    fn start(lab: &Lab, make: Make, machine: &str, address: Ipv4Addr) -> Result<Self> {
        match make {
            Make::Bird1 => Bird::start(lab, machine, Version::V1, &bird1(address)).map(Self::Bird),
            Make::Bird2 => Bird::start(lab, machine, Version::V2, &bird2(address)).map(Self::Bird),
            Make::Frr => Frr::start(lab, machine, &frr(address)).map(Self::Frr),
        }
    }
}

/// Sessions of a reflector: name and address of each client.
fn clients() -> [(&'static str, Ipv4Addr); 3] {
    [("edge", ROUTER), ("feed1", FEEDERS[0]), ("feed2", FEEDERS[1])]
}

/// Calico's template, with quicker timers.
fn bird1(address: Ipv4Addr) -> String {
    let mut text = format!(
        "router id {address};\nprotocol device {{ scan time 2; }}\nprotocol direct {{ interface \"*\"; }}\n\
         template bgp downstream {{\n  local as {AS};\n  multihop;\n  gateway recursive;\n  import all;\n  \
         export where source = RTS_BGP;\n  add paths on;\n  graceful restart;\n  connect delay time 1;\n  \
         connect retry time 1;\n  error wait time 1,2;\n  rr client;\n  rr cluster id 10.0.0.1;\n}}\n"
    );
    for (name, client) in clients() {
        let _ = write!(
            text,
            "protocol bgp {name} from downstream {{\n  neighbor {client} as {AS};\n  source address {address};\n}}\n"
        );
    }
    text
}

fn bird2(address: Ipv4Addr) -> String {
    let mut text = format!(
        "router id {address};\nprotocol device {{ scan time 2; }}\nprotocol direct {{ ipv4; interface \"*\"; }}\n\
         template bgp downstream {{\n  local {address} as {AS};\n  multihop;\n  graceful restart on;\n  \
         connect delay time 1;\n  connect retry time 1;\n  error wait time 1,2;\n  rr client;\n  \
         rr cluster id 10.0.0.1;\n  ipv4 {{\n    import all;\n    export where source = RTS_BGP;\n    \
         add paths on;\n    gateway recursive;\n  }};\n}}\n"
    );
    for (name, client) in clients() {
        let _ = writeln!(text, "protocol bgp {name} from downstream {{ neighbor {client} as {AS}; }}");
    }
    text
}

fn frr(address: Ipv4Addr) -> String {
    let mut text = format!(
        "router bgp {AS}\n bgp router-id {address}\n bgp cluster-id 10.0.0.1\n bgp graceful-restart\n \
         no bgp network import-check\n"
    );
    for (_, client) in clients() {
        let _ = write!(text, " neighbor {client} remote-as {AS}\n neighbor {client} timers connect 1\n");
    }
    text.push_str(" address-family ipv4 unicast\n");
    for (_, client) in clients() {
        let _ = write!(
            text,
            "  neighbor {client} route-reflector-client\n  neighbor {client} addpath-tx-all-paths\n"
        );
    }
    text.push_str(" exit-address-family\n");
    text
}

/// Who opens connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dials {
    Agent,
    Both,
}

/// The agent: BGP only.
fn router(dials: Dials) -> String {
    let listen = if dials == Dials::Both { format!("listen = [\"{ROUTER}:179\"]\n") } else { String::new() };
    let mut text = format!(
        "[bgp]\nlocal_as = {AS}\nrouter_id = \"{ROUTER}\"\n{listen}\n[bgp.import]\n\
         prefixes = [{{ prefix = \"10.64.0.0/10\", min = 26, max = 26 }}]\nnext_hops = [\"10.0.0.0/24\"]\n"
    );
    for (number, reflector) in REFLECTORS.iter().enumerate() {
        let _ = write!(
            text,
            "\n[[bgp.peers]]\nname = \"rr{}\"\naddress = \"{reflector}\"\nremote_as = {AS}\n\
             source_address = \"{ROUTER}\"\nhold_time = \"9s\"\nconnect_retry = \"1s\"\n\
             connect_retry_max = \"2s\"\nmax_prefixes = 20000\npassive = {}\n",
            number + 1,
            dials == Dials::Both && number == 1
        );
    }
    text
}
