//! The ways through the lab that XDP forwards on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::traffic::udp::Stream;
use underpass_tests::traffic::{tcp, udp};
use underpass_tests::wait;

use super::{Counts, LAB, switch, target, wait_forwards};

const STREAM: Stream = Stream {
    count: 400,
    payload: 300,
    flows: super::FLOWS,
    gap: Duration::from_micros(200),
    deadline: Duration::from_secs(20),
};
const TCP_BYTES: u64 = 4 << 20;
/// Payload of a full TCP segment over Ethernet, without options.
const SEGMENT: u64 = 1460;
const SOON: Duration = Duration::from_secs(30);

/// Where a packet of a way is counted.
struct Crossing {
    agent: &'static str,
    port: &'static str,
    reason: &'static str,
}

const fn hairpin(agent: &'static str) -> Crossing {
    Crossing { agent, port: "eth0", reason: "forwarded_tx" }
}

const fn gateway(port: &'static str) -> Crossing {
    Crossing { agent: "gw1", port, reason: "forwarded_redirect" }
}

/// A way, with the agents on it: every packet crosses one agent of each stage.
struct Way {
    hops: &'static str,
    from: &'static str,
    to: &'static str,
    stages: &'static [&'static [Crossing]],
    /// At the receiver, of 64.
    ttl: u8,
}

const WAYS: &[Way] = &[
    Way {
        hops: "spine, leaf01, node1 or node2, node3",
        from: "client",
        to: "pod3",
        stages: &[&[hairpin("node1"), hairpin("node2")]],
        ttl: 60,
    },
    Way {
        hops: "spine, leaf02, node4 or node5, node6",
        from: "client",
        to: "pod6",
        stages: &[&[hairpin("node4"), hairpin("node5")]],
        ttl: 60,
    },
    Way { hops: "gw1, node3", from: "gwclient", to: "pod3b", stages: &[&[gateway("eth1")]], ttl: 62 },
    Way { hops: "node3, leaf01, gw1", from: "pod3b", to: "gwclient", stages: &[&[gateway("eth0")]], ttl: 61 },
    Way {
        hops: "gw1, leaf01, spine, leaf02, node4 or node5, node6",
        from: "gwclient",
        to: "pod6",
        stages: &[&[gateway("eth1")], &[hairpin("node4"), hairpin("node5")]],
        ttl: 58,
    },
];

#[test]
fn xdp_forwards_as_the_kernel_does() {
    let Some(lab) = LAB.take() else { return };
    for way in WAYS {
        for crossing in way.crossings() {
            wait_forwards(&lab, crossing.agent, crossing.port, way.from, way.to);
        }
        way.check_forwarded_by_xdp(&lab);
        for crossing in way.crossings() {
            switch(&lab, crossing.agent, "off");
        }
        way.check_left_to_the_kernel(&lab);
        for crossing in way.crossings() {
            switch(&lab, crossing.agent, "on");
        }
        way.check_forwarded_by_xdp(&lab);
    }
}

impl Way {
    fn crossings(&self) -> impl Iterator<Item = &'static Crossing> {
        self.stages.iter().copied().flatten()
    }

    fn counts(&self, lab: &ReferenceLab) -> BTreeMap<&'static str, Counts> {
        self.crossings().map(|crossing| (crossing.agent, Counts::of(lab, crossing.agent))).collect()
    }

    /// Every datagram is forwarded by XDP once per stage, and so is all of a TCP connection.
    fn check_forwarded_by_xdp(&self, lab: &ReferenceLab) {
        let hops = self.hops;
        let before = self.counts(lab);
        self.send_datagrams(lab);
        for stage in self.stages {
            let mut expected = 0;
            for Crossing { agent, port, reason } in *stage {
                let added = before[agent].added(lab, agent);
                let forwarded = added.get(port, reason);
                assert_eq!(added.forwarded(), forwarded, "{hops}: {agent} forwards {reason} only: {added:?}");
                expected += forwarded;
            }
            assert_eq!(expected, STREAM.count, "{hops}: packets forwarded by XDP");
        }
        let before = self.counts(lab);
        self.send_bytes(lab);
        for stage in self.stages {
            let added = |crossing: &Crossing| before[crossing.agent].added(lab, crossing.agent);
            let forwarded: u64 =
                stage.iter().map(|crossing| added(crossing).get(crossing.port, crossing.reason)).sum();
            assert!(forwarded >= TCP_BYTES / SEGMENT, "{hops}: {forwarded} TCP packets forwarded by XDP");
        }
    }

    /// The same traffic arrives in the same way, and XDP has no part in it.
    fn check_left_to_the_kernel(&self, lab: &ReferenceLab) {
        let before = self.counts(lab);
        self.send_datagrams(lab);
        self.send_bytes(lab);
        for stage in self.stages {
            let mut left = 0;
            for Crossing { agent, port, .. } in *stage {
                let added = before[agent].added(lab, agent);
                assert_eq!(added.forwarded(), 0, "{}: {agent} is off: {added:?}", self.hops);
                left += added.get(port, "off");
            }
            assert!(left >= STREAM.count + TCP_BYTES / SEGMENT, "{}: {left} packets counted", self.hops);
        }
    }

    /// All arrive once, intact and in order, with the TTL lowered by one per hop.
    fn send_datagrams(&self, lab: &ReferenceLab) {
        let hops = self.hops;
        let (from, to) = (lab.netns(self.from), lab.netns(self.to));
        let report = udp::send(&from, &to, target(self.to, 7000), STREAM);
        let report = report.unwrap_or_else(|error| panic!("{hops}: {error:#}"));
        report.check_intact().unwrap_or_else(|error| panic!("{hops}: {error:#}"));
        assert_eq!(report.ttls, BTreeMap::from([(self.ttl, STREAM.count)]), "{hops}");
        assert_eq!(report.sources, [super::address(self.from)].into(), "{hops}");
    }

    fn send_bytes(&self, lab: &ReferenceLab) {
        let (from, to) = (lab.netns(self.from), lab.netns(self.to));
        tcp::transfer(&from, &to, target(self.to, 7001), TCP_BYTES, SOON)
            .unwrap_or_else(|error| panic!("{}: {error:#}", self.hops));
        // The last acknowledgement may still be on its way, and would be counted with what comes next.
        wait::until("the receiver's end is closed", SOON, || {
            let sockets = to.run("ss", ["-Htan", "sport = :7001"])?;
            ensure!(sockets.is_empty(), "{sockets}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{}: {error:#}", self.hops));
    }
}
