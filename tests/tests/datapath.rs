//! Loading, attaching and handing over, on real devices and a bpffs of the test's own.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use aya::EbpfLoader;
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use serde_json::Value;
use underpass::datapath::control::{self, Switch};
use underpass::datapath::maps::FibMaps;
use underpass::datapath::pins::{self, Flushed, PinError};
use underpass::datapath::probe::{Answer, Flow, udp_frame};
use underpass::datapath::{Datapath, Engine, OBJECT, PortFacts};
use underpass_common::abi::map;
use underpass_common::nexthop::{
    NEXT_HOP_LIVE, NextHop, PORT_EGRESS, PORT_INGRESS, PORT_TX, Port, SOURCE_VALID, Target, TargetKind,
};
use underpass_common::reason::Reason;
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::wait;
use underpass_tests::xdp::PassProgram;

const SOON: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_mins(1);

/// A router whose port `e0` is a veth; the other end, `far0`, is a port of the rack's bridge, on which
/// a client and a server hang.
struct Rig {
    lab: Lab,
    router: Netns,
    rack: Netns,
    client: Netns,
    server: Netns,
}

impl Rig {
    fn raise() -> Option<Self> {
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

    fn bpffs(&self) -> PathBuf {
        self.lab.bpffs().join("underpass")
    }

    /// Makes `far0` a peer that takes XDP frames.
    fn attach_pass_program(&self) {
        let pass = PassProgram::load(&self.lab).expect("the pass program loads");
        pass.attach(&self.rack, "far0").expect("a veth runs XDP");
    }

    /// Runs `test` in a thread inside of the router.
    fn in_router<T: Send>(&self, test: impl FnOnce() -> T + Send) -> T {
        self.router.enter(test).expect("the router's namespace")
    }

    fn load(&self) -> Datapath {
        Datapath::load(&self.bpffs(), Engine::Flat).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Name and mode (1: driver) of the XDP program on an interface of the router.
    fn program(&self, interface: &str) -> Option<(String, u64, u64)> {
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

fn index(interface: &str) -> u32 {
    if_nametoindex(interface).expect("the interface exists")
}

fn mac(netns: &Netns, interface: &str) -> [u8; 6] {
    let links: Vec<Value> =
        netns.ip_json(&format!("link show dev {interface}")).expect("the interface exists");
    let text = links[0]["address"].as_str().expect("an address");
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("six bytes")
}

fn problem(facts: &PortFacts) -> &str {
    facts.problem.as_deref().expect("a problem")
}

/// What the program says about any packet from a port that is not managed: lease and kill switch come
/// first.
fn ask(datapath: &mut Datapath) -> Answer {
    let flow = Flow {
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        source: [10, 0, 0, 2].into(),
        destination: [10, 1, 1, 1].into(),
        source_port: 4000,
        destination_port: 9,
    };
    datapath.probe(u32::MAX, &udp_frame(&flow)).expect("the probe answers")
}

#[test]
fn program_is_attached_in_the_driver_by_a_pinned_link() {
    let Some(rig) = Rig::raise() else { return };
    rig.attach_pass_program();
    rig.in_router(|| {
        let mut datapath = rig.load();
        let e0 = index("e0");
        let facts = datapath.attach(e0, "e0");
        assert_eq!((facts.number, facts.attached), (1, true), "{facts:?}");
        assert_eq!((facts.ingress, facts.egress, facts.tx), (true, true, true), "{facts:?}");
        assert_eq!(facts.problem, None);
        assert_eq!(datapath.attached().expect("readable"), [e0]);
        assert!(pins::link(&pins::folder(&rig.bpffs()), e0).exists());
        let (name, _, mode) = rig.program("e0").expect("a program");
        assert_eq!((name.as_str(), mode), ("underpass", 1));
        datapath.detach(e0).expect("detached");
        assert_eq!(rig.program("e0"), None);
    });
}

#[test]
fn abilities_follow_the_peer_of_a_veth() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let facts = datapath.attach(index("e0"), "e0");
        assert_eq!((facts.ingress, facts.egress, facts.tx), (true, false, false), "{facts:?}");
        assert!(problem(&facts).contains("the peer of e0"), "{facts:?}");

        rig.rack.run("ethtool", ["-K", "far0", "gro", "on"]).expect("a veth has GRO");
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.egress, facts.tx), (true, false), "GRO takes redirects only: {facts:?}");

        rig.attach_pass_program();
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.egress, facts.tx), (true, true), "{facts:?}");

        rig.rack.ip("link set far0 xdpdrv off\n").expect("detachable");
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.egress, facts.tx), (true, false), "{facts:?}");
    });
}

#[test]
fn foreign_program_is_named_and_left_alone() {
    let Some(rig) = Rig::raise() else { return };
    let pass = PassProgram::load(&rig.lab).expect("the pass program loads");
    pass.attach(&rig.router, "e0").expect("a veth runs XDP");
    rig.in_router(|| {
        let before = rig.program("e0").expect("the foreign program");
        let mut datapath = rig.load();
        let facts = datapath.attach(index("e0"), "e0");
        assert_eq!((facts.number, facts.attached, facts.egress), (0, false, false));
        let text = problem(&facts);
        assert!(text.contains(&format!("e0 already runs XDP program {}", before.1)), "{text}");
        assert_eq!(rig.program("e0"), Some(before));
        assert_eq!(datapath.attached().expect("readable"), [] as [u32; 0]);

        rig.router.ip("link set e0 xdpdrv off\n").expect("detachable");
        assert!(datapath.attach(index("e0"), "e0").attached, "free again");
    });
}

#[test]
fn devices_on_top_of_others_are_refused() {
    let Some(rig) = Rig::raise() else { return };
    rig.router
        .ip("link add br0 type bridge\nlink add e1 type veth peer name e2\nlink set e1 master br0\n\
             link add mv0 link e0 type macvlan\n")
        .expect("devices");
    rig.in_router(|| {
        let mut datapath = rig.load();
        for (name, expected) in [
            ("br0", "is a bridge device"),
            ("mv0", "is a macvlan device"),
            ("e1", "a port of interface number"),
            ("lo", "not an Ethernet interface"),
        ] {
            let facts = datapath.attach(index(name), name);
            assert!(problem(&facts).contains(expected), "{name}: {facts:?}");
            assert!(problem(&facts).contains("datapath.ports"), "{name}: {facts:?}");
            assert_eq!(rig.program(name), None, "{name}");
        }
        let facts = datapath.attach(4_000_000, "gone0");
        assert!(problem(&facts).contains("4000000"), "{facts:?}");
    });
}

#[test]
fn new_agent_adopts_maps_links_and_port_numbers() {
    let Some(rig) = Rig::raise() else { return };
    rig.router.ip("link add e1 type veth peer name e2\nlink set e1 up\n").expect("devices");
    rig.in_router(|| {
        let (e0, e1) = (index("e0"), index("e1"));
        let mut datapath = rig.load();
        datapath.attach(e1, "e1");
        let number = datapath.attach(e0, "e0").number;
        let port = Port { ifindex: e0, number, view: 7, flags: PORT_INGRESS, ..Port::default() };
        datapath.maps().set_port(port).expect("written");
        let before = rig.program("e0").expect("attached");
        drop(datapath);
        assert_eq!(rig.program("e0").as_ref(), Some(&before), "the link outlives the agent");

        let mut datapath = rig.load();
        assert_eq!(datapath.attached().expect("readable"), [e0, e1]);
        assert_eq!(datapath.maps().contents().expect("readable").ports, [(e0, port)].into());
        assert_eq!(datapath.attach(e0, "e0").number, number, "numbers are stable");
        let after = rig.program("e0").expect("attached");
        assert_ne!(after.1, before.1, "the new agent's program runs");
        assert_eq!((&after.0, after.2), (&before.0, before.2));

        // The interface dies while no agent runs, and another takes its name.
        drop(datapath);
        rig.router.ip("link del e1\nlink add e1 type veth peer name e2\n").expect("devices");
        let mut datapath = rig.load();
        assert_eq!(datapath.attached().expect("readable"), [e0], "the defunct link is dropped");
        assert!(datapath.attach(index("e1"), "e1").attached);
    });
}

#[test]
fn port_that_lost_its_program_is_attached_anew() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let e0 = index("e0");
        let pin = pins::link(&pins::folder(&rig.bpffs()), e0);
        let facts = datapath.attach(e0, "e0");
        assert!(datapath.refresh(&facts).attached);
        std::fs::remove_file(pin).expect("an operator may");
        assert_eq!(rig.program("e0"), None);
        let facts = datapath.refresh(&facts);
        assert!(!facts.attached && problem(&facts).contains("no longer runs"), "{facts:?}");
        assert!(datapath.attach(e0, "e0").attached);

        // Another interface gets the index while nobody looks.
        rig.router.ip(&format!("link add e1 index {} type veth peer name e2\n", e0 + 900)).expect("devices");
        let (e1, facts) = (e0 + 900, datapath.attach(e0 + 900, "e1"));
        assert!(facts.attached, "{facts:?}");
        let anew = format!("link del e1\nlink add e1 index {e1} type veth peer name e2\n");
        rig.router.ip(&anew).expect("devices");
        assert!(!datapath.refresh(&facts).attached);
        assert!(datapath.attach(e1, "e1").attached);
        assert!(rig.program("e1").is_some());
    });
}

#[test]
fn interface_that_took_over_an_index_is_opened_anew() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let add = "link add e1 index 900 type veth peer name e2\n";
        rig.router.ip(add).expect("devices");
        let mut datapath = rig.load();
        let number = datapath.attach(900, "e1").number;
        let row = Port { ifindex: 900, number, flags: PORT_INGRESS | PORT_EGRESS, ..Port::default() };
        datapath.maps().set_port(row).expect("written");
        let ports = |datapath: &mut Datapath| datapath.maps().contents().expect("readable").ports;
        assert_eq!(ports(&mut datapath), [(900, row)].into());
        rig.router.ip(&format!("link del e1\n{add}")).expect("devices");
        let closed = Port { flags: PORT_INGRESS, ..row };
        assert_eq!(ports(&mut datapath), [(900, closed)].into(), "the kernel emptied the redirect map");
    });
}

#[test]
fn port_that_vanished_between_two_agents_leaves_number_and_slot() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        rig.router.ip("link add e1 index 900 type veth peer name e2\n").expect("devices");
        let mut datapath = rig.load();
        let number = datapath.attach(900, "e1").number;
        datapath.maps().set_port(Port { ifindex: 900, number, ..Port::default() }).expect("written");
        drop(datapath);
        rig.router.ip("link del e1\nlink add e1 index 1924 type veth peer name e2\n").expect("devices");
        let mut datapath = rig.load();
        assert_eq!(datapath.known().expect("readable"), [900].into());
        assert!(problem(&datapath.attach(1924, "e1")).contains("same table slot"));
        datapath.maps().clear_port(900).expect("cleared");
        datapath.detach(900).expect("given up");
        let facts = datapath.attach(1924, "e1");
        assert_eq!((facts.attached, facts.number), (true, number), "{facts:?}");
    });
}

#[test]
fn pinned_map_of_another_shape_is_refused() {
    let Some(rig) = Rig::raise() else { return };
    let folder = pins::create(&rig.bpffs()).expect("a folder on the lab's bpffs");
    let path = pins::map(&folder, map::PORTS);
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(map::PORTS, 8).map_pin_path(map::PORTS, path.as_path());
    drop(loader.load(OBJECT).expect("the object loads"));
    rig.in_router(|| {
        let error = Datapath::load(&rig.bpffs(), Engine::Flat).err().expect("another size").to_string();
        for part in ["UP_PORTS", "number of entries is 8, expected 1024", "underpass flush"] {
            assert!(error.contains(part), "{error}");
        }
        pins::flush(&rig.bpffs()).expect("the remedy works");
        rig.load();
    });
}

#[test]
fn folder_that_is_not_on_bpffs_or_taken_is_refused() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let error =
            Datapath::load(&rig.lab.dir().join("plain"), Engine::Flat).err().expect("no bpffs").to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
        let first = rig.load();
        let error = Datapath::load(&rig.bpffs(), Engine::Flat).err().expect("taken").to_string();
        assert!(error.contains("another agent uses"), "{error}");
        drop(first);
        rig.load();
    });
}

#[test]
fn kill_switch_works_without_an_agent_and_survives_restarts() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let bpffs = rig.bpffs();
        let error = control::set_enabled(&bpffs, false).expect_err("nothing loaded").to_string();
        assert!(error.contains("no data plane is loaded"), "{error}");

        let mut datapath = rig.load();
        datapath.renew_lease(LEASE).expect("renewed");
        assert_eq!(ask(&mut datapath).reason, Reason::Off, "fresh maps do not forward");
        assert_eq!(datapath.arm().expect("written"), Switch::On);
        assert_eq!(ask(&mut datapath).reason, Reason::NotAPort);

        // Beside a running agent, whose renewals must not undo it.
        control::set_enabled(&bpffs, false).expect("written");
        datapath.renew_lease(LEASE).expect("renewed");
        assert_eq!(ask(&mut datapath).reason, Reason::Off);
        assert!(!datapath.enabled().expect("readable"));
        drop(datapath);

        let mut datapath = rig.load();
        assert_eq!(datapath.arm().expect("readable"), Switch::Off, "a restart is no `on`");
        drop(datapath);
        control::set_enabled(&bpffs, true).expect("written");
        assert_eq!(control::switch(&bpffs).expect("readable"), Switch::On);
        let mut datapath = rig.load();
        assert_eq!(ask(&mut datapath).reason, Reason::NotAPort);
    });
}

#[test]
fn lease_ends_without_renewals() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        datapath.arm().expect("written");
        assert_eq!(ask(&mut datapath).reason, Reason::LeaseExpired, "no lease yet");
        datapath.renew_lease(Duration::from_secs(30)).expect("renewed");
        let left = datapath.lease_seconds().expect("readable");
        assert!((28..=30).contains(&left), "{left}");
        assert_eq!(ask(&mut datapath).reason, Reason::NotAPort);

        let begin = std::time::Instant::now();
        datapath.renew_lease(Duration::from_millis(600)).expect("renewed");
        wait::until("the lease ends", SOON, || {
            let reason = ask(&mut datapath).reason;
            ensure!(reason == Reason::LeaseExpired, "{reason:?}");
            Ok(())
        })
        .expect("the lease ends");
        // A wrong tick rate would be off by a factor of 2.5 and more.
        assert!(begin.elapsed() >= Duration::from_millis(600), "{:?}", begin.elapsed());
        assert_eq!(datapath.lease_seconds().expect("readable"), 0);
    });
}

#[test]
fn flush_takes_everything_away() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let bpffs = rig.bpffs();
        let mut datapath = rig.load();
        datapath.attach(index("e0"), "e0");
        let error = pins::flush(&bpffs).expect_err("the agent runs");
        assert!(matches!(error, PinError::InUse { .. }), "{error}");
        drop(datapath);
        assert!(rig.program("e0").is_some());
        let flushed = pins::flush(&bpffs).expect("flushed");
        assert_eq!(flushed, Flushed { links: 1, maps: map::ALL.len() - 1 });
        assert_eq!(rig.program("e0"), None);
        assert!(!pins::folder(&bpffs).exists());
        assert_eq!(pins::flush(&bpffs).expect("nothing left"), Flushed::default());
    });
}

#[test]
fn tables_read_back_as_written() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let maps = datapath.maps();
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let row = NextHop { ifindex: 3, state: NEXT_HOP_LIVE, mtu: 1500, ..NextHop::default() };
        let group = Target { kind: TargetKind::Group as u32, index: 64, mask: 1, ..Target::default() };
        maps.set_next_hop(5, row).expect("written");
        maps.set_bucket(64, 5).expect("written");
        maps.set_bucket(65, 5).expect("written");
        maps.set_target(9, group).expect("written");
        for (view, prefix) in [(0, "0.0.0.0/0"), (0, "10.1.0.0/16"), (3, "10.1.0.0/16"), (3, "10.1.2.3/32")] {
            maps.set_prefix(view, net(prefix), 9).expect("written");
        }
        maps.delete_prefix(0, net("10.1.0.0/16")).expect("deleted");
        maps.delete_prefix(0, net("10.1.0.0/16")).expect("a missing prefix is no error");
        maps.set_prefix(0, net("2001:db8::/32"), 9).expect("written");
        let error = maps.set_prefix(128, net("10.2.0.0/16"), 9).expect_err("no such view");
        assert!(error.to_string().contains("10.2.0.0/16"), "{error}");
        assert!(maps.set_target(u32::MAX, group).is_err());
        maps.grace_period().expect("waited");

        let contents = maps.contents().expect("readable");
        assert_eq!(contents.next_hops, [(5, row)].into());
        assert_eq!(contents.buckets, [(64, 5), (65, 5)].into());
        assert_eq!(contents.targets, [(9, group)].into());
        let prefixes: Vec<_> = contents.prefixes.keys().map(|(view, net)| (*view, net.to_string())).collect();
        let expected = [(0, "0.0.0.0/0"), (0, "2001:db8::/32"), (3, "10.1.0.0/16"), (3, "10.1.2.3/32")];
        assert_eq!(prefixes, expected.map(|(view, net)| (view, net.to_owned())));
    });
}

/// Frames that leave by the port they came in on, with every kind of peer that the data plane calls
/// usable: none may be lost, and by `XDP_TX` only where that works.
#[test]
fn hairpin_arrives_with_every_usable_peer() {
    for (peer, expected) in [("gro", Reason::ForwardedRedirect), ("program", Reason::ForwardedTx)] {
        let Some(rig) = Rig::raise() else { return };
        if peer == "gro" {
            rig.rack.run("ethtool", ["-K", "far0", "gro", "on"]).expect("a veth has GRO");
        } else {
            rig.attach_pass_program();
        }
        // Frames that XDP forwards carry no mark "checksum to be done".
        rig.client.run("ethtool", ["-K", "c0", "tx", "off"]).expect("checksums by software");
        let (own, server) = (mac(&rig.router, "e0"), mac(&rig.server, "s0"));
        let datapath = rig.in_router(|| {
            let mut datapath = rig.load();
            let e0 = index("e0");
            let facts = datapath.attach(e0, "e0");
            assert_eq!((facts.egress, facts.tx), (true, peer == "program"), "{peer}: {facts:?}");
            forward_to(&mut datapath, &facts, own, server);
            datapath
        });

        let socket = rig.server.enter(|| UdpSocket::bind("10.1.1.1:9")).expect("inside").expect("bound");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        let sender = rig.client.enter(|| UdpSocket::bind("10.0.0.2:0")).expect("inside").expect("bound");
        let mut buffer = [0; 64];
        for number in 0..200u32 {
            sender.send_to(&number.to_be_bytes(), "10.1.1.1:9").expect("sent");
            let (length, from) = socket.recv_from(&mut buffer).unwrap_or_else(|error| {
                panic!("{peer}: packet {number} is lost ({error}): {:?}", datapath.counters())
            });
            assert_eq!(buffer[..length], number.to_be_bytes(), "{peer}");
            assert_eq!(from.ip().to_string(), "10.0.0.2", "{peer}");
        }
        let counters = datapath.counters().expect("readable");
        assert_eq!(counters.get(&(1, expected)).map(|counter| counter.packets), Some(200), "{counters:?}");
        let bytes = 14 + 20 + 8 + 4;
        assert_eq!(counters[&(1, expected)].bytes, 200 * bytes);
    }
}

/// Forwards 10.1.1.0/24 back out of the port to `server`, from hosts of 10.0.0.0/24.
fn forward_to(datapath: &mut Datapath, facts: &PortFacts, own: [u8; 6], server: [u8; 6]) {
    let maps = datapath.maps();
    let tx = if facts.tx { PORT_TX } else { 0 };
    let port = Port {
        ifindex: facts.ifindex,
        number: facts.number,
        flags: PORT_INGRESS | PORT_EGRESS | tx,
        mac: own,
        ..Port::default()
    };
    let row = NextHop {
        ifindex: facts.ifindex,
        state: NEXT_HOP_LIVE,
        destination_mac: server,
        source_mac: own,
        mtu: 1500,
        ..NextHop::default()
    };
    let forward = Target { kind: TargetKind::NextHop as u32, index: 1, ..Target::default() };
    let source = Target {
        index: Reason::Connected as u32,
        source_flags: SOURCE_VALID,
        source_ports: 1 << facts.number,
        ..Target::default()
    };
    maps.set_port(port).expect("written");
    maps.set_next_hop(1, row).expect("written");
    maps.set_target(1, forward).expect("written");
    maps.set_target(2, source).expect("written");
    maps.set_prefix(0, "10.0.0.0/24".parse().expect("a prefix"), 2).expect("written");
    maps.set_prefix(0, "10.1.1.0/24".parse().expect("a prefix"), 1).expect("written");
    datapath.renew_lease(LEASE).expect("renewed");
    datapath.arm().expect("written");
}
