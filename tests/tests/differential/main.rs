//! The kernel is the oracle: random frames through random routers, once with the kernel alone and once with
//! Underpass. What leaves each port and what reaches the stack is equal, byte for byte.
//!
//! The seed is printed. `UNDERPASS_SEED` repeats a run, `UNDERPASS_FRAMES` sets its length,
//! `UNDERPASS_WORLD` picks one router and `UNDERPASS_FRAME` one frame of it.

mod choice;
mod frames;
mod frames6;
mod packet;
mod packet6;
mod route;
mod route6;
mod scenario;
mod world;
mod world6;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use fastrand::Rng;
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::twin::{Counts, Router, Shot, Twin, describe, describe_outcome, forwarded, hex};
use underpass_tests::wait;

use crate::choice::Choices;
use crate::scenario::{Scenario, V4, V6};

/// Frames of a run without `UNDERPASS_FRAMES`.
const FRAMES: usize = 100_000;
/// The same for IPv6.
const FRAMES6: usize = 50_000;
/// Frames of one world.
const PER_WORLD: usize = 2500;
/// Share of the frames that XDP has to forward, in percent: else the test would prove nothing.
const SHARE: u64 = 30;
/// For what the agent needs a moment for.
const SOON: Duration = Duration::from_secs(20);
/// Differences that are printed.
const SHOWN: usize = 5;

/// Counters of the stack that the fast path must not change. `IpExt.In*Pkts` and what counts ICMP messages
/// that leave is seen on the wire.
const SAME: &[&str] = &[
    "Ip.InHdrErrors",
    "Ip.InAddrErrors",
    "Ip.InUnknownProtos",
    "Ip.InDiscards",
    "Ip.InDelivers",
    "Ip.OutNoRoutes",
    "Ip.ReasmReqds",
    "Ip.FragOKs",
    "Ip.FragFails",
    "Ip.FragCreates",
    "IpExt.InNoRoutes",
    "IpExt.InTruncatedPkts",
    "IpExt.InMcastPkts",
    "IpExt.InBcastPkts",
    "IpExt.InCsumErrors",
    "Icmp.InMsgs",
    "Icmp.InErrors",
    "Icmp.InCsumErrors",
    "Udp.InDatagrams",
    "Udp.NoPorts",
    "Tcp.InSegs",
    "Tcp.InErrs",
    "Ip6.InHdrErrors",
    "Ip6.InTooBigErrors",
    "Ip6.InNoRoutes",
    "Ip6.InAddrErrors",
    "Ip6.InUnknownProtos",
    "Ip6.InTruncatedPkts",
    "Ip6.InDiscards",
    "Ip6.InDelivers",
    "Ip6.ReasmReqds",
    "Ip6.InMcastPkts",
    "Icmp6.InMsgs",
    "Icmp6.InErrors",
];

/// Sums over all worlds.
#[derive(Debug, Default)]
struct Totals {
    frames: u64,
    forwarded: u64,
    other_choice: u64,
    /// What the XDP program counted.
    reasons: BTreeMap<String, u64>,
}

impl Totals {
    fn add(&mut self, frames: usize, reasons: &BTreeMap<String, u64>) {
        self.frames += frames as u64;
        self.forwarded += forwarded(reasons);
        for (reason, packets) in reasons {
            *self.reasons.entry(reason.clone()).or_default() += packets;
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

#[test]
fn kernel_and_underpass_do_the_same_with_random_ipv4_frames() {
    run_all::<V4>(FRAMES);
}

#[test]
fn kernel_and_underpass_do_the_same_with_random_ipv6_frames() {
    run_all::<V6>(FRAMES6);
}

fn run_all<S: Scenario>(frames: usize) {
    if !can_raise_labs() {
        return;
    }
    let clock = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(1, |since| u64::from(since.subsec_nanos()))
    };
    let seed = number("UNDERPASS_SEED").unwrap_or_else(clock);
    let enough = frames;
    let frames = number("UNDERPASS_FRAMES").map_or(frames, small);
    println!("seed {seed}, {frames} frames; repeat with UNDERPASS_SEED={seed} UNDERPASS_FRAMES={frames}");
    let started = Instant::now();
    let worlds = frames.div_ceil(PER_WORLD);
    let only = number("UNDERPASS_WORLD").map(small);
    let mut totals = Totals::default();
    for number in (0..worlds).filter(|number| only.is_none_or(|only| only == *number)) {
        let count = PER_WORLD.min(frames - number * PER_WORLD);
        run::<S>(seed, number, count, &mut totals);
    }
    let share = totals.forwarded * 100 / totals.frames.max(1);
    println!("{totals:?}: {share} % forwarded by XDP, {:.1?}", started.elapsed());
    // A few worlds say nothing about the share.
    if only.is_none() && frames >= enough {
        assert!(share >= SHARE, "only {share} % were forwarded by XDP: {totals:?}");
    }
}

/// One world.
fn run<S: Scenario>(seed: u64, number: usize, count: usize, totals: &mut Totals) {
    let world_seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1));
    let mut world = S::random(world_seed);
    // Some frames before a change of the router and some after.
    let (before, after) = (1..=count * 3 / 5, count * 3 / 5 + 1..=count);
    let mut shots = draw(&mut world, before);
    world.prepare();
    let started = Instant::now();
    let plan = world.plan();
    let mut history =
        format!("{}{}\nsysctls {:?}\n{}", plan.commands, plan.commands6, plan.sysctls, plan.sections);
    let failed = |history: &str, problem: String| -> ! {
        panic!(
            "world {number} of seed {seed}:\n{history}\n{problem}\nrepeat with UNDERPASS_SEED={seed} \
             UNDERPASS_FRAMES={} UNDERPASS_WORLD={number} [UNDERPASS_FRAME=..]",
            number * PER_WORLD + count,
        )
    };
    let mut twin = Twin::raise(plan).unwrap_or_else(|error| failed(&history, format!("{error:#}")));
    let raised = started.elapsed();
    for change in [true, false] {
        match compare(&mut twin, &world, &shots, totals) {
            Ok(problem) if problem.is_empty() => {}
            Ok(problem) => failed(&history, problem),
            Err(error) => failed(&history, format!("{error:#}")),
        }
        if change {
            let commands = world.change(&mut Rng::with_seed(!world_seed));
            shots = draw(&mut world, after.clone());
            let commands = world.senders() + &commands;
            let _ = writeln!(history, "changed:\n{commands}");
            if let Err(error) = apply(&mut twin, &world, &commands) {
                failed(&history, format!("{error:#}"));
            }
        }
    }
    println!("world {number}: {count} frames, {raised:.1?} to raise, {:.1?} in all", started.elapsed());
}

/// The frames with these numbers, or only the one that is asked for.
fn draw(world: &mut impl Scenario, tags: RangeInclusive<usize>) -> Vec<Shot> {
    let shots = tags.map(|tag| world.draw(u16::try_from(tag).expect("at most 65,535")));
    let only = number("UNDERPASS_FRAME");
    shots.filter(|shot| only.is_none_or(|only| u64::from(shot.tag) == only)).collect()
}

/// Changes both routers, and waits until the change has arrived in the tables.
fn apply<S: Scenario>(twin: &mut Twin, world: &S, commands: &str) -> anyhow::Result<()> {
    twin.forget();
    twin.set_own(&world.plan().own);
    if world.plan().ipv6 {
        twin.ip6(commands)?;
    } else {
        twin.ip(commands)?;
    }
    let marker = world.marker();
    wait::until("the change is in the tables", SOON, || {
        let lookup = twin.agent().client().lookup(marker.addr(), Some(S::ASKER), None)?;
        ensure!(lookup.prefix == Some(marker), "{:?}", lookup.prefix);
        Ok(())
    })?;
    twin.agent_mut().wait_synced(SOON).map(drop)
}

/// Sends everything and says what differs.
fn compare(
    twin: &mut Twin,
    world: &impl Choices,
    shots: &[Shot],
    totals: &mut Totals,
) -> anyhow::Result<String> {
    let (grouped, single): (Vec<Shot>, Vec<Shot>) =
        shots.iter().cloned().partition(|shot| choice::is_free(world, shot));
    let mut text = count(twin, &single, totals)?;
    // Which next hop is chosen decides what some checks say: here counters may differ, frames not.
    let before = twin.reasons()?;
    twin.send(&grouped)?;
    totals.add(grouped.len(), &twin.reasons()?.since(&before));

    let mut pending: Vec<Shot> = differing(twin, shots);
    totals.other_choice += choice::explained(twin, world, &mut pending)? as u64;
    if !pending.is_empty() {
        // What is late is no difference.
        twin.differing(&pending)?;
        pending = differing(twin, &pending);
    }
    if !pending.is_empty() {
        let _ = writeln!(text, "{} of {} frames differ", pending.len(), shots.len());
    }
    if twin.plain.strays != twin.fast.strays {
        let _ = writeln!(
            text,
            "left without a cause: {} with the kernel alone, {} with Underpass",
            describe_outcome(&twin.plain.strays),
            describe_outcome(&twin.fast.strays)
        );
    }
    let shown = pending.iter().take(SHOWN);
    let shown: Vec<_> = shown.map(|shot| (shot, saw(&twin.plain, shot), saw(&twin.fast, shot))).collect();
    for (shot, kernel, fast) in shown {
        text.push_str(&difference(twin, shot, &kernel, &fast)?);
    }
    Ok(text)
}

fn saw(router: &Router, shot: &Shot) -> String {
    describe_outcome(router.outcome(shot.tag))
}

/// Sends frames for which there is no choice, and says which counters differ.
fn count(twin: &mut Twin, shots: &[Shot], totals: &mut Totals) -> anyhow::Result<String> {
    let before = (twin.plain.counts()?, twin.fast.counts()?, twin.reasons()?);
    let reached = twin.fast.reached_stack;
    twin.send(shots)?;
    let kernel = twin.plain.counts()?.since(&before.0);
    let fast = twin.fast.counts()?.since(&before.1);
    let reasons = twin.reasons()?.since(&before.2);
    let forwarded = forwarded(&reasons);
    totals.add(shots.len(), &reasons);

    let mut text = String::new();
    for name in SAME.iter().filter(|name| kernel.get(name) != fast.get(name)) {
        let _ = writeln!(text, "{name}: {} with the kernel alone, {}", kernel.get(name), fast.get(name));
    }
    for names in [["Ip.InReceives", "Ip6.InReceives"], ["Ip.ForwDatagrams", "Ip6.OutForwDatagrams"]] {
        let sum = |counts: &Counts| names.iter().map(|name| counts.get(name)).sum::<u64>();
        if sum(&kernel) != sum(&fast) + forwarded {
            let _ = writeln!(
                text,
                "{names:?}: {} with the kernel alone, {}, and {forwarded} forwarded by XDP",
                sum(&kernel),
                sum(&fast)
            );
        }
    }
    for (port, frame) in twin.plain.unseen() {
        let _ = writeln!(text, "unseen by the kernel alone: port {port} {} {}", describe(frame), hex(frame));
    }
    let seen = twin.fast.reached_stack - reached;
    if seen + forwarded != shots.len() as u64 {
        let _ =
            writeln!(text, "{} frames, {forwarded} forwarded by XDP, {seen} seen by the stack", shots.len());
    }
    if !text.is_empty() {
        let _ = writeln!(text, "reasons: {reasons:?}");
    }
    Ok(text)
}

fn differing(twin: &Twin, shots: &[Shot]) -> Vec<Shot> {
    let differ = |shot: &&Shot| twin.plain.outcome(shot.tag) != twin.fast.outcome(shot.tag);
    shots.iter().filter(differ).cloned().collect()
}

/// One difference, and whether the frame alone shows it too.
fn difference(twin: &mut Twin, shot: &Shot, kernel: &str, fast: &str) -> anyhow::Result<String> {
    let (plain, again, reasons) = twin.try_one(shot)?;
    Ok(format!(
        "frame {} into port {}: {}\n  {}\n  the kernel alone: {kernel}\n  with Underpass: {fast}\n  sent alone: {} \
         ({reasons:?})\n",
        shot.tag,
        shot.port,
        describe(&shot.frame),
        hex(&shot.frame),
        if plain == again { "no difference" } else { "the same difference" },
    ))
}
