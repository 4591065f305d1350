//! What a port can do for XDP, decided from facts before and after attaching. Pure.
//!
//! # The ladder
//! Native mode first; generic mode only where the configuration allows it and only where it is byte for
//! byte what the kernel does; else the port is left to the kernel. [`rung`] decides before a program is
//! attached, [`abilities`] what the attached port may be used for. What is unknown forbids nothing in
//! native mode: the driver has the last word, and [`DriverFacts::unknown`] says what could not be asked.

mod driver;
mod kind;

#[cfg(test)]
mod tests;

use super::facts::{AttachMode, DriverFacts, xdp_feature};

/// Largest MTU of a veth whose peer runs no XDP program in the driver (`ETH_MAX_MTU`).
///
/// `veth_xdp_set` lowers the *peer's* limit when a program is attached and sets it back to this
/// when it is removed (drivers/net/veth.c): the one trace of the peer's program that can be seen
/// from this end, also across a namespace boundary. GRO on the peer sets `NDO_XMIT` just as a
/// program does, but leaves the limit alone.
const VETH_MAX_MTU_WITHOUT_PROGRAM: u32 = 65_535;

/// Up to this MTU no driver spreads a frame over several buffers.
const ALWAYS_LINEAR_MTU: u32 = 1500;

/// What the ladder may do, beside what the port can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `datapath.generic`.
    pub generic: bool,
    /// The program takes frames in several buffers (section `xdp.frags`).
    pub frags: bool,
}

/// How a program is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rung {
    /// In the driver.
    Native,
    /// In the stack, because native mode is refused.
    Generic(Refusal),
}

/// Why a program cannot be attached to a port. The text names the port and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A virtual device that XDP cannot forward from and to.
    #[error("{name} is a {kind} device, {why}")]
    Kind {
        /// Interface.
        name: String,
        /// Its kind.
        kind: String,
        /// What stands against it, and the remedy.
        why: &'static str,
    },
    /// Loopback, or a device without Ethernet addresses.
    #[error("{name} is not an Ethernet interface: take it out of datapath.ports")]
    NotEthernet {
        /// Interface.
        name: String,
    },
    /// A port of a bridge, bond or VRF: the kernel routes by the master, not by the port.
    #[error("{name} is a port of {master}, {why}: take {name} out of datapath.ports")]
    Enslaved {
        /// Interface.
        name: String,
        /// "interface number 7 (bridge br0)".
        master: String,
        /// What the master does.
        why: &'static str,
    },
    /// Somebody else's program.
    #[error(
        "{name} already runs XDP program {id} in {mode} mode, which is not ours and is left alone: \
         see `bpftool prog show id {id}`, detach it or take {name} out of datapath.ports"
    )]
    Occupied {
        /// Interface.
        name: String,
        /// Program id.
        id: u32,
        /// "native", "generic" or "hardware".
        mode: &'static str,
    },
    /// No native mode.
    #[error("the driver of {name} has no native XDP{why}")]
    NoNativeXdp {
        /// Interface.
        name: String,
        /// What takes it away and the remedy, if that is known.
        why: String,
    },
    /// Native mode is there, but not as the port is set up.
    #[error("{name} cannot run XDP in the driver: {why}")]
    Setup {
        /// Interface.
        name: String,
        /// What stands against it, and the remedy.
        why: String,
    },
    /// Neither way.
    #[error("{native}; generic mode would not do what the kernel does: {why}")]
    GenericNotExact {
        /// Why not in the driver.
        native: Box<Refusal>,
        /// Why not in the stack, and the remedy.
        why: String,
    },
}

/// What an attached port can be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Packets from it may be forwarded.
    pub ingress: bool,
    /// Frames may be redirected to it.
    pub egress: bool,
    /// `XDP_TX` works on it.
    pub tx: bool,
    /// What is missing and how to get it.
    pub problem: Option<String>,
    /// What restricts nothing and is worth knowing.
    pub notes: Vec<String>,
}

/// How the program is to be attached: `ours` is the id of the program that a link of ours runs on the
/// interface, if there is one.
///
/// # Errors
/// Why not, with the remedy.
pub fn rung(facts: &DriverFacts, policy: Policy, ours: Option<u32>) -> Result<Rung, Refusal> {
    suitable(facts)?;
    unoccupied(facts, ours)?;
    if facts.attached.iter().any(|program| Some(program.id) == ours && program.mode == AttachMode::Native) {
        // It runs already: the driver's conditions held when it was attached, and a program is swapped.
        return Ok(Rung::Native);
    }
    match native(facts, policy) {
        Ok(()) => Ok(Rung::Native),
        Err(native) => generic(facts, policy, native),
    }
}

/// Whether generic mode takes the place of native mode, which `native` stands against.
///
/// # Errors
/// `native` where generic mode is not allowed, else that it would not be exact either.
pub fn generic(facts: &DriverFacts, policy: Policy, native: Refusal) -> Result<Rung, Refusal> {
    if !policy.generic {
        return Err(native);
    }
    match driver::inexact_in_generic_mode(facts) {
        None => Ok(Rung::Generic(native)),
        Some(why) => Err(Refusal::GenericNotExact { native: Box::new(native), why }),
    }
}

/// Whether the kernel receives and routes by the interface itself.
fn suitable(facts: &DriverFacts) -> Result<(), Refusal> {
    let name = || facts.name.clone();
    if let Some(kind) = &facts.kind
        && let Some(why) = kind::refused(kind)
    {
        return Err(Refusal::Kind { name: name(), kind: kind.clone(), why });
    }
    if facts.loopback || !facts.ethernet {
        return Err(Refusal::NotEthernet { name: name() });
    }
    enslaved(facts).map_or(Ok(()), Err)
}

fn enslaved(facts: &DriverFacts) -> Option<Refusal> {
    let master = facts.master.as_ref()?;
    let kind = master.kind.as_deref().unwrap_or("bridge, bond or VRF");
    Some(Refusal::Enslaved {
        name: facts.name.clone(),
        master: format!(
            "interface number {} ({})",
            master.ifindex,
            format!("{kind} {}", master.name).trim_end()
        ),
        why: kind::master(kind, master.vlan_filtering),
    })
}

/// Whether no other program runs on the interface, wherever.
fn unoccupied(facts: &DriverFacts, ours: Option<u32>) -> Result<(), Refusal> {
    match facts.attached.iter().find(|program| Some(program.id) != ours) {
        None => Ok(()),
        Some(program) => {
            Err(Refusal::Occupied { name: facts.name.clone(), id: program.id, mode: program.mode.label() })
        }
    }
}

/// Whether the driver takes the program, as far as that is known.
fn native(facts: &DriverFacts, policy: Policy) -> Result<(), Refusal> {
    let name = facts.name.clone();
    if facts.xdp_features.is_some() && !facts.can(xdp_feature::BASIC) {
        let why = match driver::queue_problem(facts) {
            Some(problem) => format!(" now: {problem}"),
            None if facts.is_kind("veth") => format!(
                " as long as it has fewer receive queues than its peer has transmit queues: \
                 `ethtool -L {name} rx N`, or create it with `numrxqueues N`"
            ),
            None => String::new(),
        };
        return Err(Refusal::NoNativeXdp { name, why });
    }
    let problems = [
        driver::aggregation_problem(facts),
        driver::queue_problem(facts),
        driver::mtu_problem(facts, policy),
    ];
    match problems.into_iter().flatten().next() {
        None => Ok(()),
        Some(why) => Err(Refusal::Setup { name, why }),
    }
}

/// What the port can do, from facts read *after* the program was attached in `mode`: several drivers
/// transmit redirected frames only while they run a program themselves.
pub fn abilities(facts: &DriverFacts, mode: AttachMode, policy: Policy) -> Abilities {
    let name = &facts.name;
    if facts.xdp_features.is_none() {
        let problem = format!(
            "the kernel does not tell what the driver of {name} can do (Linux 6.3 does): it is not used"
        );
        return Abilities { problem: Some(problem), ..Abilities::default() };
    }
    if let Some(refusal) = enslaved(facts) {
        return Abilities { problem: Some(refusal.to_string()), ..Abilities::default() };
    }
    let mut problems = Vec::new();
    let mut holds = |problem: Option<String>| {
        let none = problem.is_none();
        problems.extend(problem);
        none
    };
    let ingress = holds(ingress_problem(facts, mode));
    let egress = holds(egress_problem(facts, mode, policy));
    let tx = match mode {
        AttachMode::Generic => true,
        // veth_xdp_flush wakes the peer only when that runs a program; with GRO alone XDP_TX loses
        // the frames.
        _ if facts.is_kind("veth") => egress && facts.max_mtu != VETH_MAX_MTU_WITHOUT_PROGRAM,
        _ => facts.can(xdp_feature::BASIC),
    };
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    Abilities { ingress, egress, tx, problem, notes: notes(facts, mode) }
}

/// Why packets from the port must not be forwarded.
fn ingress_problem(facts: &DriverFacts, mode: AttachMode) -> Option<String> {
    let name = &facts.name;
    let why = if mode == AttachMode::Generic {
        driver::inexact_in_generic_mode(facts)
    } else if !facts.can(xdp_feature::REDIRECT) {
        Some(format!("the driver of {name} cannot redirect"))
    } else {
        driver::aggregation_problem(facts)
    };
    let why = why.or_else(|| driver::hidden_tag(facts)).or_else(|| driver::altered_on_receipt(facts));
    why.map(|why| format!("packets from {name} are left to the kernel: {why}"))
}

/// Why frames must not be redirected to the port.
fn egress_problem(facts: &DriverFacts, mode: AttachMode, policy: Policy) -> Option<String> {
    let name = &facts.name;
    let veth = facts.is_kind("veth");
    if mode == AttachMode::Generic && !veth {
        return Some(format!(
            "{name} runs the program in generic mode, in which its driver takes no redirected frames: \
             nothing is forwarded to it from other ports"
        ));
    }
    if !facts.can(xdp_feature::NDO_XMIT) {
        return Some(if veth {
            format!(
                "the peer of {name} takes no XDP frames: attach an XDP program that passes everything to \
                 the peer, or turn GRO on there; until then nothing is forwarded to {name}"
            )
        } else {
            format!(
                "the driver of {name} does not transmit XDP frames: nothing is forwarded to it from other ports"
            )
        });
    }
    if policy.frags && facts.mtu > ALWAYS_LINEAR_MTU && !facts.can(xdp_feature::NDO_XMIT_SG) {
        return Some(format!(
            "the driver of {name} transmits no XDP frames in several buffers, as its MTU of {} lets them \
             come: nothing is forwarded to it from other ports; `ip link set {name} mtu {ALWAYS_LINEAR_MTU}` ends that",
            facts.mtu
        ));
    }
    driver::transmit_queue_problem(facts)
}

/// What is worth knowing though it restricts nothing.
fn notes(facts: &DriverFacts, mode: AttachMode) -> Vec<String> {
    let mut notes = Vec::new();
    if mode == AttachMode::Generic {
        notes.push(
            "generic mode: the program runs after the packet buffer was allocated, which is not faster than \
             the kernel's own way by much"
                .to_owned(),
        );
    }
    notes.extend(driver::queue_note(facts));
    let unknown = facts.unknown();
    if !unknown.is_empty() {
        notes.push(format!("not known and taken for suitable: {}", unknown.join(", ")));
    }
    notes
}

/// An offload that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It can be turned off.
    Changeable,
    /// It cannot.
    Fixed,
}

/// The state of an offload that is known to be on.
fn turned_on(facts: &DriverFacts, name: &str) -> Option<State> {
    let offload = facts.offload(name).filter(|offload| offload.on)?;
    Some(if offload.fixed { State::Fixed } else { State::Changeable })
}
