//! The configuration file (TOML).
//!
//! Three steps: `read` turns the document into a [`Config`] and reports keys and types,
//! [`validate`] judges the values, [`parse`] joins both with the places in the file. Every problem
//! of a file is found in one go, with line, column, key and the remedy.

pub mod diff;
mod example;
pub mod model;
mod problem;
mod read;
mod reader;
mod validate;
mod validate_bgp;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::calico::encapsulated_pools;
pub use example::EXAMPLE;
#[cfg(test)]
pub(crate) use example::in_full as example_in_full;
pub use model::Config;
pub use problem::{LoadError, Position, Problem, Severity};
pub use validate::{Finding, validate};

/// Where the configuration is, unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/underpass/underpass.toml";

/// A configuration as far as it could be read, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The configuration; usable only without [`Severity::Error`] in `problems`.
    pub config: Config,
    /// Errors and warnings in the order of the file.
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// Whether the agent must not start with this configuration.
    pub fn is_refused(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Reads and judges the text of a configuration file. Other files that it names are not read.
pub fn parse(text: &str) -> Parsed {
    parse_with_places(text).0
}

fn parse_with_places(text: &str) -> (Parsed, BTreeMap<String, Position>) {
    let read::Read { config, mut problems, positions, .. } = read::read(text);
    let broken: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
    let judged = validate(&config)
        .into_iter()
        .filter(|finding| !broken.iter().any(|key| is_unreliable(&finding.key, key)))
        .map(|Finding { key, severity, message }| Problem {
            position: nearest(&positions, &key),
            key,
            severity,
            message,
        });
    problems.extend(judged);
    problems.sort();
    // The TOML reader tells some errors twice.
    problems.dedup();
    (Parsed { config, problems }, positions)
}

/// Adds the encapsulated pools of the resources that `bgp.import.ippool_files` names.
fn add_pools(parsed: &mut Parsed, positions: &BTreeMap<String, Position>) {
    let Some(bgp) = parsed.config.bgp.as_mut().filter(|bgp| !bgp.import.ippool_files.is_empty()) else {
        return;
    };
    match encapsulated_pools(&bgp.import.ippool_files) {
        Ok(pools) => {
            let new = pools.into_iter().filter(|pool| !bgp.import.encapsulated.contains(pool));
            let new: Vec<_> = new.collect();
            bgp.import.encapsulated.extend(new);
        }
        Err(error) => {
            let key = "bgp.import.ippool_files".to_owned();
            parsed.problems.push(Problem {
                position: nearest(positions, &key),
                key,
                severity: Severity::Error,
                message: error.to_string(),
            });
            parsed.problems.sort();
        }
    }
}

/// Whether a finding about `key` may be due to `broken`, a key that could not be read: it has a
/// stand-in itself, or it is in a list that an element is missing from. Malformed text (the empty
/// key) spoils everything, a bad section the findings about the whole file.
fn is_unreliable(key: &str, broken: &str) -> bool {
    let list = broken.strip_suffix(']').and_then(|broken| broken.rfind('[')).map(|start| &broken[..=start]);
    let is_section = !broken.contains('.');
    broken.is_empty()
        || key == broken
        || (key.is_empty() && is_section)
        || list.is_some_and(|list| key.starts_with(list))
}

/// The position of a key, or of the nearest key above it that the file has.
fn nearest(positions: &BTreeMap<String, Position>, key: &str) -> Position {
    let mut key = key;
    loop {
        if let Some(position) = positions.get(key) {
            return *position;
        }
        let Some(end) = key.rfind(['.', '[']) else { return Position { line: 1, column: 1 } };
        key = &key[..end];
    }
}

/// Reads a configuration file that the agent could start with; the second value has its warnings.
///
/// # Errors
/// The file cannot be read, or has errors: then all of them are in the error.
pub fn load(path: &Path) -> Result<(Config, Vec<Problem>), LoadError> {
    let text = read_file(path)?;
    let (mut parsed, positions) = parse_with_places(&text);
    add_pools(&mut parsed, &positions);
    if parsed.is_refused() {
        return Err(LoadError::Invalid { path: path.to_owned(), problems: parsed.problems });
    }
    Ok((parsed.config, parsed.problems))
}

/// Where the agent's configuration is from: a file, and the paths that the command line puts in the place of
/// the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--bpffs`.
    pub bpffs: Option<PathBuf>,
}

impl Source {
    /// Reads a configuration that the agent can start with, and its warnings.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<(Config, Vec<Problem>), LoadError> {
        let (mut config, warnings) = load(&self.path)?;
        self.override_paths(&mut config.agent);
        Ok((config, warnings))
    }

    /// Puts the command line's paths in the place of the file's.
    pub fn override_paths(&self, agent: &mut model::Agent) {
        for (to, from) in [(&mut agent.socket, &self.socket), (&mut agent.bpffs, &self.bpffs)] {
            if let Some(path) = from {
                path.clone_into(to);
            }
        }
    }
}

/// The socket and the pin directory that a file names, whatever else is wrong with it: `status` and
/// `off` must work while somebody is editing the configuration.
///
/// # Errors
/// The file cannot be read.
pub fn load_agent(path: &Path) -> Result<model::Agent, LoadError> {
    Ok(parse(&read_file(path)?).config.agent)
}

fn read_file(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}
