//! Attaches the forwarding program to ports by links that outlive the agent.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::programs::{ProgramError, Xdp};

use super::device;
use super::pins::{self, PinError};
use super::preflight::{self, Abilities, Refusal};
use crate::netlink::model::IfIndex;
use crate::sys::bpf_link::XdpLink;

/// A port cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Decided before trying.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The interface cannot be examined.
    #[error("cannot examine interface {ifindex}: {source}")]
    Examine {
        /// Index.
        ifindex: IfIndex,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused the link.
    #[error("cannot attach XDP to {name}: {source}{hint}")]
    Link {
        /// Interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
        /// What usually helps.
        hint: &'static str,
    },
    /// The pin.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The program is gone from the interface.
    #[error("{name} no longer runs our XDP program: it was detached, or the interface created anew")]
    Detached {
        /// Interface.
        name: String,
    },
    /// The program is not loaded.
    #[error("the forwarding program is not loaded: {0}")]
    Program(#[from] ProgramError),
    /// All port numbers are taken, or the slot is.
    #[error("{name} cannot be managed: {reason}")]
    NoRoom {
        /// Interface.
        name: String,
        /// What is full.
        reason: String,
    },
}

/// Attaches `program` to the interface, or swaps it in atomically where an earlier agent left a
/// link. Nothing that is not ours is touched.
///
/// # Errors
/// The port is refused, the kernel refuses, or the link cannot be pinned (it is detached then).
pub fn attach(program: &Xdp, folder: &Path, ifindex: IfIndex) -> Result<Abilities, AttachError> {
    let facts = facts(ifindex)?;
    let pin = pins::link(folder, ifindex);
    let mut pinned = adopt(&pin, ifindex)?;
    if pinned.is_some() && facts.attached.is_none() {
        // The link is that of an interface which left this namespace with the index.
        pins::remove(&pin)?;
        pinned = None;
    }
    let ours = pinned.as_ref().map(|(_, program)| *program);
    preflight::may_attach(&facts, ours)?;
    let fd = program.fd()?.as_fd();
    let refused =
        |source: io::Error| AttachError::Link { name: facts.name.clone(), hint: hint(&source), source };
    if let Some((link, _)) = pinned {
        link.replace(fd).map_err(refused)?;
        tracing::info!(interface = facts.name, ifindex, "XDP program replaced");
    } else {
        let link = XdpLink::attach(fd, ifindex).map_err(refused)?;
        // Dropping the link without a pin detaches the program again.
        link.pin(&pin).map_err(|source| PinError::Io { operation: "pin", path: pin, source })?;
        tracing::info!(interface = facts.name, ifindex, "XDP program attached");
    }
    abilities(folder, ifindex)
}

/// What an attached port can do now: the peer of a veth may have changed.
///
/// # Errors
/// The interface cannot be examined, or does not run the pinned link's program.
pub fn abilities(folder: &Path, ifindex: IfIndex) -> Result<Abilities, AttachError> {
    let facts = facts(ifindex)?;
    let ours = adopt(&pins::link(folder, ifindex), ifindex)?.map(|(_, program)| program);
    if ours.is_none() || facts.attached.map(|program| program.id) != ours {
        return Err(AttachError::Detached { name: facts.name });
    }
    Ok(preflight::abilities(&facts))
}

/// Detaches our program from the interface; one that is not attached is no error.
///
/// # Errors
/// The pin cannot be removed.
pub fn detach(folder: &Path, ifindex: IfIndex) -> Result<(), PinError> {
    if pins::remove(&pins::link(folder, ifindex))? {
        tracing::info!(ifindex, "XDP program detached");
    }
    Ok(())
}

/// Interfaces to which an earlier agent attached a program; pins of deleted interfaces are removed.
///
/// # Errors
/// The folder cannot be read.
pub fn attached(folder: &Path) -> Result<Vec<IfIndex>, PinError> {
    let mut attached = Vec::new();
    for (ifindex, pin) in pins::links(folder)? {
        if adopt(&pin, ifindex)?.is_some() {
            attached.push(ifindex);
        }
    }
    Ok(attached)
}

/// The pinned link and the program it runs, if it still is the interface's; a defunct one is
/// unpinned. It can neither be updated nor bound to the new interface of the same name.
fn adopt(pin: &Path, ifindex: IfIndex) -> Result<Option<(XdpLink, u32)>, PinError> {
    match XdpLink::open(pin).and_then(|link| link.info().map(|info| (link, info))) {
        Ok((link, info)) if info.ifindex == ifindex => Ok(Some((link, info.program_id))),
        Ok((_, info)) => {
            tracing::info!(
                pin = %pin.display(),
                interface = info.ifindex,
                "removing the pin of an interface that is gone"
            );
            pins::remove(pin)?;
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PinError::Io { operation: "open pinned link", path: pin.to_owned(), source }),
    }
}

fn facts(ifindex: IfIndex) -> Result<preflight::DriverFacts, AttachError> {
    device::driver_facts(ifindex).map_err(|source| AttachError::Examine { ifindex, source })
}

/// The usual cause of an error of `dev_xdp_attach` or of a driver's `ndo_bpf`.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => " (another XDP program was attached just now)",
        Some(libc::ERANGE) => " (the MTU of the port or of its peer is too large for XDP: lower it)",
        Some(libc::EINVAL) => {
            " (often an MTU that is too large for XDP, or large receive offload: `ethtool -K IF lro off`)"
        }
        Some(libc::ENOSPC) => " (fewer receive queues than the peer has transmit queues)",
        Some(libc::EOPNOTSUPP) => " (the driver has no native XDP)",
        Some(libc::EPERM) => " (needs CAP_NET_ADMIN and CAP_BPF)",
        Some(libc::ENOLINK | libc::ENODEV) => " (the interface is gone)",
        _ => "",
    }
}
