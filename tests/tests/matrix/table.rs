//! The tables in `docs/interop.md` have what the tests are, no more and no less.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use underpass_tests::matrix::{BEGIN, CAPABILITIES, DAEMONS, END};

use super::{CELLS, MALFORMED};

/// The generated part, its lines that are rows of a table as their cells.
fn committed() -> (Vec<Vec<String>>, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    let text = fs::read_to_string(&path).expect("the document");
    let (_, rest) = text.split_once(BEGIN).expect("a begin");
    let (tables, _) = rest.split_once(END).expect("an end");
    let row = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let is_row = |line: &&str| line.starts_with("| ");
    let others = tables.lines().filter(|line| !line.starts_with('|') && !line.is_empty());
    (tables.lines().filter(is_row).map(row).collect(), others.map(str::to_owned).collect())
}

#[test]
fn every_cell_is_a_test() {
    let expected: BTreeSet<String> = DAEMONS
        .iter()
        .flat_map(|daemon| CAPABILITIES.iter().map(move |(capability, _)| format!("{daemon}_{capability}")))
        .collect();
    let tests: BTreeSet<String> = CELLS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(tests, expected);
}

#[test]
fn the_committed_matrix_is_whole() {
    let (rows, notes) = committed();
    let (head, body) = rows.split_first().expect("a table");
    let titles: Vec<&str> = std::iter::once("").chain(CAPABILITIES.iter().map(|(_, title)| *title)).collect();
    assert_eq!(head, &titles);
    let versions: Vec<_> = body.iter().take(DAEMONS.len()).map(|row| row[0].as_str()).collect();
    for (version, begin) in versions.iter().zip(["BIRD 1.6", "BIRD 2.", "FRR ", "GoBGP "]) {
        assert!(version.starts_with(begin), "{versions:?}");
    }
    let mut used = BTreeSet::new();
    for row in body.iter().take(DAEMONS.len()) {
        assert_eq!(row.len(), titles.len(), "{row:?}");
        for cell in &row[1..] {
            let (sign, note) = cell.split_once(' ').unwrap_or((cell, ""));
            assert!(sign == "✓" || (sign == "—" && !note.is_empty()), "{row:?}: {cell}");
            used.extend(note.trim_matches(['(', ')']).parse::<usize>());
        }
    }
    let numbers: BTreeSet<usize> = notes
        .iter()
        .map(|note| note.split_once(". ").expect("a note").0.parse().expect("a number"))
        .collect();
    assert_eq!(used, numbers, "{notes:?}");
}

#[test]
fn the_committed_malformed_messages_are_the_tests() {
    let (rows, _) = committed();
    let found: BTreeSet<(String, String)> =
        rows[DAEMONS.len() + 2..].iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expected: BTreeSet<(String, String)> =
        MALFORMED.iter().map(|(_, case)| (case.message.to_owned(), case.became.words())).collect();
    assert_eq!(found, expected);
    assert_eq!(rows.len(), DAEMONS.len() + 2 + MALFORMED.len(), "no row twice");
}
