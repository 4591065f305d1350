//! Attaches the forwarding program to ports by links that outlive the agent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::programs::{ProgramError, Xdp};

use super::device;
use super::facts::{AttachMode, DriverFacts};
use super::pins::{self, PinError};
use super::preflight::{self, Abilities, Policy, Refusal, Rung};
use crate::netlink::model::IfIndex;
use crate::sys::bpf_link::{Mode, XdpLink};

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
        hint: String,
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

/// A port that runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: AttachMode,
    /// What the port can do now.
    pub abilities: Abilities,
    /// The facts that this was judged by.
    pub facts: DriverFacts,
    /// The attach may have reset the device: it was new, in the driver, and there was a carrier to lose.
    pub unsettled: bool,
}

/// Attaches `program` to the interface by the ladder of [`preflight`], or swaps it in atomically where
/// an earlier agent left a link. Nothing that is not ours is touched.
///
/// # Errors
/// The port is refused, the kernel refuses, or the link cannot be pinned (it is detached then).
pub fn attach(
    program: &Xdp,
    folder: &Path,
    ifindex: IfIndex,
    policy: Policy,
) -> Result<Attached, AttachError> {
    let facts = facts(ifindex)?;
    let pin = pins::link(folder, ifindex);
    let mut pinned = adopt(&pin, ifindex)?;
    let runs = |id: u32| facts.attached.iter().find(|program| program.id == id).map(|program| program.mode);
    if pinned.as_ref().is_some_and(|(_, id)| runs(*id).is_none()) {
        // The link is that of an interface which left this namespace with the index.
        pins::remove(&pin)?;
        pinned = None;
    }
    let ours = pinned.as_ref().map(|(_, id)| *id);
    let rung = match preflight::rung(&facts, policy, ours) {
        Ok(rung) => rung,
        Err(refusal) => {
            if !policy.generic && ours.and_then(runs) == Some(AttachMode::Generic) {
                // An earlier agent was allowed to.
                pins::remove(&pin)?;
            }
            return Err(refusal.into());
        }
    };
    let wanted = if rung == Rung::Native { AttachMode::Native } else { AttachMode::Generic };
    let fd = program.fd()?.as_fd();
    if let Some((link, id)) = pinned {
        if runs(id) == Some(wanted) {
            link.replace(fd).map_err(|source| refused(&facts.name, source))?;
            tracing::info!(interface = facts.name, ifindex, mode = wanted.label(), "XDP program replaced");
            return attached(folder, ifindex, policy);
        }
        // A link keeps its mode: it goes, and packets take the stack until the new one is there.
        tracing::info!(
            interface = facts.name,
            ifindex,
            mode = wanted.label(),
            "XDP program changes its mode"
        );
        pins::remove(&pin)?;
        drop(link);
    }
    let link = climb(fd, &facts, policy, rung)?;
    // Dropping the link without a pin detaches the program again.
    link.pin(&pin).map_err(|source| PinError::Io { operation: "pin", path: pin, source })?;
    let attached = attached(folder, ifindex, policy)?;
    let mode = attached.mode.label();
    tracing::info!(interface = facts.name, ifindex, mode, "XDP program attached");
    Ok(Attached { unsettled: attached.mode == AttachMode::Native && facts.carrier, ..attached })
}

/// A new link by the rung that preflight chose, or by generic mode where the driver refuses after all.
fn climb(
    program: BorrowedFd<'_>,
    facts: &DriverFacts,
    policy: Policy,
    rung: Rung,
) -> Result<XdpLink, AttachError> {
    let because = match rung {
        Rung::Generic(because) => because,
        Rung::Native => match XdpLink::attach(program, facts.ifindex, Mode::Native) {
            Ok(link) => return Ok(link),
            Err(source) if policy.generic && is_drivers_answer(&source) => {
                let native = Refusal::Setup {
                    name: facts.name.clone(),
                    why: format!("{source}{}", hint(&facts.name, &source)),
                };
                match preflight::generic(facts, policy, native)? {
                    Rung::Generic(because) => because,
                    Rung::Native => return Err(refused(&facts.name, source)),
                }
            }
            Err(source) => return Err(refused(&facts.name, source)),
        },
    };
    let link = XdpLink::attach(program, facts.ifindex, Mode::Generic);
    let link = link.map_err(|source| refused(&facts.name, source))?;
    tracing::warn!(interface = facts.name, %because, "generic mode, as datapath.generic allows");
    Ok(link)
}

/// What an attached port can do now: the peer of a veth may have changed.
///
/// # Errors
/// The interface cannot be examined, or does not run the pinned link's program.
pub fn attached(folder: &Path, ifindex: IfIndex, policy: Policy) -> Result<Attached, AttachError> {
    let facts = facts(ifindex)?;
    let ours = adopt(&pins::link(folder, ifindex), ifindex)?.map(|(_, program)| program);
    let running = facts.attached.iter().find(|program| Some(program.id) == ours).map(|program| program.mode);
    let Some(mode) = running else { return Err(AttachError::Detached { name: facts.name }) };
    let abilities = preflight::abilities(&facts, mode, policy);
    Ok(Attached { mode, abilities, facts, unsettled: false })
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
pub fn interfaces(folder: &Path) -> Result<Vec<IfIndex>, PinError> {
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

fn facts(ifindex: IfIndex) -> Result<DriverFacts, AttachError> {
    device::driver_facts(ifindex).map_err(|source| AttachError::Examine { ifindex, source })
}

fn refused(name: &str, source: io::Error) -> AttachError {
    AttachError::Link { name: name.to_owned(), hint: hint(name, &source), source }
}

/// Whether the driver does not want the program, rather than that somebody was first or a privilege is
/// missing.
fn is_drivers_answer(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOSPC))
}

/// The usual cause of an error of `dev_xdp_attach` or of a driver's `ndo_bpf`.
fn hint(name: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => " (another XDP program was attached just now)".to_owned(),
        Some(libc::ERANGE) => {
            format!(" (the MTU of {name} or of its peer is too large for XDP: `ip link set {name} mtu 1500`)")
        }
        Some(libc::EINVAL) => format!(
            " (often an MTU that is too large for XDP, or large receive offload: `ethtool -K {name} lro off`; \
             the driver's reason is in `dmesg`)"
        ),
        Some(libc::ENOSPC) => " (fewer receive queues than the peer has transmit queues)".to_owned(),
        Some(libc::EOPNOTSUPP) => " (the driver has no native XDP)".to_owned(),
        Some(libc::EPERM) => " (needs CAP_NET_ADMIN and CAP_BPF)".to_owned(),
        Some(libc::ENOLINK | libc::ENODEV) => " (the interface is gone)".to_owned(),
        _ => String::new(),
    }
}
