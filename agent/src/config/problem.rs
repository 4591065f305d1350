//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// A place in the file. Lines and columns (in characters) start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The position of a byte offset of `text`; offsets past the end count as the end.
    pub fn of(text: &str, offset: usize) -> Self {
        let mut before = &text[..text.floor_char_boundary(offset)];
        if before.len() == text.len() {
            before = before.strip_suffix('\n').unwrap_or(before);
        }
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// Whether the agent can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// Allowed, but probably not what is meant.
    Warning,
}

/// One problem of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// Path of the key, "bgp.peers[0].address"; empty for a syntax error.
    pub key: String,
    /// Whether the agent can start.
    pub severity: Severity,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// "LINE:COLUMN: KEY: MESSAGE", with "warning: " before the key of a warning.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.position.line, self.position.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(
        "cannot read {}: {source}; `underpass config example` prints a file to start from, -c names another one",
        path.display()
    )]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has errors: one per line, warnings included.
    #[error("{}", lines(path, problems))]
    Invalid {
        /// File.
        path: PathBuf,
        /// In the order of the file.
        problems: Vec<Problem>,
    },
}

fn lines(path: &std::path::Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a = 1\nü = \"x\"\n";
        for (offset, line, column) in [(0, 1, 1), (4, 1, 5), (6, 2, 1), (8, 2, 2), (14, 2, 8), (99, 2, 8)] {
            assert_eq!(Position::of(text, offset), Position { line, column }, "offset {offset}");
        }
        assert_eq!(Position::of("", 3), Position { line: 1, column: 1 });
    }
}
