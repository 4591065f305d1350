//! What is wrong with Calico's resources, and where.

use std::fmt;
use std::path::PathBuf;

use crate::config::Position;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The resources cannot be used.
    Error,
    /// Something is not taken over, or is probably not what is meant.
    Warning,
    /// Nothing is wrong; worth knowing.
    Note,
}

/// One problem of one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// File.
    pub file: PathBuf,
    /// Where in it.
    pub position: Position,
    /// The resource and the field, "`BGPPeer rack1: spec.asNumber`"; empty when the file is no YAML.
    pub field: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// `FILE:LINE:COLUMN: FIELD: MESSAGE`, with "warning: " or "note: " before the field.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{}:{line}:{column}: ", self.file.display())?;
        f.write_str(match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Note => "note: ",
        })?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Why nothing can be told from Calico's resources.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder without resources.
    #[error("no .yaml, .yml or .json file in {}; name the files that hold Calico's resources", .0.display())]
    Empty(PathBuf),
    /// Resources with errors: one per line, warnings included.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// A guard was asked for and there is nothing to guard.
    #[error("no IPPool in {}; `kubectl get ippools -o yaml` prints them", paths(.0))]
    NoPool(Vec<PathBuf>),
    /// There is no such node.
    #[error("no Node {name:?} among the resources; there {}", known(.nodes, "is none", "are"))]
    NoNode {
        /// The name asked for.
        name: String,
        /// The nodes that there are.
        nodes: Vec<String>,
    },
    /// No node has a session with the address.
    #[error("no Calico node has a session with {address}; peers outside of the cluster: {}", known(.peers, "none", ""))]
    NoPeer {
        /// The address asked for.
        address: std::net::IpAddr,
        /// The addresses outside of the cluster that nodes have sessions with.
        peers: Vec<String>,
    },
    /// The address is a node's.
    #[error("{address} is the Calico node {node:?}; use `--node {node}`")]
    IsNode {
        /// The address asked for.
        address: std::net::IpAddr,
        /// Whose it is.
        node: String,
    },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn known(names: &[String], none: &str, some: &str) -> String {
    if names.is_empty() {
        return none.to_owned();
    }
    format!("{some} {}", names.join(", ")).trim_start().to_owned()
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
