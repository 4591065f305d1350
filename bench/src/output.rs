//! Where results go: `bench/results/` and the README for a whole run, a scratch folder for anything less.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::report;

/// The workspace's root, set by `cargo xtask bench`.
const ROOT: &str = "UNDERPASS_BENCH_ROOT";
/// Results that are published, below the root.
const RESULTS: &str = "bench/results";
/// Results of quick and partial runs, below the root.
const SCRATCH: &str = "target/bench";

/// The place of a run's results.
#[derive(Clone, Debug)]
pub struct Output {
    folder: PathBuf,
    readme: Option<PathBuf>,
}

impl Output {
    /// `folder` when one is given, otherwise by whether the run is `whole`.
    pub fn new(folder: Option<&Path>, whole: bool) -> Self {
        let root = std::env::var_os(ROOT).map_or_else(|| PathBuf::from("."), PathBuf::from);
        match folder {
            Some(folder) => Self { folder: folder.to_owned(), readme: None },
            None if whole => Self { folder: root.join(RESULTS), readme: Some(root.join("README.md")) },
            None => Self { folder: root.join(SCRATCH), readme: None },
        }
    }

    /// Writes `NAME.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn json(&self, name: &str, report: &impl Serialize) -> anyhow::Result<()> {
        let path = self.folder.join(format!("{name}.json"));
        report::write_json(&path, report)?;
        println!("written: {}", path.display());
        Ok(())
    }

    /// Reads what [`Self::json`] wrote.
    ///
    /// # Errors
    /// There is no such file, or another version of the benchmark wrote it.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<T> {
        let path = self.folder.join(format!("{name}.json"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is of another version", path.display()))
    }

    /// Writes `NAME.svg`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn svg(&self, name: &str, svg: &str) -> anyhow::Result<()> {
        let path = self.folder.join(format!("{name}.svg"));
        report::write_text(&path, svg)?;
        println!("drawn: {}", path.display());
        Ok(())
    }

    /// Replaces the section `name` of the README, when this run is one that is published.
    ///
    /// # Errors
    /// The README cannot be read or written, or lacks the section's marks.
    pub fn readme(&self, name: &str, section: &str) -> anyhow::Result<()> {
        let Some(path) = &self.readme else { return Ok(()) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = replaced(&text, name, section).with_context(|| format!("in {}", path.display()))?;
        report::write_text(path, &text)?;
        println!("updated: {}", path.display());
        Ok(())
    }
}

/// `text` with what is between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` replaced.
fn replaced(text: &str, name: &str, section: &str) -> anyhow::Result<String> {
    let (start, end) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let from = text.find(&start).with_context(|| format!("{start} is missing"))? + start.len();
    let to = text.find(&end).with_context(|| format!("{end} is missing"))?;
    ensure!(from <= to, "{end} stands before {start}");
    Ok(format!("{}\n{}\n{}", &text[..from], section.trim(), &text[to..]))
}

#[cfg(test)]
mod tests {
    use super::{Output, replaced};

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n";
        let expected = "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb\n";
        assert_eq!(replaced(text, "x", "\nnew\n").expect("both marks"), expected);
        assert_eq!(replaced(expected, "x", "new").expect("both marks"), expected);
        assert!(replaced(text, "y", "new").is_err());
        assert!(replaced("<!-- /bench:x --><!-- bench:x -->", "x", "new").is_err());
    }

    #[test]
    fn only_whole_runs_are_published() {
        assert!(Output::new(None, true).folder.ends_with("bench/results"));
        assert!(Output::new(None, false).folder.ends_with("target/bench"));
        let given = Output::new(Some("/tmp/x".as_ref()), true);
        assert!(given.readme.is_none() && given.folder.ends_with("x"));
    }
}
