//! The configurations that this repository ships are accepted by the agent.

use underpass::config;
use underpass_tests::topology::agents;

#[test]
fn the_reference_labs_agents_are_configured_without_a_warning() {
    for (machine, sections) in [("node", agents::node()), ("gateway", agents::gateway())] {
        assert_eq!(config::parse(&sections).problems, [], "{machine}:\n{sections}");
    }
}

#[test]
fn the_gateway_reads_as_the_lab_means_it() {
    let bgp = config::parse(&agents::gateway()).config.bgp.expect("configured");
    assert_eq!(bgp.peers.len(), 2, "both reflectors of the rack");
    assert!(bgp.peers.iter().all(|peer| peer.remote_as == bgp.local_as && peer.hold_time.as_secs() == 9));
    assert_eq!(bgp.import.prefixes.len(), 2);
}
