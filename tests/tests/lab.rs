//! The labs themselves: sessions, routes and traffic as in the reference, several side by side, and
//! nothing left behind, however they end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use underpass_tests::daemon::{Bird, Frr, bird};
use underpass_tests::lab::{self, Lab};
use underpass_tests::netns::{self, Netns};
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::reference::{self, Options, ReferenceLab};
use underpass_tests::topology::{self, CLIENT, GATEWAY_CLIENT, calico};
use underpass_tests::traffic::{tcp, udp};
use underpass_tests::wait;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn the_reference_has_its_sessions_routes_and_traffic() {
    if !can_raise_labs() {
        return;
    }
    let lab = ReferenceLab::converged(&Options::default()).expect("the lab converges");
    for machine in reference::routers() {
        let sessions = lab.sessions(machine).expect("the daemon answers");
        let established: Vec<_> =
            sessions.iter().filter(|session| session.is_established()).map(|session| session.peer).collect();
        assert_eq!(established, topology::expected_peers(machine), "sessions of {machine}");
    }

    let routes: &[(&str, &str, &str, &[&str])] = &[
        ("leaf01 hairpins", "leaf01", "10.233.66.0/26", &["172.20.0.11", "172.20.0.12"]),
        ("services, both reflectors", "leaf01", "10.233.0.0/18", &["172.20.0.11", "172.20.0.12"]),
        ("the other rack", "leaf01", "10.233.69.0/26", &["100.0.0.1"]),
        ("both racks", "spine", "10.233.0.0/18", &["100.0.0.2", "100.0.0.6"]),
        ("reflected", "node3", "10.233.64.0/26", &["172.20.0.11"]),
        ("by the leaf", "node3", "10.233.69.0/26", &["172.20.0.254"]),
        ("clients behind gw1", "spine", "192.168.200.0/24", &["100.0.0.2"]),
    ];
    for (name, machine, prefix, gateways) in routes {
        let route = lab.netns(machine).route(prefix.parse().expect(name)).expect(name);
        let expected: Vec<IpAddr> = gateways.iter().map(|text| text.parse().expect(name)).collect();
        assert_eq!(route.gateways(), expected, "{name}");
    }
    let own = lab.netns("node3").route("10.233.66.0/26".parse().expect("a block")).expect("its own block");
    assert_eq!((own.kind.as_str(), own.protocol.as_str()), ("blackhole", "bird"));
    let services = lab.netns("node3").route(topology::SERVICE_RANGE.parse().expect("a range"));
    services.expect_err("Calico keeps service ranges out of the kernel");

    let client = IpAddr::V4(CLIENT);
    let gateway_client = IpAddr::V4(GATEWAY_CLIENT);
    let paths = [
        ("spine, leaf, reflector, node", "client", "pod3", pod("pod3"), 60),
        ("spine, leaf, reflector, node", "client", "pod6", pod("pod6"), 60),
        ("node, leaf, spine", "pod3", "client", client, 61),
        ("node, leaf, gateway", "pod3b", "gwclient", gateway_client, 61),
        ("node, node", "pod3", "pod1", pod("pod1"), 62),
    ];
    for (hops, from, receiver, address, ttl) in paths {
        let what = format!("{from} to {receiver} by {hops}");
        let to = SocketAddr::new(address, 7000);
        let report = udp::send(&lab.netns(from), &lab.netns(receiver), to, udp::Stream::default());
        let report = report.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        report.check_intact().unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(report.ttls.keys().copied().collect::<Vec<_>>(), [ttl], "{what}");
    }
    let to = SocketAddr::new(pod("pod3"), 7001);
    tcp::transfer(&lab.netns("client"), &lab.netns("pod3"), to, 1 << 20, SOON).expect("TCP by the hairpin");
}

#[test]
fn keeping_the_next_hop_takes_the_hairpin_away() {
    if !can_raise_labs() {
        return;
    }
    let options = Options { calico: calico::Options { next_hop_keep: true }, ..Options::default() };
    let mut lab = ReferenceLab::start(&options).expect("the lab starts");
    wait::until("leaf01 reaches node3 directly", Duration::from_mins(1), || {
        let route = lab.netns("leaf01").route("10.233.66.0/26".parse()?)?;
        let node3 = IpAddr::V4(Ipv4Addr::new(172, 20, 0, 13));
        ensure!(route.gateways() == [node3], "{route:?}");
        lab.frr("leaf01").client().routes()
    })
    .expect("one next hop, node3 itself");
    lab.wait_converged(SOON).expect("one next hop per block is all that there is");
}

/// Two machines with addresses that every pair shares, and what their daemons say.
struct Pair {
    lab: Lab,
    left: Bird,
}

impl Pair {
    const LEFT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn start() -> Self {
        let lab = Lab::new().expect("a lab");
        let machines = lab.add_machines(&["left", "right"]).expect("namespaces");
        netns::ip(&format!(
            "link add eth0 netns {} type veth peer name eth0 netns {}\n",
            machines[0].name(),
            machines[1].name()
        ))
        .expect("a cable");
        for (machine, address) in machines.iter().zip([Self::LEFT, Self::RIGHT]) {
            machine.ip(&format!("address add {address}/24 dev eth0\nlink set eth0 up\n")).expect("addresses");
        }
        let config = "router id 10.0.0.1;
            protocol device { scan time 2; }
            protocol kernel { export all; }
            protocol static { route 10.1.0.0/24 blackhole; }
            protocol bgp right {
              local 10.0.0.1 as 64512; neighbor 10.0.0.2 as 64513; import all; export all;
              connect delay time 1; connect retry time 1; error wait time 1, 2;
            }";
        let left = Bird::start(&lab, "left", bird::Version::V1, config).expect("BIRD 1.6");
        Self { lab, left }
    }

    /// The left BIRD's session, and the route that it learns from the right.
    fn wait_learned(&self) {
        wait::until("the left side has the right one's route", SOON, || {
            let session = self.left.client().session(IpAddr::V4(Self::RIGHT))?;
            ensure!(session.is_established(), "{session:?}");
            let route = self.lab.netns("left").route("10.2.0.0/24".parse()?)?;
            ensure!(route.protocol == "bird" && route.gateways() == [IpAddr::V4(Self::RIGHT)], "{route:?}");
            Ok(())
        })
        .expect("a session and a route");
    }
}

#[test]
fn labs_with_the_same_addresses_coexist_and_leave_nothing_behind() {
    if !can_raise_labs() {
        return;
    }
    let before = machine_state();

    let with_bird = Pair::start();
    let with_frr = Pair::start();
    let mut right_bird = Bird::start(
        &with_bird.lab,
        "right",
        bird::Version::V2,
        "router id 10.0.0.2;
        protocol device { scan time 2; }
        protocol static { ipv4; route 10.2.0.0/24 blackhole; }
        protocol bgp left {
          local 10.0.0.2 as 64513; neighbor 10.0.0.1 as 64512; ipv4 { import all; export all; };
          connect delay time 1; connect retry time 1; error wait time 1, 2;
        }",
    )
    .expect("BIRD 2");
    let right_frr = Frr::start(
        &with_frr.lab,
        "right",
        "router bgp 64513\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor 10.0.0.1 remote-as 64512\n neighbor 10.0.0.1 timers connect 1\n \
         address-family ipv4 unicast\n  network 10.2.0.0/24\n exit-address-family\n",
    )
    .expect("FRR");
    with_bird.wait_learned();
    with_frr.wait_learned();
    let learned = |paths: Vec<underpass_tests::daemon::Path>| {
        paths.iter().any(|path| path.prefix.to_string() == "10.1.0.0/24" && path.selected)
    };
    wait::until("BIRD 2 and FRR have the left side's route", SOON, || {
        ensure!(learned(right_bird.client().routes()?), "BIRD 2 lacks it");
        ensure!(learned(right_frr.client().routes()?), "FRR lacks it");
        Ok(())
    })
    .expect("routes both ways");

    // One lab's daemon dies and comes back; the other lab does not notice.
    right_bird.kill().expect("BIRD 2 ends");
    wait::until("the left side sees it", SOON, || {
        let session = with_bird.left.client().session(IpAddr::V4(Pair::RIGHT))?;
        ensure!(!session.is_established(), "{session:?}");
        Ok(())
    })
    .expect("a lost session");
    with_frr.wait_learned();
    right_bird.restart().expect("BIRD 2 starts again");
    with_bird.wait_learned();

    let traces: Vec<_> = [&with_bird, &with_frr].map(|pair| Traces::of(&pair.lab)).into();
    let pids = [with_bird.left.process().pid(), with_frr.left.process().pid(), right_bird.process().pid()];
    for trace in &traces {
        trace.check_gone().expect_err("a running lab is seen");
    }
    drop((right_bird, right_frr, with_bird, with_frr));
    for trace in &traces {
        trace.check_gone().expect("a dropped lab is gone");
    }
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is gone");
    }
    assert_eq!(before, machine_state(), "links, routes, rules and sysctls of the machine itself");
}

#[test]
fn a_lab_comes_down_when_its_owner_is_killed_or_interrupted() {
    if !can_raise_labs() {
        return;
    }
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        let name = format!("owned-{}", std::process::id());
        let mut owner = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["up", "--foreground", "--no-agents", "--name", &name])
            .stdout(Stdio::null())
            .spawn()
            .expect("the lab program starts");
        let dir = Path::new(lab::FOLDER).join(lab::named_id(&name));
        let node1 = Netns::named(format!("{}-node1", lab::named_id(&name)));
        wait::until("the lab's daemons run", SOON, || reference::sessions(&dir, "node1"))
            .expect("a lab comes up");
        let pids = netns::output(Command::new("ip").args(["netns", "pids", node1.name()])).expect("pids");
        let pids: Vec<&str> = pids.split_whitespace().collect();
        assert!(!pids.is_empty(), "node1 has a BIRD");

        kill(Pid::from_raw(owner.id().try_into().expect("a pid")), signal).expect("the owner is there");
        owner.wait().expect("the owner ends");
        let traces = Traces { id: lab::named_id(&name), dir };
        wait::until("the lab is gone", SOON, || traces.check_gone())
            .unwrap_or_else(|error| panic!("after {signal}: {error:#}"));
        // Orphans: whoever adopts them also buries them, sooner or later.
        wait::until("its processes are gone", SOON, || {
            let left: Vec<_> = pids.iter().filter(|pid| Path::new("/proc").join(pid).exists()).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("after {signal}: {error:#}"));
    }
}

#[test]
fn a_failing_command_is_named() {
    if !can_raise_labs() {
        return;
    }
    let lab = Lab::new().expect("a lab");
    let machine = lab.add_machines(&["only"]).expect("a namespace").remove(0);
    let error = machine.ip("link set lo up\nlink set nothing up\n").expect_err("no such link");
    assert!(format!("{error:#}").contains("ip link set nothing up"), "{error:#}");
    let error = machine.sysctl(&[("ipv4.no_such_key", "1")]).expect_err("no such key");
    assert!(format!("{error:#}").contains("net/ipv4/no_such_key"), "{error:#}");
    let error = Bird::start(&lab, "only", bird::Version::V1, "nonsense;").expect_err("no such keyword");
    assert!(format!("{error:#}").contains("syntax error"), "{error:#}");
}

fn pod(name: &str) -> IpAddr {
    IpAddr::V4(topology::pod_address(name).expect("a pod of the reference"))
}

/// What a lab leaves in the system while it is up.
struct Traces {
    id: String,
    dir: std::path::PathBuf,
}

impl Traces {
    fn of(lab: &Lab) -> Self {
        Self { id: lab.id().to_owned(), dir: lab.dir().to_owned() }
    }

    fn check_gone(&self) -> Result<()> {
        ensure!(!self.dir.exists(), "{} exists", self.dir.display());
        let mounts = fs::read_to_string("/proc/mounts")?;
        ensure!(!mounts.contains(&format!("/{}/", self.id)), "something is mounted:\n{mounts}");
        for entry in fs::read_dir(netns::FOLDER)? {
            let name = entry?.file_name();
            let of_lab = name.to_string_lossy().starts_with(&format!("{}-", self.id));
            ensure!(!of_lab, "namespace {} exists", name.display());
        }
        Ok(())
    }
}

/// Links, routes, rules and network settings of the machine's own namespace.
fn machine_state() -> String {
    let commands: [&[&str]; 4] = [
        &["-details", "link"],
        &["-4", "route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
        &["rule"],
    ];
    let mut state = String::new();
    for arguments in commands {
        state += &netns::output(Command::new("ip").args(arguments)).expect("ip works");
    }
    let mut folders = vec![Path::new("/proc/sys/net/ipv4").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("sysctls are readable") {
            let path = entry.expect("sysctls are readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(value) = fs::read_to_string(&path) {
                state += &path.display().to_string();
                state += &value;
            }
        }
    }
    state
}
