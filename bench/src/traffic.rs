//! Sends frames through the rig and counts what arrives.

mod frame;

use std::net::IpAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use aya::Ebpf;
use aya::maps::{Array, DevMap, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use underpass_common::abi::Counter;
use underpass_common::bench::{self, BATCH, GENERATORS, Generator, NEXT_HOPS};

use crate::object;
use crate::rig::{Path, Rig};
use crate::routes::Family;

/// Frames that a generator may drop while it waits for its peer, or its peer for it: a test run that
/// begins beside another waits for RCU grace periods.
const SLACK: u32 = 4_194_304;

/// One pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Frames sent.
    pub sent: u64,
    /// Frames that arrived, addressed to one of the next hops, with a TTL of one less, and forwarded by
    /// whom the column is about: the kernel or XDP.
    pub delivered: u64,
    /// The same by next hop, whoever forwarded.
    pub by_next_hop: Vec<u64>,
    /// Frames that arrived as they should but were forwarded by the other one.
    pub by_other_way: u64,
    /// Other frames that arrived.
    pub unexpected: u64,
    /// Time from the start of the first batch to the start of the last: that of [`BATCH`] frames less than
    /// were sent by each generator.
    pub elapsed: Duration,
    /// Number of generators.
    pub generators: u32,
}

impl Pass {
    /// Share of the frames that arrived as they should.
    pub fn delivered_share(&self) -> f64 {
        as_f64(self.delivered) / as_f64(self.sent.max(1))
    }

    /// Wall time per delivered frame in nanoseconds, or `None` when nothing arrived.
    pub fn ns_per_packet(&self) -> Option<f64> {
        let last = u64::from(BATCH) * u64::from(self.generators);
        let timed = as_f64(self.sent.saturating_sub(last)) * self.delivered_share();
        (timed > 0.0).then(|| self.elapsed.as_secs_f64() * 1e9 / timed)
    }
}

/// Exact up to 2^53 packets.
#[expect(clippy::cast_precision_loss, reason = "packet counts stay far below 2^53")]
pub fn as_f64(packets: u64) -> f64 {
    packets as f64
}

/// Generator and sink of a rig.
pub struct Traffic {
    object: Ebpf,
    family: Family,
    first: IpAddr,
}

impl Traffic {
    /// Loads the programs, attaches the sink and gives the generator its destinations.
    ///
    /// # Errors
    /// A program is refused, or a map cannot be written.
    pub fn prepare(rig: &Rig, destinations: &[IpAddr]) -> anyhow::Result<Self> {
        let family = rig.set().family;
        let mut object = object::open()?;
        object::load(&mut object, generate(family))?;
        object::load(&mut object, bench::program::SINK)?;
        for (namespace, device) in &rig.sinks {
            namespace.enter(|| {
                let sink = object::xdp(&mut object, bench::program::SINK)?;
                sink.attach(device, XdpMode::Driver).context("cannot attach the sink")?;
                anyhow::Ok(())
            })??;
        }
        let first = *destinations.first().context("no destinations")?;
        let mut traffic = Self { object, family, first };
        traffic.aim(destinations)?;
        Ok(traffic)
    }

    /// Gives the generator other destinations.
    ///
    /// # Errors
    /// They are not as many as it takes, or of another family.
    pub fn aim(&mut self, destinations: &[IpAddr]) -> anyhow::Result<()> {
        object::aim(&mut self.object, self.family, destinations)?;
        self.first = *destinations.first().context("no destinations")?;
        Ok(())
    }

    /// Sends `frames` frames (rounded up to whole batches) and one batch more to a column's port from each
    /// of the processors `cpus` at the same time, and waits until they are counted. The start of the last
    /// batch ends the timing. A frame's whole way is on the processor it was made on.
    ///
    /// # Errors
    /// The run was interrupted or took longer than it may, or the kernel refuses.
    pub fn pass(&mut self, path: &Path, rig: &Rig, cpus: &[usize], frames: u32) -> anyhow::Result<Pass> {
        let frames = frames.next_multiple_of(BATCH) + BATCH;
        let before = self.received()?;
        let by_kernel_before = path.forwarded_by_kernel(self.family)?;
        let elapsed = rig.generator.enter(|| self.send(path, cpus, frames))??;
        let sent = u64::from(frames) * cpus.len() as u64;
        let after = self.settled(&before, sent)?;
        let by_next_hop: Vec<u64> =
            after.expected.iter().zip(&before.expected).map(|(after, before)| after - before).collect();
        let arrived: u64 = by_next_hop.iter().sum();
        let by_kernel = path.forwarded_by_kernel(self.family)? - by_kernel_before;
        let by_other_way =
            if path.column.is_kernel() { arrived.saturating_sub(by_kernel) } else { by_kernel };
        Ok(Pass {
            sent,
            delivered: arrived.saturating_sub(by_other_way),
            by_next_hop,
            by_other_way,
            unexpected: after.unexpected - before.unexpected,
            elapsed,
            generators: u32::try_from(cpus.len())?,
        })
    }

    /// Runs a generator on each processor. In the generator's namespace.
    fn send(&mut self, path: &Path, cpus: &[usize], frames: u32) -> anyhow::Result<Duration> {
        let frame = frame::bytes(path, self.first);
        let ifindex = nix::net::if_::if_nametoindex(path.device.as_str())?;
        let number = |cpu: usize| u32::try_from(cpu).ok().filter(|cpu| *cpu < GENERATORS);
        let numbers = cpus.iter().map(|cpu| number(*cpu)).collect::<Option<Vec<u32>>>();
        let numbers = numbers.with_context(|| format!("generators run on processors below {GENERATORS}"))?;
        let mut generators = Array::try_from(object::map(&mut self.object, bench::map::GENERATOR)?)?;
        for (index, cpu) in numbers.iter().enumerate() {
            let peer = numbers[(index + 1) % numbers.len()];
            let start = Generator { frames, peer, ..frame::generator(&frame) };
            generators.set(*cpu, start, 0)?;
        }
        let mut devices = DevMap::try_from(object::map(&mut self.object, bench::map::TX)?)?;
        for cpu in &numbers {
            devices.set(*cpu, ifindex, None, 0)?;
        }
        let program = object::xdp(&mut self.object, generate(self.family))?;
        let repeat = if cpus.len() > 1 { frames + SLACK } else { frames };
        let (together, program, frame) = (Barrier::new(cpus.len()), &*program, &frame);
        thread::scope(|scope| {
            let start = |cpu: usize| {
                let together = &together;
                scope.spawn(move || {
                    let pinned = pin(cpu);
                    together.wait();
                    pinned.and_then(|()| test_run(program, frame, repeat))
                })
            };
            let runs: Vec<_> = cpus.iter().map(|cpu| start(*cpu)).collect();
            runs.into_iter().try_for_each(|run| run.join().map_err(|_| anyhow!("a generator panicked"))?)
        })?;
        let generators: Array<_, Generator> =
            object::map(&mut self.object, bench::map::GENERATOR)?.try_into()?;
        let (mut first, mut latest) = (u64::MAX, 0);
        for cpu in numbers {
            let end = generators.get(&cpu, 0)?;
            // One of two may have waited too long for the other: its frames count as lost.
            ensure!(
                cpus.len() > 1 || end.sequence == frames,
                "of {frames} frames {} were made",
                end.sequence
            );
            if end.sequence > 0 {
                (first, latest) = (first.min(end.first_batch), latest.max(end.latest_batch));
            }
        }
        Ok(Duration::from_nanos(latest.saturating_sub(first)))
    }

    /// Counters of the sink once all frames are there, or once nothing has come for 20 ms.
    fn settled(&self, before: &Received, frames: u64) -> anyhow::Result<Received> {
        let mut last = self.received()?;
        let mut since = Instant::now();
        while last.total() - before.total() < frames && since.elapsed() < Duration::from_millis(20) {
            thread::sleep(Duration::from_millis(1));
            let now = self.received()?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    fn received(&self) -> anyhow::Result<Received> {
        let map = self.object.map(bench::map::RECEIVED).context("the object has no counters")?;
        let counters = PerCpuArray::<_, Counter>::try_from(map)?;
        let packets = |index| -> anyhow::Result<u64> {
            Ok(counters.get(&index, 0)?.iter().map(|counter| counter.packets).sum())
        };
        Ok(Received {
            expected: (0..NEXT_HOPS).map(packets).collect::<anyhow::Result<_>>()?,
            unexpected: packets(NEXT_HOPS)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Received {
    expected: Vec<u64>,
    unexpected: u64,
}

impl Received {
    fn total(&self) -> u64 {
        self.expected.iter().sum::<u64>() + self.unexpected
    }
}

/// The generator of a family.
const fn generate(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => bench::program::GENERATE,
        Family::Ipv6 => bench::program::GENERATE6,
    }
}

/// Keeps the calling thread on a processor.
///
/// # Errors
/// There is no such processor, or it is not for us.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut here = CpuSet::new();
    here.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &here).with_context(|| format!("cannot run on processor {cpu}"))
}

/// Runs the generator over live frames.
fn test_run(generator: &Xdp, frame: &[u8], frames: u32) -> anyhow::Result<()> {
    let run = TestRunOptions {
        data_in: Some(frame),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::new()
    };
    generator.test_run(run).context("cannot send live frames (Linux 5.18 or newer is needed)")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pass;

    #[test]
    fn pass_arithmetic() {
        let pass = Pass {
            sent: 264,
            delivered: 132,
            by_next_hop: vec![132],
            by_other_way: 0,
            unexpected: 0,
            elapsed: Duration::from_micros(50),
            generators: 1,
        };
        assert!((pass.delivered_share() - 0.5).abs() < 1e-12);
        assert!((pass.ns_per_packet().expect("something arrived") - 500.0).abs() < 1e-9);
        let two = Pass { sent: 328, delivered: 164, generators: 2, ..pass.clone() };
        assert!((two.ns_per_packet().expect("something arrived") - 500.0).abs() < 1e-9);
        assert_eq!(Pass { delivered: 0, ..pass }.ns_per_packet(), None);
    }
}
