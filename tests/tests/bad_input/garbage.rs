//! Garbage on the BGP port of an agent that listens.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use socket2::{Domain, Socket, Type};
use underpass_tests::agent::Agent;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::lab::Lab;
use underpass_tests::wait;

use super::{
    NEIGHBOUR, NEIGHBOUR_ADDRESS, ROUTER, ROUTER_ADDRESS, ROUTER_AS, SOON, bgp, bird, session, two_machines,
    wait_answers,
};

/// An address of the neighbour that no peer has.
const STRANGER: [u8; 4] = [10, 0, 0, 3];
/// Cease, Connection Rejected (RFC 4486): what a peer gets for a moment after an error of its own.
const REJECTED: [u8; 2] = [6, 5];
/// Marker, length and type of a NOTIFICATION with this code and subcode, without data.
const NOTIFICATION_HEAD: usize = 21;

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let Some(lab) = two_machines() else { return };
    lab.netns(NEIGHBOUR).ip("address add 10.0.0.3/24 dev eth0\n").expect("another address");
    let mut agent = Agent::start(&lab, ROUTER, &bgp("passive = true\n")).expect("started");
    wait_answers(&mut agent);

    let marker = [0xff; 16];
    let open_with_version_3 = [&marker[..], &[0, 29, 1, 3, 0xfc, 1, 0, 90, 10, 0, 0, 2, 0]].concat();
    // Codes and subcodes of RFC 4271 §4.5.
    let cases: [(&str, Vec<u8>, [u8; 2]); 6] = [
        ("zeros", vec![0; 64], [1, 1]),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: router\r\n\r\n".to_vec(), [1, 1]),
        ("a length below that of a header", [&marker[..], &[0, 18, 4]].concat(), [1, 2]),
        ("an OPEN above the largest", [&marker[..], &[0xff, 0xff, 1]].concat(), [1, 2]),
        ("an unknown type", [&marker[..], &[0, 19, 9]].concat(), [1, 3]),
        ("version 3", open_with_version_3, [2, 1]),
    ];
    for (name, bytes, expected) in cases {
        let answer = wait::until(&format!("{name}: the agent answers"), SOON, || {
            let bytes = tell(&lab, NEIGHBOUR_ADDRESS.octets(), &bytes);
            let answer = notification(&bytes).with_context(|| format!("no NOTIFICATION in {bytes:?}"))?;
            ensure!(answer != REJECTED, "still kept away for the garbage before");
            Ok(answer)
        });
        assert_eq!(answer.expect(name), expected, "{name}");
        agent.process().check().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    assert_eq!(tell(&lab, STRANGER, &[0; 64]), Vec::<u8>::new(), "strangers are not spoken to");
    assert!(session(&agent, "neighbour").expect("a session").last_error.is_some());

    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &bird(ROUTER_AS, "", "")).expect("BIRD 2");
    wait::until("the peer is welcome when it speaks BGP", SOON, || {
        let session = session(&agent, "neighbour")?;
        ensure!(session.state == "Established", "{session:?}");
        Ok(())
    })
    .expect("a session");
    assert!(!agent.process().log_tail().contains("panicked"));
}

/// Sends bytes from an address of the neighbour to the agent's BGP port, and gives all that comes back.
fn tell(lab: &Lab, from: [u8; 4], bytes: &[u8]) -> Vec<u8> {
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&SocketAddr::from((ROUTER_ADDRESS, 179)).into())?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    };
    let mut stream = lab.netns(NEIGHBOUR).enter(connect).expect("inside").expect("the agent listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let mut answer = Vec::new();
    // A connection that is closed at once may be gone already.
    if stream.write_all(bytes).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the agent closes the connection");
        }
    }
    answer
}

/// Code and subcode of the NOTIFICATION that ends what the agent sent.
fn notification(mut bytes: &[u8]) -> Option<[u8; 2]> {
    loop {
        let length = usize::from(u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?]));
        match bytes.get(18)? {
            3 if bytes.len() >= NOTIFICATION_HEAD => return Some([bytes[19], bytes[20]]),
            _ => bytes = bytes.get(length..)?,
        }
    }
}
