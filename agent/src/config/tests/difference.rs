//! What a changed file means for what is running.

use super::super::diff::{Depth, Diff, Fate, diff};
use super::super::model::Kernel;
use super::*;

fn config(text: &str) -> Config {
    let parsed = parse(text);
    assert!(!parsed.is_refused(), "{:?}", parsed.problems);
    parsed.config
}

/// The fate of the gateway's only peer after a change of one piece of text.
fn after(from: &str, to: &str) -> (Depth, Vec<&'static str>, Option<bool>) {
    assert!(GATEWAY.contains(from), "{from}");
    let diff = diff(&config(GATEWAY), &config(&GATEWAY.replacen(from, to, 1)));
    assert_eq!(diff.needs_restart, [""; 0], "{to}");
    match diff.peers.into_iter().next().expect("one peer").fate {
        Fate::Changed { depth, keys, enabled } => (depth, keys, enabled),
        other => panic!("{to}: {other:?}"),
    }
}

#[test]
fn every_key_of_a_peer_has_its_depth() {
    let cases: [(&str, Depth, &str); 26] = [
        ("name = \"rr\"", Depth::InPlace, "name"),
        ("enabled = false", Depth::InPlace, "enabled"),
        ("port = 1790", Depth::Reset, "port"),
        ("source_address = \"172.20.0.20\"", Depth::Reset, "source_address"),
        ("interface = \"eth0\"", Depth::Reset, "interface"),
        ("password_file = \"/etc/secret\"", Depth::Reset, "password"),
        ("password_env = \"SECRET\"", Depth::Reset, "password"),
        ("router_id = \"172.20.0.21\"", Depth::Reset, "router_id"),
        ("local_as = 64999", Depth::Reset, "local_as"),
        ("hold_time = \"9s\"", Depth::Reset, "hold_time"),
        ("min_hold_time = \"9s\"", Depth::Reset, "min_hold_time"),
        ("send_hold_time = \"1m\"", Depth::InPlace, "send_hold_time"),
        ("tcp_user_timeout = \"1m\"", Depth::Reset, "tcp_user_timeout"),
        ("connect_retry = \"9s\"", Depth::InPlace, "connect_retry"),
        ("connect_retry_max = \"9m\"", Depth::InPlace, "connect_retry_max"),
        ("add_path = false", Depth::Reset, "add_path"),
        ("extended_messages = false", Depth::Reset, "extended_messages"),
        ("extended_next_hop = true", Depth::Reset, "extended_next_hop"),
        ("graceful_restart = false", Depth::Reset, "graceful_restart"),
        ("stale_time = \"1m\"", Depth::InPlace, "stale_time"),
        ("keep_last_known = false", Depth::InPlace, "keep_last_known"),
        ("ttl = 9", Depth::Reset, "ttl"),
        ("ttl_security = 9", Depth::Reset, "ttl_security"),
        ("max_prefixes = 9", Depth::Refresh, "max_prefixes"),
        ("port = 179", Depth::None, ""),
        ("local_as = 64512", Depth::None, ""),
    ];
    for (line, depth, key) in cases {
        let found = after("remote_as = 64512", &format!("remote_as = 64512\n{line}"));
        let keys: &[&str] = if key.is_empty() { &[] } else { &[key] };
        let enabled = (key == "enabled").then_some(false);
        assert_eq!((found.0, found.1.as_slice(), found.2), (depth, keys, enabled), "{line}");
    }
    assert_eq!(after("remote_as = 64512", "remote_as = 64513"), (Depth::Reset, vec!["remote_as"], None));
    assert_eq!(
        after("local_as = 64512", "local_as = 64513"),
        (Depth::Reset, vec!["local_as"], None),
        "inherited by the peer"
    );
    assert_eq!(after("min = 24", "min = 25"), (Depth::Refresh, vec!["bgp.import"], None));
}

#[test]
fn sections_as_a_whole() {
    let of = |from: &str, to: &str| {
        assert!(GATEWAY.contains(from), "{from}");
        let Diff { listen, rib, datapath, flush_on_stop, needs_restart, .. } =
            diff(&config(GATEWAY), &config(&GATEWAY.replacen(from, to, 1)));
        ([listen, rib, datapath, flush_on_stop], needs_restart)
    };
    let bgp = "[bgp]\n";
    assert!(diff(&config(GATEWAY), &config(GATEWAY)).is_empty());
    assert_eq!(of(bgp, "[bgp]\nlisten = [\"::\"]\n"), ([true, false, false, false], vec![]));
    assert_eq!(of(bgp, "[bgp]\nmaximum_paths = 2\n"), ([false, true, false, false], vec![]));
    assert_eq!(of(bgp, "[bgp]\nkeep_last_known = \"2s\"\n"), ([false, true, false, false], vec![]));
    assert_eq!(of("\"eth1\"", "\"eth2\""), ([false, false, true, false], vec![]));
    assert_eq!(of(bgp, "[kernel]\nflush_on_stop = true\n[bgp]\n"), ([false, false, false, true], vec![]));
    let kernel = "[kernel]\ntable = 300\nprotocol = 211\nmetric = 7\n[bgp]\n";
    assert_eq!(of(bgp, kernel).1, ["kernel.table", "kernel.protocol", "kernel.metric"]);
    assert_eq!(of(bgp, "[log]\nformat = \"json\"\n[bgp]\n").1, ["log"]);
    let agent = "[agent]\nsocket = \"/run/a\"\nbpffs = \"/sys/b\"\n[bgp]\n";
    assert_eq!(of(bgp, agent).1, ["agent.socket", "agent.bpffs"]);
    let only_bgp = GATEWAY.split_once("[bgp]").expect("a section").1;
    assert_eq!(diff(&config(GATEWAY), &config(&format!("[bgp]{only_bgp}"))).needs_restart, ["datapath"]);
}

#[test]
fn peers_come_and_go_by_their_address() {
    let other = GATEWAY.replacen("172.20.0.11", "172.20.0.12", 1);
    let diff = diff(&config(GATEWAY), &config(&other));
    let fates: Vec<_> = diff.peers.iter().map(|peer| (peer.name.as_str(), &peer.fate)).collect();
    assert_eq!(fates, [("172.20.0.12", &Fate::Added), ("172.20.0.11", &Fate::Removed)]);
    assert!(diff.rib);
}

#[test]
fn what_needs_a_restart_is_not_taken_on_and_differs_again() {
    let old = config(GATEWAY);
    let all = "[agent]\nsocket = \"/run/a\"\n[log]\nformat = \"json\"\n\
               [kernel]\ntable = 300\nflush_on_stop = true\n[bgp]\nmaximum_paths = 2\n";
    let new = config(&GATEWAY.replacen("[bgp]\n", all, 1).replacen("\"eth1\"", "\"eth2\"", 1));
    let both = old.take_on(&new);
    assert_eq!((&both.agent, &both.log, both.kernel.table), (&old.agent, &old.log, old.kernel.table));
    assert!(both.kernel.flush_on_stop);
    assert_eq!((&both.datapath, &both.bgp), (&new.datapath, &new.bgp));
    assert_eq!(diff(&both, &new).needs_restart, ["agent.socket", "log", "kernel.table"]);

    // A section that one of them has not neither comes nor goes.
    let nothing = Config::default();
    assert_eq!(
        old.take_on(&nothing),
        Config { kernel: Kernel { flush_on_stop: false, ..old.kernel.clone() }, ..old.clone() }
    );
    let taken = nothing.take_on(&new);
    assert_eq!((taken.datapath, taken.bgp), (None, None));
}
