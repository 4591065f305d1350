//! What can be written on the command line.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use super::from_calico::FromCalico;
use super::output::OutputFormat;
use crate::api::model::PeerAction;
use crate::config;

/// Keeps the kernel FIB right from BGP and forwards the kernel's routes in XDP.
#[derive(Debug, Parser)]
#[command(name = "underpass", version, propagate_version = true)]
pub(super) struct Cli {
    /// Configuration file [default: /etc/underpass/underpass.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The agent's socket, instead of the one that the configuration names
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The folder of pinned programs and maps, instead of the one that the configuration names
    #[arg(long, global = true, value_name = "PATH")]
    pub bpffs: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Where the configuration is from.
    pub(super) fn source(&self) -> config::Source {
        config::Source {
            path: self.config_path().to_owned(),
            socket: self.socket.clone(),
            bpffs: self.bpffs.clone(),
        }
    }

    /// The configuration file to use.
    pub(super) fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent in the foreground
    Run,
    /// Health of the agent, its ports, sessions and routes; exit code 1 when there is a problem
    Status(Read),
    /// BGP sessions
    Peers(Read),
    /// Take a BGP session down or up, reset it, or ask the peer for its routes again
    Peer(Order),
    /// Read the configuration file again and take on what changed; an invalid file changes nothing
    Reload(Read),
    /// Every prefix in RIB, kernel and XDP
    Routes(Read),
    /// Ask the XDP program and the kernel where a packet to ADDR would go; exit code 1 when they disagree
    Lookup(Lookup),
    /// Packets and bytes by port and reason
    Counters(Read),
    /// Detach the XDP programs and remove our routes; only while no agent runs
    Flush(Read),
    /// Kill switch: leave every packet to the kernel, until `on`; needs no running agent
    Off(Read),
    /// Let the XDP programs forward again
    On(Read),
    /// Work with the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Version of the program and of its maps
    Version(Read),
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print "ok", or every problem with line and key; exit code 1 when the agent would refuse the file
    Check(Read),
    /// Print a commented configuration with every key and its default
    Example,
    /// Print the configuration that follows from Calico's resources, for a node or for a peer of nodes
    FromCalico(Box<FromCalico>),
}

/// Options of every command that reports.
#[derive(Debug, Args)]
pub(super) struct Read {
    /// Format of the report
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct Order {
    /// Configured name or address of the peer
    #[arg(value_name = "PEER")]
    pub peer: String,
    /// down: until `up` or the next start, its routes go; reset: its routes stay until they were sent again
    #[arg(value_enum)]
    pub action: PeerAction,
    /// Words for the peer's operator, with `down` and `reset` (RFC 9003)
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
    #[command(flatten)]
    pub read: Read,
}

#[derive(Debug, Args)]
pub(super) struct Lookup {
    /// Destination
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// Port that the packet comes in on [default: the first managed port]
    #[arg(long = "in", value_name = "IFACE")]
    pub interface: Option<String>,
    /// Source of the packet [default: one that passes the source check]
    #[arg(long = "from", value_name = "SRC")]
    pub source: Option<IpAddr>,
    #[command(flatten)]
    pub read: Read,
}
