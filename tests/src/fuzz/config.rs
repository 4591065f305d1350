//! The configuration file.

use std::collections::HashSet;

use underpass::config;

/// Any text: problems lie inside of it and are not told twice, each in one line; what is judged the same twice.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = config::parse(&text);
    let lines = text.lines().count().max(1);
    // A key is wrong in a few ways at most, and some findings are about pairs of list entries.
    assert!(parsed.problems.len() <= 64 + text.len() * 2, "{} problems", parsed.problems.len());
    let mut told = HashSet::new();
    for problem in &parsed.problems {
        let line = problem.to_string();
        assert!(problem.position.line <= lines, "line {} of {lines}: {line}", problem.position.line);
        assert!(told.insert(line.clone()), "told twice: {line}");
    }
    assert_eq!(config::parse(&text), parsed);
}
