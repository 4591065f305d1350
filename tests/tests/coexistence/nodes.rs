//! On nodes, where BIRD has the sessions and the routes: Underpass only reads.

use underpass_tests::agent::forwarded;
use underpass_tests::reference::ReferenceLab;

use super::snapshot::Snapshot;
use super::{LAB, SOON, check_flush_is_refused, flush, traffic};

const NODES: [&str; 4] = ["node1", "node2", "node4", "node5"];
/// By the hairpin on node1 or node2.
const HAIRPIN: [&str; 2] = ["client", "pod3"];

#[test]
fn bird_and_the_kernel_do_not_notice_underpass() {
    let Some(mut lab) = LAB.take() else { return };
    let before = Snapshot::settled(&lab);
    let check = |lab: &ReferenceLab, when: &str| {
        before.check_same(&Snapshot::take(lab).expect("every BIRD answers"), when);
    };

    traffic::during(&mut lab, HAIRPIN, "start", |lab| {
        for node in NODES {
            lab.start_agent(node).expect("started");
        }
        wait_synced(lab);
    });
    check(&lab, "after the start");
    assert!(xdp_forwarded(&lab) > 0, "Underpass takes part");

    traffic::during(&mut lab, HAIRPIN, "kill -9", |lab| {
        for node in NODES {
            lab.agent_mut(node).kill().expect("killed");
        }
        check(lab, "after kill -9");
    });
    assert!(NODES.iter().all(|node| has_xdp(&lab, node)), "the programs outlive the agents");

    let counted = traffic::during(&mut lab, HAIRPIN, "the start after a kill", |lab| {
        for node in NODES {
            lab.agent_mut(node).restart().expect("started");
        }
        wait_synced(lab);
        xdp_forwarded(lab)
    });
    check(&lab, "after the start after a kill");
    assert!(xdp_forwarded(&lab) > counted, "forwarding goes on");
    for node in NODES {
        check_flush_is_refused(lab.agent(node));
    }

    traffic::during(&mut lab, HAIRPIN, "stop", |lab| {
        for node in NODES {
            let status = lab.agent_mut(node).stop().expect("stopped");
            assert!(status.success(), "{node}: {status}");
        }
    });
    check(&lab, "after the stop");
    assert!(NODES.iter().all(|node| has_xdp(&lab, node)), "the programs outlive the agents");

    traffic::during(&mut lab, HAIRPIN, "flush", |lab| {
        for node in NODES {
            let text = flush(lab.agent(node));
            assert!(text.contains("detached 1 programs") && text.contains("routes of 0 prefixes"), "{text}");
        }
    });
    assert!(!NODES.iter().any(|node| has_xdp(&lab, node)), "the programs are gone");
    check(&lab, "after the flush");
    before.check_same(&Snapshot::settled(&lab), "when all has settled");
    for node in NODES {
        drop(lab.take_agent(node));
    }
}

fn wait_synced(lab: &mut ReferenceLab) {
    for node in NODES {
        lab.agent_mut(node).wait_synced(SOON).expect("synced");
    }
}

fn has_xdp(lab: &ReferenceLab, node: &str) -> bool {
    lab.netns(node).xdp_program("eth0").expect("an interface").is_some()
}

/// Packets of the hairpin.
fn xdp_forwarded(lab: &ReferenceLab) -> u64 {
    let counters = |node: &&str| lab.agent(node).client().counters().expect("counters");
    NODES[..2].iter().map(|node| forwarded(&counters(node))).sum()
}
