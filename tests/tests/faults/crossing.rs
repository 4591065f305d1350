//! Both sides open a connection at once (RFC 4271 §6.8).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use underpass_tests::fake_peer::{
    FakePeer, KEEPALIVE, Listening, NOTIFICATION, OPEN, Open, Received, UPDATE, message,
};
use underpass_tests::wait;

use super::rig::*;

/// Rounds, one after the other.
const ROUNDS: u32 = 30;
/// The peer dials at most so much later than it makes the agent dial, or earlier.
const JITTER: Duration = Duration::from_millis(30);

/// A connection with a peer that answers by the book and leaves the choice to the agent.
struct Conversation {
    lives: Arc<AtomicBool>,
    thread: JoinHandle<Option<Vec<u8>>>,
}

impl Conversation {
    /// Opens and goes on until the agent ends it: the body of its NOTIFICATION.
    fn start(mut peer: FakePeer, open: &Open) -> Self {
        let lives = Arc::new(AtomicBool::new(true));
        let (alive, open) = (lives.clone(), open.bytes());
        let thread = thread::spawn(move || {
            let mut last_words = None;
            loop {
                match peer.receive() {
                    Received::Message(OPEN, _) => {
                        // The agent may close at any moment.
                        let answer = [&open[..], &message(KEEPALIVE, &[])].concat();
                        let _ = std::io::Write::write_all(&mut peer.socket(), &answer);
                    }
                    Received::Message(KEEPALIVE | UPDATE, _) => {}
                    Received::Message(NOTIFICATION, body) => last_words = Some(body),
                    Received::Message(..) => panic!("nothing else was asked for"),
                    Received::Closed | Received::Reset => break,
                }
            }
            alive.store(false, Ordering::Release);
            last_words
        });
        Self { lives, thread }
    }

    fn lives(&self) -> bool {
        self.lives.load(Ordering::Acquire)
    }

    fn last_words(self) -> Option<Vec<u8>> {
        self.thread.join().expect("a conversation by the book")
    }
}

fn order(rig: &Rig, order: &str) {
    let output = rig.agent.cli(&["peer", &PEER.to_string(), order]).expect("it starts");
    assert!(output.status.success(), "peer {order}: {output:?}");
}

#[test]
fn of_simultaneous_opens_one_session_comes_each_time() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // Long: conversations send no KEEPALIVE after the first.
    let keys = "hold_time = \"90s\"\nenabled = false\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Both, keys }) else { return };
    let files = rig.open_files();
    let listening = rig.listen(PEER);
    let mut crossed = 0;
    for round in 0..ROUNDS {
        // Below and above the agent's identifier.
        let identifier = Ipv4Addr::new(10, 0, 0, if round % 2 == 0 { 1 } else { 200 });
        let open = Open::new(PEER_AS, identifier, 90);
        let mut pause = || JITTER.mul_f64(random.f64());
        let (before_order, before_dial) = (pause(), pause());
        let (dialled, accepted) = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(before_order);
                order(&rig, "up");
            });
            let accepted = scope.spawn(|| listening.accept());
            thread::sleep(before_dial);
            (rig.connect(), accepted.join().expect("the agent dials"))
        });
        let both = [dialled, accepted].map(|peer| Conversation::start(peer, &open));

        let one = || {
            let peer = rig.peer();
            ensure!(peer.state == "Established", "{peer:?}");
            let alive = both.iter().filter(|conversation| conversation.lives()).count();
            ensure!(alive == 1, "{alive} connections");
            Ok(peer)
        };
        let what = format!("round {round}, {before_order:?} and {before_dial:?}: one session");
        let peer = wait::until(&what, PATIENCE, one).expect("in time");
        assert_eq!((peer.flaps, peer.router_id), (round.into(), Some(identifier)), "{what}");
        order(&rig, "down");
        let last_words = both.map(Conversation::last_words);
        let ends =
            |words: &Option<Vec<u8>>, body: [u8; 2]| words.as_deref().is_some_and(|w| w.starts_with(&body));
        let count = |body| last_words.iter().filter(|words| ends(words, body)).count();
        assert_eq!(count([6, 2]), 1, "{what}: one was shut down: {last_words:?}");
        // Connection Collision Resolution, or the dial came before the order: Connection Rejected.
        assert_eq!(count([6, 7]) + count([6, 5]), 1, "{what}: {last_words:?}");
        crossed += count([6, 7]);
    }
    println!("{crossed} of {ROUNDS} collided");
    assert!(crossed > 0, "no connection met another");
    rig.wait_open_files("no file is left open", files);
}

/// Who opened a connection, seen from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    ByAgent,
    ByPeer,
}

/// Two connections between the same two, on which nobody has said anything but the agent its OPEN.
fn two_open_connections(rig: &Rig, listening: &Listening) -> [(Opened, FakePeer); 2] {
    order(rig, "up");
    let mut theirs = listening.accept();
    theirs.expect(OPEN);
    let mut ours = rig.connect();
    ours.expect(OPEN);
    assert_eq!(rig.peer().state, "OpenSent", "both wait for the peer's OPEN");
    [(Opened::ByAgent, theirs), (Opened::ByPeer, ours)]
}

/// RFC 4271 §6.8: the connection that the side with the higher identifier opened stays, whichever was confirmed
/// first; of equal identifiers the higher AS decides (RFC 6286 §2.3), which is the peer's.
#[test]
fn of_two_connections_the_one_of_the_higher_identifier_stays() {
    let keys = "hold_time = \"90s\"\nenabled = false\n";
    let Some(mut rig) = Rig::up(Configured { address: PEER, dials: Dials::Both, keys }) else { return };
    let files = rig.open_files();
    let listening = rig.listen(PEER);
    let lower = Ipv4Addr::from(u32::from(AGENT) - 1);
    let higher = Ipv4Addr::from(u32::from(AGENT) + 1);
    let cases = [(lower, Opened::ByAgent), (higher, Opened::ByPeer), (AGENT, Opened::ByPeer)];
    let orders = [Opened::ByAgent, Opened::ByPeer];
    for (round, ((identifier, stays), first)) in
        cases.into_iter().flat_map(|case| orders.map(|first| (case, first))).enumerate()
    {
        let what = format!("identifier {identifier}, OPEN first on the connection opened {first:?}");
        let open = Open::new(PEER_AS, identifier, 90);
        let mut both = two_open_connections(&rig, &listening);
        both.sort_by_key(|(opened, _)| *opened != first);
        let [(_, confirmed), (_, late)] = &mut both;
        confirmed.send(&open.bytes());
        assert_eq!(confirmed.expect(KEEPALIVE), [0; 0], "{what}");
        // The second OPEN, which makes the agent decide.
        late.send(&open.bytes());
        let (survivor, loser) = if first == stays { (0, 1) } else { (1, 0) };

        let loser = &mut both[loser].1;
        let Received::Message(kind, body) = loser.receive() else { panic!("{what}: no last words") };
        // Cease, Connection Collision Resolution (RFC 4486 §3), without data.
        assert_eq!(message(kind, &body), [&[0xff; 16][..], &[0, 21, 3, 6, 7]].concat(), "{what}");
        assert_eq!(loser.receive(), Received::Closed, "{what}");

        let (opened, survivor) = &mut both[survivor];
        assert_eq!(*opened, stays, "{what}");
        if first != stays {
            assert_eq!(survivor.expect(KEEPALIVE), [0; 0], "{what}");
        }
        survivor.send(&message(KEEPALIVE, &[]));
        let peer = rig.wait_peer(&what, |peer| peer.state == "Established");
        assert_eq!(peer.router_id, Some(identifier), "{what}");
        let (text, nlri) = prefix(u16::try_from(round).expect("few"));
        survivor.send(&announce(PEER, &nlri));
        rig.wait_routes(&what, &through_peer([text.as_str()]));
        order(&rig, "down");
        assert_eq!(survivor.expect_notification(), [6, 2], "{what}: it was the one in use");
        rig.wait_routes("withdrawn", &through_peer([]));
    }
    rig.wait_open_files("no file is left open", files);
}
