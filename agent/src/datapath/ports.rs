//! Managed ports: what they can do, and their numbers.

use std::collections::BTreeMap;

use underpass_common::abi::{MAX_PORTS, port_slot};

use super::attach::Attached;
use super::facts::{AttachMode, DriverFacts, xdp_feature};
use super::preflight::Abilities;
use crate::api::model::PortStatus;
use crate::netlink::model::IfIndex;

/// What is known about a port that the configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFacts {
    /// Index.
    pub ifindex: IfIndex,
    /// Name.
    pub name: String,
    /// `1..MAX_PORTS`, the same as long as the port is managed; 0 when it is not.
    pub number: u32,
    /// The program is attached.
    pub attached: bool,
    /// Where it runs.
    pub mode: Option<AttachMode>,
    /// Packets from it may be forwarded.
    pub ingress: bool,
    /// Frames may be redirected to it.
    pub egress: bool,
    /// `XDP_TX` works on it.
    pub tx: bool,
    /// Why it is not fully usable, with the remedy.
    pub problem: Option<String>,
    /// What restricts nothing and is worth knowing.
    pub notes: Vec<String>,
    /// The attach just now may have reset the device: the next port waits until this one has its
    /// carrier back.
    pub unsettled: bool,
    /// What was found out about the interface, if it is attached.
    pub driver: Option<Box<DriverFacts>>,
}

impl PortFacts {
    /// An attached port.
    pub fn attached(ifindex: IfIndex, name: &str, number: u32, attached: Attached) -> Self {
        let Attached { mode, abilities, facts, unsettled } = attached;
        let Abilities { ingress, egress, tx, problem, notes } = abilities;
        Self {
            ifindex,
            name: name.to_owned(),
            number,
            attached: true,
            mode: Some(mode),
            ingress,
            egress,
            tx,
            problem,
            notes,
            unsettled,
            driver: Some(Box::new(facts)),
        }
    }

    /// A port that cannot be managed: nothing is forwarded from it or to it.
    pub fn refused(ifindex: IfIndex, name: &str, problem: String) -> Self {
        Self { ifindex, name: name.to_owned(), problem: Some(problem), ..Self::default() }
    }

    /// Whether the driver transmits frames that lie in several buffers.
    pub fn sends_fragments(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.can(xdp_feature::NDO_XMIT_SG))
    }

    /// Whether packets may be forwarded from and to the port as before.
    pub fn is_used_like(&self, other: &Self) -> bool {
        let used = |port: &Self| {
            (port.number, port.attached, port.ingress, port.egress, port.tx, port.sends_fragments())
        };
        used(self) == used(other)
    }

    /// Whether the operator is told the same as before.
    pub fn is_told_like(&self, other: &Self) -> bool {
        self.is_used_like(other)
            && (self.mode, &self.problem, &self.notes) == (other.mode, &other.problem, &other.notes)
    }

    /// As `underpass status` shows it.
    pub fn status(&self) -> PortStatus {
        PortStatus {
            interface: self.name.clone(),
            ifindex: self.ifindex,
            attached: self.attached,
            mode: self.mode.map(|mode| mode.label().to_owned()),
            ingress: self.ingress,
            guarded: Vec::new(),
            egress: self.egress,
            tx: self.tx,
            problem: self.problem.clone(),
            notes: self.notes.clone(),
            facts: self.driver.as_deref().cloned(),
        }
    }
}

/// Hands out port numbers, one per interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    by_ifindex: BTreeMap<IfIndex, u32>,
}

impl Numbers {
    /// Continues with the numbers that are in the port table; what cannot be right is left out.
    pub fn adopt(rows: impl Iterator<Item = (IfIndex, u32)>) -> Self {
        let mut numbers = Self::default();
        for (ifindex, number) in rows {
            let free = numbers.by_ifindex.values().all(|taken| *taken != number);
            if (1..MAX_PORTS).contains(&number) && free {
                numbers.by_ifindex.insert(ifindex, number);
            }
        }
        numbers
    }

    /// The interface's number: the one it has, or the lowest that is free.
    ///
    /// # Errors
    /// All numbers are taken, or another managed port has the interface's slot; the text says what
    /// to do.
    pub fn take(&mut self, ifindex: IfIndex) -> Result<u32, String> {
        if let Some(number) = self.by_ifindex.get(&ifindex) {
            return Ok(*number);
        }
        let slot = port_slot(ifindex);
        if let Some(other) = self.by_ifindex.keys().find(|other| port_slot(**other) == slot) {
            return Err(format!(
                "interface number {ifindex} falls on the same table slot as the managed port \
                 {other}: manage only one of them, or create the interface anew to change its number"
            ));
        }
        let number = (1..MAX_PORTS)
            .find(|number| self.by_ifindex.values().all(|taken| taken != number))
            .ok_or_else(|| format!("{} ports are managed already: narrow datapath.ports", MAX_PORTS - 1))?;
        self.by_ifindex.insert(ifindex, number);
        Ok(number)
    }

    /// Interfaces that have a number.
    pub fn interfaces(&self) -> Vec<IfIndex> {
        self.by_ifindex.keys().copied().collect()
    }

    /// Gives an interface's number back.
    pub fn release(&mut self, ifindex: IfIndex) {
        self.by_ifindex.remove(&ifindex);
    }
}

#[cfg(test)]
mod tests {
    use underpass_common::abi::PORT_SLOTS;

    use super::*;

    #[test]
    fn numbers_are_stable_and_reused() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.take(10), Ok(1));
        assert_eq!(numbers.take(11), Ok(2));
        assert_eq!(numbers.take(10), Ok(1));
        numbers.release(10);
        assert_eq!(numbers.take(12), Ok(1));
        assert_eq!(numbers.take(11), Ok(2));
    }

    #[test]
    fn restart_keeps_the_numbers_that_make_sense() {
        let rows = [(10, 3), (11, 3), (12, 0), (13, MAX_PORTS), (14, 1)];
        let mut numbers = Numbers::adopt(rows.into_iter());
        assert_eq!(numbers.take(10), Ok(3));
        assert_eq!(numbers.take(14), Ok(1));
        assert_eq!(numbers.take(11), Ok(2), "a number that was given twice is given anew");
    }

    #[test]
    fn collisions_and_exhaustion_are_told() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.take(5), Ok(1));
        let error = numbers.take(5 + PORT_SLOTS).expect_err("same slot");
        assert!(error.contains("same table slot"), "{error}");
        for ifindex in 6..6 + MAX_PORTS - 2 {
            numbers.take(ifindex).expect("there are 63");
        }
        let error = numbers.take(500).expect_err("full");
        assert!(error.contains("63 ports"), "{error}");
    }
}
