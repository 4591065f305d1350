//! Sends frames through the rig and counts what arrives.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aya::Ebpf;
use aya::maps::{Array, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use etherparse::PacketBuilder;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use underpass_common::abi::Counter;
use underpass_common::bench::{self, BATCH, DESTINATIONS, FRAME_LEN, Generator, NEXT_HOPS, TTL};

use crate::column::Column;
use crate::object;
use crate::rig::{Rig, generator_mac, router_mac, source};

/// One pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Frames sent.
    pub sent: u64,
    /// Frames that arrived, addressed to one of the next hops, with a TTL of one less, and forwarded by
    /// whom the column is about: the kernel or XDP.
    pub delivered: u64,
    /// Frames that arrived as they should but were forwarded by the other one.
    pub by_other_way: u64,
    /// Other frames that arrived.
    pub unexpected: u64,
    /// Time from the start of the first batch to the start of the last: that of [`BATCH`] frames less than
    /// were sent.
    pub elapsed: Duration,
}

impl Pass {
    /// Share of the frames that arrived as they should.
    pub fn delivered_share(&self) -> f64 {
        as_f64(self.delivered) / as_f64(self.sent.max(1))
    }

    /// Wall time per delivered frame in nanoseconds, or `None` when nothing arrived.
    pub fn ns_per_packet(&self) -> Option<f64> {
        let timed = as_f64(self.sent.saturating_sub(u64::from(BATCH))) * self.delivered_share();
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
    cpu: usize,
}

impl Traffic {
    /// Loads the programs, attaches the sink and gives the generator its destinations. The frames'
    /// whole way is on processor `cpu`.
    ///
    /// # Errors
    /// A program is refused, or a map cannot be written.
    pub fn prepare(rig: &Rig, cpu: usize) -> anyhow::Result<Self> {
        let mut object = object::open()?;
        object::load(&mut object, bench::program::GENERATE)?;
        rig.sink.enter(|| {
            let sink = object::load(&mut object, bench::program::SINK)?;
            sink.attach("sink", XdpMode::Driver).context("cannot attach the sink")?;
            anyhow::Ok(())
        })??;
        let addresses = rig.destinations.iter().map(|address| u32::from_ne_bytes(address.octets()));
        let addresses: Box<[u32; DESTINATIONS]> = addresses
            .collect::<Box<[u32]>>()
            .try_into()
            .map_err(|_| anyhow::anyhow!("the generator takes {DESTINATIONS} destinations"))?;
        let mut map: Array<_, [u32; DESTINATIONS]> =
            object::map(&mut object, bench::map::DESTINATIONS)?.try_into()?;
        map.set(0, *addresses, 0)?;
        Ok(Self { object, cpu })
    }

    /// Sends `frames` frames (rounded up to whole batches) and one batch more to a column's port and waits
    /// until they are counted. The start of the last batch ends the timing.
    ///
    /// # Errors
    /// The run was interrupted or took longer than it may, or the kernel refuses.
    pub fn pass(&mut self, rig: &Rig, column: Column, frames: u32) -> anyhow::Result<Pass> {
        let frames = frames.next_multiple_of(BATCH) + BATCH;
        let frame = frame(column, rig.destinations[0]);
        let before = self.received()?;
        let by_kernel_before = rig.forwarded_by_kernel()?;
        let object = &mut self.object;
        let cpu = self.cpu;
        let elapsed = rig.generator.enter(|| {
            let ifindex = nix::net::if_::if_nametoindex(column.label())?;
            let start = generator(&frame, ifindex);
            Array::try_from(object::map(object, bench::map::GENERATOR)?)?.set(0, start, 0)?;
            let mut here = CpuSet::new();
            here.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &here)
                .with_context(|| format!("cannot run on processor {cpu}"))?;
            send(object::xdp(object, bench::program::GENERATE)?, &frame, frames)?;
            let map: Array<_, Generator> = object::map(object, bench::map::GENERATOR)?.try_into()?;
            let end = map.get(&0, 0)?;
            ensure!(end.sequence == frames, "of {frames} frames {} were made", end.sequence);
            Ok(Duration::from_nanos(end.latest_batch - end.first_batch))
        })??;
        let sent = u64::from(frames);
        let after = self.settled(before, sent)?;
        let arrived = after.expected - before.expected;
        let by_kernel = rig.forwarded_by_kernel()? - by_kernel_before;
        let by_other_way =
            if column == Column::Kernel { arrived.saturating_sub(by_kernel) } else { by_kernel };
        Ok(Pass {
            sent,
            delivered: arrived.saturating_sub(by_other_way),
            by_other_way,
            unexpected: after.unexpected - before.unexpected,
            elapsed,
        })
    }

    /// Counters of the sink once all frames are there, or once nothing has come for 20 ms.
    fn settled(&self, before: Received, frames: u64) -> anyhow::Result<Received> {
        let mut last = self.received()?;
        let mut since = Instant::now();
        while last.total() - before.total() < frames && since.elapsed() < Duration::from_millis(20) {
            std::thread::sleep(Duration::from_millis(1));
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
        let mut received = Received { expected: 0, unexpected: packets(NEXT_HOPS)? };
        for index in 0..NEXT_HOPS {
            received.expected += packets(index)?;
        }
        Ok(received)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Received {
    expected: u64,
    unexpected: u64,
}

impl Received {
    const fn total(self) -> u64 {
        self.expected + self.unexpected
    }
}

/// Runs the generator over live frames.
fn send(generator: &Xdp, frame: &[u8], frames: u32) -> anyhow::Result<()> {
    let run = TestRunOptions {
        data_in: Some(frame),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::new()
    };
    generator.test_run(run).context("cannot send live frames (Linux 5.18 or newer is needed)")?;
    Ok(())
}

/// A frame of [`FRAME_LEN`] bytes to a column's port: UDP, no checksum.
fn frame(column: Column, destination: Ipv4Addr) -> Vec<u8> {
    const HEADERS: usize = 14 + 20 + 8;
    let mut frame = Vec::with_capacity(FRAME_LEN);
    PacketBuilder::ethernet2(generator_mac(column), router_mac(column))
        .ipv4(source(column).octets(), destination.octets(), TTL)
        .udp(4096, 9)
        .write(&mut frame, &[0; FRAME_LEN - HEADERS])
        .expect("the packet is short and a Vec takes everything");
    frame[40..42].fill(0);
    frame
}

/// What the generator writes into each copy of `frame`.
fn generator(frame: &[u8], ifindex: u32) -> Generator {
    let word = |index: usize| u16::from_ne_bytes([frame[2 * index], frame[2 * index + 1]]);
    // The IPv4 header is words 7 to 16; the checksum is word 12, the destination 15 and 16.
    let partial_sum = [7, 8, 9, 10, 11, 13, 14].map(|index| u32::from(word(index))).iter().sum();
    Generator {
        macs: [0, 1, 2, 3, 4, 5].map(word),
        ttl_protocol: word(11),
        partial_sum,
        ifindex,
        ..Generator::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::{Pass, frame, generator};
    use crate::column::Column;

    #[test]
    fn frame_has_the_length_and_the_addresses() {
        let frame = frame(Column::Underpass, Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(frame.len(), 60);
        let parsed = etherparse::SlicedPacket::from_ethernet(&frame).expect("a right frame");
        let Some(etherparse::NetSlice::Ipv4(ip)) = parsed.net else { panic!("not IPv4") };
        assert_eq!(ip.header().destination_addr(), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!((ip.header().ttl(), ip.header().total_len()), (64, 46));
    }

    /// The checksum that the generator makes from its words is the right one for the destination.
    #[test]
    fn partial_sum_leads_to_the_right_checksum() {
        for destination in [[10, 0, 0, 1], [10, 255, 255, 254], [10, 128, 7, 64]] {
            let frame = frame(Column::Kernel, Ipv4Addr::from(destination));
            let generator = generator(&frame, 1);
            let word = |index: usize| u32::from(u16::from_ne_bytes([frame[2 * index], frame[2 * index + 1]]));
            let sum = generator.partial_sum + word(15) + word(16);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            assert_eq!(!sum & 0xffff, word(12), "{destination:?}");
        }
    }

    #[test]
    fn pass_arithmetic() {
        let pass = Pass {
            sent: 264,
            delivered: 132,
            by_other_way: 0,
            unexpected: 0,
            elapsed: Duration::from_micros(50),
        };
        assert!((pass.delivered_share() - 0.5).abs() < 1e-12);
        assert!((pass.ns_per_packet().expect("something arrived") - 500.0).abs() < 1e-9);
        assert_eq!(Pass { delivered: 0, ..pass }.ns_per_packet(), None);
    }
}
