//! The frames that set out. Pure.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use underpass_common::bench::{FRAME_LEN, FRAME6_LEN, Generator, TTL};

use crate::rig::Path;

/// A frame to a path's port: UDP from port 4096 to 9, without a checksum.
pub fn bytes(path: &Path, destination: IpAddr) -> Vec<u8> {
    const HEADERS: usize = 14 + 20 + 8;
    const HEADERS6: usize = 14 + 40 + 8;
    let mut frame = Vec::with_capacity(FRAME6_LEN);
    let ethernet = PacketBuilder::ethernet2(path.generator_mac, path.router_mac);
    let (written, checksum) = match (path.source.0, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let packet = ethernet.ipv4(source.octets(), destination.octets(), TTL).udp(4096, 9);
            (packet.write(&mut frame, &[0; FRAME_LEN - HEADERS]), 40..42)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let packet = ethernet.ipv6(source.octets(), destination.octets(), TTL).udp(4096, 9);
            (packet.write(&mut frame, &[0; FRAME6_LEN - HEADERS6]), 60..62)
        }
        (source, _) => unreachable!("a path of the family of {source} has destinations of its family"),
    };
    written.expect("the packet is short and a Vec takes everything");
    frame[checksum].fill(0);
    frame
}

/// What the generator writes into each copy of `frame`, before the number of frames is set.
pub fn generator(frame: &[u8]) -> Generator {
    let word = |index: usize| u16::from_ne_bytes([frame[2 * index], frame[2 * index + 1]]);
    let macs = [0, 1, 2, 3, 4, 5].map(word);
    if frame.len() == FRAME6_LEN {
        // The IPv6 header is words 7 to 26; next header and hop limit are word 10.
        return Generator { macs, ttl_protocol: word(10), ..Generator::default() };
    }
    // The IPv4 header is words 7 to 16; the checksum is word 12, the destination 15 and 16.
    let partial_sum = [7, 8, 9, 10, 11, 13, 14].map(|index| u32::from(word(index))).iter().sum();
    Generator { macs, ttl_protocol: word(11), partial_sum, ..Generator::default() }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use underpass_tests::netns::Netns;

    use super::{bytes, generator};
    use crate::column::Column;
    use crate::rig::Path;

    fn path(source: &str) -> Path {
        Path {
            column: Column::Underpass,
            router: Netns::named("router"),
            device: "underpass".to_owned(),
            ingress: "in".to_owned(),
            egress: "out".to_owned(),
            generator_mac: [2, 0, 0, 0, 0x47, 3],
            router_mac: [2, 0, 0, 0, 0x52, 3],
            egress_mac: [2, 0, 0, 0, 0x52, 0xff],
            source: (address(source), "198.18.0.0/24".parse().expect("a network")),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn frame_has_the_length_and_the_addresses() {
        let frame = bytes(&path("198.18.3.2"), address("10.1.2.3"));
        assert_eq!(frame.len(), 60);
        let parsed = etherparse::SlicedPacket::from_ethernet(&frame).expect("a right frame");
        let Some(etherparse::NetSlice::Ipv4(ip)) = parsed.net else { panic!("not IPv4") };
        assert_eq!(ip.header().destination_addr(), address("10.1.2.3"));
        assert_eq!((ip.header().ttl(), ip.header().total_len()), (64, 46));
    }

    #[test]
    fn ipv6_frame_has_the_length_and_its_words_where_the_generator_writes_them() {
        let frame = bytes(&path("2001:2:0:3::2"), address("fd00:10::1"));
        assert_eq!(frame.len(), 64);
        let parsed = etherparse::SlicedPacket::from_ethernet(&frame).expect("a right frame");
        let Some(etherparse::NetSlice::Ipv6(ip)) = parsed.net else { panic!("not IPv6") };
        assert_eq!(ip.header().destination_addr(), address("fd00:10::1"));
        assert_eq!(generator(&frame).ttl_protocol.to_ne_bytes(), [17, 64]);
        assert_eq!(frame[38..54], [0xfd, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(frame[54..56], 4096_u16.to_be_bytes());
    }

    /// The checksum that the generator makes from its words is the right one for the destination.
    #[test]
    fn partial_sum_leads_to_the_right_checksum() {
        for destination in ["10.0.0.1", "10.255.255.254", "10.128.7.64"] {
            let frame = bytes(&path("198.18.3.2"), address(destination));
            let generator = generator(&frame);
            let word = |index: usize| u32::from(u16::from_ne_bytes([frame[2 * index], frame[2 * index + 1]]));
            let sum = generator.partial_sum + word(15) + word(16);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            assert_eq!(!sum & 0xffff, word(12), "{destination:?}");
        }
    }
}
