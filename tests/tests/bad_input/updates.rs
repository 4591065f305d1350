//! A peer whose UPDATEs are bad, and what the operator is told of them.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use underpass_tests::agent::Agent;
use underpass_tests::fake_peer::{FakePeer, KEEPALIVE, OPEN, Open, message, update};
use underpass_tests::wait;

use super::{
    NEIGHBOUR, NEIGHBOUR_ADDRESS, NEIGHBOUR_AS, ROUTER, ROUTER_ADDRESS, SOON, bgp, session, two_machines,
    wait_answers,
};

/// Bad UPDATEs in a row.
const FLOOD: u64 = 2000;
/// A line in the log is at least so far from the next of its kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[test]
fn bad_updates_are_told_whole_and_do_not_fill_the_log() {
    let Some(lab) = two_machines() else { return };
    let mut agent = Agent::start(&lab, ROUTER, &bgp("passive = true\n")).expect("started");
    wait_answers(&mut agent);
    let connect = || FakePeer::connect(NEIGHBOUR_ADDRESS.into(), SocketAddr::new(ROUTER_ADDRESS.into(), 179));
    let mut peer = lab.netns(NEIGHBOUR).enter(connect).expect("the neighbour's namespace");
    peer.expect(OPEN);
    peer.send(&Open::new(NEIGHBOUR_AS, NEIGHBOUR_ADDRESS, 90).bytes());
    peer.expect(KEEPALIVE);
    peer.send(&message(KEEPALIVE, &[]));

    // ORIGIN 9, and no AS_PATH: 10.233.64.0/24 is withdrawn.
    let bad = update(&[], &[&[0x40, 1, 1, 9], &[0x40, 3, 4, 10, 0, 0, 2]], &[24, 10, 233, 64]);
    let log = agent.process().log().to_owned();
    let lines = || {
        let text = fs::read_to_string(&log).expect("a log");
        text.lines().filter(|line| line.contains("bad UPDATE")).map(str::to_owned).collect::<Vec<_>>()
    };
    let wait_counted = |agent: &Agent, count: u64| {
        wait::until(&format!("{count} are counted"), SOON, || {
            let session = session(agent, "neighbour")?;
            ensure!(session.treated_as_withdraw == count, "{session:?}");
            Ok(session)
        })
        .expect("in time")
    };
    peer.send(&bad);
    wait_counted(&agent, 1);
    let told = lines();
    assert_eq!(told.len(), 1, "{told:?}");
    let whole = format!("{}0026020000000b400101094003040a000002180ae940", "ff".repeat(16));
    for part in ["WARN", "neighbour", "routes withdrawn", "10.233.64.0/24", "suppressed=0", &whole] {
        assert!(told[0].contains(part), "{part:?} in {}", told[0]);
    }

    peer.send(&bad.repeat(usize::try_from(FLOOD).expect("few")));
    wait_counted(&agent, 1 + FLOOD);
    assert_eq!(lines(), told, "a flood adds nothing");
    thread::sleep(LOG_INTERVAL);
    peer.send(&bad);
    let session = wait_counted(&agent, 2 + FLOOD);
    assert_eq!((session.state.as_str(), session.flaps), ("Established", 0), "{session:?}");
    let told = lines();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains(&format!("suppressed={FLOOD}")), "{}", told[1]);
}
