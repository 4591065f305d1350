//! Carries out map operations and counts them.

use super::Outcome;
use crate::datapath::maps::{FibMaps, MapError, PrefixChange};

/// The maps, with what one call did to them.
pub struct Writer<'a> {
    /// The tables.
    pub maps: &'a mut dyn FibMaps,
    /// What was done so far.
    pub outcome: Outcome,
}

impl<'a> Writer<'a> {
    /// Nothing done yet.
    pub fn new(maps: &'a mut dyn FibMaps) -> Self {
        Self { maps, outcome: Outcome::default() }
    }

    /// Does one write; a failure is kept and everything else goes on.
    pub fn write(&mut self, operation: impl FnOnce(&mut dyn FibMaps) -> Result<(), MapError>) -> bool {
        match operation(self.maps) {
            Ok(()) => {
                self.outcome.writes += 1;
                true
            }
            Err(error) => {
                self.outcome.failures.push(error);
                false
            }
        }
    }

    /// Makes many changes of prefixes; `done` hears of each that was made. The first failure is kept and
    /// ends it.
    pub fn write_prefixes(&mut self, changes: &[PrefixChange], mut done: impl FnMut(&PrefixChange)) {
        for (change, result) in changes.iter().zip(self.maps.set_prefixes(changes)) {
            match result {
                Ok(()) => {
                    self.outcome.writes += 1;
                    done(change);
                }
                Err(error) => self.outcome.failures.push(error),
            }
        }
    }

    /// Waits for the packets under way.
    pub fn grace_period(&mut self) -> bool {
        match self.maps.grace_period() {
            Ok(()) => {
                self.outcome.grace_periods += 1;
                true
            }
            Err(error) => {
                self.outcome.failures.push(error);
                false
            }
        }
    }
}
