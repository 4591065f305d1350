//! Tables of rules, judged.

use std::collections::BTreeMap;

use super::bypass::Bypass;
use super::judge::{Judgement, judge};
use super::model::*;
use crate::netlink::model::Family;

fn range(text: &str) -> Range {
    Range::of(text.parse().expect("a prefix"))
}

fn name(text: &str) -> Name {
    match text.strip_suffix('+') {
        Some(start) => Name { text: start.to_owned(), prefix: true },
        None => Name { text: text.to_owned(), prefix: false },
    }
}

/// Ports eth0 (2) and eth1 (3), pods of both families, one service range inside the pods'.
fn scene() -> Scene {
    Scene {
        ports: BTreeMap::from([(2, "eth0".to_owned()), (3, "eth1".to_owned())]),
        accelerate: ["10.0.0.0/8", "fd00::/16", "10.96.7.0/24"].map(|text| text.parse().expect(text)).into(),
        services: vec!["10.96.0.0/12".parse().expect("a prefix")],
    }
}

/// Words as iptables has them: `!` before an option inverts it; `-i -o -s -d`, `--iif --oif` (index),
/// `--mark V/M`, `-4 -6`, `maybe`, `never`; `-j` an effect or a chain, `-g` a chain, `--set-mark X/KEEP`.
fn rule(text: &str) -> Rule {
    let mut rule = Rule { id: "rule".to_owned(), text: text.to_owned(), ..Rule::default() };
    let mut words = text.split_whitespace();
    let mut invert = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value");
        let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number");
        let pair =
            |text: &str| text.split_once('/').map(|(one, two)| (number(one), number(two))).expect("a pair");
        let step = match word {
            "!" => {
                invert = true;
                continue;
            }
            "-i" => Step::Match(Match::Input(name(value()), invert)),
            "-o" => Step::Match(Match::Output(name(value()), invert)),
            "--iif" => Step::Match(Match::InputIndex(number(value()), invert)),
            "--oif" => Step::Match(Match::OutputIndex(number(value()), invert)),
            "-s" | "-d" => {
                let range = range(value());
                // nftables asks for the family before it looks into the packet.
                rule.steps.push(Step::Match(Match::Family(range.family, false)));
                let source = word == "-s";
                Step::Match(if source {
                    Match::Source(range, invert)
                } else {
                    Match::Destination(range, invert)
                })
            }
            "-4" => Step::Match(Match::Family(Family::Ipv4, invert)),
            "-6" => Step::Match(Match::Family(Family::Ipv6, invert)),
            "--mark" => {
                let (value, mask) = pair(value());
                Step::Match(Match::Mark { mask, value, invert })
            }
            "maybe" => Step::Match(Match::Maybe),
            "never" => Step::Match(Match::Never),
            "ct" => {
                rule.tracks = true;
                Step::Match(Match::Maybe)
            }
            "--set-mark" => {
                let (xor, keep) = pair(value());
                Step::Effect(Effect::Mark { keep, xor })
            }
            "-g" => Step::Effect(Effect::Goto(value().to_owned())),
            "-j" => Step::Effect(match value() {
                "ACCEPT" => Effect::Accept,
                "RETURN" => Effect::Return,
                "COUNT" => Effect::Harmless,
                "VMAP" => Effect::Unknown("looks up a verdict".to_owned()),
                "DROP" => Effect::Decides("drops it".to_owned()),
                chain => Effect::Jump(chain.to_owned()),
            }),
            other => panic!("{other} in {text}"),
        };
        invert = false;
        rule.steps.push(step);
    }
    rule
}

/// A table with one line per rule: "CHAIN words"; base chains as iptables has them, or with a policy.
fn table(owner: Owner, lines: &[&str]) -> Table {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for line in lines {
        let (chain, words) = line.split_once(' ').unwrap_or((line, ""));
        let hook = match chain {
            "INGRESS" => Some(Hook::Ingress),
            "PREROUTING" => Some(Hook::Prerouting),
            "FORWARD" => Some(Hook::Forward),
            "POSTROUTING" => Some(Hook::Postrouting),
            "EGRESS" => Some(Hook::Egress),
            "INPUT" => Some(Hook::Elsewhere),
            _ => None,
        };
        let base =
            hook.map(|hook| Base { hook, priority: 0, drops: false, devices: vec!["eth1".to_owned()] });
        let entry = chains.entry(chain.to_owned()).or_insert_with(|| Chain { base, rules: Vec::new() });
        match (words, &mut entry.base) {
            ("policy drop", Some(base)) => base.drops = true,
            ("", _) => {}
            (words, _) => entry.rules.push(rule(words)),
        }
    }
    Table { owner, name: "filter".to_owned(), chains }
}

fn judged(owner: Owner, lines: &[&str], bypass: &[&str]) -> Judgement {
    let rules = RuleSet { tables: vec![table(owner, lines)], ..RuleSet::default() };
    let bypass: Vec<Bypass> = bypass.iter().map(|entry| entry.parse().expect("an entry")).collect();
    judge(&rules, &scene(), &bypass)
}

/// Families and ports that are closed: "42" is IPv4 from port 2.
fn closed(judgement: &Judgement) -> String {
    let word =
        |(family, port): (Family, u32)| format!("{}{port}", if family == Family::Ipv4 { 4 } else { 6 });
    judgement.closed().into_iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_provable_irrelevance_is_irrelevant() {
    const ALL: &str = "42 43 62 63";
    let cases: &[(&str, &[&str], &str)] = &[
        ("nothing", &[], ""),
        ("drop everything", &["FORWARD -j DROP"], ALL),
        ("policy", &["FORWARD policy drop"], ALL),
        ("policy behind an accept of everything", &["FORWARD policy drop", "FORWARD -j ACCEPT"], ""),
        ("policy behind an accept of some", &["FORWARD policy drop", "FORWARD maybe -j ACCEPT"], ALL),
        ("policy behind a return of everything", &["FORWARD policy drop", "FORWARD -j RETURN"], ALL),
        ("other hooks", &["INPUT policy drop", "INPUT -j DROP"], ""),
        (
            "accept, return, count",
            &["FORWARD maybe -j ACCEPT", "FORWARD maybe -j RETURN", "FORWARD -j COUNT"],
            "",
        ),
        ("loopback", &["FORWARD -i lo -j DROP"], ""),
        ("another interface", &["FORWARD -i cali+ -j DROP", "FORWARD -o docker0 -j DROP"], ""),
        ("one port by name", &["FORWARD -i eth0 -j DROP"], "42 62"),
        ("one port by index", &["FORWARD --iif 3 -j DROP"], "43 63"),
        ("all but one port", &["FORWARD ! -i eth0 -j DROP"], "43 63"),
        ("all but both ports", &["FORWARD ! -i eth+ -j DROP", "FORWARD ! -o eth+ -j DROP"], ""),
        ("leaving by one port", &["FORWARD -o eth1 -j DROP"], ALL),
        ("leaving by no port", &["FORWARD --oif 9 -j DROP"], ""),
        ("not leaving by another", &["FORWARD ! -o docker0 -j DROP"], ALL),
        ("an output interface before the route", &["PREROUTING -o docker0 -j DROP"], ALL),
        ("an input interface behind it", &["POSTROUTING -i docker0 -j DROP"], ""),
        ("not an input interface behind it", &["POSTROUTING ! -i eth+ -j DROP"], ALL),
        ("destination elsewhere", &["FORWARD -d 192.168.0.0/16 -j DROP"], ""),
        ("destination inside", &["FORWARD -d 10.233.66.0/26 -j DROP"], "42 43"),
        ("destination around", &["FORWARD -d 10.0.0.0/7 -j DROP"], "42 43"),
        ("not the destinations", &["FORWARD ! -d 10.0.0.0/7 -j DROP"], ""),
        ("not some destinations", &["FORWARD ! -d 10.2.0.0/16 -j DROP"], "42 43"),
        ("a service", &["FORWARD -d 10.97.0.1/32 -j DROP"], ""),
        ("accelerated inside of the services", &["FORWARD -d 10.96.7.7/32 -j DROP"], "42 43"),
        ("all services", &["FORWARD -d 10.96.0.0/12 -j DROP"], "42 43"),
        ("IPv6 destination", &["FORWARD -d fd00:1::/32 -j DROP"], "62 63"),
        ("a source from anywhere", &["FORWARD -s 192.168.0.0/16 -j DROP"], "42 43"),
        ("a loopback source", &["FORWARD -s 127.0.0.0/8 -j DROP"], ""),
        ("not a loopback source", &["FORWARD ! -s 127.0.0.0/8 -j DROP"], "42 43"),
        ("bytes of a packet of any family", &["FORWARD ! -4 maybe -j DROP"], "62 63"),
        ("a family", &["FORWARD -6 -j DROP"], "62 63"),
        ("never", &["FORWARD never -j DROP"], ""),
        ("no mark", &["FORWARD --mark 0x1/0x1 -j DROP"], ""),
        ("mark 0", &["FORWARD --mark 0x0/0x1 -j DROP"], ALL),
        ("not mark 0", &["FORWARD ! --mark 0x0/0x1 -j DROP"], ""),
        ("a mark outside of its mask", &["FORWARD ! --mark 0x2/0x1 -j DROP"], ALL),
        ("a mark set behind the route", &["FORWARD --set-mark 0x1/0xffffffff"], ""),
        ("and asked for", &["FORWARD --set-mark 0x1/0xffffffff", "POSTROUTING --mark 0x1/0x1 -j DROP"], ALL),
        (
            "and asked for earlier",
            &["FORWARD --set-mark 0x1/0xffffffff", "PREROUTING --mark 0x1/0x1 -j DROP"],
            "",
        ),
        (
            "set for some",
            &[
                "FORWARD maybe --set-mark 0x1/0xffffffff",
                "FORWARD ! --mark 0x1/0x1 -j RETURN",
                "FORWARD -j DROP",
            ],
            ALL,
        ),
        (
            "other bits set",
            &["FORWARD maybe --set-mark 0x2/0xffffffff", "FORWARD --mark 0x1/0x1 -j DROP"],
            "",
        ),
        ("a mark set before the route", &["PREROUTING maybe --set-mark 0x1/0xffffffff"], ALL),
        ("a mark cleared before the route", &["PREROUTING --set-mark 0x0/0xfff0ffff"], ""),
        (
            "set in a rule that then does not match",
            &["FORWARD --set-mark 0x1/0xffffffff -i lo -j ACCEPT", "FORWARD --mark 0x1/0x1 -j DROP"],
            ALL,
        ),
        ("a harmless chain", &["FORWARD -j C", "C maybe -j ACCEPT", "C -j RETURN"], ""),
        ("an empty chain", &["FORWARD -j C", "C"], ""),
        ("a chain that drops", &["FORWARD -j C", "C -d 10.1.0.0/16 -j DROP"], "42 43"),
        ("a chain that drops, for others", &["FORWARD -i cali+ -j C", "C -j DROP"], ""),
        ("a chain that accepts everything", &["FORWARD -j C", "C -j ACCEPT", "FORWARD -j DROP"], ""),
        ("a chain that accepts some", &["FORWARD -j C", "C maybe -j ACCEPT", "FORWARD -j DROP"], ALL),
        ("a chain that returns", &["FORWARD -j C", "C -j RETURN", "C -j DROP"], ""),
        ("and what is behind", &["FORWARD -j C", "C -j RETURN", "FORWARD -j DROP"], ALL),
        ("goto", &["FORWARD -g C", "C -j RETURN", "FORWARD -j DROP"], ""),
        ("goto, and the policy", &["FORWARD policy drop", "FORWARD -g C", "C -j RETURN"], ALL),
        ("goto of some", &["FORWARD maybe -g C", "C -j RETURN", "FORWARD -j DROP"], ALL),
        (
            "a mark decides which chain",
            &["FORWARD --set-mark 0x1/0xffffffff -j C", "C --mark 0x1/0x1 -j DROP"],
            ALL,
        ),
        (
            "a chain entered with two marks",
            &["FORWARD -j C", "FORWARD --set-mark 0x1/0xffffffff -j C", "C --mark 0x1/0x1 -j DROP"],
            ALL,
        ),
        ("a loop", &["FORWARD -j C", "C -j C"], ALL),
        ("a chain that is not there", &["FORWARD -j C"], ALL),
        ("ingress of one port", &["INGRESS -j DROP"], "43 63"),
        ("egress of one port", &["EGRESS -j DROP"], ALL),
        ("connections", &["INPUT ct -j ACCEPT"], ALL),
    ];
    for (name, lines, expected) in cases {
        let judgement = judged(Owner::Nft("inet"), lines, &[]);
        assert_eq!(closed(&judgement), *expected, "{name}: {:#?}", judgement.findings);
    }
}

#[test]
fn tables_concern_their_family() {
    for (owner, expected) in [
        (Owner::Nft("ip"), "42 43"),
        (Owner::Iptables, "42 43"),
        (Owner::Nft("ip6"), "62 63"),
        (Owner::Ip6tables, "62 63"),
        (Owner::Nft("inet"), "42 43 62 63"),
    ] {
        assert_eq!(closed(&judged(owner, &["FORWARD -j DROP"], &[])), expected, "{owner:?}");
    }
    let rules =
        RuleSet { tables: vec![table(Owner::Nft("inet"), &["FORWARD -j DROP"])], ..RuleSet::default() };
    let ipv4 = Scene { accelerate: vec!["10.0.0.0/8".parse().expect("a prefix")], ..scene() };
    assert_eq!(closed(&judge(&rules, &ipv4, &[])), "42 43", "nothing of IPv6 is accelerated");
    assert_eq!(closed(&judge(&rules, &Scene::default(), &[])), "");
}

#[test]
fn what_is_named_does_not_close() {
    let lines =
        ["FORWARD -j A", "A -j C", "A -j DROP", "C -j DROP", "FORWARD -j B", "B -j C", "INPUT ct -j ACCEPT"];
    for (bypass, open, idle) in [
        (&[][..], &["filter/C", "filter/A", "conntrack"][..], &[][..]),
        (&["all"], &[], &[]),
        (&["iptables"], &[], &[]),
        (&["iptables:FORWARD"], &["conntrack"], &[]),
        // C is reached by B as well.
        (&["iptables:A"], &["filter/C", "conntrack"], &[]),
        (&["iptables:A", "iptables:B"], &["conntrack"], &[]),
        (&["iptables:C", "conntrack"], &["filter/A"], &[]),
        (&["iptables:FORWARD", "iptables:INPUT"], &[], &[]),
        (&["iptables:filter/FORWARD", "conntrack", "xfrm", "ip6tables"], &[], &["xfrm", "ip6tables"]),
        (&["nft", "tc:eth0"], &["filter/C", "filter/A", "conntrack"], &["nft", "tc:eth0"]),
    ] {
        let judgement = judged(Owner::Iptables, &lines, bypass);
        let findings = judgement.findings.iter().filter(|finding| finding.bypassed.is_none());
        let places: Vec<&str> =
            findings.map(|finding| finding.place.trim_start_matches("iptables:")).collect();
        assert_eq!(places, open, "{bypass:?}");
        assert_eq!(judgement.idle_bypasses, idle, "{bypass:?}");
        assert_eq!(closed(&judgement).is_empty(), open.is_empty(), "{bypass:?}");
    }
}

/// A mark that cannot be told proves nothing, even where what set it is named.
#[test]
fn marks_that_cannot_be_told() {
    let asks = ["FORWARD --mark 0x1/0x1 -j DROP"];
    let one = |lines: &[&str]| table(Owner::Nft("ip"), lines);
    let other = |lines: &[&str]| Table { name: "other".to_owned(), ..one(lines) };
    let filter = Filter { port: 3, egress: false, family: None, text: "filter".to_owned() };
    for (name, rules, bypass, expected) in [
        ("nothing sets it", RuleSet { tables: vec![one(&asks)], ..RuleSet::default() }, "xfrm", ""),
        (
            "a map that is named",
            RuleSet { tables: vec![other(&["PREROUTING -j VMAP"]), one(&asks)], ..RuleSet::default() },
            "nft:ip other",
            "42 43",
        ),
        (
            "a filter that is named",
            RuleSet { tables: vec![one(&asks)], filters: vec![filter], ..RuleSet::default() },
            "tc",
            "43",
        ),
        (
            "a chain of the same priority, listed before",
            RuleSet {
                tables: vec![other(&["FORWARD --set-mark 0x1/0x0"]), one(&asks)],
                ..RuleSet::default()
            },
            "xfrm",
            "42 43",
        ),
        (
            "a chain of the same priority, listed behind",
            RuleSet {
                tables: vec![one(&asks), other(&["FORWARD --set-mark 0x1/0x0"])],
                ..RuleSet::default()
            },
            "xfrm",
            "42 43",
        ),
    ] {
        let judgement = judge(&rules, &scene(), &[bypass.parse().expect("an entry")]);
        assert_eq!(closed(&judgement), expected, "{name}: {:#?}", judgement.findings);
    }
}

#[test]
fn what_cannot_be_read_closes() {
    for (source, expected) in [
        (Source::Nft, "42 43 62 63"),
        (Source::Iptables, "42 43"),
        (Source::Ip6tables, "62 63"),
        (Source::Xfrm, "42 43 62 63"),
        (Source::Tc, "42 43 62 63"),
    ] {
        let rules = RuleSet { unreadable: BTreeMap::from([(source, "no".to_owned())]), ..RuleSet::default() };
        assert_eq!(closed(&judge(&rules, &scene(), &[])), expected, "{source:?}");
        let entry = match source {
            Source::Nft => "nft",
            Source::Iptables => "iptables",
            Source::Ip6tables => "ip6tables",
            Source::Xfrm => "xfrm",
            Source::Tc => "tc",
        };
        assert_eq!(closed(&judge(&rules, &scene(), &[entry.parse().expect(entry)])), "", "{entry}");
        let narrow = "iptables:FORWARD".parse().expect("an entry");
        assert_eq!(closed(&judge(&rules, &scene(), &[narrow])), expected, "{source:?}: a chain is not all");
    }
}

#[test]
fn policies_and_filters() {
    let policy = |family, destination: Option<&str>, interface| Policy {
        family,
        destination: destination.map(range),
        interface,
        text: "policy".to_owned(),
    };
    for (policy, expected) in [
        (policy(None, None, None), "42 43 62 63"),
        (policy(Some(Family::Ipv4), Some("0.0.0.0/0"), None), "42 43"),
        (policy(Some(Family::Ipv4), Some("192.168.0.0/16"), None), ""),
        (policy(Some(Family::Ipv6), Some("fd00:1::/64"), Some(2)), "62 63"),
        (policy(Some(Family::Ipv6), Some("fd00:1::/64"), Some(9)), ""),
    ] {
        let rules = RuleSet { policies: vec![policy], ..RuleSet::default() };
        assert_eq!(closed(&judge(&rules, &scene(), &[])), expected, "{rules:?}");
    }
    let filter = |port, egress, family| Filter { port, egress, family, text: "filter".to_owned() };
    for (filter, expected) in [
        (filter(2, false, None), "42 62"),
        (filter(2, false, Some(Family::Ipv6)), "62"),
        (filter(2, true, Some(Family::Ipv4)), "42 43"),
        (filter(9, true, None), ""),
    ] {
        let rules = RuleSet { filters: vec![filter], ..RuleSet::default() };
        assert_eq!(closed(&judge(&rules, &scene(), &[])), expected, "{rules:?}");
        assert_eq!(
            closed(&judge(&rules, &scene(), &["tc:eth0".parse().expect("an entry")])),
            "",
            "{rules:?}"
        );
    }
}
