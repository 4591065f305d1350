//! What became of a frame, in a form that two routers can be compared by.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TCP: u8 = 6;

/// A frame that left a router, with everything zeroed that the kernel chooses at random.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Emission {
    /// Number of the port.
    pub port: usize,
    /// Bytes.
    pub frame: Vec<u8>,
}

/// All that left a router because of one frame, sorted.
pub type Outcome = Vec<Emission>;

/// Which frame an emission belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The frame with this tag.
    Frame(u32),
    /// The router's own business: ARP, neighbour discovery, multicast listeners.
    Noise,
    /// Cannot be told.
    Unknown,
}

/// Tags of frames are in the identification of the IPv4 header, in the flow label of the IPv6 header, in the
/// sequence number of an ICMP echo and in the upper half of TCP's sequence and acknowledgement numbers.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Addresses of the router: packets from them may be its own.
    pub own: Vec<IpNet>,
}

impl Reader {
    /// Takes a frame that left by `port`.
    pub fn read(&self, port: usize, frame: &[u8]) -> (Cause, Emission) {
        let mut frame = frame.to_vec();
        let cause = match frame.get(12..14) {
            Some([0x08, 0x06]) => Cause::Noise,
            Some([0x08, 0x00]) => self.ipv4(&mut frame),
            Some([0x86, 0xdd]) => self.ipv6(&mut frame),
            _ => Cause::Unknown,
        };
        (cause, Emission { port, frame })
    }

    fn ipv4(&self, frame: &mut [u8]) -> Cause {
        let Some((_, packet)) = frame.split_at_mut_checked(ETHERNET) else { return Cause::Unknown };
        if packet.len() < 20 {
            return Cause::Unknown;
        }
        let source = IpAddr::from([packet[12], packet[13], packet[14], packet[15]]);
        let header = usize::from(packet[0] & 15) * 4;
        let own = if self.own.iter().any(|own| own.contains(&source)) {
            answered(packet[9], packet.get(header..))
        } else {
            None
        };
        if let Some(tag) = own {
            // Identification, and with it the checksum, is the kernel's choice.
            packet[4..6].fill(0);
            packet[10..12].fill(0);
            return Cause::Frame(tag);
        }
        Cause::Frame(u32::from(u16::from_be_bytes([packet[4], packet[5]])))
    }
}

impl Reader {
    fn ipv6(&self, frame: &mut [u8]) -> Cause {
        let Some((_, packet)) = frame.split_at_mut_checked(ETHERNET) else { return Cause::Unknown };
        let Some((header, segment)) = packet.split_first_chunk_mut::<IPV6>() else { return Cause::Unknown };
        let Some(source) = header[8..24].first_chunk::<16>() else { return Cause::Unknown };
        let source = Ipv6Addr::from(*source);
        let local = source.is_unspecified() || source.is_unicast_link_local();
        if local || self.own.iter().any(|own| own.contains(&IpAddr::V6(source))) {
            let own = match (header[6], segment.first()) {
                (ICMPV6, Some(130..=136 | 143)) => return Cause::Noise,
                // Reports to multicast routers have a hop-by-hop option before them.
                (0, _) if local => return Cause::Noise,
                (protocol, _) => answered6(protocol, segment),
            };
            if let Some(tag) = own {
                header[1] &= 0xf0;
                header[2..4].fill(0);
                return Cause::Frame(tag);
            }
        }
        Cause::Frame(label(header))
    }
}

/// The lower 16 bits of a flow label.
fn label(header: &[u8]) -> u32 {
    header.get(2..4).map_or(0, |bytes| u32::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

/// As [`answered`], for IPv6.
fn answered6(protocol: u8, segment: &[u8]) -> Option<u32> {
    match (protocol, segment.first()?) {
        (ICMPV6, 129) => Some(label(segment.get(4..)?)),
        (ICMPV6, 1..=4) => Some(label(segment.get(8..)?)),
        // A redirect: target, destination, then options, of which one has the packet.
        (ICMPV6, 137) => {
            let mut options = segment.get(40..)?;
            while let [kind, length @ 1..=255, ..] = options {
                if *kind == 4 {
                    return Some(label(options.get(8..)?));
                }
                options = options.get(usize::from(*length) * 8..)?;
            }
            None
        }
        (TCP, _) => answered(TCP, Some(segment)),
        _ => None,
    }
}

/// The tag of the frame that a packet of the router's own answers.
fn answered(protocol: u8, segment: Option<&[u8]>) -> Option<u32> {
    let word = |at: usize| Some(u32::from(u16::from_be_bytes([*segment?.get(at)?, *segment?.get(at + 1)?])));
    match (protocol, segment?.first()?) {
        // Echo reply.
        (ICMP, 0) => word(6),
        // Errors quote the packet.
        (ICMP, 3 | 5 | 11 | 12) => word(8 + 4),
        // A reset: its sequence number, or without one what it acknowledges.
        (TCP, _) if segment?.get(13)? & 4 != 0 => match word(4)? {
            0 => word(8),
            tag => Some(tag),
        },
        _ => None,
    }
}

/// A frame in words.
pub fn describe(frame: &[u8]) -> String {
    let mut text = String::new();
    let Some((ethernet, packet)) = frame.split_at_checked(ETHERNET) else {
        return format!("{} bytes", frame.len());
    };
    let _ = write!(
        text,
        "to {} from {} type {:02x}{:02x}, {} bytes",
        mac(&ethernet[..6]),
        mac(&ethernet[6..12]),
        ethernet[12],
        ethernet[13],
        frame.len()
    );
    if let ([0x86, 0xdd], Some(header)) = (&ethernet[12..14], packet.first_chunk::<IPV6>()) {
        text.push_str(&describe6(header, &packet[IPV6..]));
        return text;
    }
    let Some(header) = packet.first_chunk::<20>() else { return text };
    let at = |index: usize| u16::from_be_bytes([header[index], header[index + 1]]);
    let _ = write!(
        text,
        ": version {} ihl {} tos {:02x} length {} id {} flags {:x} offset {} ttl {} protocol {} {} -> {}",
        header[0] >> 4,
        header[0] & 15,
        header[1],
        at(2),
        at(4),
        header[6] >> 5,
        at(6) & 0x1fff,
        header[8],
        header[9],
        Ipv4Addr::new(header[12], header[13], header[14], header[15]),
        Ipv4Addr::new(header[16], header[17], header[18], header[19]),
    );
    if let (ICMP, Some([kind, code, ..])) = (header[9], packet.get(usize::from(header[0] & 15) * 4..)) {
        let _ = write!(text, " icmp {kind}/{code}");
    }
    text
}

fn describe6(header: &[u8; IPV6], rest: &[u8]) -> String {
    let address = |at: usize| {
        let bytes = header[at..].first_chunk::<16>().copied().unwrap_or_default();
        Ipv6Addr::from(bytes)
    };
    let kind = if header[6] == ICMPV6 { rest.first() } else { None };
    format!(
        ": version {} label {} payload {} (frame has {}) next header {} hop limit {} {} -> {}{}",
        header[0] >> 4,
        label(header),
        u16::from_be_bytes([header[4], header[5]]),
        rest.len(),
        header[6],
        header[7],
        address(8),
        address(24),
        kind.map_or(String::new(), |kind| format!(" icmp {kind}")),
    )
}

/// An outcome in words.
pub fn describe_outcome(outcome: &Outcome) -> String {
    if outcome.is_empty() {
        return "nothing".to_owned();
    }
    let lines = outcome
        .iter()
        .map(|left| format!("by port {} {}\n      {}", left.port, describe(&left.frame), hex(&left.frame)));
    lines.collect::<Vec<_>>().join("\n    ")
}

/// A MAC address as `ip` takes it.
pub fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Bytes in hexadecimal, without spaces.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
