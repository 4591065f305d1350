//! One reference lab for all tests of a file, which take turns: it needs many seconds to converge.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Options, ReferenceLab};
use crate::privilege::can_raise_labs;

/// Time to converge, on two busy cores.
const CONVERGENCE: Duration = Duration::from_secs(90);

/// A lab that is raised for the first test and comes down with the process.
///
/// ```
/// # use underpass_tests::reference::Turns;
/// static LAB: Turns = Turns::with_agents(&["node1", "gw1"]);
/// ```
#[derive(Debug)]
pub struct Turns {
    lab: Mutex<Option<ReferenceLab>>,
    agents: &'static [&'static str],
}

/// A test's turn, to be left as it was found. After a test that panics the next one gets another lab.
#[derive(Debug)]
pub struct Turn<'a>(MutexGuard<'a, Option<ReferenceLab>>);

impl Turns {
    /// A lab with Underpass on these machines.
    pub const fn with_agents(agents: &'static [&'static str]) -> Self {
        Self { lab: Mutex::new(None), agents }
    }

    /// Waits for a turn. `None`, with a line that says why, where labs cannot be raised.
    ///
    /// # Panics
    /// The lab does not come up, or the privilege is missing under `CI=true`.
    pub fn take(&self) -> Option<Turn<'_>> {
        if !can_raise_labs() {
            return None;
        }
        let mut lab = self.lab.lock().unwrap_or_else(PoisonError::into_inner);
        if lab.is_none() {
            let options = Options { agents: self.agents.to_vec(), ..Options::default() };
            let mut raised = ReferenceLab::start(&options).expect("the lab starts");
            raised.wait_converged(CONVERGENCE).expect("the lab converges");
            *lab = Some(raised);
        }
        Some(Turn(lab))
    }
}

impl Deref for Turn<'_> {
    type Target = ReferenceLab;

    fn deref(&self) -> &ReferenceLab {
        self.0.as_ref().expect("raised before the turn began")
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut ReferenceLab {
        self.0.as_mut().expect("raised before the turn began")
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Prints the logs.
            drop(self.0.take());
        }
    }
}
