//! Real traffic between namespaces, bounded in count and time, with every byte checked.
//!
//! A socket belongs to the namespace that it was made in, so that sockets of both ends are used from
//! one process.

pub mod flood;
pub mod tcp;
pub mod udp;

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// A UDP socket in a namespace, bound to `address` (port 0: any).
fn udp_socket(netns: &Netns, address: SocketAddr) -> Result<UdpSocket> {
    netns
        .enter(|| UdpSocket::bind(address))?
        .with_context(|| format!("cannot bind UDP {address} in namespace {}", netns.name()))
}

/// Fills `bytes` with what only depends on `seed` and the position (`SplitMix64`).
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        chunk.copy_from_slice(&word.to_be_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn the_pattern_depends_on_seed_and_position() {
        let pattern = |seed| {
            let mut bytes = [0; 20];
            fill(&mut bytes, seed);
            bytes
        };
        assert_eq!(pattern(1), pattern(1));
        assert_ne!(pattern(1), pattern(2));
        assert_ne!(pattern(1)[..8], pattern(1)[8..16]);
    }
}
