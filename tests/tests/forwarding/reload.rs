//! Another `[datapath]` that is taken over while traffic flows.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use underpass_tests::traffic::udp::{self, Stream};
use underpass_tests::wait;

use super::{Counts, FLOWS, LAB, SOON, target, wait_forwards};

/// Datagrams of a run, one a millisecond: longer than all reloads take.
const COUNT: u64 = 8000;

#[test]
fn no_datagram_is_lost_when_a_new_datapath_takes_over() {
    let Some(lab) = LAB.take() else { return };
    wait_forwards(&lab, "gw1", "eth1", "gwclient", "pod3b");
    let agent = lab.agent("gw1");
    let path = agent.client().config();
    let original = fs::read_to_string(&path).expect("readable");
    let with = |line: &str| original.replacen("[datapath]\n", &format!("[datapath]\n{line}\n"), 1);
    // A key only, another table of prefixes, and back.
    let files = [with("lease = \"50s\""), with("fib = \"lpm-trie\""), original.clone()];
    assert!(files[..2].iter().all(|file| *file != original), "{original}");

    let before = Counts::of(&lab, "gw1");
    let report = thread::scope(|scope| {
        let (from, to) = (lab.netns("gwclient"), lab.netns("pod3b"));
        let stream = Stream {
            count: COUNT,
            flows: FLOWS,
            gap: Duration::from_millis(1),
            deadline: Duration::from_secs(40),
            ..Stream::default()
        };
        let traffic = scope.spawn(move || udp::send(&from, &to, target("pod3b", 7000), stream));
        for file in &files {
            let now = Counts::of(&lab, "gw1");
            wait::until("traffic flows", SOON, || {
                ensure!(now.added(&lab, "gw1").forwarded() >= 100, "not yet");
                Ok(())
            })
            .expect("forwarded by XDP");
            fs::write(&path, file).expect("writable");
            let output = agent.cli(&["reload"]).expect("underpass starts");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("taken over by a new fast path"), "{output:?}");
        }
        assert!(!traffic.is_finished(), "all reloads are under traffic");
        traffic.join().expect("no panic").expect("traffic")
    });
    report.check_intact().expect("nothing is lost, doubled or reordered by the reloads");
    assert_eq!(report.ttls.len(), 1, "every way takes the same hops: {:?}", report.ttls);
    let added = before.added(&lab, "gw1");
    println!("{} of {COUNT} by XDP: {added:?}", added.forwarded());
    assert!(added.forwarded() >= COUNT * 9 / 10, "XDP forwards all the while: {added:?}");
    wait_forwards(&lab, "gw1", "eth1", "gwclient", "pod3b");
}
