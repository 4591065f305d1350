use super::super::model::{AsSegment, Origin};
use super::*;

fn range(prefix: &str, min: u8, max: u8) -> PrefixRange {
    PrefixRange { prefix: prefix.parse().unwrap(), min, max }
}

/// Communities 64512:100 and no-export, large community 64512:1:2, path 65001 65002, next hop 10.0.0.5.
fn attributes() -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: vec![AsSegment::Sequence(vec![65001, 65002])],
        next_hop: "10.0.0.5".parse().unwrap(),
        med: None,
        local_pref: Some(100),
        originator_id: None,
        cluster_list: vec![],
        communities: vec![0xfc00_0064, 0xffff_ff01],
        large_communities: vec![[64512, 1, 2]],
        settings: Settings::default(),
    }
}

fn sets() -> BTreeMap<String, Vec<PrefixRange>> {
    let pods = vec![range("10.233.64.0/18", 24, 32), range("fd00:10::/32", 64, 128)];
    [("pods".to_owned(), pods)].into()
}

fn policy(rules: Vec<Rule>, rules_default: Option<RuleAction>) -> Policy {
    let peer = Peer { rules, rules_default, ..Peer::new("10.0.0.1".parse().unwrap(), 64512) };
    Policy::new(&peer, &sets())
}

fn rule(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule::default();
    change(&mut rule);
    rule
}

fn decide(policy: &Policy, attributes: &Attributes, prefix: &str) -> Verdict {
    policy.narrow(attributes).decide(prefix.parse().unwrap())
}

const UNCHANGED: Verdict = Verdict::Accept(Settings { local_pref: None, weight: 0 });
const POD: &str = "10.233.65.0/26";

#[test]
fn each_condition() {
    let patterns = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let large = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let cases = [
        ("none", rule(|_| {}), POD, true),
        ("a range around it", rule(|r| r.prefixes = vec![range("10.233.0.0/16", 26, 26)]), POD, true),
        ("a range for shorter ones", rule(|r| r.prefixes = vec![range("10.233.0.0/16", 16, 25)]), POD, false),
        ("a range for longer ones", rule(|r| r.prefixes = vec![range("10.233.0.0/16", 27, 32)]), POD, false),
        (
            "the second of two ranges",
            rule(|r| r.prefixes = vec![range("10.0.0.0/24", 24, 32), range(POD, 26, 26)]),
            POD,
            true,
        ),
        ("a range of the other family", rule(|r| r.prefixes = vec![range("::/0", 0, 128)]), POD, false),
        ("a set", rule(|r| r.prefix_set = Some("pods".to_owned())), POD, true),
        ("a set, IPv6", rule(|r| r.prefix_set = Some("pods".to_owned())), "fd00:10:1::/64", true),
        (
            "a set that it is not in",
            rule(|r| r.prefix_set = Some("pods".to_owned())),
            "10.233.64.0/18",
            false,
        ),
        ("a set that does not exist", rule(|r| r.prefix_set = Some("nodes".to_owned())), POD, false),
        (
            "a set and a range, in both",
            rule(|r| {
                r.prefix_set = Some("pods".to_owned());
                r.prefixes = vec![range(POD, 26, 32)];
            }),
            POD,
            true,
        ),
        (
            "a set and a range, in one",
            rule(|r| {
                r.prefix_set = Some("pods".to_owned());
                r.prefixes = vec![range(POD, 27, 32)];
            }),
            POD,
            false,
        ),
        ("a community", rule(|r| r.communities = patterns(&["64512:100"])), POD, true),
        ("any one of the communities", rule(|r| r.communities = patterns(&["1:1", "no-export"])), POD, true),
        ("none of the communities", rule(|r| r.communities = patterns(&["64512:101", "2:*"])), POD, false),
        ("a large community", rule(|r| r.large_communities = large(&["64512:*:2"])), POD, true),
        ("no large community", rule(|r| r.large_communities = large(&["64512:*:3"])), POD, false),
        ("the path", rule(|r| r.as_path = Some("65001 *".parse().unwrap())), POD, true),
        ("another path", rule(|r| r.as_path = Some("65001".parse().unwrap())), POD, false),
        ("the next hop", rule(|r| r.next_hops = networks(&["10.9.0.0/16", "10.0.0.0/24"])), POD, true),
        ("another next hop", rule(|r| r.next_hops = networks(&["10.9.0.0/16", "::/0"])), POD, false),
        (
            "all but one",
            rule(|r| {
                r.communities = patterns(&["64512:100"]);
                r.as_path = Some("*".parse().unwrap());
                r.next_hops = networks(&["10.0.0.6/32"]);
            }),
            POD,
            false,
        ),
    ];
    for (name, rule, prefix, matches) in cases {
        let expected = if matches { UNCHANGED } else { Verdict::Reject };
        assert_eq!(decide(&policy(vec![rule.clone()], None), &attributes(), prefix), expected, "{name}");
        let reject = Rule { action: RuleAction::Reject, ..rule };
        let expected = if matches { Verdict::Reject } else { UNCHANGED };
        let open = policy(vec![reject], Some(RuleAction::Accept));
        assert_eq!(decide(&open, &attributes(), prefix), expected, "{name}, as an exception");
    }
}

#[test]
fn the_first_match_decides_and_the_default_otherwise() {
    let set = |local_pref, weight| Verdict::Accept(Settings { local_pref, weight });
    let rules = || {
        vec![
            rule(|r| {
                r.communities = vec!["64512:666".parse().unwrap()];
                r.action = RuleAction::Reject;
            }),
            rule(|r| {
                r.prefixes = vec![range("10.233.65.0/24", 24, 32)];
                r.set_local_pref = Some(200);
            }),
            rule(|r| {
                r.prefix_set = Some("pods".to_owned());
                r.set_local_pref = Some(0);
                r.set_weight = Some(7);
            }),
        ]
    };
    let marked = Attributes { communities: vec![0xfc00_029a], ..attributes() };
    let cases = [
        ("the first", None, &marked, POD, Verdict::Reject),
        ("the second, though the third matches too", None, &attributes(), POD, set(Some(200), 0)),
        ("the third", None, &attributes(), "10.233.66.0/26", set(Some(0), 7)),
        ("none", None, &attributes(), "192.0.2.0/24", Verdict::Reject),
        ("none, and that is fine", Some(RuleAction::Accept), &attributes(), "192.0.2.0/24", UNCHANGED),
        ("none, explicitly", Some(RuleAction::Reject), &attributes(), "192.0.2.0/24", Verdict::Reject),
    ];
    for (name, default, attributes, prefix, expected) in cases {
        assert_eq!(decide(&policy(rules(), default), attributes, prefix), expected, "{name}");
    }
    assert_eq!(decide(&policy(vec![], None), &attributes(), POD), UNCHANGED, "no rules");
    assert_eq!(decide(&policy(vec![], Some(RuleAction::Reject)), &attributes(), POD), UNCHANGED, "no rules");
    assert_eq!(decide(&Policy::default(), &attributes(), POD), UNCHANGED);
}

#[test]
fn one_copy_per_setting() {
    let announced = Arc::new(attributes());
    let mut copies = Copies::of(announced.clone());
    let heavy = Settings { local_pref: None, weight: 5 };
    assert!(Arc::ptr_eq(&copies.with(Settings::default()), &announced));
    let copy = copies.with(heavy);
    assert_eq!(*copy, Attributes { settings: heavy, ..attributes() });
    assert!(Arc::ptr_eq(&copies.with(heavy), &copy));
    let other = copies.with(Settings { local_pref: Some(1), weight: 5 });
    assert_ne!(other, copy);
    assert!(Arc::ptr_eq(&copies.with(heavy), &copy));
    assert_eq!(Arc::strong_count(&announced), 2, "the test's and that of the copies");
}
