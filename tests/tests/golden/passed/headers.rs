//! What the headers alone decide.

use underpass_common::reason::Reason;

use super::{passed, unchanged};
use crate::fixture::{Answer, Case, frame};

/// Refused before any lookup.
fn early(name: &'static str, frame: Vec<u8>, reason: Reason) -> Case {
    passed(name, frame, unchanged, reason, Answer { port_number: 1, ..Answer::default() })
}

/// Frames that are refused before any lookup.
pub fn cases() -> Vec<Case> {
    let arp = || {
        let mut arp = frame().destination_mac([0xff; 6]).build();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        arp
    };
    // The byte of the IP header at `at` set, and the checksum made right again.
    let with_byte = |at: usize, value: u8| {
        let mut bytes = frame().build();
        bytes[14 + at] = value;
        let mut header: [u8; 20] = bytes[14..34].try_into().expect("20 bytes");
        header[10..12].fill(0);
        let sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let check = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
        bytes[24..26].copy_from_slice(&check.to_be_bytes());
        bytes
    };
    let typed = |ethertype: u16| {
        let mut bytes = frame().build();
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes
    };
    let from = |address: [u8; 4]| frame().source(address.into()).build();
    let to = |address: [u8; 4]| frame().destination(address.into()).build();
    vec![
        early("Ethernet header only", frame().build()[..14].to_vec(), Reason::Truncated),
        early("IP header cut", frame().build()[..33].to_vec(), Reason::Truncated),
        early("another host's MAC", frame().destination_mac([2; 6]).build(), Reason::NotForUs),
        early("broadcast frame", frame().destination_mac([0xff; 6]).build(), Reason::NotForUs),
        early("multicast frame", frame().destination_mac([1, 0, 0x5e, 0, 0, 1]).build(), Reason::NotForUs),
        early("802.1Q", frame().vlan(5).build(), Reason::Vlan),
        early("802.1ad", typed(0x88a8), Reason::Vlan),
        early("ARP", arp(), Reason::NotIp),
        early("LLDP", typed(0x88cc), Reason::NotIp),
        early("IPv6 type before an IPv4 packet", typed(0x86dd), Reason::BadHeader),
        early("version 6 behind the IPv4 type", with_byte(0, 0x65), Reason::BadHeader),
        early("header length 4", with_byte(0, 0x44), Reason::BadHeader),
        early("total length below the header", with_byte(3, 19), Reason::BadHeader),
        early("total length beyond the frame", with_byte(3, 47), Reason::BadHeader),
        early("cut inside the payload", frame().build()[..59].to_vec(), Reason::BadHeader),
        early("options", frame().options(&[7, 7, 4, 0, 0, 0, 0, 0]).build(), Reason::IpOptions),
        early("router alert", frame().options(&[0x94, 4, 0, 0]).build(), Reason::IpOptions),
        early("checksum off by one bit", frame().checksum_error(1).build(), Reason::BadChecksum),
        early("checksum complemented", frame().checksum_error(0xffff).build(), Reason::BadChecksum),
        early("to loopback", to([127, 0, 0, 1]), Reason::NotUnicast),
        early("to multicast", to([224, 0, 0, 5]), Reason::NotUnicast),
        early("to limited broadcast", to([255, 255, 255, 255]), Reason::NotUnicast),
        early("to 0/8", to([0, 1, 2, 3]), Reason::NotUnicast),
        early("to link-local", to([169, 254, 169, 254]), Reason::NotUnicast),
        early("from 0.0.0.0", from([0, 0, 0, 0]), Reason::MartianSource),
        early("from loopback", from([127, 1, 1, 1]), Reason::MartianSource),
        early("from multicast", from([224, 1, 1, 1]), Reason::MartianSource),
        early("from class E", from([250, 1, 1, 1]), Reason::MartianSource),
        early("from broadcast", from([255, 255, 255, 255]), Reason::MartianSource),
        early("TTL 1", frame().ttl(1).build(), Reason::TtlExpired),
        early("TTL 0", frame().ttl(0).build(), Reason::TtlExpired),
    ]
}
