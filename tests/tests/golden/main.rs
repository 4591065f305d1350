//! Golden packets: one frame in, one verdict, one reason and one frame out, by `BPF_PROG_TEST_RUN`.
//!
//! Every case asserts all of it: verdict, reason (by the probe and by the counter), the frame's bytes, and
//! that exactly one counter went up by one packet and the frame's length.

mod control;
mod fixture;
mod forwarded;
mod ipv6;
mod oracle;
mod passed;
mod rivals;
mod router;
mod scattered;
mod spread;

use std::collections::BTreeSet;

use underpass_common::reason::Reason;

/// The program has no reason without a golden packet.
#[test]
fn every_reason_has_a_case() {
    let covered: BTreeSet<Reason> = forwarded::cases(fixture::Ports::default())
        .iter()
        .chain(&passed::cases(fixture::Ports::default()))
        .chain(&ipv6::cases(fixture::Ports::default()))
        .map(|case| case.reason)
        .collect();
    // A frame in several buffers is not among the cases: see `scattered`.
    // `bpf_xdp_adjust_tail` never refuses to cut a frame that still holds an IP header, so the last
    // cannot be provoked: it stands for drivers that are stricter than the kernel's own code.
    let missing: Vec<&Reason> = Reason::ALL
        .iter()
        .filter(|reason| {
            !covered.contains(reason) && !matches!(reason, Reason::PaddingNotTrimmed | Reason::MultiBuffer)
        })
        .collect();
    assert!(missing.is_empty(), "no golden packet for {missing:?}");
}
