//! Peers that read nothing, write slowly, or write much at once.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use underpass_tests::fake_peer::{FakePeer, ROUTE_REFRESH, message};

use super::rig::*;

/// Less than the least receive buffer: the kernel takes its own bound.
const TINY: usize = 1024;

/// A peer that has a tiny receive buffer and does not read once the session is up, with an agent whose own
/// buffer is small, so that a test need not fill megabytes. It asks so often for the agent's routes.
fn deaf(keys: &'static str, questions: usize) -> Option<(Rig, FakePeer, Pulse, usize)> {
    let mut rig = Rig::up(Configured { address: PEER, dials: Dials::Peer, keys })?;
    rig.lab.netns("edge").sysctl(&[("ipv4.tcp_wmem", "4096 4096 4096")]).expect("the namespace's own sysctl");
    let files = rig.open_files();
    let mut peer = rig.connect_with(PEER, |socket| socket.set_recv_buffer_size(TINY).expect("a buffer"));
    peer.establish(&open(3));
    // Before the pulse: messages of two threads must not mix.
    peer.send(&message(ROUTE_REFRESH, &[0, 1, 0, 1]).repeat(questions));
    let pulse = Pulse::on(&peer);
    Some((rig, peer, pulse, files))
}

const BLOCKED: &str = "sent NOTIFICATION 8/0 Send Hold Timer Expired";

#[test]
fn a_peer_that_never_reads_is_given_up_after_the_send_hold_time() {
    // Each answer has 23 octets: more than the kernel takes, less than what the agent lets wait.
    let keys = "hold_time = \"3s\"\nsend_hold_time = \"3s\"\n";
    let Some((mut rig, peer, pulse, files)) = deaf(keys, 600) else { return };
    let started = Instant::now();
    let memory = rig.memory("VmRSS");
    let lost = rig.wait_peer("given up", |peer| peer.state != "Established" && peer.flaps == 1);
    let lasted = started.elapsed();
    // Twice the hold time is longer than the configured three seconds.
    assert!(lasted > Duration::from_secs(5) && lasted < Duration::from_secs(6) + SLACK, "{lasted:?}");
    assert_eq!(lost.last_error.as_deref(), Some(BLOCKED));
    let grown = rig.memory("VmRSS").saturating_sub(memory);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    rig.wait_open_files("what cannot be sent keeps no connection open", files);
    drop((pulse, peer));
}

/// The kernel gives the connection up before, where it is told to.
#[test]
fn a_peer_that_never_reads_is_given_up_by_the_kernel_after_its_own_time() {
    let keys = "hold_time = \"3s\"\nsend_hold_time = \"8m\"\ntcp_user_timeout = \"3s\"\n";
    let Some((mut rig, peer, pulse, files)) = deaf(keys, 600) else { return };
    let started = Instant::now();
    let lost = rig.wait_peer("given up", |peer| peer.state != "Established" && peer.flaps == 1);
    let lasted = started.elapsed();
    assert!(lasted > Duration::from_secs(2) && lasted < Duration::from_secs(3) + SLACK, "{lasted:?}");
    assert_ne!(lost.last_error.as_deref(), Some(BLOCKED), "eight minutes are not over");
    rig.wait_open_files("what cannot be sent keeps no connection open", files);
    drop((pulse, peer));
}

#[test]
fn a_peer_that_asks_and_never_reads_is_given_up_at_once() {
    let keys = "hold_time = \"3s\"\nsend_hold_time = \"8m\"\n";
    let Some((mut rig, peer, pulse, files)) = deaf(keys, 2_000) else { return };
    let lost = rig.wait_peer("given up", |peer| peer.flaps == 1);
    assert_eq!(lost.last_error.as_deref(), Some(BLOCKED));
    rig.wait_open_files("what cannot be sent keeps no connection open", files);
    drop((pulse, peer));
}

#[test]
fn a_table_comes_in_octet_by_octet() {
    let Some(rig) = Rig::up(Configured::quick(Dials::Peer)) else { return };
    let mut peer = rig.session(&open(3));
    let table: Vec<_> = (0..300).map(prefix).collect();
    for (_, nlri) in &table {
        peer.dribble(&announce(PEER, nlri));
    }
    peer.dribble(&withdraw(&table[7].1));
    peer.dribble(&end_of_rib());
    let _pulse = Pulse::on(&peer);
    let mut expected = through_peer(table.iter().map(|(text, _)| text.as_str()));
    expected.retain(|(text, _)| *text != table[7].0);
    rig.wait_routes("all but one", &expected);
    let peer = rig.peer();
    assert_eq!((peer.updates, peer.accepted, peer.flaps), (303, 299, 0), "{peer:?}");
}

/// The NLRI of so many addresses from 10.80.0.0 on, and the addresses.
fn hosts(count: u32) -> (Vec<u8>, Vec<String>) {
    let first = u32::from(Ipv4Addr::new(10, 80, 0, 0));
    let addresses: Vec<_> = (0..count).map(|number| Ipv4Addr::from(first + number)).collect();
    let nlri = addresses.iter().flat_map(|address| [&[32][..], &address.octets()].concat()).collect();
    (nlri, addresses.iter().map(Ipv4Addr::to_string).collect())
}

/// An UPDATE of 65535 octets with its prefixes: addresses, and two shorter ones to fill it up.
fn longest_update() -> (Vec<u8>, Vec<String>) {
    let (mut nlri, mut prefixes) = hosts(13_097);
    nlri.extend_from_slice(&[16, 10, 100, 24, 10, 101, 0]);
    prefixes.extend(["10.100.0.0/16", "10.101.0.0/24"].map(str::to_owned));
    (announce(PEER, &nlri), prefixes)
}

#[test]
fn an_extended_message_of_full_length_is_taken() {
    let keys = "hold_time = \"9s\"\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Peer, keys }) else { return };
    let mut peer = rig.connect();
    let theirs = peer.establish(&open(9).with(&[6, 0]));
    assert!(theirs.windows(2).any(|capability| capability == [6, 0]), "offered: {theirs:?}");
    let (update, prefixes) = longest_update();
    assert_eq!(update.len(), 65535);
    peer.send(&update);
    peer.send(&end_of_rib());
    let pulse = Pulse::on(&peer);
    rig.wait_routes("all of one message", &through_peer(prefixes.iter().map(String::as_str)));
    let status = rig.peer();
    assert_eq!((status.updates, status.accepted), (3, prefixes.len()), "{status:?}");
    assert!(status.accepted > 13_000);
    let memory = rig.memory("VmHWM");
    assert!(memory < 200 * 1024, "{memory} KiB");

    drop(pulse);
    let (nlri, _) = hosts(13_090);
    peer.send(&withdraw(&nlri));
    let _pulse = Pulse::on(&peer);
    let rest = prefixes.iter().skip(13_090).map(String::as_str);
    rig.wait_routes("most withdrawn by one message", &through_peer(rest));
}

#[test]
fn an_extended_message_that_was_not_offered_ends_the_session() {
    let keys = "hold_time = \"9s\"\nextended_messages = false\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Peer, keys }) else { return };
    let files = rig.open_files();
    let mut peer = rig.connect();
    let theirs = peer.establish(&open(9).with(&[6, 0]));
    assert!(!theirs.windows(2).any(|capability| capability == [6, 0]), "not offered: {theirs:?}");
    let (text, nlri) = prefix(1);
    peer.send(&announce(PEER, &nlri));
    peer.send(&end_of_rib());
    rig.wait_routes("a short one", &through_peer([text.as_str()]));
    peer.send(&longest_update().0);
    assert_eq!(peer.expect_notification(), [1, 2, 0xff, 0xff]);
    let lost = rig.wait_peer("ended", |peer| peer.state != "Established");
    let error = lost.last_error.expect("a reason");
    assert!(error.starts_with("sent NOTIFICATION 1/2") && error.contains("65535 octets"), "{error}");
    rig.wait_routes("gone", &through_peer([]));
    rig.wait_open_files("no file is left open", files);
}
