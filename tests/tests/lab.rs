//! The labs themselves: sessions as in the reference, and nothing left behind.

use underpass_tests::reference::{Options, ReferenceLab};
use underpass_tests::topology;

#[test]
fn the_reference_has_its_sessions_and_routes() {
    let lab = ReferenceLab::converged(&Options::default()).expect("the lab converges");
    for machine in ["node1", "node2", "node3", "node6", "leaf01", "leaf02", "spine"] {
        let sessions = lab.sessions(machine).expect("the daemon answers");
        let established: Vec<_> =
            sessions.iter().filter(|session| session.is_established()).map(|session| session.peer).collect();
        assert_eq!(established, topology::expected_peers(machine), "{machine}");
    }
}
