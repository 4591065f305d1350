//! The bytes of random IPv6 frames.

use std::net::Ipv6Addr;

use fastrand::Rng;
use underpass_tests::twin::port_mac;

use crate::packet::{fold, put};
use crate::world::{PORTS, chance, choose};

const ICMPV6: u8 = 58;

/// An Ethernet header, mostly one to the port.
pub fn ethernet(rng: &mut Rng, port: usize, sound: bool) -> Vec<u8> {
    let own = port_mac(port);
    let destination = match rng.u32(0..100) {
        _ if sound => own,
        0..=85 => own,
        86..=88 => [0xff; 6],
        89..=91 => [0x33, 0x33, 0, 0, 0, 0x77],
        92..=94 => port_mac((port + 1) % PORTS),
        _ => [6, 0, 0, 0, 0, 2],
    };
    let source = [6, 0, 0, 0, u8::try_from(port).expect("few"), rng.u8(2..6)];
    [&destination[..], &source, &[0x86, 0xdd]].concat()
}

/// An IPv6 packet.
pub struct Packet6 {
    /// To be recognised by.
    pub tag: u16,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    /// To or from the router itself.
    pub local: bool,
    /// Nothing that the kernel has to look at.
    pub sound: bool,
    /// Of the whole packet, if that is enough for its headers.
    pub length: usize,
}

/// Writes a packet.
pub fn append(frame: &mut Vec<u8>, rng: &mut Rng, packet: &Packet6) {
    let protocol = match rng.u32(0..100) {
        0..=49 => 17,
        50..=79 => 6,
        80..=89 => ICMPV6,
        90..=92 => 59,
        _ => *choose(rng, &[4, 41, 47, 50, 89, 132, 136, 255]),
    };
    let extensions = if chance(rng, if packet.sound { 6 } else { 30 }) {
        extensions(rng, protocol, packet.sound)
    } else {
        vec![(protocol, Vec::new())]
    };
    let first = extensions.first().map_or(protocol, |(kind, _)| *kind);
    let headers: Vec<u8> = extensions.into_iter().flat_map(|(_, bytes)| bytes).collect();
    let payload = packet.length.saturating_sub(40).max(headers.len());
    let hop_limit = if packet.sound {
        rng.u8(2..)
    } else if chance(rng, 50) {
        64
    } else {
        *choose(rng, &[0, 1, 2, 3, 128, 255])
    };
    let class = if chance(rng, 70) { 0 } else { rng.u8(..) };
    let [high, low] = packet.tag.to_be_bytes();
    frame.extend([0x60 | class >> 4, class << 4, high, low]);
    frame.extend(u16::try_from(payload).expect("short").to_be_bytes());
    frame.extend([first, hop_limit]);
    frame.extend(packet.source.octets());
    frame.extend(packet.destination.octets());
    frame.extend(&headers);
    let start = frame.len();
    frame.extend((headers.len()..payload).map(|_| rng.u8(..)));
    transport(&mut frame[start..], protocol, rng, packet);
}

/// Extension headers with the number by which each is announced, and the transport's at the end.
fn extensions(rng: &mut Rng, protocol: u8, sound: bool) -> Vec<(u8, Vec<u8>)> {
    let all: &[u8] = if sound { &[44, 60, 43, 51] } else { &[0, 44, 60, 43, 51, 0, 135, 59] };
    let kinds: Vec<u8> = (0..rng.usize(1..if sound { 2 } else { 8 })).map(|_| *choose(rng, all)).collect();
    let nexts = kinds.iter().skip(1).copied().chain([protocol]);
    let mut headers: Vec<(u8, Vec<u8>)> =
        kinds.iter().zip(nexts).map(|(kind, next)| (*kind, extension(rng, *kind, next))).collect();
    headers.push((protocol, Vec::new()));
    headers
}

fn extension(rng: &mut Rng, kind: u8, next: u8) -> Vec<u8> {
    match kind {
        44 => {
            let offset = if rng.bool() { 0 } else { rng.u16(..) & 0xfff8 };
            let more = u16::from(rng.bool());
            let [high, low] = (offset | more).to_be_bytes();
            vec![next, 0, high, low, 1, 2, rng.u8(..), rng.u8(..)]
        }
        // Segments left: none, or some.
        43 => vec![next, 0, *choose(rng, &[0, 2, 3, 4, 253]), rng.u8(0..2), 0, 0, 0, 0],
        51 => [&[next, 1][..], &[0; 10]].concat(),
        // Options: padding, router alert, or one that tells what to do with the unknown.
        _ => {
            let options: [[u8; 6]; 6] = [
                [1, 4, 0, 0, 0, 0],
                [5, 2, 0, 0, 1, 0],
                [0x3e, 2, 0, 0, 1, 0],
                [0x7e, 2, 0, 0, 1, 0],
                [0xbe, 2, 0, 0, 1, 0],
                [0xc2, 4, 0, 1, 0, 0],
            ];
            [&[next, 0][..], &choose(rng, &options)[..]].concat()
        }
    }
}

/// Writes the header of a transport, as far as there is room.
fn transport(segment: &mut [u8], protocol: u8, rng: &mut Rng, packet: &Packet6) {
    let length = u16::try_from(segment.len()).expect("short");
    let [high, low] = packet.tag.to_be_bytes();
    match protocol {
        17 => {
            put(segment, 4, &length.to_be_bytes());
            put(segment, 6, &[0, 0]);
        }
        6 => {
            put(segment, 4, &[high, low, 0, 0, high, low, 0, 0, 0x50]);
            put(segment, 13, &[*choose(rng, &[0x02, 0x10, 0x11, 0x18, 0x04, 0x12])]);
            put(segment, 16, &[0, 0]);
        }
        ICMPV6 => {
            // Nothing but echo requests to the router: others it would act upon.
            let kind = if packet.local { 128 } else { *choose(rng, &[128, 129, 1, 2, 3, 4]) };
            put(segment, 0, &[kind, 0, 0, 0]);
            put(segment, 6, &[high, low]);
        }
        _ => return,
    }
    let at = match protocol {
        17 => 6,
        6 => 16,
        _ => 2,
    };
    let addresses = [packet.source.octets(), packet.destination.octets()].concat();
    let pseudo = [&addresses[..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, protocol], segment].concat();
    let sum = match !fold(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    if segment.len() >= 8 {
        put(segment, at, &sum.to_be_bytes());
    }
}

/// Breaks some frames.
pub fn corrupt(frame: &mut Vec<u8>, rng: &mut Rng) {
    if chance(rng, 15) {
        match rng.u32(0..7) {
            0 => frame[14] = rng.u8(..),
            1 => frame[14] = 0x60 ^ (1 << rng.u8(4..8)),
            2 => frame[18..20].copy_from_slice(&rng.u16(..).to_be_bytes()),
            3 => frame[18..20].fill(0),
            4 => {
                let length = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(1);
                frame[18..20].copy_from_slice(&length.to_be_bytes());
            }
            5 => frame[20] = rng.u8(..),
            _ => {
                let length = rng.usize(16..frame.len());
                frame.truncate(length);
            }
        }
    }
    if chance(rng, 3) {
        let kind: [u8; 2] = *choose(rng, &[[0x08, 0x00], [0x88, 0x47]]);
        frame[12..14].copy_from_slice(&kind);
    } else if chance(rng, 5) {
        let number = *choose(rng, &[[0, 0], [0x60, 0], [0, 5]]);
        frame.splice(12..12, [0x81, 0x00].into_iter().chain(number));
    }
}
