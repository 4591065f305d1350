//! What is known of a packet that XDP could forward, and what that says about a condition.
//!
//! It came in on a managed port, goes to an address in `accelerate`, leaves by a managed port, and its
//! mark is 0 until a rule sets it. Its source may be anything that XDP takes: a packet to an accelerated
//! address can come from anywhere, so a source address proves nothing.

use ipnet::IpNet;

use super::model::{Hook, Match, Name, Range, Scene};
use crate::netlink::model::{Family, IfIndex};

/// Sources that XDP leaves to the kernel (docs/packet-path.md, checks 9 and 10).
const NEVER_FORWARDED: [&str; 8] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For every such packet.
    Always,
    /// Not provable.
    Maybe,
    /// For none.
    Never,
}

impl Verdict {
    const fn inverted(self, invert: bool) -> Self {
        match self {
            Self::Always if invert => Self::Never,
            Self::Never if invert => Self::Always,
            other => other,
        }
    }

    /// The verdict about all of some packets, from that about each of them.
    fn over(each: impl Iterator<Item = bool>) -> Self {
        let (mut some, mut others) = (false, false);
        for holds in each {
            some |= holds;
            others |= !holds;
        }
        match (some, others) {
            (true, false) => Self::Always,
            (false, true) => Self::Never,
            _ => Self::Maybe,
        }
    }
}

/// What is known of a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Bits that are known.
    known: u32,
    /// What they are; 0 elsewhere.
    value: u32,
}

impl Mark {
    /// As a packet comes from the driver.
    pub const ZERO: Self = Self { known: u32::MAX, value: 0 };

    /// After something that is not followed.
    pub const UNKNOWN: Self = Self { known: 0, value: 0 };

    /// After `mark = (mark & keep) ^ xor`.
    pub const fn set(self, keep: u32, xor: u32) -> Self {
        let known = self.known | !keep;
        Self { known, value: ((self.value & keep) ^ xor) & known }
    }

    /// What holds for this one and for the other.
    pub const fn join(self, other: Self) -> Self {
        let known = self.known & other.known & !(self.value ^ other.value);
        Self { known, value: self.value & known }
    }

    const fn compare(self, mask: u32, value: u32) -> Verdict {
        if value & !mask != 0 || (self.value ^ value) & mask & self.known != 0 {
            Verdict::Never
        } else if mask & !self.known == 0 {
            Verdict::Always
        } else {
            Verdict::Maybe
        }
    }
}

/// The packets of one family that come in on one port.
#[derive(Debug)]
pub struct Transit<'a> {
    /// Family.
    pub family: Family,
    /// Port that they come in on.
    pub port: (IfIndex, &'a str),
    scene: &'a Scene,
    sources: Vec<Range>,
}

impl<'a> Transit<'a> {
    /// Packets of `family` from `port`.
    pub fn new(scene: &'a Scene, family: Family, port: (IfIndex, &'a str)) -> Self {
        let ranges = NEVER_FORWARDED.iter().filter_map(|text| text.parse().ok()).map(Range::of);
        Self { family, port, scene, sources: ranges.filter(|range| range.family == family).collect() }
    }

    /// Whether a condition holds for them at a place, with the mark that they have there.
    pub fn verdict(&self, condition: &Match, hook: Hook, mark: Mark) -> Verdict {
        match condition {
            Match::Always => Verdict::Always,
            Match::Never => Verdict::Never,
            Match::Maybe => Verdict::Maybe,
            Match::Family(family, invert) => {
                Verdict::over([*family == self.family].into_iter()).inverted(*invert)
            }
            Match::Mark { mask, value, invert } => mark.compare(*mask, *value).inverted(*invert),
            Match::Input(name, invert) => input(name.matches(self.port.1), *invert, hook),
            Match::InputIndex(index, invert) => input(*index == self.port.0, *invert, hook),
            Match::Output(name, invert) => self.output(|_, own| name_matches(name, own), *invert, hook),
            Match::OutputIndex(index, invert) => self.output(|own, _| own == *index, *invert, hook),
            Match::Destination(range, invert) => self.destination(range).inverted(*invert),
            Match::Source(range, invert) => self.source(range).inverted(*invert),
        }
    }

    /// Before the route lookup there is no output interface, and what a rule about it does is not clear.
    fn output(&self, matches: impl Fn(IfIndex, &str) -> bool, invert: bool, hook: Hook) -> Verdict {
        if hook < Hook::Forward {
            return Verdict::Maybe;
        }
        Verdict::over(self.scene.ports.iter().map(|(index, name)| matches(*index, name))).inverted(invert)
    }

    fn destination(&self, range: &Range) -> Verdict {
        if range.family != self.family {
            return Verdict::Maybe;
        }
        destination(self.scene, range)
    }

    fn source(&self, range: &Range) -> Verdict {
        let full = Range::prefix(&[0; 16][..if self.family == Family::Ipv4 { 4 } else { 16 }], 0);
        if range.family != self.family {
            Verdict::Maybe
        } else if full.is_some_and(|full| range.contains(&full)) {
            Verdict::Always
        } else if self.sources.iter().any(|never| never.contains(range)) {
            Verdict::Never
        } else {
            Verdict::Maybe
        }
    }
}

/// Behind the forward hook some kernels no longer tell the input interface: what it is not, it is
/// not there either, but "any other than" may be true then.
fn input(matches: bool, invert: bool, hook: Hook) -> Verdict {
    match (hook <= Hook::Forward, matches, invert) {
        (true, _, _) => Verdict::over([matches != invert].into_iter()),
        (false, false, false) => Verdict::Never,
        (false, ..) => Verdict::Maybe,
    }
}

fn name_matches(name: &Name, own: &str) -> bool {
    name.matches(own)
}

/// Whether accelerated packets go to an address in `range`.
pub fn destination(scene: &Scene, range: &Range) -> Verdict {
    let overlapping: Vec<&IpNet> =
        scene.accelerate.iter().filter(|prefix| Range::of(**prefix).meets(range)).collect();
    // The most specific range decides: inside a service range only a longer `accelerate` counts.
    let left_to_kernel = scene.services.iter().any(|service| {
        Range::of(*service).contains(range)
            && overlapping.iter().all(|prefix| prefix.prefix_len() <= service.prefix_len())
    });
    if overlapping.is_empty() || left_to_kernel {
        return Verdict::Never;
    }
    let of_family =
        scene.accelerate.iter().map(|prefix| Range::of(*prefix)).filter(|own| own.family == range.family);
    let mut of_family = of_family.peekable();
    if of_family.peek().is_some() && of_family.all(|own| range.contains(&own)) {
        Verdict::Always
    } else {
        Verdict::Maybe
    }
}
