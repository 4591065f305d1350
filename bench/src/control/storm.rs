//! The storm: 10,000 updates per second for a minute over 100,000 prefixes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use underpass_tests::wait;

use super::check::{self, Expected};
use super::receiver::{Daemon, Receiver};
use super::segment::{NEXT_HOPS, Segment};
use super::speaker::Speaker;
use crate::random::SplitMix64;
use crate::routes::Routes;

/// A turn of the generator.
const TURN: Duration = Duration::from_millis(10);
/// Pause between two looks at the receiver.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time for the table before the storm, and for the rest after it.
const PATIENCE: Duration = Duration::from_mins(2);

/// How hard it blows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Force {
    /// UPDATE messages per second, each about one prefix.
    pub updates_per_second: u32,
    /// Seconds.
    pub seconds: u32,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// Prefixes that are announced and withdrawn.
    pub prefixes: u32,
    /// Who received.
    pub daemon: Daemon,
    /// `storm`.
    pub stage: String,
    /// How long it took to send everything.
    pub seconds: f64,
    /// Updates sent per second.
    pub updates_per_second: f64,
    /// From the last update until the receiver had worked it off, in seconds: `null` for BIRD, which does not tell.
    pub drained_seconds: Option<f64>,
    /// Processor time of the receiver, in seconds.
    pub cpu_seconds: f64,
    /// The same as a share of one processor.
    pub cpu_share: f64,
    /// Peak of resident memory since the start, in units of 10^6 bytes.
    pub rss_mb: f64,
    /// Most prefixes on their way to the kernel at once; `null` for BIRD, which does not tell.
    pub most_pending: Option<usize>,
    /// Most bytes in the generator's socket that the receiver had not taken.
    pub most_unsent_bytes: usize,
    /// Times that the agent read everything anew because notifications were lost.
    pub resyncs: u64,
    /// Kernel and maps had in the end what the generator had announced.
    pub agree: bool,
}

/// Blows at one receiver.
///
/// # Errors
/// It does not take the session or the table, or ends with other routes than it was sent.
pub fn run(routes: &Routes, daemon: Daemon, force: Force, seed: u64) -> anyhow::Result<Storm> {
    let segment = Segment::raise(1)?;
    let mut receiver = Receiver::start(&segment, daemon, 1, &routes.set.ranges())?;
    let churn = Churn::new(&routes.prefixes, seed);
    let generator = segment.generator();
    let speaker = generator.enter(|| {
        let mut speaker = Speaker::connect()?;
        speaker.announce_all(churn.announced())?;
        anyhow::Ok(speaker)
    })??;
    let prefixes = routes.prefixes.len();
    wait::until("the table before the storm", PATIENCE, || {
        let progress = receiver.progress()?;
        let there = progress.paths == prefixes && progress.xdp.is_none_or(|xdp| xdp >= prefixes);
        ensure!(there && progress.settled, "{progress:?}");
        Ok(())
    })?;
    let before = receiver.cpu_seconds()?;
    let started = Instant::now();
    let sender = generator.spawn(move || blow(speaker, churn, force));
    let mut most_pending = None;
    while !sender.is_finished() {
        thread::sleep(LOOK);
        most_pending = most_pending.max(receiver.progress()?.pending);
    }
    let (speaker, churn, sent) = sender.join().map_err(|_| anyhow!("the generator panicked"))???;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = receiver.cpu_seconds()? - before;
    let expected = churn.expected();
    let stopped = Instant::now();
    wait::until("the receiver has worked off the storm", PATIENCE, || {
        let progress = receiver.progress()?;
        ensure!(progress.paths == expected.len() && progress.settled, "{progress:?}");
        Ok(())
    })?;
    let drained = stopped.elapsed().as_secs_f64();
    let progress = receiver.progress()?;
    let rss_mb = receiver.peak_mb()?;
    compare(&segment, &mut receiver, daemon, routes, &expected)?;
    Ok(Storm {
        prefixes: routes.set.routes,
        daemon,
        stage: "storm".to_owned(),
        seconds,
        updates_per_second: f64::from(sent) / seconds,
        drained_seconds: (daemon != Daemon::Bird2).then_some(drained),
        cpu_seconds,
        cpu_share: cpu_seconds / seconds,
        rss_mb,
        most_pending,
        most_unsent_bytes: speaker.most_unsent,
        resyncs: progress.resyncs,
        agree: true,
    })
}

/// Kernel and maps against the generator. The session stays up meanwhile.
fn compare(
    segment: &Segment,
    receiver: &mut Receiver,
    daemon: Daemon,
    routes: &Routes,
    expected: &Expected,
) -> anyhow::Result<()> {
    if daemon == Daemon::Bird2 {
        // It has taken everything in, but does not tell when the kernel has it.
        return wait::until("the kernel has what was announced", PATIENCE, || {
            check::kernel(segment, expected)
        });
    }
    receiver.leave()?;
    check::kernel(segment, expected)?;
    if daemon == Daemon::Underpass {
        check::xdp(segment, routes.prefixes.iter().copied(), expected)?;
    }
    Ok(())
}

/// Sends at the rate; what the receiver does not take in time is sent later, and the rate suffers.
fn blow(mut speaker: Speaker, mut churn: Churn, force: Force) -> anyhow::Result<(Speaker, Churn, u32)> {
    let started = Instant::now();
    let per_turn = force.updates_per_second / 100;
    let (turns, mut sent) = (force.seconds * 100, 0);
    for turn in 0..turns {
        let due = started + TURN * turn;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut messages = Vec::with_capacity(per_turn as usize * 80);
        for _ in 0..per_turn {
            let (prefix, next_hop) = churn.next();
            match next_hop {
                Some(next_hop) => Speaker::announcement(next_hop, &[prefix], &mut messages),
                None => Speaker::withdrawal(prefix, &mut messages),
            }
        }
        speaker.send(&messages).with_context(|| format!("turn {turn} of {turns}"))?;
        sent += per_turn;
    }
    thread::sleep((started + TURN * turns).saturating_duration_since(Instant::now()));
    Ok((speaker, churn, sent))
}

/// What is announced, and what happens to it next.
struct Churn {
    prefixes: Vec<(IpNet, Option<u32>)>,
    random: SplitMix64,
}

impl Churn {
    /// All prefixes announced.
    fn new(prefixes: &[IpNet], seed: u64) -> Self {
        let hops = (0..NEXT_HOPS).cycle();
        let prefixes = prefixes.iter().zip(hops).map(|(prefix, hop)| (*prefix, Some(hop))).collect();
        Self { prefixes, random: SplitMix64::new(seed) }
    }

    fn announced(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.prefixes.iter().filter_map(|(prefix, hop)| Some((*prefix, (*hop)?)))
    }

    fn expected(&self) -> Expected {
        self.announced().collect()
    }

    /// A prefix at random: what is not announced is, by any next hop; what is goes, or moves, one time in two.
    fn next(&mut self) -> (IpNet, Option<u32>) {
        let at = self.random.below(u32::try_from(self.prefixes.len()).unwrap_or(u32::MAX)) as usize;
        let other = self.random.below(NEXT_HOPS);
        let withdraw = self.random.below(2) == 0;
        let (prefix, hop) = &mut self.prefixes[at];
        *hop = match *hop {
            Some(_) if withdraw => None,
            _ => Some(other),
        };
        (*prefix, *hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_knows_what_it_has_announced() {
        let prefixes: Vec<IpNet> =
            (0..50).map(|n| format!("16.0.{n}.0/24").parse().expect("a prefix")).collect();
        let mut churn = Churn::new(&prefixes, 3);
        let mut model = churn.expected();
        assert_eq!(model.len(), 50);
        let (mut withdrawn, mut announced) = (0, 0);
        for _ in 0..1000 {
            let (prefix, hop) = churn.next();
            if let Some(hop) = hop {
                announced += 1;
                model.insert(prefix, hop);
            } else {
                withdrawn += 1;
                assert!(model.remove(&prefix).is_some(), "only what was announced is withdrawn");
            }
        }
        assert_eq!(model, churn.expected());
        assert!(withdrawn > 200 && announced > 500, "{withdrawn} and {announced}");
    }
}
