//! What a benchmark writes: JSON, and the same as tables for people.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::stats::Estimate;

/// Writes `report` to `path` as JSON, indented.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, report: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(report).context("cannot encode the report")?;
    text.push('\n');
    write_text(path, &text)
}

/// Writes a file, and its folder when it is missing.
///
/// # Errors
/// It cannot be written.
pub fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// An estimate as people read it: `1.23 [1.20, 1.25]`.
pub fn estimate(value: Option<Estimate>, decimals: usize) -> String {
    match value {
        None => "-".to_owned(),
        Some(Estimate::ONE) => "1".to_owned(),
        Some(Estimate { median, low, high }) => {
            format!("{median:.decimals$} [{low:.decimals$}, {high:.decimals$}]")
        }
    }
}

/// Bytes in units of 10^6.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", crate::traffic::as_f64(bytes) / 1e6)
}

/// 10000 as "10,000".
pub fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rows of cells padded to their widest, the first `left` columns to the left and the rest, numbers, to the
/// right.
pub fn aligned<const N: usize>(rows: &[[String; N]], left: usize) -> String {
    let length = |text: &str| text.chars().count();
    let width: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(width).enumerate() {
            let gap = if index == 0 { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = if index < left {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{aligned, estimate, megabytes, thousands};
    use crate::stats::Estimate;

    #[test]
    fn numbers_with_separators() {
        for (number, text) in [(0, "0"), (100, "100"), (10_000, "10,000"), (1_000_000, "1,000,000")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn estimates_and_sizes() {
        let value = Estimate { median: 0.9, low: 0.85, high: 0.954 };
        assert_eq!(estimate(Some(value), 2), "0.90 [0.85, 0.95]");
        assert_eq!(estimate(Some(Estimate::ONE), 2), "1");
        assert_eq!(estimate(None, 2), "-");
        assert_eq!(megabytes(3_141_593), "3.14 MB");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["name", "value"], ["a", "10"], ["longer", "7"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, 1), "name    value\na          10\nlonger      7\n");
    }
}
