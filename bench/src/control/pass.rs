//! One pass: a reflector's table into one receiver.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::check;
use super::receiver::{Daemon, Receiver};
use super::segment::{Segment, with_next_hops};
use super::watch::Watch;
use crate::routes::Routes;

/// Pause between two looks at the receiver.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time from Established to the end.
const LONGEST: Duration = Duration::from_mins(5);

/// How far the routes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The daemon has taken in all paths.
    Rib,
    /// The kernel has announced all routes.
    Kernel,
    /// All prefixes are in the maps.
    Xdp,
}

impl Stage {
    /// Name for tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rib => "rib",
            Self::Kernel => "kernel",
            Self::Xdp => "xdp",
        }
    }
}

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The table.
    pub routes: &'a Routes,
    /// How many reflectors send it.
    pub reflectors: usize,
    /// Who receives it.
    pub daemon: Daemon,
}

/// Times since Established, and what the receiver took at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Which stage.
    pub stage: Stage,
    /// Seconds since the first session was established.
    pub seconds: f64,
    /// Processor time of the receiver since then, in seconds.
    pub cpu_seconds: f64,
    /// Its peak of resident memory, in units of 10^6 bytes.
    pub rss_mb: f64,
}

/// Runs a pass. With `check` the kernel's table is read afterwards, and the maps, and compared with what was sent.
///
/// # Errors
/// The rig cannot be raised, notifications were lost, or the routes do not arrive.
pub fn run(case: Case<'_>, check: bool) -> anyhow::Result<Vec<Reached>> {
    let mut segment = Segment::raise(case.reflectors)?;
    segment.feed(case.reflectors, case.routes)?;
    let ranges = case.routes.set.ranges();
    let mut receiver = Receiver::start(&segment, case.daemon, case.reflectors, &ranges)?;
    let mut watch = Watch::start(&segment.receiver, case.routes.prefixes.len())?;
    let cpu_before = receiver.cpu_seconds()?;
    segment.open()?;
    let opened = Instant::now();
    let established = loop {
        if let Some(age) = segment.established()? {
            break Instant::now().checked_sub(age).context("established before the clock began")?;
        }
        ensure!(opened.elapsed() < LONGEST, "no session: {}", segment.lab.logs());
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut reached = Vec::new();
    let mut note = |stage: Stage, at: Instant| -> anyhow::Result<()> {
        let seconds = at.saturating_duration_since(established).as_secs_f64();
        let cpu_seconds = receiver.cpu_seconds()? - cpu_before;
        reached.push(Reached { stage, seconds, cpu_seconds, rss_mb: receiver.peak_mb()? });
        Ok(())
    };
    let mut open = vec![Stage::Rib, Stage::Kernel];
    open.extend((case.daemon == Daemon::Underpass).then_some(Stage::Xdp));
    while !open.is_empty() {
        if established.elapsed() > LONGEST {
            bail!("{open:?} not reached: {:?}, {} routes", receiver.progress()?, watch.routes());
        }
        std::thread::sleep(LOOK);
        watch.check()?;
        segment.nudge()?;
        if open.contains(&Stage::Kernel)
            && let Some(at) = watch.reached()
        {
            open.retain(|stage| *stage != Stage::Kernel);
            note(Stage::Kernel, at)?;
        }
        let progress = receiver.progress()?;
        let now = Instant::now();
        let prefixes = case.routes.prefixes.len();
        for (stage, there) in [
            (Stage::Rib, progress.paths >= prefixes * case.reflectors),
            (Stage::Xdp, progress.xdp.is_some_and(|xdp| xdp >= prefixes)),
        ] {
            if there && open.contains(&stage) {
                open.retain(|other| *other != stage);
                note(stage, now)?;
            }
        }
    }
    if check {
        check::settled(&receiver)?;
        receiver.leave()?;
        let expected = with_next_hops(case.routes).collect();
        check::kernel(&segment, &expected)?;
        if case.daemon == Daemon::Underpass {
            check::xdp(&segment, case.routes.prefixes.iter().copied(), &expected)?;
        }
    }
    reached.sort_by_key(|reached| reached.stage);
    Ok(reached)
}
