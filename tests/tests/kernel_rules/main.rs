//! Rules of the kernel that could decide about packets in transit: what is read of those that the real
//! tools make, and what the agent does about them while traffic flows.

mod hazards;
mod read;
mod rig;

use std::time::{Duration, Instant};

use anyhow::ensure;
use underpass_tests::wait;

use rig::{Rig, SOON};

/// A rule that appears takes its packets back within this time.
const BOUND: Duration = Duration::from_secs(5);

/// One kind of rule.
struct Case {
    /// Commands that make a rule which keeps packets from left to right off.
    add: &'static [&'static str],
    /// Commands that take it away.
    remove: &'static [&'static str],
    /// Where it is found, and how it begins to read.
    place: &'static str,
    text: &'static str,
    /// An entry of `datapath.bypass` that names it.
    bypass: &'static str,
}

const NFT: Case = Case {
    add: &[
        "nft add table inet guard",
        "nft add chain inet guard forward { type filter hook forward priority 0; }",
        "nft add rule inet guard forward ip daddr 10.9.2.0/24 drop",
    ],
    remove: &["nft delete table inet guard"],
    place: "nft:inet guard/forward",
    text: "nfproto ipv4 daddr 10.9.2.0/24 drop",
    bypass: "nft:inet guard/forward",
};

const IPTABLES_NFT: Case = Case {
    add: &["iptables-nft -A FORWARD -d 10.9.2.2 -p udp -j DROP"],
    remove: &["iptables-nft -D FORWARD -d 10.9.2.2 -p udp -j DROP"],
    place: "nft:ip filter/FORWARD",
    text: "l4proto udp daddr 10.9.2.2 counter drop",
    bypass: "iptables:filter/FORWARD",
};

const IPTABLES_LEGACY: Case = Case {
    add: &[
        "iptables-legacy -N JUDGE",
        "iptables-legacy -A JUDGE -d 10.9.2.2 -j DROP",
        "iptables-legacy -A FORWARD -i eth0 -j JUDGE",
    ],
    remove: &[
        "iptables-legacy -D FORWARD -i eth0 -j JUDGE",
        "iptables-legacy -F JUDGE",
        "iptables-legacy -X JUDGE",
    ],
    place: "iptables:filter/JUDGE",
    text: "-d 10.9.2.2/32 -j DROP",
    bypass: "iptables:JUDGE",
};

const XFRM: Case = Case {
    add: &["ip xfrm policy add src 0.0.0.0/0 dst 10.9.2.0/24 dir fwd action block"],
    remove: &["ip xfrm policy delete src 0.0.0.0/0 dst 10.9.2.0/24 dir fwd"],
    place: "xfrm",
    text: "policy dir fwd dst 10.9.2.0/24 action block",
    bypass: "xfrm",
};

const TC: Case = Case {
    add: &[
        "tc qdisc add dev eth0 clsact",
        "tc filter add dev eth0 ingress protocol ip pref 7 u32 match ip dst 10.9.2.0/24 action mirred egress redirect dev lo",
    ],
    remove: &["tc qdisc del dev eth0 clsact"],
    place: "tc:eth0",
    text: "ingress filter u32 pref 7 protocol ip",
    bypass: "tc:eth0",
};

#[test]
fn nftables_keeps_its_packets() {
    check(&NFT);
}

#[test]
fn iptables_nft_keeps_its_packets() {
    check(&IPTABLES_NFT);
}

#[test]
fn iptables_legacy_keeps_its_packets() {
    check(&IPTABLES_LEGACY);
}

#[test]
fn xfrm_keeps_its_packets() {
    check(&XFRM);
}

#[test]
fn traffic_control_keeps_its_packets() {
    check(&TC);
}

/// A rule comes and goes while the agent runs; then it is there from the start; then it is named.
fn check(case: &Case) {
    let Some(mut rig) = Rig::new() else { return };
    rig.start("");
    rig.wait_forwards();
    rig.check_by_xdp("without a rule");

    rig.router(case.add);
    let since = Instant::now();
    rig.wait_left_to_kernel();
    let took = since.elapsed();
    println!("{}: closed after {} ms", case.place, took.as_millis());
    assert!(took < BOUND, "{took:?} until the packets were the kernel's");
    rig.check_kept_off("a rule appeared");
    let status = rig.status();
    let rules = &status.datapath.as_ref().expect("configured").rules;
    let rule = rules.findings.iter().find(|rule| rule.place == case.place);
    let rule = rule.unwrap_or_else(|| panic!("{} is not among {:#?}", case.place, rules.findings));
    assert!(rule.text.starts_with(case.text), "{rule:#?}");
    assert!(rule.bypassed.is_none() && rule.remedy.contains("datapath.bypass"), "{rule:#?}");
    assert!(rule.ports.contains(&"eth0".to_owned()), "{rule:#?}");
    assert!(status.problems.iter().any(|problem| problem.contains("could decide")), "{:?}", status.problems);
    let text = rig.status_text();
    assert!(text.contains(case.place) && text.contains(case.text), "{text}");

    rig.router(case.remove);
    rig.wait_forwards();
    rig.check_by_xdp("the rule is gone");

    // The rule comes while no agent runs, and the maps are open: the next agent closes them at its start.
    rig.stop();
    rig.router(case.add);
    rig.start("");
    rig.wait_synced();
    rig.check_kept_off("the rule was there first");
    rig.stop();

    rig.start(&format!("bypass = [\"{}\", \"nft:ip nowhere\"]\n", case.bypass));
    rig.wait_forwards();
    rig.check_by_xdp("the rule is named");
    let rules = rig.status().datapath.expect("configured").rules;
    assert!(rules.findings.iter().all(|rule| rule.bypassed.as_deref() == Some(case.bypass)), "{rules:#?}");
    assert!(!rules.findings.is_empty(), "what is bypassed is told");
    assert_eq!(rules.idle_bypasses, ["nft:ip nowhere"]);
    wait::until("status has no problem", SOON, || {
        let problems = rig.status().problems;
        ensure!(problems.is_empty(), "{problems:?}");
        Ok(())
    })
    .expect("a bypass that matches nothing is no problem");
}

#[test]
fn a_filter_on_one_port_closes_that_port_only() {
    let Some(mut rig) = Rig::new() else { return };
    rig.start("");
    rig.wait_forwards();
    rig.router(&[
        "tc qdisc add dev eth1 clsact",
        "tc filter add dev eth1 ingress protocol ip pref 7 u32 match ip dst 10.9.1.0/24 action mirred egress redirect dev lo",
    ]);
    wait::until("eth1 is the kernel's", SOON, || {
        let ports = rig.status().datapath.expect("configured").ports;
        let guarded =
            |name: &str| ports.iter().any(|port| port.interface == name && !port.guarded.is_empty());
        ensure!(guarded("eth1") && !guarded("eth0"), "{ports:#?}");
        Ok(())
    })
    .expect("that port only");
    rig.check_by_xdp("from the other port");
}
