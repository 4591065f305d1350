//! Underpass beside others: BIRD on the nodes, foreign routes on the gateway. Whatever happens to the
//! agent, what is not its own stays as it is, and packets keep flowing.

mod gateway;
mod nodes;
mod snapshot;
mod traffic;

use std::time::Duration;

use underpass_tests::agent::Agent;
use underpass_tests::reference::Turns;

/// For what takes a daemon or an agent a moment; BIRD waits up to half a minute after an error.
const SOON: Duration = Duration::from_mins(1);

static LAB: Turns = Turns::with_agents(&["gw1"]);

/// `underpass flush` while the agent runs: refused with a remedy.
fn check_flush_is_refused(agent: &Agent) {
    let output = agent.cli(&["flush"]).expect("underpass starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("is running and would put everything back; stop it first"), "{text}");
}

/// `underpass flush`, which succeeds: its text.
fn flush(agent: &Agent) -> String {
    let output = agent.cli(&["flush"]).expect("underpass starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
