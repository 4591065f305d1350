//! Builds frames for the tests and takes them apart again.
//!
//! Headers come from `etherparse`, an implementation of its own: what is checked here is not checked
//! against itself.

use std::net::Ipv4Addr;

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header,
    SingleVlanHeader, SlicedPacket, TcpHeader, UdpHeader, VlanId,
};

/// What follows the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP with the checksum computed.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// UDP with the checksum field left at zero ("none").
    UdpWithoutChecksum {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// An ICMP echo request.
    Echo {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// Nothing: the payload follows the IP header. Holds the protocol number.
    Raw(u8),
}

/// An IPv4 frame in the making: every method replaces one property of the default, a UDP packet of 18
/// payload bytes with TTL 64.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    vlan: Option<u16>,
    ip: Ipv4Header,
    transport: Transport,
    payload: Vec<u8>,
    padding: usize,
    checksum_error: u16,
}

impl FrameBuilder {
    /// A packet between two addresses in a frame between two ports.
    pub fn new(
        source_mac: [u8; 6],
        destination_mac: [u8; 6],
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> Self {
        let ip = Ipv4Header {
            source: source.octets(),
            destination: destination.octets(),
            time_to_live: 64,
            identification: 0x1234,
            dont_fragment: true,
            ..Ipv4Header::default()
        };
        Self {
            source_mac,
            destination_mac,
            vlan: None,
            ip,
            transport: Transport::Udp { source: 4000, destination: 5000 },
            payload: (0..18).collect(),
            padding: 0,
            checksum_error: 0,
        }
    }

    /// Source address.
    #[must_use]
    pub fn source(mut self, address: Ipv4Addr) -> Self {
        self.ip.source = address.octets();
        self
    }

    /// Destination address.
    #[must_use]
    pub fn destination(mut self, address: Ipv4Addr) -> Self {
        self.ip.destination = address.octets();
        self
    }

    /// Destination MAC.
    #[must_use]
    pub const fn destination_mac(mut self, mac: [u8; 6]) -> Self {
        self.destination_mac = mac;
        self
    }

    /// Tags the frame with an 802.1Q header.
    #[must_use]
    pub const fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// Time to live.
    #[must_use]
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ip.time_to_live = ttl;
        self
    }

    /// Identification: with the rest fixed, it steers the header checksum.
    #[must_use]
    pub const fn identification(mut self, id: u16) -> Self {
        self.ip.identification = id;
        self
    }

    /// DSCP (6 bits) and ECN (2 bits).
    #[must_use]
    pub fn tos(mut self, dscp: u8, ecn: u8) -> Self {
        self.ip.dscp = IpDscp::try_new(dscp).expect("6 bits");
        self.ip.ecn = IpEcn::try_new(ecn).expect("2 bits");
        self
    }

    /// "Don't fragment".
    #[must_use]
    pub const fn dont_fragment(mut self, yes: bool) -> Self {
        self.ip.dont_fragment = yes;
        self
    }

    /// Makes the packet a fragment. `offset` counts in units of 8 bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.ip.dont_fragment = false;
        self.ip.fragment_offset = IpFragOffset::try_new(offset).expect("13 bits");
        self.ip.more_fragments = more;
        self
    }

    /// IP options; the length is a multiple of four.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.ip.options = options.try_into().expect("at most 40 bytes, a multiple of 4");
        self
    }

    /// What follows the IP header.
    #[must_use]
    pub const fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Payload of the transport.
    #[must_use]
    pub fn payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = payload;
        self
    }

    /// Chooses the payload so that the IP packet is `length` bytes long.
    #[must_use]
    pub fn packet_length(mut self, length: usize) -> Self {
        let headers = self.ip.header_len() + self.transport_header().len();
        let payload = length.checked_sub(headers).expect("longer than the headers");
        self.payload = (0..payload).map(|i| u8::try_from(i % 251).expect("below 256")).collect();
        self
    }

    /// Bytes behind the IP packet, as Ethernet pads short frames.
    #[must_use]
    pub const fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// Flips these bits of the right IP header checksum.
    #[must_use]
    pub const fn checksum_error(mut self, bits: u16) -> Self {
        self.checksum_error = bits;
        self
    }

    /// The frame, from the Ethernet header to the padding.
    pub fn build(&self) -> Vec<u8> {
        let segment = [self.transport_header(), self.payload.clone()].concat();
        let mut ip = self.ip.clone();
        ip.protocol = IpNumber(match self.transport {
            Transport::Udp { .. } | Transport::UdpWithoutChecksum { .. } => 17,
            Transport::Tcp { .. } => 6,
            Transport::Echo { .. } => 1,
            Transport::Raw(number) => number,
        });
        ip.set_payload_len(segment.len()).expect("fits 16 bits");
        ip.header_checksum = ip.calc_header_checksum() ^ self.checksum_error;

        let ethernet = |ether_type| Ethernet2Header {
            source: self.source_mac,
            destination: self.destination_mac,
            ether_type,
        };
        let mut frame = Vec::new();
        if let Some(id) = self.vlan {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(id).expect("12 bits"),
                ether_type: EtherType::IPV4,
                ..SingleVlanHeader::default()
            };
            frame.extend(ethernet(EtherType::VLAN_TAGGED_FRAME).to_bytes());
            frame.extend(tag.to_bytes());
        } else {
            frame.extend(ethernet(EtherType::IPV4).to_bytes());
        }
        frame.extend(ip.to_bytes());
        frame.extend(segment);
        // Not zero, so that padding that was left on would show.
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        frame
    }

    /// The transport header with its checksum over the payload.
    fn transport_header(&self) -> Vec<u8> {
        let (from, to, payload) = (self.ip.source, self.ip.destination, &self.payload[..]);
        match self.transport {
            Transport::Udp { source, destination } => {
                let length = u16::try_from(8 + payload.len()).expect("fits 16 bits");
                let mut udp =
                    UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 };
                udp.checksum = udp.calc_checksum_ipv4_raw(from, to, payload).expect("fits 16 bits");
                udp.to_bytes().to_vec()
            }
            Transport::UdpWithoutChecksum { source, destination } => {
                let length = u16::try_from(8 + payload.len()).expect("fits 16 bits");
                UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 }
                    .to_bytes()
                    .to_vec()
            }
            Transport::Tcp { source, destination } => {
                let mut tcp = TcpHeader::new(source, destination, 0x0102_0304, 0x7210);
                tcp.ack = true;
                tcp.checksum = tcp.calc_checksum_ipv4_raw(from, to, payload).expect("fits 16 bits");
                tcp.to_bytes().to_vec()
            }
            Transport::Echo { id, sequence } => {
                let echo = etherparse::IcmpEchoHeader { id, seq: sequence };
                Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload).to_bytes().to_vec()
            }
            Transport::Raw(_) => Vec::new(),
        }
    }
}

/// What the kernel makes of a frame that it forwards, computed with no code of the data plane: padding off,
/// MACs, TTL less one, header checksum recomputed.
///
/// # Panics
/// When `frame` is not an IPv4 frame.
pub fn forwarded(frame: &[u8], source_mac: [u8; 6], destination_mac: [u8; 6]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("no IPv4 packet: {sliced:?}") };
    let mut header = ip.header().to_header();
    header.time_to_live -= 1;
    header.header_checksum = header.calc_header_checksum();
    let end = 14 + usize::from(header.total_len);
    let mut out = [&destination_mac[..], &source_mac[..], &frame[12..14]].concat();
    out.extend(header.to_bytes());
    out.extend(&frame[14 + header.header_len()..end]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> FrameBuilder {
        FrameBuilder::new([2; 6], [4; 6], Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7))
    }

    #[test]
    fn default_frame_is_the_smallest_that_needs_no_padding() {
        let frame = builder().build();
        assert_eq!(frame.len(), 60);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        assert!(matches!(packet.transport, Some(etherparse::TransportSlice::Udp(_))));
    }

    #[test]
    fn properties_show_in_the_bytes() {
        let frame = builder().ttl(7).padding(5).packet_length(100).build();
        assert_eq!(frame.len(), 14 + 100 + 5);
        assert_eq!(frame[22], 7);
        assert_eq!(&frame[frame.len() - 5..], [0xee; 5]);
        assert_eq!(builder().vlan(5).build()[12..16], [0x81, 0, 0, 5]);
        assert_eq!(builder().options(&[1; 4]).build()[14], 0x46);
        assert_eq!(builder().fragment(2, true).build()[20..22], [0x20, 2]);
    }
}
