//! Frames that leave by the port they came in on.

use std::net::UdpSocket;

use underpass::datapath::maps::FibMaps;
use underpass::datapath::{Datapath, PortFacts};
use underpass_common::nexthop::{
    NEXT_HOP_LIVE, NextHop, PORT_EGRESS, PORT_INGRESS, PORT_TX, Port, SOURCE_VALID, Target, TargetKind,
};
use underpass_common::reason::Reason;

use crate::rig::{LEASE, Rig, SOON, index, mac};

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
pub fn forward_to(datapath: &mut Datapath, facts: &PortFacts, own: [u8; 6], server: [u8; 6]) {
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
