use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::{Comparison, Labels, Selector, parse};

fn node() -> Labels {
    [("rr-group", "rr1"), ("kubernetes.io/hostname", "node1"), ("zone_a.b", "east-1"), ("in", "x"), ("e", "")]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn selectors_match_as_in_calico() {
    for (selector, expected) in [
        ("", true),
        (" \t ", true),
        ("all()", true),
        ("all( )", true),
        ("global()", true),
        ("!all()", false),
        ("rr-group == 'rr1'", true),
        ("rr-group==\"rr1\"", true),
        ("rr-group == 'rr2'", false),
        ("absent == 'rr1'", false),
        ("rr-group != 'rr1'", false),
        ("rr-group != 'rr2'", true),
        ("absent != 'rr1'", true),
        ("rr-group in {'rr2', \"rr1\"}", true),
        ("rr-group in {'rr1',}", true),
        ("rr-group in {}", false),
        ("absent in {'rr1'}", false),
        ("rr-group not in {'rr1'}", false),
        ("rr-group not in {}", true),
        ("absent not in {'rr1'}", true),
        ("absent not  in{'rr1'}", true),
        ("zone_a.b contains 'st-'", true),
        ("zone_a.b contains 'west'", false),
        ("zone_a.b starts with 'east'", true),
        ("zone_a.b starts\twith'1'", false),
        ("zone_a.b ends with '-1'", true),
        ("zone_a.b ends with 'east'", false),
        ("absent contains ''", false),
        ("absent starts with ''", false),
        ("has(kubernetes.io/hostname)", true),
        ("has( rr-group )", true),
        ("has(absent)", false),
        ("!has(absent)", true),
        ("! has(absent)", true),
        ("!!has(absent)", false),
        ("in in {'x'}", true),
        ("e == ''", true),
        ("kubernetes.io/hostname == 'node1' && !has(rr-id)", true),
        // `&&` before `||`, `!` before both.
        ("all() || all() && !all()", true),
        ("(all() || all()) && !all()", false),
        ("!all() && !all() || all()", true),
        ("!(all() && !all())", true),
        ("!has(absent) && has(absent) || rr-group == 'rr1'", true),
    ] {
        let parsed = parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
        assert_eq!(parsed.matches(&node()), expected, "{selector}");
    }
}

#[test]
fn what_is_no_selector_is_refused_at_its_column() {
    let deep = format!("{}all(){}", "(".repeat(101), ")".repeat(101));
    let long = format!("has({})", "k".repeat(513));
    for (selector, column, message) in [
        ("rr-group = 'rr1'", 10, "a single `=`"),
        ("a == 'b' & c == 'd'", 10, "a single `&`"),
        ("a == 'b' | c == 'd'", 10, "a single `|`"),
        ("a == b", 6, "expected a value in quotes, found the key \"b\""),
        ("a ==", 5, "found the end"),
        ("a == 'b", 6, "is not closed"),
        ("a == \"b'", 6, "add \" at its end"),
        ("a", 2, "expected an operator behind the key"),
        ("a begins with 'b'", 3, "expected an operator behind the key"),
        ("a starts 'b'", 3, "expected an operator behind the key"),
        ("a not 'b'", 3, "expected an operator behind the key"),
        ("a in 'b'", 6, "expected a set"),
        ("a in {'b' 'c'}", 11, "expected a value in quotes or `}`"),
        ("a in {'b'", 10, "found the end"),
        ("has(a", 6, "expected `)` of `has(`"),
        ("has()", 5, "expected the key of a label in `has(`"),
        ("has('a')", 5, "expected the key of a label in `has(`"),
        ("all", 4, "expected an operator behind the key"),
        ("all(x)", 5, "expected `)` of `all(`"),
        ("(a == 'b'", 10, "expected `&&`, `||` or `)`"),
        ("a == 'b')", 9, "expected `&&`, `||` or the end, found `)`"),
        ("a == 'b' c == 'd'", 10, "found the key \"c\""),
        ("a == 'b' &&", 12, "found the end"),
        ("|| a == 'b'", 1, "found `||`"),
        ("!", 2, "found the end"),
        ("ü == 'b'", 1, "found 'ü'"),
        ("a == 'ü' ?", 10, "found '?'"),
        ("a == 'b'\n", 9, "found '\\n'"),
        (deep.as_str(), 101, "more than 100 parentheses"),
        (long.as_str(), 5, "longer than 512"),
    ] {
        let error = parse(selector).expect_err(selector);
        assert_eq!(error.column, column, "{selector}: {error}");
        assert!(error.message.contains(message), "{selector}: {error}");
    }
}

#[test]
fn a_hundred_parentheses_are_fine() {
    let text = format!("{}has(a){}", "(".repeat(100), ")".repeat(100));
    assert_eq!(parse(&text), Ok(Selector::Has("a".to_owned())));
}

#[test]
fn trees_are_grouped_by_precedence() {
    let has = |key: &str| Selector::Has(key.to_owned());
    let not = |operand| Selector::Not(Box::new(operand));
    for (selector, expected) in [
        (
            "has(a) || has(b) && !has(c)",
            Selector::Or(vec![has("a"), Selector::And(vec![has("b"), not(has("c"))])]),
        ),
        (
            "(has(a) && has(b)) && has(c)",
            Selector::And(vec![Selector::And(vec![has("a"), has("b")]), has("c")]),
        ),
        ("!(!has(a))", not(not(has("a")))),
        ("!!!has(a)", not(has("a"))),
        ("((has(a)))", has("a")),
        ("a != '\"'", Selector::Compare("a".to_owned(), Comparison::NotEqual, "\"".to_owned())),
        (
            "a in {'y', 'x', 'y'}",
            Selector::In("a".to_owned(), BTreeSet::from(["x".to_owned(), "y".to_owned()])),
        ),
    ] {
        assert_eq!(parse(selector), Ok(expected), "{selector}");
    }
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let key = "[a-zA-Z0-9_./-]{1,12}";
    // Either kind of quote, never both.
    let value = prop_oneof!["[^']{0,8}", "[^\"]{0,8}"];
    let comparison = prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Contains),
        Just(Comparison::StartsWith),
        Just(Comparison::EndsWith),
    ];
    let leaf = prop_oneof![
        Just(Selector::All),
        Just(Selector::Global),
        key.prop_map(Selector::Has),
        (key, comparison, value.clone())
            .prop_map(|(key, comparison, value)| Selector::Compare(key, comparison, value)),
        (key, btree_set(value.clone(), 0..4)).prop_map(|(key, values)| Selector::In(key, values)),
        (key, btree_set(value, 0..4)).prop_map(|(key, values)| Selector::NotIn(key, values)),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|operand| Selector::Not(Box::new(operand))),
            vec(inner.clone(), 2..4).prop_map(Selector::And),
            vec(inner, 2..4).prop_map(Selector::Or),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_selector_parses_to_the_same_tree(selector in any_selector()) {
        let text = selector.to_string();
        prop_assert_eq!(parse(&text), Ok(selector), "{}", text);
    }

    #[test]
    fn any_text_is_a_selector_or_an_error_within_it(text in "[a-z!&|=(){}'\", \tü]{0,40}") {
        match parse(&text) {
            Ok(selector) => prop_assert_eq!(parse(&selector.to_string()), Ok(selector)),
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}", error),
        }
    }
}
