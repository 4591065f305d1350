//! Asks the live program what it would do with a frame, without sending one.

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use underpass_common::abi::{PROBE_HEADER_LEN, PROBE_MAGIC, ProbeHeader};
use underpass_common::fib::TargetId;
use underpass_common::reason::Reason;

use crate::netlink::model::IfIndex;

/// Length of the frame that [`udp_frame`] builds: the shortest that Ethernet carries.
const FRAME_LEN: usize = 60;
/// Spare room in the answer: the program gives back what it got.
const ANSWER_ROOM: usize = 256;
/// `XDP_PASS`, `XDP_TX`, `XDP_REDIRECT` of include/uapi/linux/bpf.h.
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// What the program would return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel's turn.
    Pass,
    /// Out by the port it came in on.
    Tx,
    /// Out by another port (or by the same, on drivers without a working `XDP_TX`).
    Redirect,
}

impl Verdict {
    /// "pass", "tx" or "redirect".
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Tx => "tx",
            Self::Redirect => "redirect",
        }
    }
}

/// The program's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Target of the destination, or 0.
    pub target: TargetId,
    /// Target that the source matched, or 0.
    pub source_target: TargetId,
    /// Next-hop row, or 0.
    pub next_hop: u32,
    /// Egress port, or 0.
    pub egress: IfIndex,
    /// Flow hash.
    pub flow_hash: u32,
    /// The kernel's tick counter at the time of the run.
    pub jiffies: u64,
    /// Destination MAC of a forwarded frame.
    pub destination_mac: [u8; 6],
    /// Source MAC of a forwarded frame.
    pub source_mac: [u8; 6],
    /// The frame as it would leave, or untouched for a [`Verdict::Pass`].
    pub frame: Vec<u8>,
}

/// The probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel did not run the program.
    #[error("the probe program did not run: {0}")]
    Run(#[from] ProgramError),
    /// The program did not answer.
    #[error("the probe program gave no answer ({0}): agent and program do not fit, restart the agent")]
    NoAnswer(&'static str),
}

/// Runs the probe program on `frame` as if it had come in on `ingress`.
///
/// # Errors
/// The kernel does not run it, or the answer makes no sense.
pub fn run(program: &Xdp, ingress: IfIndex, frame: &[u8]) -> Result<Answer, ProbeError> {
    let mut question = encode(ingress);
    question.extend_from_slice(frame);
    let mut answer = vec![0; question.len() + ANSWER_ROOM];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&question);
    options.data_out = Some(&mut answer);
    let result = program.test_run(options)?;
    answer.truncate(usize::try_from(result.data_size_out).unwrap_or(usize::MAX));
    decode(result.return_value, &answer)
}

/// The question header.
fn encode(ingress: IfIndex) -> Vec<u8> {
    let mut bytes = vec![0; PROBE_HEADER_LEN];
    bytes[..PROBE_MAGIC.len()].copy_from_slice(&PROBE_MAGIC);
    let at = std::mem::offset_of!(ProbeHeader, ingress_ifindex);
    bytes[at..at + 4].copy_from_slice(&ingress.to_ne_bytes());
    bytes
}

/// Reads the answer header and what is behind it.
fn decode(verdict: u32, bytes: &[u8]) -> Result<Answer, ProbeError> {
    if bytes.len() < PROBE_HEADER_LEN || bytes[..PROBE_MAGIC.len()] != PROBE_MAGIC {
        return Err(ProbeError::NoAnswer("no probe header"));
    }
    let word = |at: usize| u32::from_ne_bytes(array(bytes, at));
    if word(std::mem::offset_of!(ProbeHeader, answered)) != 1 {
        return Err(ProbeError::NoAnswer("not filled in"));
    }
    let verdict = match verdict {
        XDP_PASS => Verdict::Pass,
        XDP_TX => Verdict::Tx,
        XDP_REDIRECT => Verdict::Redirect,
        _ => return Err(ProbeError::NoAnswer("unknown verdict")),
    };
    let reason = Reason::from_number(word(std::mem::offset_of!(ProbeHeader, reason)))
        .ok_or(ProbeError::NoAnswer("unknown reason"))?;
    Ok(Answer {
        verdict,
        reason,
        target: word(std::mem::offset_of!(ProbeHeader, target)),
        source_target: word(std::mem::offset_of!(ProbeHeader, source_target)),
        next_hop: word(std::mem::offset_of!(ProbeHeader, next_hop)),
        egress: word(std::mem::offset_of!(ProbeHeader, egress_ifindex)),
        flow_hash: word(std::mem::offset_of!(ProbeHeader, flow_hash)),
        jiffies: u64::from_ne_bytes(array(bytes, std::mem::offset_of!(ProbeHeader, jiffies))),
        destination_mac: array(bytes, std::mem::offset_of!(ProbeHeader, destination_mac)),
        source_mac: array(bytes, std::mem::offset_of!(ProbeHeader, source_mac)),
        frame: bytes[PROBE_HEADER_LEN..].to_vec(),
    })
}

/// `N` bytes at `at`; the caller has checked that the header is there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Source and destination, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

/// A flow to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Destination MAC: the ingress port's own, or the program leaves the frame to the kernel.
    pub destination_mac: [u8; 6],
    /// Source MAC: any neighbour's.
    pub source_mac: [u8; 6],
    /// Source and destination address.
    pub addresses: Addresses,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
}

/// A well-formed frame of the flow: Ethernet, then IPv4 without options (TTL 64, don't fragment) and UDP
/// without checksum (RFC 768 allows it), zeros up to 60 bytes; or IPv6 (hop limit 64) and UDP without data.
pub fn udp_frame(flow: &Flow) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_LEN + 2);
    frame.extend_from_slice(&flow.destination_mac);
    frame.extend_from_slice(&flow.source_mac);
    let [s0, s1] = flow.source_port.to_be_bytes();
    let [d0, d1] = flow.destination_port.to_be_bytes();
    match flow.addresses {
        Addresses::V4(source, destination) => {
            let ip_length = u16::try_from(FRAME_LEN - 14).unwrap_or(0);
            let mut header = [0u8; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&ip_length.to_be_bytes());
            header[6] = 0x40;
            header[8] = 64;
            header[9] = 17;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let checksum = checksum(header.chunks_exact(2));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend_from_slice(&[0x08, 0x00]);
            frame.extend_from_slice(&header);
            frame.extend_from_slice(&[s0, s1, d0, d1]);
            frame.extend_from_slice(&(ip_length - 20).to_be_bytes());
            frame.resize(FRAME_LEN, 0);
        }
        Addresses::V6(source, destination) => {
            let mut udp = [s0, s1, d0, d1, 0, 8, 0, 0];
            let (source, destination) = (source.octets(), destination.octets());
            // The pseudo-header's length and protocol (RFC 8200 §8.1).
            let rest = [0, 8, 0, 17];
            let words = source.chunks_exact(2).chain(destination.chunks_exact(2));
            let checksum = match checksum(words.chain(rest.chunks_exact(2)).chain(udp.chunks_exact(2))) {
                0 => u16::MAX,
                other => other,
            };
            udp[6..].copy_from_slice(&checksum.to_be_bytes());
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            frame.extend_from_slice(&source);
            frame.extend_from_slice(&destination);
            frame.extend_from_slice(&udp);
        }
    }
    frame
}

/// Internet checksum (RFC 1071) over words; a checksum field among them is zero.
fn checksum<'a>(words: impl Iterator<Item = &'a [u8]>) -> u16 {
    let mut sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_has_a_right_checksum_and_length() {
        // The example header of RFC 1071's usual illustration: the sum over a header with its
        // checksum in place is 0xffff.
        let frame = udp_frame(&Flow {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            addresses: Addresses::V4(Ipv4Addr::new(172, 20, 0, 254), Ipv4Addr::new(10, 233, 64, 9)),
            source_port: 4000,
            destination_port: 9,
        });
        assert_eq!(frame.len(), 60);
        assert_eq!(&frame[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        assert_eq!(u16::from_be_bytes([frame[16], frame[17]]), 46);
        let sum: u32 =
            frame[14..34].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn ipv6_frame_has_a_right_checksum_and_length() {
        let addresses = Addresses::V6("2001:db8::1".parse().unwrap(), "2001:db8:1::7".parse().unwrap());
        let frame = udp_frame(&Flow {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            addresses,
            source_port: 4000,
            destination_port: 53,
        });
        assert_eq!(&frame[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        assert_eq!(frame.len(), 62);
        // Addresses, UDP header, and the pseudo-header's length and protocol add up to 0xffff.
        let sum: u32 =
            frame[22..].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = sum + 8 + 17;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn answers_that_make_no_sense_are_errors() {
        let mut answered = encode(7);
        answered[std::mem::offset_of!(ProbeHeader, answered)] = 1;
        let mut reason = answered.clone();
        reason[std::mem::offset_of!(ProbeHeader, reason)] = 250;
        let cases: &[(&str, u32, Vec<u8>)] = &[
            ("nothing", XDP_PASS, vec![]),
            ("only the frame", XDP_PASS, vec![0; 100]),
            ("not filled in", XDP_PASS, encode(7)),
            ("aborted", 0, answered.clone()),
            ("unknown reason", XDP_PASS, reason),
        ];
        for (name, verdict, bytes) in cases {
            assert!(decode(*verdict, bytes).is_err(), "{name}");
        }
        let answer = decode(XDP_TX, &answered).expect("an answer");
        assert_eq!((answer.verdict, answer.reason), (Verdict::Tx, Reason::ForwardedTx));
        assert!(answer.frame.is_empty());
    }
}
