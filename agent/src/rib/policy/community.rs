//! Patterns of communities (RFC 1997) and large communities (RFC 8092).

use std::str::FromStr;

/// Communities that have a name: IANA's registry of well-known communities.
const WELL_KNOWN: [(&str, u32); 9] = [
    ("graceful-shutdown", 0xffff_0000),
    ("accept-own", 0xffff_0001),
    ("llgr-stale", 0xffff_0006),
    ("no-llgr", 0xffff_0007),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
];

/// Which communities a rule asks for: `ASN:VALUE`, `*` for a half that may be anything, or a well-known name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommunityPattern([Option<u16>; 2]);

impl CommunityPattern {
    /// Whether a community is one of those.
    pub fn matches(self, community: u32) -> bool {
        let [a, b, c, d] = community.to_be_bytes();
        let halves = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        all_match(self.0, halves)
    }
}

/// Text that is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pattern of communities")]
pub struct NoPattern;

impl FromStr for CommunityPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            let [a, b, c, d] = value.to_be_bytes();
            return Ok(Self([Some(u16::from_be_bytes([a, b])), Some(u16::from_be_bytes([c, d]))]));
        }
        parts(text).map(Self)
    }
}

/// Which large communities a rule asks for: `A:B:C`, `*` for a part that may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LargeCommunityPattern([Option<u32>; 3]);

impl LargeCommunityPattern {
    /// Whether a large community is one of those.
    pub fn matches(self, community: [u32; 3]) -> bool {
        all_match(self.0, community)
    }
}

impl FromStr for LargeCommunityPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        parts(text).map(Self)
    }
}

fn all_match<T: PartialEq, const N: usize>(pattern: [Option<T>; N], value: [T; N]) -> bool {
    pattern.into_iter().zip(value).all(|(wanted, part)| wanted.is_none_or(|wanted| wanted == part))
}

/// Exactly `N` numbers or `*`, with `:` between them.
fn parts<T: FromStr + Copy, const N: usize>(text: &str) -> Result<[Option<T>; N], NoPattern> {
    let mut found = [None; N];
    let mut texts = text.split(':');
    for part in &mut found {
        *part = match texts.next().ok_or(NoPattern)? {
            "*" => None,
            // `FromStr` of numbers takes a plus sign, which is a slip here.
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| NoPattern)?)
            }
            _ => return Err(NoPattern),
        };
    }
    if texts.next().is_some() { Err(NoPattern) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities() {
        let cases = [
            ("64512:100", 0xfc00_0064, Some(true)),
            ("64512:100", 0xfc00_0065, Some(false)),
            ("64512:100", 0xfc01_0064, Some(false)),
            ("64512:*", 0xfc00_ffff, Some(true)),
            ("64512:*", 0xfc01_ffff, Some(false)),
            ("*:100", 0x0001_0064, Some(true)),
            ("*:100", 0x0001_0065, Some(false)),
            ("*:*", 0x1234_5678, Some(true)),
            ("no-export", 0xffff_ff01, Some(true)),
            ("no-export", 0xffff_ff02, Some(false)),
            ("blackhole", 0xffff_029a, Some(true)),
            ("graceful-shutdown", 0xffff_0000, Some(true)),
            ("65535:65281", 0xffff_ff01, Some(true)),
            ("No-Export", 0, None),
            ("65536:1", 0, None),
            ("1", 0, None),
            ("1:2:3", 0, None),
            ("1:", 0, None),
            ("", 0, None),
            ("+1:2", 0, None),
            (" 1:2", 0, None),
            ("1:**", 0, None),
        ];
        for (pattern, community, expected) in cases {
            let matched = pattern.parse().ok().map(|pattern: CommunityPattern| pattern.matches(community));
            assert_eq!(matched, expected, "{pattern:?} and {community:#x}");
        }
    }

    #[test]
    fn large_communities() {
        let cases = [
            ("64512:1:2", [64512, 1, 2], Some(true)),
            ("64512:1:2", [64512, 1, 3], Some(false)),
            ("64512:1:2", [64513, 1, 2], Some(false)),
            ("4200000000:*:2", [4_200_000_000, 77, 2], Some(true)),
            ("4200000000:*:2", [4_200_000_000, 77, 3], Some(false)),
            ("*:*:*", [1, 2, 3], Some(true)),
            ("1:2", [0; 3], None),
            ("1:2:3:4", [0; 3], None),
            ("4294967296:1:1", [0; 3], None),
            ("no-export", [0; 3], None),
        ];
        for (pattern, community, expected) in cases {
            let matched =
                pattern.parse().ok().map(|pattern: LargeCommunityPattern| pattern.matches(community));
            assert_eq!(matched, expected, "{pattern:?} and {community:?}");
        }
    }
}
