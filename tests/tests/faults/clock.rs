//! Time that passes without the agent.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::rig::*;

/// Longer than the short hold time, shorter than the long one.
const STOPPED: Duration = Duration::from_millis(4500);

/// A peer that speaks while the agent is stopped is not silent, whatever the agent's clock says; one that does
/// not is, unless its hold time is longer.
#[test]
fn a_stopped_agent_reads_what_came_before_it_looks_at_the_clock() {
    let third = Ipv4Addr::new(10, 0, 0, 3);
    let second = Ipv4Addr::new(10, 0, 0, 2);
    let slow = "hold_time = \"60s\"\n";
    let peers = [
        Configured::quick(Dials::Peer),
        Configured { address: second, ..Configured::quick(Dials::Peer) },
        Configured { address: third, dials: Dials::Peer, keys: slow },
    ];
    let Some(mut rig) = Rig::up_with(&peers) else { return };
    let mut sessions = peers.map(|peer| rig.connect_with(peer.address, |_| {}));
    for (number, (session, peer)) in sessions.iter_mut().zip(&peers).enumerate() {
        session.establish(&underpass_tests::fake_peer::Open::new(PEER_AS, peer.address, 60));
        let nlri = prefix(u16::try_from(number).expect("three")).1;
        session.send(&announce(peer.address, &nlri));
        session.send(&end_of_rib());
    }
    let via = |number: u16| (prefix(number).0, Some(peers[usize::from(number)].address.into()));
    rig.wait_routes("learned", &[0, 1, 2].map(via).into());
    let files = rig.open_files();

    // Whole seconds in which nobody's timer matters: all have just been heard.
    rig.agent.process().signal(Signal::SIGSTOP).expect("it runs");
    let pulse = Pulse::on(&sessions[0]);
    thread::sleep(STOPPED);
    rig.agent.process().signal(Signal::SIGCONT).expect("it is stopped");
    rig.wait_peer("an answer", |_| true);
    let quiet = || {
        let peers = rig.peers();
        anyhow::ensure!(peers[1].state != "Established", "{:?}", peers[1]);
        Ok(peers)
    };
    let seen = underpass_tests::wait::until("the silent one is lost", SLACK, quiet).expect("in time");
    assert_eq!(seen[1].last_error.as_deref(), Some("sent NOTIFICATION 4/0 Hold Timer Expired"));
    for stays in [&seen[0], &seen[2]] {
        assert_eq!((stays.state.as_str(), stays.flaps), ("Established", 0), "{stays:?}");
    }
    rig.wait_routes("of the two that stay", &[0, 2].map(via).into());
    rig.wait_open_files("one connection less", files - 1);
    drop((pulse, sessions));
}
