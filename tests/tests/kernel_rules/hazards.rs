//! The two hazards that rules of the kernel are: they would be bypassed.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::BOUND;
use crate::rig::{LEFT, RIGHT, Rig, SOON};

/// An address that only a rule knows.
const SERVICE: &str = "10.9.3.3:53";

/// Asks `to` from the left end; gives whom the right end saw, and whom the answer came from.
fn ask(rig: &Rig, to: &str) -> (IpAddr, SocketAddr) {
    let right = rig.lab.netns("right").enter(|| bind(&format!("{RIGHT}:9000"))).expect("entered");
    let left = rig.lab.netns("left").enter(|| bind(&format!("{LEFT}:4000"))).expect("entered");
    let mut buffer = [0; 16];
    left.send_to(b"question", to).expect("sent");
    let (_, seen) = right.recv_from(&mut buffer).expect("the question arrives");
    right.send_to(b"answer", seen).expect("sent");
    let (_, from) = left.recv_from(&mut buffer).expect("the answer arrives");
    (seen.ip(), from)
}

fn bind(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a free port");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    socket
}

/// Translated connections need the stack in both directions: an answer that XDP forwarded would come from an
/// address that nobody has asked. Rules that only look at connections could drop what they see half of.
#[test]
fn h29_translated_and_tracked_connections_are_the_kernels_in_both_directions() {
    let Some(mut rig) = Rig::new() else { return };
    rig.start("");
    rig.wait_forwards();
    assert_eq!(ask(&rig, "10.9.2.2:9000").0, LEFT.parse::<IpAddr>().expect("an address"));
    rig.check_by_xdp("without a rule");

    rig.router(&[
        "nft add table ip nat",
        "nft add chain ip nat post { type nat hook postrouting priority 100; }",
    ]);
    rig.router(&["nft add rule ip nat post oifname eth1 masquerade"]);
    rig.wait_left_to_kernel();
    let (seen, from) = ask(&rig, "10.9.2.2:9000");
    assert_eq!((seen.to_string(), from.to_string()), ("10.9.2.1".into(), "10.9.2.2:9000".into()));
    rig.router(&["nft delete table ip nat"]);
    rig.wait_forwards();

    rig.router(&[
        "nft add table ip nat",
        "nft add chain ip nat pre { type nat hook prerouting priority -100; }",
    ]);
    rig.router(&["nft add rule ip nat pre ip daddr 10.9.3.3 udp dport 53 dnat to 10.9.2.2:9000"]);
    rig.wait_left_to_kernel();
    let (seen, from) = ask(&rig, SERVICE);
    assert_eq!((seen.to_string(), from.to_string()), (LEFT.into(), SERVICE.into()));
    rig.router(&["nft delete table ip nat"]);
    rig.wait_forwards();

    rig.router(&["iptables-nft -A FORWARD -m conntrack --ctstate NEW -j DROP"]);
    rig.wait_left_to_kernel();
    rig.check_kept_off("new connections are dropped");
    rig.router(&["iptables-nft -F FORWARD"]);
    rig.wait_forwards();
    rig.check_by_xdp("all rules are gone");
}

/// Rules outside of the filter table decide about packets in transit as well. Each takes its packets back within
/// five seconds, and `status` names it.
#[test]
fn h42_policies_and_filters_elsewhere_take_their_packets_back() {
    let Some(mut rig) = Rig::new() else { return };
    rig.start("");
    rig.wait_forwards();
    for (place, dropped, add, remove) in [
        (
            "nft:ip mangle/FORWARD",
            false,
            "iptables-nft -t mangle -A FORWARD -d 10.9.2.2 -j DSCP --set-dscp 46",
            "iptables-nft -t mangle -F FORWARD",
        ),
        (
            "nft:ip filter/FORWARD",
            false,
            "iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP",
            "iptables-nft -F FORWARD",
        ),
        (
            "xfrm",
            true,
            "ip xfrm policy add src 10.9.1.0/24 dst 10.9.2.0/24 dir fwd action block",
            "ip xfrm policy delete src 10.9.1.0/24 dst 10.9.2.0/24 dir fwd",
        ),
        (
            "tc:eth0",
            true,
            "tc filter add dev eth0 ingress protocol ip pref 7 u32 match ip dst 10.9.2.0/24 action mirred egress redirect dev lo",
            "tc qdisc del dev eth0 clsact",
        ),
        (
            "tc:eth1",
            true,
            "tc filter add dev eth1 egress protocol ip pref 7 u32 match ip dst 10.9.2.0/24 action mirred egress redirect dev lo",
            "tc qdisc del dev eth1 clsact",
        ),
    ] {
        if let Some(port) = place.strip_prefix("tc:") {
            rig.router(&[&format!("tc qdisc add dev {port} clsact")]);
        }
        rig.router(&[add]);
        let since = Instant::now();
        rig.wait_left_to_kernel();
        let took: Duration = since.elapsed();
        assert!(took < BOUND, "{place}: {took:?} until the packets were the kernel's");
        if dropped {
            rig.check_kept_off(place);
        } else {
            rig.check_by_kernel(place);
        }
        let text = rig.status_text();
        assert!(text.contains(place), "{place}: {text}");
        rig.router(&[remove]);
        rig.wait_forwards();
        rig.check_by_xdp(place);
    }
}
