//! The generalized TTL security mechanism (RFC 5082) where the peer dials.
//!
//! A listening socket serves peers with different bounds, and an option on the accepted connection comes too
//! late for what arrived with the handshake. So the listening socket has a packet filter (classic BPF), which
//! the connections inherit (`sk_clone_lock`, net/core/sock.c) and which sees the SYN already.

use std::net::IpAddr;

/// Offset of the network header in a filter's loads: `SKF_NET_OFF` (include/uapi/linux/filter.h).
const NETWORK_HEADER: u32 = (-0x0010_0000_i32).cast_unsigned();
/// Octets of the segment that are let through: all.
const ACCEPT: u32 = u32::MAX;
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_OCTET: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// One instruction of a packet filter: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where the condition holds.
    pub jump_true: u8,
    /// Instructions to skip where it does not.
    pub jump_false: u8,
    /// Offset, comparand or result.
    pub operand: u32,
}

/// A filter that drops what has come farther than it may: for each peer the least TTL or hop limit of its
/// segments. Other sources pass. `peers` are of one family.
///
/// Empty without peers; `None` for more peers than a filter can hold, which are some hundred.
pub fn filter(peers: &[(IpAddr, u8)]) -> Option<Vec<Instruction>> {
    let mut program = Vec::new();
    for (peer, least) in peers {
        let (words, source, ttl) = match peer {
            IpAddr::V4(peer) => (vec![u32::from(*peer)], 12, 8),
            IpAddr::V6(peer) => (words(peer.octets()), 8, 7),
        };
        for (position, word) in (0_u8..).zip(&words) {
            let rest = u8::try_from(words.len()).unwrap_or(u8::MAX) - position - 1;
            program.push(instruction(LOAD_WORD, 0, 0, NETWORK_HEADER + source + 4 * u32::from(position)));
            // Another source: over the remaining words and the four instructions of the verdict.
            program.push(instruction(JUMP_EQUAL, 0, 2 * rest + 4, *word));
        }
        program.push(instruction(LOAD_OCTET, 0, 0, NETWORK_HEADER + ttl));
        program.push(instruction(JUMP_AT_LEAST, 0, 1, (*least).into()));
        program.push(instruction(RETURN, 0, 0, ACCEPT));
        program.push(instruction(RETURN, 0, 0, 0));
    }
    if !program.is_empty() {
        program.push(instruction(RETURN, 0, 0, ACCEPT));
    }
    (program.len() <= MAX_INSTRUCTIONS).then_some(program)
}

fn words(octets: [u8; 16]) -> Vec<u32> {
    octets
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |all, octet| all << 8 | u32::from(*octet)))
        .collect()
}

const fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says about a packet: a naive interpreter of the five instructions.
    fn passes(peers: &[(IpAddr, u8)], source: &str, ttl: u8) -> bool {
        let source: IpAddr = source.parse().expect("an address");
        let header: Vec<u8> = match source {
            IpAddr::V4(source) => [&[0; 8][..], &[ttl, 6, 0, 0], &source.octets(), &[0; 4]].concat(),
            IpAddr::V6(source) => [&[0; 7][..], &[ttl], &source.octets(), &[0; 16]].concat(),
        };
        let program = filter(peers).expect("few peers");
        let (mut at, mut value) = (0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            let offset = operand.wrapping_sub(NETWORK_HEADER) as usize;
            let jump = |holds| 1 + usize::from(if holds { jump_true } else { jump_false });
            at += match code {
                LOAD_WORD => {
                    value = u32::from_be_bytes(header[offset..offset + 4].try_into().expect("four"));
                    1
                }
                LOAD_OCTET => {
                    value = header[offset].into();
                    1
                }
                JUMP_EQUAL => jump(value == operand),
                JUMP_AT_LEAST => jump(value >= operand),
                RETURN => return operand != 0,
                other => panic!("instruction {other}"),
            };
        }
    }

    #[test]
    fn each_peer_has_its_own_bound_and_others_have_none() {
        let v4 = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let v4 = [(v4[0], 255), (v4[1], 250)];
        let v6 = ["fd00::1", "fd00::2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let v6 = [(v6[0], 255), (v6[1], 250)];
        let cases = [
            (v4, "10.0.0.1", 255, true),
            (v4, "10.0.0.1", 254, false),
            (v4, "10.0.0.2", 250, true),
            (v4, "10.0.0.2", 249, false),
            (v4, "10.0.0.3", 1, true),
            (v6, "fd00::1", 255, true),
            (v6, "fd00::1", 254, false),
            (v6, "fd00::2", 250, true),
            (v6, "fd00::2", 249, false),
            (v6, "fd00:0:0:1::2", 1, true),
            (v6, "fd01::2", 1, true),
        ];
        for (peers, source, ttl, expected) in cases {
            assert_eq!(passes(&peers, source, ttl), expected, "{source} with {ttl}");
        }
    }

    #[test]
    fn a_filter_holds_some_hundred_peers() {
        let peers = |count: u32| (0..count).map(|n| (IpAddr::V4(n.into()), 255)).collect::<Vec<_>>();
        assert!(filter(&[]).is_some_and(|program| program.is_empty()));
        assert_eq!(filter(&peers(682)).map(|program| program.len()), Some(682 * 6 + 1));
        assert!(filter(&peers(683)).is_none());
    }
}
