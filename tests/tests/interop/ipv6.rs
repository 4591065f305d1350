//! One peer over IPv6 with IPv6 routes: BIRD 2 of our AS, FRR of another.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use underpass_tests::agent::Agent;
use underpass_tests::daemon::bird::Version;
use underpass_tests::daemon::{Bird, Frr};
use underpass_tests::lab::Lab;
use underpass_tests::netns;
use underpass_tests::wait;

use super::rig::{KernelRoute, PATIENCE, kernel_routes};

/// BIRD announces two prefixes to next hops that are not its own.
const BIRD: &str = "router id 10.0.0.1;
protocol device { scan time 2; }
protocol static feed {
  ipv6;
  route fd00:64:1::/64 via fd00:10::21;
  route fd00:64:2::/64 via fd00:10::22;
}
protocol bgp edge {
  local fd00:10::1 as 64512;
  neighbor fd00:10::9 as 64512;
  graceful restart on;
  connect delay time 1;
  ipv6 { import none; export all; next hop keep; add paths on; };
}
";

/// FRR announces itself; the next hop comes with its link-local address beside the global one.
const FRR: &str = "router bgp 64513
 bgp router-id 10.0.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor fd00:10::9 remote-as 64512
 neighbor fd00:10::9 timers connect 1
 address-family ipv6 unicast
  neighbor fd00:10::9 activate
  network fd00:64:1::/64
  network fd00:64:2::/64
 exit-address-family
";

fn agent(remote_as: u32) -> String {
    format!(
        "[bgp]\nlocal_as = 64512\nrouter_id = \"10.0.0.9\"\n\n[bgp.import]\n\
         prefixes = [{{ prefix = \"fd00:64::/32\", min = 64, max = 64 }}]\nnext_hops = [\"fd00:10::/64\"]\n\n\
         [[bgp.peers]]\nname = \"peer\"\naddress = \"fd00:10::1\"\nremote_as = {remote_as}\n\
         source_address = \"fd00:10::9\"\nhold_time = \"9s\"\nconnect_retry = \"1s\"\n\
         families = [\"ipv6-unicast\"]\n"
    )
}

fn link(lab: &Lab) -> Result<()> {
    let machines = lab.add_machines(&["edge", "peer"])?;
    netns::ip(&format!(
        "link add name eth0 netns {} type veth peer name eth0 netns {}\n",
        machines[0].name(),
        machines[1].name()
    ))?;
    for (machine, address) in machines.iter().zip(["fd00:10::9", "fd00:10::1"]) {
        machine.ip(&format!("address add {address}/64 dev eth0 nodad\nlink set eth0 up\n"))?;
    }
    Ok(())
}

/// Both prefixes are in the kernel, each to its next hop.
fn learned(lab: &Lab, remote_as: u32, next_hops: [&str; 2]) {
    let mut agent = Agent::start(lab, "edge", &agent(remote_as)).expect("the agent starts");
    let expected: Vec<(IpNet, Vec<IpAddr>)> = ["fd00:64:1::/64", "fd00:64:2::/64"]
        .iter()
        .zip(next_hops)
        .map(|(prefix, hop)| (prefix.parse().expect("a prefix"), vec![hop.parse().expect("an address")]))
        .collect();
    let edge = lab.netns("edge");
    let look = || {
        agent.process().check()?;
        let kernel = kernel_routes(edge.ip_json::<Vec<KernelRoute>>("-6 route show proto 210")?)?;
        ensure!(kernel == expected, "the kernel has {kernel:?}");
        Ok(())
    };
    wait::until("learned", PATIENCE, look).expect("in time");
    let peers = agent.client().peers().expect("an answer").peers;
    assert_eq!((peers[0].accepted, peers[0].flaps), (2, 0), "{peers:?}");
}

#[test]
fn bird_2_of_our_as() {
    if super::privileged() {
        let lab = Lab::new().expect("a lab");
        link(&lab).expect("a link");
        let _bird = Bird::start(&lab, "peer", Version::V2, BIRD).expect("BIRD starts");
        learned(&lab, 64512, ["fd00:10::21", "fd00:10::22"]);
    }
}

#[test]
fn frr_of_another_as() {
    if super::privileged() {
        let lab = Lab::new().expect("a lab");
        link(&lab).expect("a link");
        let _frr = Frr::start(&lab, "peer", FRR).expect("FRR starts");
        learned(&lab, 64513, ["fd00:10::1", "fd00:10::1"]);
    }
}
