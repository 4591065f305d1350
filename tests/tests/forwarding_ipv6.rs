//! left - router - right with Underpass on the router: real IPv6 traffic, IPv4 over IPv6 next hops, and
//! frames in several buffers, counted on both sides.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use underpass_tests::agent::{Agent, forwarded};
use underpass_tests::lab::Lab;
use underpass_tests::netns;
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::traffic::udp::{self, Stream};
use underpass_tests::wait;
use underpass_tests::xdp::PassProgram;

const SOON: Duration = Duration::from_secs(20);
const PACKETS: u64 = 50;
const LEFT: &str = "2001:db8:1::2";
const RIGHT: &str = "2001:db8:b::9";
const LEFT4: &str = "10.9.1.2";
/// Behind the router's IPv6 neighbour, which has no other IPv4 address.
const RIGHT4: &str = "10.9.9.9";

struct Rig {
    agent: Agent,
    lab: Lab,
}

impl Rig {
    /// With this MTU everywhere.
    fn start(mtu: u32, fib: &str) -> Option<Self> {
        if !can_raise_labs() {
            return None;
        }
        let lab = Lab::new().expect("a lab");
        let machines = lab.add_machines(&["left", "router", "right"]).expect("namespaces");
        let [left, router, right] = [0, 1, 2].map(|index| machines[index].clone());
        netns::ip(&format!(
            "link add eth0 mtu {mtu} netns {left} type veth peer name eth0 mtu {mtu} netns {router}\n\
             link add eth0 mtu {mtu} netns {right} type veth peer name eth1 mtu {mtu} netns {router}\n",
            left = left.name(),
            router = router.name(),
            right = right.name(),
        ))
        .expect("links");
        router.sysctl(&[("ipv4.ip_forward", "1"), ("ipv6.conf.all.forwarding", "1")]).expect("a router");
        router
            .ip("link set eth0 up\nlink set eth1 up\n\
                 address add 10.9.1.1/24 dev eth0\naddress add 2001:db8:1::1/64 dev eth0 nodad\n\
                 address add 2001:db8:2::1/64 dev eth1 nodad\n\
                 route add 2001:db8:b::/48 via 2001:db8:2::2\n\
                 route add 10.9.9.0/24 via inet6 2001:db8:2::2 dev eth1\n")
            .expect("the router's addresses");
        left.ip(&format!(
            "link set eth0 up\naddress add {LEFT}/64 dev eth0 nodad\nroute add default via 2001:db8:1::1\n\
             address add {LEFT4}/24 dev eth0\nroute add default via 10.9.1.1\n"
        ))
        .expect("the left end");
        right
            .ip(&format!(
                "link set lo up\nlink set eth0 up\naddress add 2001:db8:2::2/64 dev eth0 nodad\n\
                 address add {RIGHT}/128 dev lo\nroute add default via 2001:db8:2::1\n\
                 address add {RIGHT4}/32 dev lo\nroute add 0.0.0.0/0 via inet6 2001:db8:2::1 dev eth0\n"
            ))
            .expect("the right end");
        right.sysctl(&[("ipv4.conf.all.rp_filter", "0")]).expect("the right end");
        let pass = PassProgram::load(&lab).expect("a program");
        for machine in [&left, &right] {
            pass.attach(machine, "eth0").expect("a link partner");
        }
        let config = format!(
            "[datapath]\nports = [\"eth*\"]\nfib = \"{fib}\"\n\
             accelerate = [\"2001:db8::/32\", \"10.9.0.0/16\"]\n"
        );
        let mut agent = Agent::start(&lab, "router", &config).expect("started");
        agent.wait_synced(SOON).expect("synced");
        Some(Self { agent, lab })
    }

    /// Waits until XDP would forward a packet from the left end.
    fn wait_forwards(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|text| text.parse::<IpAddr>().expect("an address"));
        wait::until("XDP forwards", SOON, || {
            let lookup = self.agent.client().lookup(to, Some(from), Some("eth0"))?;
            ensure!(lookup.xdp.verdict == "redirect", "{} ({})", lookup.xdp.verdict, lookup.xdp.reason);
            ensure!(lookup.agree, "the kernel says otherwise: {:?}", lookup.kernel);
            Ok(())
        })
        .expect("forwarded");
    }

    /// Sends packets of this payload from left to right; all arrive, with a TTL one less. Gives how many went
    /// by XDP.
    fn send(&self, to: &str, payload: usize) -> u64 {
        let counted = || forwarded(&self.agent.client().counters().expect("counters"));
        let before = counted();
        let to = SocketAddr::new(to.parse().expect("an address"), 9000);
        let stream = Stream { count: PACKETS, payload, ..Stream::default() };
        let report = udp::send(&self.lab.netns("left"), &self.lab.netns("right"), to, stream).expect("sent");
        assert_eq!((report.sent, report.received, report.corrupt), (PACKETS, PACKETS, 0), "{report:?}");
        assert_eq!(report.ttls.keys().collect::<Vec<_>>(), [&63], "{report:?}");
        counted() - before
    }
}

#[test]
fn ipv6_goes_by_xdp_while_the_kernel_would_forward_it() {
    for fib in ["flat", "lpm-trie"] {
        let Some(rig) = Rig::start(1500, fib) else { return };
        rig.wait_forwards(LEFT, RIGHT);
        assert_eq!(rig.send(RIGHT, 100), PACKETS, "{fib}: forwarded by XDP");

        // Announced by the kernel: no need for the five seconds after which settings are read anyway.
        let router = rig.lab.netns("router");
        router.sysctl(&[("ipv6.conf.eth0.forwarding", "0")]).expect("a setting");
        wait::until("the port takes no IPv6", Duration::from_secs(3), || {
            let [from, to] = [LEFT, RIGHT].map(|text| text.parse::<IpAddr>().expect("an address"));
            let lookup = rig.agent.client().lookup(to, Some(from), Some("eth0"))?;
            ensure!(lookup.xdp.reason == "port_not_ready", "{}", lookup.xdp.reason);
            Ok(())
        })
        .expect("not taken");
        assert_eq!(rig.send(RIGHT, 100), 0, "{fib}: forwarded by the kernel");
    }
}

#[test]
fn ipv4_goes_over_an_ipv6_next_hop() {
    let Some(rig) = Rig::start(1500, "flat") else { return };
    rig.wait_forwards(LEFT4, RIGHT4);
    assert_eq!(rig.send(RIGHT4, 100), PACKETS, "forwarded by XDP");
}

#[test]
fn h28_jumbo_frames_in_several_buffers_go_by_xdp() {
    let Some(rig) = Rig::start(9000, "flat") else { return };
    rig.wait_forwards(LEFT, RIGHT);
    assert_eq!(rig.send(RIGHT, 9000 - 48), PACKETS, "IPv6 by XDP");
    rig.wait_forwards(LEFT4, RIGHT4);
    assert_eq!(rig.send(RIGHT4, 9000 - 28), PACKETS, "IPv4 by XDP");
}

#[test]
fn reports_show_ipv6_as_they_show_ipv4() {
    let Some(rig) = Rig::start(1500, "flat") else { return };
    rig.wait_forwards(LEFT, RIGHT);
    rig.wait_forwards(LEFT4, RIGHT4);
    let run = |arguments: &[&str]| {
        let output = rig.agent.cli(arguments).expect("underpass starts");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        // Columns are as wide as it takes.
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let routes = run(&["routes"]);
    for expected in [
        "10.9.9.0/24 - boot 2001:db8:2::2 eth1 forward 2001:db8:2::2 eth1 yes",
        "2001:db8::/32 - - pass (no_route) yes",
        "2001:db8:1::/64 - kernel on-link eth0 pass (connected) yes",
        "2001:db8:1::/128 - kernel anycast on-link eth0 pass (local) yes",
        "2001:db8:1::1/128 - kernel local on-link eth0 pass (local) yes",
        "2001:db8:2::2/128 - - forward 2001:db8:2::2 eth1 yes",
        "2001:db8:b::/48 - boot 2001:db8:2::2 eth1 forward 2001:db8:2::2 eth1 yes",
    ] {
        assert!(routes.iter().any(|line| line == expected), "{expected}: {routes:#?}");
    }
    assert!(run(&["status"]).iter().any(|line| line == "Problems none"));

    // Without --from: the router's own address is the first of the segment, and no host's.
    let hop =
        |lookup: &[String]| lookup[4].starts_with("2001:db8:2::2 eth1 ") && lookup[4].ends_with(" yes yes");
    for (to, packet, prefix) in [
        (RIGHT, "Packet to 2001:db8:b::9 from 2001:db8:1::2 in by eth0", "Prefix 2001:db8:b::/48"),
        (RIGHT4, "Packet to 10.9.9.9 from 10.9.1.2 in by eth0", "Prefix 10.9.9.0/24"),
    ] {
        let lookup = run(&["lookup", to]);
        assert_eq!(lookup[..2], [packet, prefix]);
        assert!(lookup[2].starts_with("XDP redirect (forwarded_redirect), target "), "{lookup:#?}");
        assert!(lookup[2].ends_with(", out by eth1") && hop(&lookup), "{lookup:#?}");
        assert_eq!(lookup[5..7], ["Kernel unicast via 2001:db8:2::2 out by eth1", "Agree yes"]);
    }
    for (to, port, packet, answer) in [
        (LEFT, "eth1", "from 2001:db8:b::1 in by eth1", "Kernel unicast out by eth0"),
        ("2001:db8:1::1", "eth0", "from 2001:db8:1::2 in by eth0", "Kernel local out by lo"),
        ("2001:db8:1::2", "eth0", "from 2001:db8:1::3 in by eth0", "Kernel unicast out by eth0"),
        ("2001:db8:f::1", "eth0", "from 2001:db8:1::2 in by eth0", "Kernel error: Network is unreachable"),
    ] {
        let lookup = run(&["lookup", to, "--in", port]);
        assert!(lookup[0].ends_with(packet), "{lookup:#?}");
        assert!(lookup.iter().any(|line| line.starts_with(answer)), "{lookup:#?}");
        assert!(lookup.contains(&"Agree yes".to_owned()), "{lookup:#?}");
    }
}
