use super::*;

fn works_everywhere() -> Results {
    let cells = DAEMONS.iter().flat_map(|daemon| {
        CAPABILITIES.iter().map(move |(capability, _)| (format!("{daemon}_{capability}"), Outcome::Works))
    });
    let message = "an ORIGIN of two octets".to_owned();
    let malformed = Outcome::Malformed { message, became: "the route is withdrawn".to_owned() };
    Results(cells.chain([("exabgp_origin".to_owned(), malformed)]).collect())
}

fn versions() -> Vec<String> {
    DAEMONS.iter().chain(&[MALFORMED]).map(|name| format!("{name} 1.0")).collect()
}

#[test]
fn outcomes_read_as_they_were_written() {
    let outcomes = [
        Outcome::Works,
        Outcome::WorksWith("a note".to_owned()),
        Outcome::Absent("another note".to_owned()),
        Outcome::Malformed { message: "bad".to_owned(), became: "gone".to_owned() },
    ];
    for outcome in outcomes {
        assert_eq!(Outcome::parse(&outcome.text()).expect("a result"), outcome);
    }
    for text in ["", "absent\n", "works\na\nb\n", "failed\n"] {
        assert!(Outcome::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_note_is_told_once() {
    let mut results = works_everywhere();
    for test in ["bird1_refresh", "frr_refresh"] {
        results.0.insert(test.to_owned(), Outcome::Absent("nobody marks it".to_owned()));
    }
    results.0.insert("frr_ipv6".to_owned(), Outcome::WorksWith("slowly".to_owned()));
    let text = results.render(&versions()).expect("tables");
    let row =
        |daemon: &str| text.lines().find(|line| line.starts_with(&format!("| {daemon} "))).expect("a row");
    assert_eq!(row("bird1"), "| bird1 1.0 | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | — (1) | ✓ |");
    assert_eq!(row("frr"), "| frr 1.0 | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | — (1) | ✓ (2) |");
    assert!(text.contains("\n1. nobody marks it\n2. slowly\n"), "{text}");
    assert!(text.contains("\n| an ORIGIN of two octets | the route is withdrawn |\n"), "{text}");
}

#[test]
fn a_cell_without_a_result_is_an_error() {
    for test in ["gobgp_md5", "exabgp_origin"] {
        let mut results = works_everywhere();
        results.0.remove(test).expect("it is there");
        let error = results.render(&versions()).expect_err("refused").to_string();
        assert!(error.starts_with("no result of ") && error.contains(&test[..5]), "{error}");
    }
}

#[test]
fn tables_go_between_the_marks() {
    let document = format!("a\n{BEGIN}old{END}\nb\n");
    assert_eq!(replace(&document, "new\n").expect("marks"), format!("a\n{BEGIN}new\n{END}\nb\n"));
    assert!(replace("a\nb\n", "new").is_err());
}
