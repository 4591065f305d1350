//! `underpass config from-calico`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Value, json};

use super::args::Read;
use super::output::{self, Exit, OutputFormat};
use crate::api::model::SCHEMA;
use crate::calico::plan::{self, Machine, Plan, Request};
use crate::calico::{self, Problem, Severity, render};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("machine").required(true))]
pub(super) struct FromCalico {
    /// Files with Calico's resources, and folders of .yaml, .yml and .json files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The Calico node that the configuration is for
    #[arg(long, group = "machine", value_name = "NAME")]
    node: Option<String>,
    /// The address that Calico nodes peer with, of a leaf or gateway that the configuration is for
    #[arg(long, group = "machine", value_name = "ADDR")]
    address: Option<IpAddr>,
    /// Do not comment out the sessions of the node: its BIRD is gone
    #[arg(long, conflicts_with = "address")]
    with_sessions: bool,
    /// What pools are whose packets are encapsulated between networks only
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    cross_subnet: CrossSubnet,
    /// BGP identifier, instead of the machine's IPv4 address
    #[arg(long, value_name = "ID")]
    router_id: Option<Ipv4Addr>,
    /// Interface or pattern for `datapath.ports`; may be given several times
    #[arg(long = "port", value_name = "NAME", default_value = "eth*")]
    ports: Vec<String>,
    /// Folder in which passwords are looked for, as NAME/KEY of their Secret
    #[arg(long, value_name = "DIR", default_value = "/etc/underpass/secrets")]
    secrets: PathBuf,
    /// Write to FILE, which must not be there yet, instead of standard output
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    write: Option<PathBuf>,
    /// Replace FILE
    #[arg(long, requires = "write")]
    force: bool,
    #[command(flatten)]
    read: Read,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CrossSubnet {
    /// Encapsulated: right wherever the machine is in another network than some node
    #[default]
    Encapsulated,
    /// Not encapsulated: right where the machine and all nodes are in one network
    Native,
}

impl FromCalico {
    fn request(&self) -> anyhow::Result<Request> {
        let machine = match (&self.node, self.address) {
            (Some(name), _) => Machine::Node(name.clone()),
            (None, Some(address)) => Machine::Address(address),
            (None, None) => bail!("neither --node nor --address; give one"),
        };
        Ok(Request {
            machine,
            with_sessions: self.with_sessions,
            cross_subnet: match self.cross_subnet {
                CrossSubnet::Encapsulated => calico::CrossSubnet::Encapsulated,
                CrossSubnet::Native => calico::CrossSubnet::Native,
            },
            router_id: self.router_id,
            ports: self.ports.clone(),
            secrets: self.secrets.clone(),
        })
    }
}

/// Prints or writes the configuration that follows from Calico's resources; what is odd about them goes to standard
/// error.
///
/// # Errors
/// The resources cannot be read or have errors, the machine is not in them, or the file is there already.
pub(super) fn from_calico(arguments: &FromCalico) -> anyhow::Result<Exit> {
    let request = arguments.request()?;
    let (resources, problems) = calico::load(&arguments.paths)?;
    let plan = plan::plan(&resources, &request)?;
    if arguments.read.output == OutputFormat::Json {
        return output::print_json(&report(&plan, &problems)?);
    }
    for problem in &problems {
        // Nobody to tell when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{problem}");
    }
    let text = render::text(&plan);
    match &arguments.write {
        None => output::print(&text),
        Some(path) => write(path, &text, arguments.force),
    }
}

fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<Exit> {
    let opened =
        if force { File::create(path) } else { OpenOptions::new().write(true).create_new(true).open(path) };
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; --force replaces it", path.display())
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Exit::Fine)
}

fn report(plan: &Plan, problems: &[Problem]) -> anyhow::Result<Value> {
    let mut report = serde_json::to_value(plan).context("cannot write the plan as JSON")?;
    report["schema"] = json!(SCHEMA);
    report["problems"] = problems.iter().map(problem).collect();
    Ok(report)
}

fn problem(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "line": problem.position.line,
        "column": problem.position.column,
        "field": problem.field,
        "severity": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": problem.message,
    })
}
