//! Everything that BIRD and the kernel of a node say, as text.

use std::time::{Duration, Instant};

use anyhow::{Error, Result, ensure};
use underpass_tests::reference::ReferenceLab;
use underpass_tests::{topology, wait};

use super::SOON;

/// Longer than BIRD needs for a scan of the kernel's routes, which it makes every two seconds.
const QUIET: Duration = Duration::from_secs(3);

/// BIRD 1.6 reckons times of day from whole seconds of two clocks: they waver by one.
const WAVER: i32 = 2;
/// Seconds of a day.
const DAY: i32 = 24 * 60 * 60;

/// A node. Times are in it: a session that was lost and came back, or a route that was withdrawn and
/// announced again, is a difference, because a snapshot is of things that were quiet for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: &'static str,
    /// Of `show protocols`: state and since when.
    protocols: Timed,
    /// Of `show route all`: every path with its attributes and the time it was learned.
    routes: Timed,
    /// Every route of every table, both families.
    kernel: String,
    /// Policy rules, both families.
    rules: String,
}

/// All nodes, those without Underpass too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(Vec<Node>);

impl Snapshot {
    /// As it is now.
    pub fn take(lab: &ReferenceLab) -> Result<Self> {
        let nodes = topology::nodes().map(|(_, node)| {
            let bird =
                |command: &str| Ok::<_, Error>(Timed::read(&lab.bird(node.name).client().command(command)?));
            let ip = |arguments: &str| lab.netns(node.name).run("ip", arguments.split_whitespace());
            Ok(Node {
                name: node.name,
                protocols: bird("show protocols")?,
                routes: bird("show route all")?,
                kernel: ip("-4 route show table all")? + &ip("-6 route show table all")?,
                rules: ip("-4 rule show")? + &ip("-6 rule show")?,
            })
        });
        Ok(Self(nodes.collect::<Result<_>>()?))
    }

    /// Once nothing has changed for longer than BIRD's scans take.
    pub fn settled(lab: &ReferenceLab) -> Self {
        let mut last = Self::take(lab).expect("every BIRD answers");
        let mut since = Instant::now();
        wait::until("BIRD and the kernels are quiet", SOON, || {
            let now = Self::take(lab)?;
            if now != last {
                last = now;
                since = Instant::now();
            }
            ensure!(since.elapsed() >= QUIET, "changed {:?} ago", since.elapsed());
            Ok(())
        })
        .expect("the lab settles");
        last
    }

    /// Checks that nothing differs.
    pub fn check_same(&self, now: &Self, when: &str) {
        for (before, now) in self.0.iter().zip(&now.0) {
            let name = before.name;
            before.protocols.check_same(&now.protocols, &format!("{name}: sessions {when}"));
            before.routes.check_same(&now.routes, &format!("{name}: BIRD's routes {when}"));
            assert_eq!(before.kernel, now.kernel, "{name}: kernel routes {when}");
            assert_eq!(before.rules, now.rules, "{name}: rules {when}");
        }
    }
}

/// Text with times of day.
#[derive(Clone, Debug)]
struct Timed {
    text: String,
    /// With a mark in the place of every time.
    marked: String,
    /// In seconds.
    times: Vec<i32>,
}

impl Timed {
    fn read(text: &str) -> Self {
        let mut times = Vec::new();
        let mut word = |word: &str| {
            let digits = word.trim_matches(|letter: char| !letter.is_ascii_digit());
            match time_of_day(digits) {
                Some(time) => {
                    times.push(time);
                    word.replacen(digits, "TIME", 1)
                }
                None => word.to_owned(),
            }
        };
        let marked = text.split_inclusive([' ', '\n', '\t']).map(&mut word).collect();
        Self { text: text.to_owned(), marked, times }
    }

    fn check_same(&self, now: &Self, what: &str) {
        assert!(self == now, "{what}: before\n{}\nnow\n{}", self.text, now.text);
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        let near = |(one, other): (&i32, &i32)| (one - other + WAVER).rem_euclid(DAY) <= 2 * WAVER;
        self.marked == other.marked && self.times.iter().zip(&other.times).all(near)
    }
}

impl Eq for Timed {}

/// "08:16:25", in seconds.
fn time_of_day(text: &str) -> Option<i32> {
    let mut parts = text.split(':').map(|part| part.parse::<i32>().ok().filter(|_| part.len() == 2));
    let time = parts.next()?? * 60 * 60 + parts.next()?? * 60 + parts.next()??;
    parts.next().is_none().then_some(time)
}

#[test]
fn a_second_is_no_difference_and_three_are_one() {
    let read = |time: &str| Timed::read(&format!("10.0.0.0/8\tvia [Peer {time}] up {time}  Established\n"));
    for (other, same) in [("08:16:25", true), ("08:16:26", true), ("08:16:28", false), ("08:15:25", false)] {
        assert_eq!(read("08:16:25") == read(other), same, "{other}");
    }
    assert_eq!(read("23:59:59"), read("00:00:00"));
    assert_ne!(Timed::read("Peer up 08:16:25"), Timed::read("Peer start 08:16:25"));
}
