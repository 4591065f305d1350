//! Peers that are gone, with and without a word.

use std::time::{Duration, Instant};

use socket2::SockRef;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::fake_peer::FakePeer;
use underpass_tests::lab::Lab;

use super::rig::*;

/// BIRD 2 with a restart time, announcing these prefixes.
fn bird(prefixes: &[&str]) -> String {
    let routes: Vec<_> = prefixes.iter().map(|prefix| format!("route {prefix} via {OTHER_HOP}; ")).collect();
    let routes = routes.concat();
    format!(
        "router id {PEER};\nprotocol device {{ scan time 2; }}\nprotocol static {{ ipv4; {routes}}}\n\
         protocol bgp edge {{\n  local {PEER} as {PEER_AS};\n  neighbor {AGENT} as {OUR_AS};\n  \
         graceful restart on;\n  graceful restart time 60;\n  connect delay time 1;\n  connect retry time 1;\n  \
         ipv4 {{ import none; export all; next hop self; }};\n}}\n"
    )
}

fn start_bird(lab: &Lab, prefixes: &[&str]) -> Bird {
    Bird::start(lab, "peer", Version::V2, &bird(prefixes)).expect("BIRD starts")
}

/// Closes a connection of which the other side hears nothing: RST, which the filter drops.
fn vanish(peer: FakePeer) {
    SockRef::from(peer.socket()).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(peer);
}

#[test]
fn a_killed_peer_has_its_routes_kept_for_the_stale_time_and_no_longer() {
    let keys = "hold_time = \"9s\"\nstale_time = \"5s\"\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Agent, keys }) else { return };
    let files = rig.open_files();
    let both = ["10.64.1.0/24", "10.64.2.0/24"];
    let mut daemon = start_bird(&rig.lab, &both);
    rig.wait_peer("learned", |peer| peer.end_of_rib && peer.accepted == 2);
    rig.wait_routes("learned", &through_peer(both));

    daemon.kill().expect("SIGKILL");
    let killed = Instant::now();
    let lost = rig.wait_peer("noticed", |peer| peer.state != "Established" && peer.stale == 2);
    assert!(killed.elapsed() < SLACK, "noticed after {:?}", killed.elapsed());
    assert_eq!(lost.flaps, 1, "{lost:?}");
    assert_eq!(rig.kernel_routes().expect("ip"), through_peer(both), "kept");
    rig.wait_routes("gone", &through_peer([]));
    let kept = killed.elapsed();
    let stale_time = Duration::from_secs(5);
    assert!(kept + Duration::from_millis(200) > stale_time && kept < stale_time + SLACK, "kept for {kept:?}");

    daemon.restart().expect("BIRD starts");
    rig.wait_peer("back", |peer| peer.end_of_rib && peer.accepted == 2);
    rig.wait_routes("back", &through_peer(both));
    daemon.kill().expect("SIGKILL");
    rig.wait_peer("noticed again", |peer| peer.stale == 2);
    let daemon = start_bird(&rig.lab, &both[..1]);
    rig.wait_peer("back again", |peer| peer.end_of_rib && (peer.accepted, peer.stale) == (1, 0));
    rig.wait_routes("what it no longer announces is swept", &through_peer(["10.64.1.0/24"]));
    drop(daemon);
    rig.wait_peer("down", |peer| peer.state != "Established");
    rig.wait_open_files("no file is left open", files);
}

#[test]
fn a_blackholed_connection_ends_with_the_hold_time() {
    let Some(mut rig) = Rig::up(Configured::quick(Dials::Agent)) else { return };
    let files = rig.open_files();
    let listening = rig.listen(PEER);
    let restarting = open(3).with_graceful_restart(120, false, [true, true]);
    let mut peer = listening.accept();
    peer.establish(&restarting);
    let pulse = Pulse::on(&peer);
    let (text, nlri) = prefix(1);
    peer.send(&announce(PEER, &nlri));
    peer.send(&end_of_rib());
    rig.wait_routes("learned", &through_peer([text.as_str()]));

    rig.filter(BLACKHOLE);
    let cut = Instant::now();
    let lost = rig.wait_peer("noticed", |peer| peer.state != "Established");
    let noticed = cut.elapsed();
    // The last KEEPALIVE may have come half a second before the cut.
    assert!(noticed > Duration::from_secs(2) && noticed < Duration::from_secs(3) + SLACK, "{noticed:?}");
    assert_eq!(lost.last_error.as_deref(), Some("sent NOTIFICATION 4/0 Hold Timer Expired"));
    assert_eq!((lost.stale, lost.flaps), (0, 1), "graceful restart is for connections that broke: {lost:?}");
    rig.wait_routes("gone", &through_peer([]));

    drop(pulse);
    vanish(peer);
    rig.unfilter();
    let mut peer = listening.accept();
    peer.establish(&restarting);
    peer.send(&announce(PEER, &nlri));
    rig.wait_routes("back", &through_peer([text.as_str()]));
    assert_eq!(rig.peer_for_people().flaps, 1);
    vanish(peer);
    drop(listening);
    rig.wait_peer("down", |peer| peer.state != "Established");
    rig.wait_open_files("no file is left open", files);
}

/// RFC 4724 §5: a peer with graceful restart that opens a connection has forgotten the one before.
#[test]
fn a_half_open_session_is_replaced_when_the_peer_may_have_restarted() {
    let keys = "hold_time = \"30s\"\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Peer, keys }) else { return };
    rig.filter(NO_RESETS);
    let mut peer = rig.session(&open(30).with_graceful_restart(120, false, [true, true]));
    let files = rig.open_files();
    let (text, nlri) = prefix(1);
    peer.send(&announce(PEER, &nlri));
    peer.send(&end_of_rib());
    rig.wait_routes("learned", &through_peer([text.as_str()]));
    // Up to five seconds after the session came up, a connection may have been on its way before.
    rig.wait_peer("up for a while", |peer| peer.uptime_seconds >= Some(6));

    vanish(peer);
    let mut peer = rig.session(&open(30).with_graceful_restart(120, true, [true, true]));
    let replaced = rig.wait_peer("replaced", |peer| peer.flaps == 1);
    assert_eq!((replaced.state.as_str(), replaced.stale), ("Established", 1), "{replaced:?}");
    let why = replaced.last_error.expect("a reason");
    assert_eq!(why, "the peer opened a new connection: it restarted");
    assert_eq!(rig.kernel_routes().expect("ip"), through_peer([text.as_str()]), "kept meanwhile");
    let (other, nlri) = prefix(2);
    peer.send(&announce(PEER, &nlri));
    peer.send(&end_of_rib());
    rig.wait_routes("swept", &through_peer([other.as_str()]));
    rig.wait_open_files("the old connection is closed", files);
}

/// RFC 4271 §6.8: without graceful restart the established session stays until its hold time is over.
#[test]
fn a_half_open_session_of_another_peer_lasts_for_its_hold_time() {
    let Some(mut rig) = Rig::up(Configured::quick(Dials::Peer)) else { return };
    rig.filter(NO_RESETS);
    let mut peer = rig.session(&open(3));
    let files = rig.open_files();
    let (text, nlri) = prefix(1);
    peer.send(&announce(PEER, &nlri));
    peer.send(&end_of_rib());
    rig.wait_routes("learned", &through_peer([text.as_str()]));

    vanish(peer);
    let gone = Instant::now();
    assert_eq!(rig.connect().expect_notification(), [6, 7], "the session is up, as far as the agent knows");
    assert_eq!(rig.peer().state, "Established");
    let lost = rig.wait_peer("noticed", |peer| peer.state != "Established");
    assert!(gone.elapsed() < Duration::from_secs(3) + SLACK, "{:?}", gone.elapsed());
    assert_eq!(lost.last_error.as_deref(), Some("sent NOTIFICATION 4/0 Hold Timer Expired"));
    rig.wait_routes("gone", &through_peer([]));
    let peer = rig.session(&open(3));
    let pulse = Pulse::on(&peer);
    rig.wait_open_files("the old connection is closed", files);
    assert_eq!((rig.peer().state.as_str(), rig.peer().flaps), ("Established", 1));
    drop((pulse, peer));
}
