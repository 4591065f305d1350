//! The dead-man lease: an agent that hangs does not forward for long, and traffic never stops.

use std::time::Duration;

use nix::sys::signal::Signal;
use underpass_tests::topology::agents;
use underpass_tests::traffic::udp::{self, Stream};

use super::{Counts, FLOWS, LAB, SOON, target, wait_forwards};

#[test]
fn packets_are_left_to_the_kernel_when_the_lease_has_run_out() {
    let Some(mut lab) = LAB.take() else { return };
    drop(lab.take_agent("node1"));
    let short = agents::node().replace("[datapath]\n", "[datapath]\nlease = \"5s\"\n");
    lab.start_agent_with("node1", &short).expect("started").wait_synced(SOON).expect("synced");
    wait_forwards(&lab, "node1", "eth0", "client", "pod3");
    let before = Counts::of(&lab, "node1");

    // The agent hangs from the first packet on; seven seconds are two more than the lease has.
    lab.agent_mut("node1").process().signal(Signal::SIGSTOP).expect("stopped");
    let stream = Stream {
        count: 7000,
        flows: FLOWS,
        gap: Duration::from_millis(1),
        deadline: Duration::from_secs(30),
        ..Stream::default()
    };
    let report = udp::send(&lab.netns("client"), &lab.netns("pod3"), target("pod3", 7000), stream);
    lab.agent_mut("node1").process().signal(Signal::SIGCONT).expect("running");
    let report = report.expect("traffic");
    report.check_intact().expect("nothing is lost, doubled or reordered at the change");
    assert_eq!(report.ttls.len(), 1, "the kernel forwards as XDP did: {:?}", report.ttls);

    wait_forwards(&lab, "node1", "eth0", "client", "pod3");
    let added = before.added(&lab, "node1");
    let (forwarded, expired) = (added.get("eth0", "forwarded_tx"), added.get("eth0", "lease_expired"));
    assert!(forwarded > 0, "XDP forwards until the lease ends: {added:?}");
    assert!(expired > 0, "and not after that: {added:?}");
    let before = Counts::of(&lab, "node1");
    let report = udp::send(
        &lab.netns("client"),
        &lab.netns("pod3"),
        target("pod3", 7000),
        Stream { flows: FLOWS, ..Stream::default() },
    );
    report.expect("traffic").check_intact().expect("everything arrives");
    let added = before.added(&lab, "node1");
    assert!(added.forwarded() > 0 && added.get("eth0", "lease_expired") == 0, "forwards again: {added:?}");

    drop(lab.take_agent("node1"));
    lab.start_agent("node1").expect("started").wait_synced(SOON).expect("synced");
}
