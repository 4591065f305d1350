//! Route refresh, both ways.

use anyhow::{Context as _, Result, ensure};
use underpass_tests::matrix::Outcome;
use underpass_tests::wait;

use super::basics::FEED;
use super::peer::Make;
use super::render::Plan;
use super::rig::{Edge, Opens, PATIENCE, Rig};

/// We ask: the peer sends all again, and nothing in the kernel changes. It asks: it gets an answer.
pub fn refresh(make: Make) -> Outcome {
    let mut rig = Rig::up(make, &Plan::announcing(&FEED), &Edge::new(Opens::Agent));
    let before = rig.wait_learned(2);
    rig.wait_paths("learned", &FEED);
    let marked = before.capabilities.iter().any(|name| name == "enhanced-route-refresh");

    let done = rig.agent.cli(&["peer", "peer", "refresh"]).expect("an answer");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let after = rig.wait_session("all routes again", |peer| peer.updates > before.updates && peer.stale == 0);
    assert_eq!((after.flaps, after.accepted, after.received), (0, 2, 2), "{after:?}");
    rig.wait_paths("as before", &FEED);

    rig.peer.ask_for_routes().expect("the peer takes the command");
    let note = if make == Make::GoBgp {
        // It is done when the command returns.
        let refreshes = gobgp_refreshes(&rig.peer.describe().expect("an answer")).expect("a count");
        assert_eq!(refreshes, (0, 1), "sent and received");
        Some(
            "It answers our refresh; `softresetin` uses what it has kept of the peer's routes and never asks.",
        )
    } else {
        let look = || answered(&rig, make, marked);
        wait::until("our answer", PATIENCE, look).expect("in time");
        None
    };
    let end = rig.session().expect("an answer");
    assert_eq!((end.state.as_str(), end.flaps, end.accepted), ("Established", 0, 2), "{end:?}");
    let unmarked = "Begin and end of a refresh are not marked (RFC 7313).";
    match (note, marked) {
        (None, true) => Outcome::Works,
        (None, false) => Outcome::WorksWith(unmarked.to_owned()),
        (Some(note), true) => Outcome::WorksWith(note.to_owned()),
        (Some(note), false) => Outcome::WorksWith(format!("{note} {unmarked}")),
    }
}

/// The peer has asked and got what we have: nothing, between begin and end where it knows these.
fn answered(rig: &Rig, make: Make, marked: bool) -> Result<()> {
    if make == Make::Frr {
        let words = rig.peer.describe()?;
        let count = |name: &str| {
            let (_, rest) =
                words.split_once(&format!("\"{name}\":")).with_context(|| format!("no {name}"))?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            digits.parse::<u32>().with_context(|| format!("{name} is no number"))
        };
        let (sent, received) = (count("routeRefreshSent")?, count("routeRefreshRecv")?);
        // Ours of before, then begin and end.
        let expected = if marked { 3 } else { 1 };
        ensure!(sent >= 1 && received >= expected, "sent {sent}, received {received}");
        return Ok(());
    }
    let log = rig.peer.log()?;
    let (_, after) = log.split_once("Sending ROUTE-REFRESH").context("it has not asked")?;
    let lines: &[&str] = if marked { &["Got BEGIN-OF-RR", "Got END-OF-RR"] } else { &["Got END-OF-RIB"] };
    for line in lines {
        ensure!(after.contains(line), "no {line:?} in {after}");
    }
    Ok(())
}

/// Messages sent and received, from the table of `gobgp neighbor`.
fn gobgp_refreshes(words: &str) -> Result<(u32, u32)> {
    let line = words.lines().find(|line| line.trim_start().starts_with("Route Refresh:"));
    let line = line.with_context(|| format!("no count of refreshes in {words}"))?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("no numbers in {line:?}"))
}
