//! Lease, kill switch, the programs beside the forwarding one, and what they cost.

use underpass_common::abi::{Control, program};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{INGRESS_IFINDEX, verdict};

use crate::fixture::{frame, network};

#[test]
fn lease_runs_out_and_is_renewed() {
    let Some((mut data_plane, _)) = network() else { return };
    let frame = frame().build();
    let (now, _) = data_plane.probe(INGRESS_IFINDEX, &frame);
    let steps = [
        ("far ahead", now.jiffies + 1_000_000, verdict::REDIRECT, Reason::ForwardedRedirect),
        ("reached", now.jiffies, verdict::PASS, Reason::LeaseExpired),
        ("past", now.jiffies - 1, verdict::PASS, Reason::LeaseExpired),
        ("renewed", now.jiffies + 1_000_000, verdict::REDIRECT, Reason::ForwardedRedirect),
    ];
    for (name, lease_until, verdict, reason) in steps {
        data_plane.set_control(Control { lease_until, enabled: 1, flow_seed: 0 });
        assert_eq!(data_plane.forward(&frame).verdict, verdict, "{name}");
        let (answer, _) = data_plane.probe(INGRESS_IFINDEX, &frame);
        assert_eq!(Reason::from_number(answer.reason), Some(reason), "{name}");
        assert!(answer.jiffies >= now.jiffies, "{name}: the clock is told with any verdict");
    }
}

#[test]
fn switched_off_and_on() {
    let Some((mut data_plane, _)) = network() else { return };
    let frame = frame().build();
    for (enabled, verdict) in [(0, verdict::PASS), (1, verdict::REDIRECT), (0, verdict::PASS)] {
        data_plane.set_control(Control { lease_until: u64::MAX, enabled, flow_seed: 0 });
        assert_eq!(data_plane.forward(&frame).verdict, verdict);
    }
}

#[test]
fn probe_asks_for_the_port_in_its_header() {
    let Some((data_plane, ports)) = network() else { return };
    let frame = frame().build();
    let reason = |ifindex| Reason::from_number(data_plane.probe(ifindex, &frame).0.reason);
    assert_eq!(reason(INGRESS_IFINDEX), Some(Reason::ForwardedRedirect));
    // The egress port's row has no `PORT_INGRESS`.
    assert_eq!(reason(ports.egress), Some(Reason::PortNotReady));
    assert_eq!(reason(ports.other), Some(Reason::NotAPort));
    assert_eq!(reason(0), Some(Reason::NotAPort));
}

#[test]
fn probe_leaves_what_is_no_question_alone() {
    let Some((data_plane, _)) = network() else { return };
    for data in [frame().build(), vec![0; 14], b"UPPROBE2".repeat(10), b"UPPROBE1".repeat(7)] {
        let run = data_plane.run(program::PROBE, &data);
        assert_eq!((run.verdict, run.frame), (verdict::PASS, data));
    }
    // A header with nothing behind it is a question about an empty frame.
    let (answer, run) = data_plane.probe(INGRESS_IFINDEX, &[]);
    assert_eq!(Reason::from_number(answer.reason), Some(Reason::Truncated));
    assert_eq!((answer.answered, run.verdict, run.frame), (1, verdict::PASS, vec![]));
}

#[test]
fn pass_program_passes() {
    let Some((data_plane, _)) = network() else { return };
    let frame = frame().build();
    let run = data_plane.run(program::PASS, &frame);
    assert_eq!((run.verdict, run.frame), (verdict::PASS, frame));
    assert!(data_plane.counters().is_empty());
}

/// Holds the program to a size: it is on the way of every packet.
#[test]
fn forwarding_program_stays_small() {
    let Some((data_plane, _)) = network() else { return };
    let instructions = data_plane.translated_size(program::FORWARD) / 8;
    println!("{}: {instructions} instructions", program::FORWARD);
    assert!(instructions < 1800, "{instructions} instructions");
}

/// What one packet costs, for people to read: too much depends on the machine for a bound.
#[test]
#[ignore = "a measurement: cargo test -p underpass-tests --release --test golden cost -- --ignored --nocapture"]
fn cost_per_packet() {
    let Some((data_plane, _)) = network() else { return };
    // A test run reuses the frame, whose TTL lasts for 62 packets, and takes some 10 ms to begin.
    let frame = frame().ttl(64).build();
    let mut times: Vec<_> =
        (0..300).map(|_| data_plane.time(program::FORWARD, &frame, 62).as_nanos()).collect();
    times.sort_unstable();
    println!("{}: median {} ns, best {} ns per packet", program::FORWARD, times[times.len() / 2], times[0]);
    let empty = data_plane.time(program::PASS, &frame, 1_000_000);
    println!("{}: {} ns per packet", program::PASS, empty.as_nanos());
}
