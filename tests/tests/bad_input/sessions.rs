//! Peers that are not there, or not who they should be.

use std::net::SocketAddr;

use underpass_tests::agent::Agent;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::fake_peer::{Listening, NOTIFICATION, OPEN, Open, Received};

use super::{
    NEIGHBOUR, NEIGHBOUR_ADDRESS, NEIGHBOUR_AS, ROUTER, ROUTER_AS, bgp, bird, session, status_command,
    two_machines, wait_answers, wait_last_error,
};

#[test]
fn unreachable_peers_are_problems_of_a_running_agent() {
    let Some(lab) = two_machines() else { return };
    // Nobody listens at the neighbour, and nobody has the other address.
    let nobody = "[[bgp.peers]]\nname = \"nobody\"\naddress = \"10.0.0.77\"\nremote_as = 64514\n\
                  connect_retry = \"1s\"\nconnect_retry_max = \"2s\"\n";
    let mut agent = Agent::start(&lab, ROUTER, &bgp(nobody)).expect("started");
    let status = wait_answers(&mut agent);
    assert_eq!(status.bgp.map(|bgp| (bgp.established, bgp.peers)), Some((0, 2)));
    wait_last_error(&agent, "neighbour", &["cannot connect", "refused"]);
    wait_last_error(&agent, "nobody", &["cannot connect", "No route to host"]);

    let status = agent.client().status().expect("it answers");
    for words in ["session with neighbour (10.0.0.2) is ", "session with nobody (10.0.0.77) is "] {
        assert!(status.problems.iter().any(|problem| problem.contains(words)), "{:?}", status.problems);
    }
    let (code, text) = status_command(&agent);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nobody") && text.contains("10.0.0.77"), "{text}");
    agent.process().check().expect("it runs");
}

#[test]
fn a_peer_of_another_as_is_told_so() {
    let Some(lab) = two_machines() else { return };
    let place = SocketAddr::new(NEIGHBOUR_ADDRESS.into(), 179);
    let neighbour = lab.netns(NEIGHBOUR).enter(|| Listening::on(place)).expect("inside");
    let agent = Agent::start(&lab, ROUTER, &bgp("")).expect("started");
    let mut peer = neighbour.accept();
    peer.expect(OPEN);
    peer.send(&Open::new(64999, NEIGHBOUR_ADDRESS, 90).bytes());
    // OPEN Message Error (2), Bad Peer AS (2).
    assert_eq!(peer.expect_notification()[..2], [2, 2]);
    wait_last_error(&agent, "neighbour", &["sent NOTIFICATION 2/2", "64999", &NEIGHBOUR_AS.to_string()]);
    let session = session(&agent, "neighbour").expect("a session");
    assert_ne!(session.state, "Established");
    assert_eq!(status_command(&agent).0, Some(1));
}

#[test]
fn a_peer_that_expects_another_as_of_us_is_heard() {
    let Some(lab) = two_machines() else { return };
    let config = bird(ROUTER_AS + 100, "", "");
    let _bird = Bird::start(&lab, NEIGHBOUR, Version::V2, &config).expect("BIRD 2");
    let agent = Agent::start(&lab, ROUTER, &bgp("")).expect("started");
    wait_last_error(&agent, "neighbour", &["received NOTIFICATION 2/2"]);
    assert_ne!(session(&agent, "neighbour").expect("a session").state, "Established");
    let (code, text) = status_command(&agent);
    assert_eq!(code, Some(1), "{text}");
}

#[test]
fn a_peer_that_ends_the_session_in_the_middle_of_a_message_is_dialled_again() {
    let Some(lab) = two_machines() else { return };
    let place = SocketAddr::new(NEIGHBOUR_ADDRESS.into(), 179);
    let neighbour = lab.netns(NEIGHBOUR).enter(|| Listening::on(place)).expect("inside");
    let agent = Agent::start(&lab, ROUTER, &bgp("")).expect("started");
    let mut peer = neighbour.accept();
    peer.expect(OPEN);
    peer.send(&Open::new(NEIGHBOUR_AS, NEIGHBOUR_ADDRESS, 90).bytes()[..25]);
    drop(peer);
    let mut again = neighbour.accept();
    again.expect(OPEN);
    again.send(&Open::new(NEIGHBOUR_AS, NEIGHBOUR_ADDRESS, 90).bytes());
    assert!(!matches!(again.receive(), Received::Message(NOTIFICATION, _)), "this one is fine");
    drop(agent);
}
