//! The bytes of random IPv4 frames.

use std::net::Ipv4Addr;

use fastrand::Rng;
use underpass_tests::twin::port_mac;

use crate::world::{PORTS, chance, choose};

/// An Ethernet header, mostly one to the port.
pub fn ethernet(rng: &mut Rng, port: usize, sound: bool) -> Vec<u8> {
    let own = port_mac(port);
    let destination = match rng.u32(0..100) {
        _ if sound => own,
        0..=85 => own,
        86..=93 => [0xff; 6],
        94 => [1, 0, 0x5e, 0, 0, 1],
        95 => port_mac((port + 1) % PORTS),
        96 => [own[0], own[1], own[2], own[3], own[4], own[5] ^ 0x80],
        97 => [own[0] | 1, own[1], own[2], own[3], own[4], own[5]],
        98 => [0; 6],
        _ => [6, 0, 0, 0, 0, 2],
    };
    let source = [6, 0, 0, 0, u8::try_from(port).expect("few"), rng.u8(2..6)];
    let ethertype: [u8; 2] = if !sound && chance(rng, 3) {
        *choose(rng, &[[0x86, 0xdd], [0x08, 0x05], [0x88, 0xcc], [0x00, 0x2e], [0x88, 0x47]])
    } else {
        [0x08, 0x00]
    };
    [&destination[..], &source[..], &ethertype[..]].concat()
}

/// An IPv4 packet.
pub struct Packet {
    /// To be recognised by.
    pub tag: u16,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// To or from the router itself.
    pub local: bool,
    /// Nothing that the kernel has to look at.
    pub sound: bool,
}

impl Packet {
    /// Writes the packet, of `length` bytes if that is enough for its headers.
    pub fn append(&self, frame: &mut Vec<u8>, rng: &mut Rng, length: usize) {
        let options = if !self.sound && chance(rng, 8) { options(rng) } else { Vec::new() };
        let protocol = match rng.u32(0..100) {
            0..=49 => 17,
            50..=79 => 6,
            80..=89 => 1,
            _ => *choose(rng, &[0, 2, 4, 33, 47, 50, 89, 132, 136, 255]),
        };
        let header = 20 + options.len();
        // Answers that the kernel cuts have identifications of its own choice.
        let length = if self.local { length.min(1000) } else { length }.max(header);
        let start = frame.len();
        let dont_fragment = chance(rng, 50);
        let fragment: u16 = match rng.u32(0..100) {
            0..=87 => 0,
            88..=91 => 0x2000,
            92..=95 => 0x2000 | rng.u16(1..0x1fff),
            96..=98 => rng.u16(1..0x2000),
            _ => 0x8000,
        };
        let flags = fragment | if dont_fragment && matches!(fragment, 0 | 0x8000) { 0x4000 } else { 0 };
        let ttl = if self.sound {
            rng.u8(2..)
        } else if chance(rng, 50) {
            64
        } else {
            *choose(rng, &[0, 1, 2, 3, 128, 254, 255])
        };
        let tos = if chance(rng, 70) { 0 } else { rng.u8(..) };
        let total = u16::try_from(length).expect("short");
        frame.extend([0x40 | u8::try_from(header / 4).expect("short"), tos]);
        frame.extend(total.to_be_bytes());
        frame.extend(self.tag.to_be_bytes());
        frame.extend(flags.to_be_bytes());
        frame.extend([ttl, protocol, 0, 0]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(&options);
        let payload = length - header;
        let first = frame.len();
        frame.extend((0..payload).map(|_| rng.u8(..)));
        self.transport(&mut frame[first..], protocol, rng);
        set_checksum(&mut frame[start..]);
    }

    /// Writes the header of a transport, as far as there is room.
    fn transport(&self, segment: &mut [u8], protocol: u8, rng: &mut Rng) {
        let length = u16::try_from(segment.len()).expect("short");
        let [tag_high, tag_low] = self.tag.to_be_bytes();
        match protocol {
            17 => {
                // Half of them have no checksum.
                put(segment, 4, &length.to_be_bytes());
                if self.local || chance(rng, 50) {
                    put(segment, 6, &[0, 0]);
                }
            }
            6 => {
                put(segment, 4, &[tag_high, tag_low, 0, 0, tag_high, tag_low, 0, 0, 0x50]);
                put(segment, 13, &[*choose(rng, &[0x02, 0x10, 0x11, 0x18, 0x04, 0x12])]);
                if self.local {
                    put(segment, 16, &[0, 0]);
                    let sum = self.pseudo_checksum(segment, 6);
                    put(segment, 16, &sum.to_be_bytes());
                }
            }
            1 => {
                // Nothing but echo requests to the router: others it would act upon.
                let kind = if self.local { 8 } else { *choose(rng, &[8, 0, 3, 11, 5]) };
                put(segment, 0, &[kind, 0, 0, 0]);
                put(segment, 6, &[tag_high, tag_low]);
                let sum = !fold(segment);
                put(segment, 2, &sum.to_be_bytes());
            }
            _ => {}
        }
    }

    fn pseudo_checksum(&self, segment: &[u8], protocol: u8) -> u16 {
        let mut bytes = [self.source.octets(), self.destination.octets()].concat();
        bytes.extend([0, protocol]);
        bytes.extend(u16::try_from(segment.len()).expect("short").to_be_bytes());
        bytes.extend(segment);
        !fold(&bytes)
    }
}

/// Writes as much as fits.
pub fn put(segment: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = segment.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// RFC 1071, not complemented.
pub fn fold(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// Makes an IPv4 header's checksum right, as far as its length says where it ends.
fn set_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let end = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    let sum = !fold(&packet[..end]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// IP options, right ones and wrong ones; none with a time stamp.
fn options(rng: &mut Rng) -> Vec<u8> {
    let any = rng.u8(..);
    let all: [&[u8]; 9] = [
        &[1, 1, 1, 1],
        &[0, 0, 0, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[7, 3, 4, 0],
        &[0x94, 4, 0, 0],
        &[0x83, 7, 4, 10, 10, 0, 2, 0],
        &[0x89, 7, 4, 10, 11, 0, 2, 0],
        &[7, 40, 4, 0],
        &[0x82, 4, 0, any],
    ];
    choose(rng, &all).to_vec()
}

/// Padding behind the packet, as Ethernet pads short frames.
pub fn pad(frame: &mut Vec<u8>, rng: &mut Rng) {
    if chance(rng, 50) && frame.len() < 60 {
        frame.resize(60, 0);
    } else if chance(rng, 8) {
        let padding = rng.usize(1..48);
        frame.extend((0..padding).map(|_| rng.u8(..)));
    }
}

/// Breaks some frames.
pub fn corrupt(frame: &mut Vec<u8>, rng: &mut Rng) {
    if !chance(rng, 15) {
        return;
    }
    let mut right = true;
    match rng.u32(0..9) {
        0 => frame[14] = rng.u8(..),
        1 => frame[14] = 0x45 ^ (1 << rng.u8(0..8)),
        2 => frame[16..18].copy_from_slice(&rng.u16(..).to_be_bytes()),
        3 => {
            let total = u16::from_be_bytes([frame[16], frame[17]]).wrapping_add(1);
            frame[16..18].copy_from_slice(&total.to_be_bytes());
        }
        4 => frame[16..18].copy_from_slice(&rng.u16(0..21).to_be_bytes()),
        5 | 6 => {
            frame[24 + rng.usize(0..2)] ^= 1 << rng.u8(0..8);
            right = false;
        }
        7 => {
            let checksum = if frame[24..26] == [0, 0] { [0xff, 0xff] } else { [0, 0] };
            frame[24..26].copy_from_slice(&checksum);
            right = false;
        }
        _ => {
            // `skb_vlan_untag` drops, unseen, what has less than two bytes behind a tag.
            let length = rng.usize(16..frame.len());
            frame.truncate(length);
            return;
        }
    }
    let end = 14 + (usize::from(frame[14] & 15) * 4).max(20);
    // A time stamp option would hold the time.
    for option in frame.iter_mut().take(end).skip(34).filter(|byte| **byte == 0x44) {
        *option = 1;
    }
    if right {
        set_checksum(&mut frame[14..]);
    }
}

/// Puts an 802.1Q or 802.1ad tag into some frames; number 0 stands for "no VLAN, but a priority".
pub fn tag_frame(frame: &mut Vec<u8>, rng: &mut Rng) {
    if chance(rng, 5) {
        let protocol = *choose(rng, &[[0x81, 0x00], [0x88, 0xa8]]);
        let number = *choose(rng, &[[0, 0], [0x60, 0], [0, 5], [0x0f, 0xff]]);
        frame.splice(12..12, protocol.into_iter().chain(number));
    }
}
