//! The interop matrix: which daemons, which capabilities, what a run found, and the tables in `docs/interop.md`.
//!
//! Each test of `tests/matrix` leaves what it found in the folder of [`FOLDER`], one file per cell;
//! `cargo xtask matrix` makes the tables of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};

/// Environment variable with the folder for results. Unset: nothing is left.
pub const FOLDER: &str = "UNDERPASS_MATRIX_OUT";
/// Begins the generated part of the document.
pub const BEGIN: &str = "<!-- matrix -->\n";
/// Ends it.
pub const END: &str = "<!-- /matrix -->";
/// The daemons as their tests are named, in the order of the table.
pub const DAEMONS: &[&str] = &["bird1", "bird2", "frr", "gobgp"];
/// The capabilities as their tests are named, each with its column's title.
pub const CAPABILITIES: &[(&str, &str)] = &[
    ("establish", "establish"),
    ("learn", "learn"),
    ("withdraw", "withdraw"),
    ("add_path", "ADD-PATH"),
    ("md5", "MD5"),
    ("gtsm", "GTSM"),
    ("graceful_restart", "graceful restart"),
    ("refresh", "refresh"),
    ("ipv6", "IPv6"),
];
/// Begins the names of the tests with malformed messages.
pub const MALFORMED: &str = "exabgp";
/// A cell that works.
const WORKS: &str = "✓";
/// A cell that the daemon does not offer.
const ABSENT: &str = "—";

/// What a test found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Works,
    /// It works, and this is worth knowing.
    WorksWith(String),
    /// The daemon does not offer it; the test has seen what happens instead.
    Absent(String),
    /// A malformed message: what it is, and what became of it.
    Malformed {
        /// The error in it.
        message: String,
        /// What the agent did about it.
        became: String,
    },
}

impl Outcome {
    /// Leaves it for the tables.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn record(&self, test: &str) -> Result<()> {
        let Some(folder) = env::var_os(FOLDER) else { return Ok(()) };
        let path = Path::new(&folder).join(test);
        fs::write(&path, self.text()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn text(&self) -> String {
        match self {
            Self::Works => "works\n".to_owned(),
            Self::WorksWith(note) => format!("works\n{note}\n"),
            Self::Absent(note) => format!("absent\n{note}\n"),
            Self::Malformed { message, became } => format!("malformed\n{message}\n{became}\n"),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let owned = |text: &&str| (*text).to_owned();
        match text.lines().collect::<Vec<_>>().as_slice() {
            ["works"] => Ok(Self::Works),
            ["works", note] => Ok(Self::WorksWith(owned(note))),
            ["absent", note] => Ok(Self::Absent(owned(note))),
            ["malformed", message, became] => {
                Ok(Self::Malformed { message: owned(message), became: owned(became) })
            }
            _ => bail!("not a result: {text:?}"),
        }
    }
}

/// What a run left, by test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results(pub BTreeMap<String, Outcome>);

impl Results {
    /// Reads the folder.
    ///
    /// # Errors
    /// It cannot be read, or has something else in it.
    pub fn read(folder: &Path) -> Result<Self> {
        let at = || format!("cannot read {}", folder.display());
        let mut results = BTreeMap::new();
        for entry in fs::read_dir(folder).with_context(at)? {
            let entry = entry.with_context(at)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = fs::read_to_string(entry.path()).with_context(at)?;
            let outcome = Outcome::parse(&text).with_context(|| format!("result of {name}"))?;
            results.insert(name, outcome);
        }
        Ok(Self(results))
    }

    /// The tables. `versions` are the first cells of the rows, in the order of [`DAEMONS`], then `ExaBGP`'s.
    ///
    /// # Errors
    /// A test has left nothing.
    pub fn render(&self, versions: &[String]) -> Result<String> {
        ensure!(versions.len() == DAEMONS.len() + 1, "a version for each daemon");
        let titles: Vec<_> = CAPABILITIES.iter().map(|(_, title)| *title).collect();
        let mut text = format!("\n| | {} |\n|---|{}\n", titles.join(" | "), ":-:|".repeat(titles.len()));
        let mut notes: Vec<&str> = Vec::new();
        for (daemon, version) in DAEMONS.iter().zip(versions) {
            let _ = write!(text, "| {version} |");
            for (capability, _) in CAPABILITIES {
                let _ = write!(text, " {} |", self.cell(&format!("{daemon}_{capability}"), &mut notes)?);
            }
            text.push('\n');
        }
        text.push('\n');
        for (number, note) in notes.iter().enumerate() {
            let _ = writeln!(text, "{}. {note}", number + 1);
        }
        let _ = write!(text, "\n{} sends | what follows |\n|---|---|\n", with_bar(versions));
        let mut malformed = 0;
        for (_, outcome) in self.0.iter().filter(|(test, _)| test.starts_with(MALFORMED)) {
            let Outcome::Malformed { message, became } = outcome else { bail!("{outcome:?} of {MALFORMED}") };
            let _ = writeln!(text, "| {message} | {became} |");
            malformed += 1;
        }
        ensure!(malformed > 0, "no result of {MALFORMED}: its tests have failed or did not run");
        text.push('\n');
        Ok(text)
    }

    fn cell<'a>(&'a self, test: &str, notes: &mut Vec<&'a str>) -> Result<String> {
        let outcome = self.0.get(test);
        let outcome =
            outcome.with_context(|| format!("no result of {test}: it has failed or did not run"))?;
        let (sign, note) = match outcome {
            Outcome::Works => return Ok(WORKS.to_owned()),
            Outcome::WorksWith(note) => (WORKS, note),
            Outcome::Absent(note) => (ABSENT, note),
            Outcome::Malformed { .. } => bail!("{test} is no test of malformed messages"),
        };
        let number = notes.iter().position(|known| known == note).unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        Ok(format!("{sign} ({})", number + 1))
    }
}

fn with_bar(versions: &[String]) -> String {
    format!("| {}", versions.last().map_or("", String::as_str))
}

/// Puts the tables between the marks of the document.
///
/// # Errors
/// The marks are missing.
pub fn replace(document: &str, tables: &str) -> Result<String> {
    let missing = || format!("the document has no {} .. {END}", BEGIN.trim());
    let (before, rest) = document.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{BEGIN}{tables}{END}{after}"))
}

#[cfg(test)]
mod tests;
