//! Flow hash: picks the bucket of a group.
//!
//! Covers what makes a flow: addresses, protocol and ports. An IPv4 fragment hashes on addresses and
//! protocol alone (only the first one carries ports), an IPv6 packet whose upper layer is behind extension
//! headers (fragments among them) on addresses alone, so all fragments of a packet agree.
//!
//! The IPv6 flow label is left out: a sender may change it within a connection (Linux does after a
//! retransmission timeout), and what it would add is in the ports already.

/// What is hashed of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow4 {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port as they follow the IP header; zero when there are none.
    pub ports: [u8; 4],
}

/// What is hashed of an IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow6 {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Number of the upper-layer protocol, when that has ports; else zero.
    pub protocol: u8,
    /// Source and destination port as they follow the IPv6 header; zero when there are none.
    pub ports: [u8; 4],
}

/// Hash of a flow, every bit fit for use: the group's mask takes the lowest ones.
#[inline(always)]
pub const fn hash4(flow: Flow4) -> u32 {
    let addresses = join(flow.source, flow.destination);
    let rest = join([flow.protocol, 0, 0, 0], flow.ports);
    // Multiply and shift spreads the addresses over 64 bits before the ports come in; two more
    // rounds give every output bit a share of every input bit. Odd constants: each step is a bijection.
    let mut hash = addresses.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = (hash ^ rest.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 32) as u32
}

/// The hash by which this node picks a bucket. Two nodes with different seeds split the flows that they
/// share independently of each other: without that, a router behind one that has chosen by the same
/// hash sees only flows of a few buckets and loads a few of its next hops (polarisation).
///
/// A bijection of the hash for every seed: what was spread evenly stays so.
#[inline(always)]
pub const fn seeded(hash: u32, seed: u32) -> u32 {
    // The low bits, which pick the bucket, take in the high ones before and after the multiplication;
    // a plain exclusive or would only rename the buckets.
    let mut hash = hash ^ seed;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// As [`hash4`].
#[inline(always)]
pub const fn hash6(flow: &Flow6) -> u32 {
    let [s0, s1] = halves(flow.source);
    let [d0, d1] = halves(flow.destination);
    let rest = join([flow.protocol, 0, 0, 0], flow.ports);
    // Each word goes through a multiplication of its own constant before the next comes in, so that equal
    // parts of source and destination do not cancel out.
    let mut hash = s0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = (hash ^ s1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 29;
    hash = (hash ^ d0).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 32;
    hash = (hash ^ d1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash = (hash ^ rest.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 32) as u32
}

/// An address as two words, byte order fixed as in [`join`].
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "halves")]
const fn halves(address: [u8; 16]) -> [u64; 2] {
    let address = u128::from_le_bytes(address);
    [address as u64, (address >> 64) as u64]
}

/// Two halves of a word. The byte order is fixed, so that a hash means the same on every machine.
#[inline(always)]
const fn join(high: [u8; 4], low: [u8; 4]) -> u64 {
    (u32::from_le_bytes(high) as u64) << 32 | u32::from_le_bytes(low) as u64
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;

    fn flow(source: u32, destination: u32, protocol: u8, ports: u32) -> Flow4 {
        Flow4 {
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            protocol,
            ports: ports.to_be_bytes(),
        }
    }

    /// Worst relative deviation from an even share over `members` of a group with 256 buckets.
    fn deviation(members: usize, flows: impl Iterator<Item = Flow4>) -> f64 {
        let mut load = vec![0u32; members];
        let mut count = 0u32;
        for flow in flows {
            load[(hash4(flow) & 255) as usize % members] += 1;
            count += 1;
        }
        // 256 buckets do not divide evenly: compare with the share of buckets that a member holds.
        (0..members)
            .map(|member| {
                let buckets = (256 - member).div_ceil(members);
                let share = f64::from(count) * f64::from(u32::try_from(buckets).unwrap()) / 256.0;
                (f64::from(load[member]) / share - 1.0).abs()
            })
            .fold(0.0, f64::max)
    }

    /// How evenly a second router splits over `members` what a first one sends it: worst deviation, in
    /// standard deviations of chance.
    fn polarisation(members: u32, first: u32, second: u32) -> f64 {
        const COUNT: u32 = 60_000;
        let mut load = vec![0u32; members as usize];
        let mut count = 0;
        for i in 0..COUNT {
            let hash = hash4(flow(0x0a00_0000 + i / 64, 0x0ae9_4001, 6, (i % 64) << 16 | 0x01bb));
            // Buckets are dealt out in turn on both.
            if seeded(hash, first) & 1023 & (members - 1) == 0 {
                load[(seeded(hash, second) & 1023 & (members - 1)) as usize] += 1;
                count += 1;
            }
        }
        let share = f64::from(count) / f64::from(members);
        load.iter().map(|load| (f64::from(*load) - share).abs() / share.sqrt()).fold(0.0, f64::max)
    }

    #[test]
    fn routers_in_series_split_independently() {
        for members in [2, 4, 16] {
            assert!(polarisation(members, 7, 7) > 100.0, "the same seed sends all to one member");
            for (first, second) in [(0, 1), (7, 8), (1, 0x8000_0001), (0xdead_beef, 0x1234_5678)] {
                let worst = polarisation(members, first, second);
                assert!(worst < 4.5, "{members} members, seeds {first} and {second}: {worst:.1}");
            }
        }
    }

    #[test]
    fn seed_keeps_the_hash_a_bijection() {
        for seed in [0, 1, 0xffff_ffff, 0x1357_9bdf] {
            let mut seen = std::collections::BTreeSet::new();
            for hash in (0..=u32::MAX).step_by(65_521) {
                assert!(seen.insert(seeded(hash, seed)), "{hash:#x} with {seed:#x}");
            }
        }
    }

    #[test]
    fn spreads_what_differs_in_one_field_only() {
        const COUNT: u32 = 40_000;
        for members in [2, 3, 5, 7, 16] {
            let source_ports = (0..COUNT).map(|i| flow(0x0a00_0001, 0x0a00_0002, 17, i << 16 | 0x35));
            let destination_ports = (0..COUNT).map(|i| flow(0x0a00_0001, 0x0a00_0002, 6, 0x01bb_0000 | i));
            let sources = (0..COUNT).map(|i| flow(0x0a00_0000 + i, 0x0ae9_4001, 1, 0));
            let destinations = (0..COUNT).map(|i| flow(0x0a00_0001, 0x0ae9_4000 + i, 1, 0));
            // Only every 256th address: the varying bits lie away from the lowest byte.
            let subnets = (0..COUNT).map(|i| flow(0x0a00_0001 + (i << 8), 0x0ae9_4001, 6, 0x1f90_1f90));
            for (name, worst) in [
                ("source ports", deviation(members, source_ports)),
                ("destination ports", deviation(members, destination_ports)),
                ("sources", deviation(members, sources)),
                ("destinations", deviation(members, destinations)),
                ("subnets", deviation(members, subnets)),
            ] {
                assert!(worst < 0.08, "{name} over {members} members: off by {worst:.3}");
            }
        }
    }

    #[test]
    fn every_input_bit_flips_every_output_bit_half_of_the_time() {
        const SAMPLES: u32 = 4000;
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 32).unwrap()
        };
        let mut flips = vec![[0u32; 32]; 104];
        for _ in 0..SAMPLES {
            let input = [random(), random(), random() >> 24, random()];
            let of = |i: [u32; 4]| hash4(flow(i[0], i[1], u8::try_from(i[2]).unwrap(), i[3]));
            let hash = of(input);
            let bits = (0..32)
                .map(|bit| (0, bit))
                .chain((0..32).map(|bit| (1, bit)))
                .chain((0..8).map(|bit| (2, bit)))
                .chain((0..32).map(|bit| (3, bit)));
            for (row, (word, bit)) in bits.enumerate() {
                let mut other = input;
                other[word] ^= 1 << bit;
                let changed = hash ^ of(other);
                for (out, flips) in flips[row].iter_mut().enumerate() {
                    *flips += changed >> out & 1;
                }
            }
        }
        for (input, row) in flips.iter().enumerate() {
            for (output, count) in row.iter().enumerate() {
                let share = f64::from(*count) / f64::from(SAMPLES);
                assert!(
                    (0.40..0.60).contains(&share),
                    "input bit {input} flips output bit {output}: {share:.3}"
                );
            }
        }
    }

    #[test]
    fn is_the_same_on_every_machine() {
        assert_eq!(hash4(flow(0, 0, 0, 0)), 0);
        let one = hash4(flow(0x0a00_0001, 0x0ae9_4001, 17, 0x1234_0035));
        assert_eq!(one, hash4(flow(0x0a00_0001, 0x0ae9_4001, 17, 0x1234_0035)));
        assert_ne!(one, hash4(flow(0x0ae9_4001, 0x0a00_0001, 17, 0x1234_0035)));
        assert_ne!(one, hash4(flow(0x0a00_0001, 0x0ae9_4001, 6, 0x1234_0035)));
    }

    fn flow6(source: u128, destination: u128, protocol: u8, ports: u32) -> Flow6 {
        Flow6 {
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            protocol,
            ports: ports.to_be_bytes(),
        }
    }

    /// Largest deviation from an even share over 16 buckets.
    fn deviation6(flows: impl Iterator<Item = Flow6>) -> f64 {
        let mut load = [0u32; 16];
        for flow in flows {
            load[(hash6(&flow) & 15) as usize] += 1;
        }
        let share = f64::from(load.iter().sum::<u32>()) / 16.0;
        load.iter().map(|count| (f64::from(*count) / share - 1.0).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn ipv6_spreads_what_differs_in_one_field_only() {
        const COUNT: u32 = 40_000;
        const HOST: u128 = 0x2001_0db8_0000_0001_0000_0000_0000_0001;
        const PEER: u128 = 0xfd00_0010_0233_0064_0000_0000_0000_4001;
        for (name, worst) in [
            ("source ports", deviation6((0..COUNT).map(|i| flow6(HOST, PEER, 17, i << 16 | 0x35)))),
            ("destination ports", deviation6((0..COUNT).map(|i| flow6(HOST, PEER, 6, 0x01bb_0000 | i)))),
            ("interface ids", deviation6((0..COUNT).map(|i| flow6(HOST + u128::from(i), PEER, 0, 0)))),
            ("destinations", deviation6((0..COUNT).map(|i| flow6(HOST, PEER + u128::from(i), 0, 0)))),
            ("subnets", deviation6((0..COUNT).map(|i| flow6(HOST + (u128::from(i) << 64), PEER, 0, 0)))),
            // Both ends count up together, as hosts that were set up alike do.
            (
                "pairs",
                deviation6((0..COUNT).map(|i| flow6(HOST + u128::from(i), PEER + u128::from(i), 0, 0))),
            ),
        ] {
            assert!(worst < 0.08, "{name}: off by {worst:.3}");
        }
    }

    #[test]
    fn every_ipv6_input_bit_flips_every_output_bit_half_of_the_time() {
        const SAMPLES: u32 = 2000;
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u128::from(state >> 32)
        };
        let mut flips = vec![[0u32; 32]; 296];
        for _ in 0..SAMPLES {
            let mut address = || random() << 96 | random() << 64 | random() << 32 | random();
            let (source, destination) = (address(), address());
            let rest = random();
            let of = |source, destination, rest: u128| {
                let ports = u32::try_from(rest & 0xffff_ffff).unwrap();
                hash6(&flow6(source, destination, u8::try_from(rest >> 32).unwrap(), ports))
            };
            let hash = of(source, destination, rest);
            for (bit, flips) in flips.iter_mut().enumerate() {
                let other = match bit {
                    0..128 => of(source ^ 1 << bit, destination, rest),
                    128..256 => of(source, destination ^ 1 << (bit - 128), rest),
                    _ => of(source, destination, rest ^ 1 << (bit - 256)),
                };
                for (out, flips) in flips.iter_mut().enumerate() {
                    *flips += (hash ^ other) >> out & 1;
                }
            }
        }
        for (input, row) in flips.iter().enumerate() {
            for (output, count) in row.iter().enumerate() {
                let share = f64::from(*count) / f64::from(SAMPLES);
                assert!(
                    (0.40..0.60).contains(&share),
                    "input bit {input} flips output bit {output}: {share:.3}"
                );
            }
        }
    }
}
