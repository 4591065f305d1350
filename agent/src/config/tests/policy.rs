//! Rules, prefix sets and limits of peers that are wrong, and what is said about them.

use std::path::Path;

use super::parse;
use super::values::{check, gateway};
use crate::rib::guard::Refusal;

/// [`super::GATEWAY`] with lines added to its peer; the first is line 13.
fn peer(lines: &str) -> String {
    gateway("remote_as = 64512", &format!("remote_as = 64512\n{lines}"))
}

/// With one rule; its header is line 13.
fn rule(lines: &str) -> String {
    peer(&format!("[[bgp.peers.rules]]\n{lines}"))
}

#[test]
fn rules() {
    check(&[
        (
            "a rule that is none",
            peer("rules = [1]"),
            &["13:10: bgp.peers[0].rules[0]: expected a table [[bgp.peers.rules]], found the number 1"],
        ),
        (
            "an empty rule",
            rule(""),
            &[
                "13:1: bgp.peers[0].rules[0]: an empty rule; give a condition, `action` or something to set, or remove it",
            ],
        ),
        (
            "an unknown key",
            rule("as_paths = \"1\""),
            &["14:1: bgp.peers[0].rules[0].as_paths: unknown key; did you mean `as_path`?"],
        ),
        (
            "an unknown set",
            rule("prefix_set = \"pods\""),
            &[
                "14:14: bgp.peers[0].rules[0].prefix_set: no set \"pods\" in [bgp.prefix_sets] (known: none); add it or correct the name",
            ],
        ),
        (
            "conditions without elements",
            rule("prefixes = []\ncommunities = []\nlarge_communities = []\nnext_hops = []"),
            &[
                "14:12: bgp.peers[0].rules[0].prefixes: the list is empty; give at least one element: a prefix such as \"10.233.0.0/18\" or a range { prefix = \"10.233.64.0/18\", min = 24, max = 32 }",
                "15:15: bgp.peers[0].rules[0].communities: the list is empty; give at least one element: a community such as \"64512:100\", \"64512:*\" or \"no-export\" (see docs/policy.md)",
                "16:21: bgp.peers[0].rules[0].large_communities: the list is empty; give at least one element: a large community such as \"64512:1:2\" or \"64512:1:*\"",
                "17:13: bgp.peers[0].rules[0].next_hops: the list is empty; give at least one element: a prefix such as \"10.233.64.0/18\"",
            ],
        ),
        (
            "bad masks and patterns",
            rule("as_path = \"^1_\"\ncommunities = [\"65536:1\"]\nlarge_communities = [\"1:2\"]"),
            &[
                "14:11: bgp.peers[0].rules[0].as_path: \"^1_\" is no part of a mask; write AS numbers, ranges such as \"64512..65534\", \"?\" and \"*\"",
                "15:16: bgp.peers[0].rules[0].communities[0]: expected a community such as \"64512:100\", \"64512:*\" or \"no-export\" (see docs/policy.md), found \"65536:1\"",
                "16:22: bgp.peers[0].rules[0].large_communities[0]: expected a large community such as \"64512:1:2\" or \"64512:1:*\", found \"1:2\"",
            ],
        ),
        (
            "a mask that holds nothing",
            rule("as_path = \"* 9..3\""),
            &[
                "14:11: bgp.peers[0].rules[0].as_path: the range \"9..3\" ends before it begins; swap its ends",
            ],
        ),
        (
            "something twice",
            rule(
                "communities = [\"no-export\", \"65535:65281\"]\nprefixes = [\"10.0.0.0/8\", \"10.0.0.0/8\"]",
            ),
            &[
                "14:29: bgp.peers[0].rules[0].communities[1]: listed twice; remove one",
                "15:27: bgp.peers[0].rules[0].prefixes[1]: 10.0.0.0/8 is listed twice with these bounds; remove one",
            ],
        ),
        (
            "a range that holds nothing",
            rule("prefixes = [{ prefix = \"10.0.0.0/8\", min = 4 }]"),
            &[
                "14:44: bgp.peers[0].rules[0].prefixes[0].min: 4 is shorter than 10.0.0.0/8 itself, so nothing can match; give 8 to 32",
            ],
        ),
        (
            "settings for what is rejected",
            rule("action = \"reject\"\nset_weight = 1"),
            &[
                "15:14: bgp.peers[0].rules[0].set_weight: has no effect on a path that is rejected; remove it, or set action = \"accept\"",
            ],
        ),
        (
            "an action that does not exist",
            rule("action = \"deny\""),
            &["14:10: bgp.peers[0].rules[0].action: expected \"accept\" or \"reject\", found \"deny\""],
        ),
        (
            "a default without rules",
            peer("rules_default = \"reject\""),
            &[
                "13:17: warning: bgp.peers[0].rules_default: has no effect without [[bgp.peers.rules]]: then everything is accepted; remove the key",
            ],
        ),
        (
            "rules that are never asked",
            rule(
                "as_path = \"1\"\n[[bgp.peers.rules]]\nas_path = \"1\"\naction = \"reject\"\n[[bgp.peers.rules]]\nset_weight = 1\n[[bgp.peers.rules]]\nas_path = \"2\"",
            ),
            &[
                "15:1: warning: bgp.peers[0].rules[1]: is never asked: bgp.peers[0].rules[0] comes first and it has the same conditions; remove one",
                "20:1: warning: bgp.peers[0].rules[3]: is never asked: bgp.peers[0].rules[2] comes first and every path matches it; remove one",
            ],
        ),
    ]);
}

#[test]
fn prefix_sets() {
    let sets = |lines: &str| gateway("[[bgp.peers]]", &format!("[bgp.prefix_sets]\n{lines}\n[[bgp.peers]]"));
    let used = |lines: &str| {
        sets(lines).replace("[bgp.import]", "[[bgp.peers.rules]]\nprefix_set = \"pods\"\n[bgp.import]")
    };
    check(&[
        ("a set that is used", used("pods = [\"10.233.0.0/18\"]"), &[]),
        (
            "a set that nobody uses",
            sets("pods = [\"10.233.0.0/18\"]"),
            &[
                "11:8: warning: bgp.prefix_sets.pods: no rule names the set; remove it, or add `prefix_set` to a rule",
            ],
        ),
        (
            "a set of nothing",
            used("pods = []"),
            &[
                "11:8: bgp.prefix_sets.pods: the set is empty, so that nothing can be in it; give a range or remove it",
            ],
        ),
        (
            "a name that is none",
            used("pods = [\"10.233.0.0/18\"]\n\"all pods\" = [\"10.233.0.0/18\"]"),
            &[
                "12:14: bgp.prefix_sets.all pods: \"all pods\" is no name of a set; use letters, digits, \"-\" and \"_\"",
                "12:14: warning: bgp.prefix_sets.all pods: no rule names the set; remove it, or add `prefix_set` to a rule",
            ],
        ),
        (
            "no list, and bad elements",
            used("nodes = \"10.0.0.0/8\"\npods = [7, \"10.0.0.1/8\", { prefix = \"10.0.0.0/8\", max = 40 }]"),
            &[
                "11:9: bgp.prefix_sets.nodes: expected a list, each element a prefix such as \"10.233.0.0/18\" or a range { prefix = \"10.233.64.0/18\", min = 24, max = 32 }, found \"10.0.0.0/8\"",
                "12:9: bgp.prefix_sets.pods[0]: expected a prefix such as \"10.233.0.0/18\" or a range { prefix = \"10.233.64.0/18\", min = 24, max = 32 }, found the number 7",
                "12:12: bgp.prefix_sets.pods[1]: \"10.0.0.1/8\" has host bits set; write \"10.0.0.0/8\"",
            ],
        ),
        (
            "the name that a rule gives",
            used("podz = [\"10.233.0.0/18\"]"),
            &[
                "11:8: warning: bgp.prefix_sets.podz: no rule names the set; remove it, or add `prefix_set` to a rule",
                "17:14: bgp.peers[0].rules[0].prefix_set: no set \"pods\" in [bgp.prefix_sets] (known: podz); add it or correct the name",
            ],
        ),
    ]);
}

#[test]
fn limits() {
    check(&[
        (
            "percents and pauses",
            peer(
                "max_prefixes_warning = 0\nmax_prefixes_restart = \"500ms\"\nmax_prefixes_exceeded = \"warn\"",
            ),
            &[
                "13:24: bgp.peers[0].max_prefixes_warning: 0 is outside of 1 to 100 percent; the default is 80",
                "14:24: bgp.peers[0].max_prefixes_restart: 500ms is less than 1s, which would flood the peer; the default is \"5m\"",
                "15:25: bgp.peers[0].max_prefixes_exceeded: expected \"discard\", \"restart\" or \"shutdown\", found \"warn\"",
            ],
        ),
        (
            "more than everything",
            peer("max_prefixes_warning = 101"),
            &[
                "13:24: bgp.peers[0].max_prefixes_warning: 101 is outside of 1 to 100 percent; the default is 80",
            ],
        ),
        (
            "paths of one kind",
            gateway("router_id", "maximum_paths_ebgp = 0\nmaximum_paths_ibgp = 17\nrouter_id"),
            &[
                "8:22: bgp.maximum_paths_ebgp: 0 is outside of 1 to 16, which is `maximum_paths`; lower it or raise that",
                "9:22: bgp.maximum_paths_ibgp: 17 is outside of 1 to 16, which is `maximum_paths`; lower it or raise that",
            ],
        ),
        (
            "a next hop policy",
            peer("next_hop_peer = \"reject\""),
            &["13:17: bgp.peers[0].next_hop_peer: expected \"accept\" or \"refuse\", found \"reject\""],
        ),
    ]);
}

/// The text below a heading of docs/policy.md.
fn documented(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let text = std::fs::read_to_string(&path).expect("docs/policy.md");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect("the heading");
    section.to_owned()
}

#[test]
fn the_examples_of_the_guide_are_accepted() {
    let cases: [(&str, &[&str]); 3] = [
        ("Example: a gateway of a Calico cluster", &[]),
        (
            "Example: two leaf switches, one preferred",
            &["accepts a default route from any peer; raise max when that is not meant"],
        ),
        ("Example: maintenance of a node", &[]),
    ];
    for (heading, warnings) in cases {
        let section = documented(heading);
        let example = section.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let parsed = parse(example.expect("an example"));
        assert!(!parsed.is_refused(), "{heading}: {:?}", parsed.problems);
        let told: Vec<&str> = parsed.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(told, *warnings, "{heading}");
    }
}

#[test]
fn the_guide_has_every_reason() {
    let section = documented("Reasons");
    let labels = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut labels: Vec<&str> = labels.collect();
    let mut reasons: Vec<&str> = Refusal::ALL.iter().map(|reason| reason.label()).collect();
    labels.sort_unstable();
    reasons.sort_unstable();
    assert_eq!(labels, reasons);
}
