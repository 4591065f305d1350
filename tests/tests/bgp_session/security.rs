//! Signatures and TTLs: who may speak to us at all.

use std::io::Write as _;
use std::time::Duration;

use underpass::bgp::{Speaker, StartError, State};
use underpass::config::model::{Bgp, PasswordSource};
use underpass::netlink::model::Family;
use underpass::rib::model::Loss;
use underpass::sys::tcp;
use underpass_tests::fake_peer::{FakePeer, NOTIFICATION, message};

use super::harness::*;

/// Longer than a connection over loopback takes, shorter than SYNs are repeated for.
const SHORT: Duration = Duration::from_millis(1500);

/// The configuration with a password in a file; the file lives as long as the second value.
fn with_password(mut config: Bgp, password: &str) -> (Bgp, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "{password}").expect("writable");
    config.peers[0].password = Some(PasswordSource::File(file.path().to_owned()));
    (config, file)
}

#[test]
fn a_session_with_a_password_that_we_dial() {
    let place = Place(30);
    let listening = place.listen();
    tcp::set_md5_key(listening.socket(), place.ours(), b"s3cret").expect("TCP-MD5 in the kernel");
    let (config, _file) = with_password(place.config(listening.address().port()), "s3cret");
    let mut agent = Agent::start(&config);
    let mut peer = listening.accept();
    peer.establish(&open());
    agent.peer_up();

    tcp::set_md5_key(listening.socket(), place.ours(), b"another").expect("a second key");
    agent.speaker().reset(place.peer(), String::new()).expect("known");
    assert_eq!(agent.loss(), Loss::Reset(vec![Family::Ipv4, Family::Ipv6]));
    std::thread::sleep(SHORT);
    assert_eq!(agent.status().state, State::Connect, "segments with another key are dropped");
}

#[test]
fn a_session_with_a_password_that_the_peer_dials() {
    let place = Place(31);
    let (config, _file) = with_password(place.passive(), "s3cret");
    let mut agent = Agent::start(&config);
    let to = agent.listening();
    let connect = |key: Option<&[u8]>| {
        FakePeer::try_connect(place.peer(), to, SHORT, |socket| {
            if let Some(key) = key {
                tcp::set_md5_key(socket, to.ip(), key).expect("TCP-MD5 in the kernel");
            }
        })
    };
    assert!(connect(None).is_err(), "unsigned segments are dropped");
    assert!(connect(Some(b"wrong")).is_err(), "and those of another key");
    connect(Some(b"s3cret")).expect("signed").establish(&open());
    agent.peer_up();

    // Without the password, the kernel drops what is signed.
    let plain = place.passive();
    agent.change(|speaker| speaker.reconfigure(&plain, &plain.peers[0], true)).expect("taken on");
    assert_eq!(agent.loss(), Loss::Reset(vec![Family::Ipv4, Family::Ipv6]));
    assert!(connect(Some(b"s3cret")).is_err());
    connect(None).expect("unsigned").establish(&open());
    agent.peer_up();
}

#[test]
fn a_password_that_cannot_be_read_is_told_at_the_start() {
    let place = Place(32);
    let mut config = place.passive();
    config.peers[0].password = Some(PasswordSource::File("/nonexistent/secret".into()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (sender, _events) = tokio::sync::mpsc::channel(1);
    let result = runtime.block_on(async { Speaker::start(&config, sender) });
    let Err(StartError::Password { .. }) = &result else { panic!("{result:?}") };
    let error = result.expect_err("just seen").to_string();
    assert!(error.starts_with("peer peer: cannot read the password in /nonexistent/secret"), "{error}");
}

#[test]
fn only_what_has_come_few_enough_hops_is_heard() {
    let place = Place(33);
    let mut config = place.passive();
    config.peers[0].ttl_security = Some(2);
    let mut agent = Agent::start(&config);
    let to = agent.listening();
    let connect =
        |ttl| FakePeer::try_connect(place.peer(), to, SHORT, |socket| socket.set_ttl_v4(ttl).expect("a TTL"));
    assert!(connect(253).is_err(), "not even a SYN from afar is heard");
    let mut near = connect(254).expect("from the next router");
    near.establish(&open());
    agent.peer_up();
    near.set_ttl(253);
    near.send(&message(NOTIFICATION, &[6, 2]));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(agent.status().state, State::Established, "a segment from afar changes nothing");
    near.set_ttl(254);
    agent.peer_down();

    let mut open_door = place.passive();
    open_door.listen = vec![to];
    agent.change(|speaker| speaker.reconfigure(&open_door, &open_door.peers[0], true)).expect("taken on");
    connect(3).expect("any distance now");
}

#[test]
fn what_we_send_under_ttl_security_has_come_no_hops() {
    let place = Place(34);
    let listening = place.listen();
    let mut config = place.config(listening.address().port());
    config.peers[0].ttl_security = Some(1);
    listening.socket().set_ttl(255).expect("a TTL");
    let mut agent = Agent::start(&config);
    let mut peer = listening.accept();
    tcp::set_least_ttl(peer.socket(), place.ours(), 255).expect("IP_MINTTL");
    peer.set_ttl(255);
    peer.establish(&open());
    agent.peer_up();
}
