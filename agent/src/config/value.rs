//! The values that a key can have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::model::{Exceeded, LogFormat, NextHopPeer, RuleAction, Services};
use crate::datapath::Engine;
use crate::guard::bypass::Bypass;
use crate::netlink::model::Family;
use crate::rib::policy::as_path::AsPathMask;
use crate::rib::policy::community::{CommunityPattern, LargeCommunityPattern};

/// The port of BGP (RFC 4271 §8).
const BGP_PORT: u16 = 179;

/// A type that one TOML value is read as.
pub(super) trait Value: Sized {
    /// What belongs here, with an example: `a duration such as "60s"`.
    const EXPECTED: &'static str;

    /// The value, or `None` when it is something else.
    fn read(value: &DeValue<'_>) -> Option<Self>;

    /// What to say instead of [`Self::EXPECTED`] about a value that is nearly right.
    fn hint(_value: &DeValue<'_>) -> Option<String> {
        None
    }
}

/// Names a value's TOML type for people.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.as_ref()),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn string<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    match value {
        DeValue::String(text) => Some(text.as_ref()),
        _ => None,
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a string";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value).map(str::to_owned)
    }
}

/// Names of ports.
pub(super) struct Pattern(pub String);

impl Value for Pattern {
    const EXPECTED: &'static str = "a port's name or a pattern, such as \"eth0\" or \"eth*\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        String::read(value).map(Self)
    }
}

impl Value for Bypass {
    const EXPECTED: &'static str = "rules to bypass: \"nft:FAMILY TABLE/CHAIN\", \"iptables:TABLE/CHAIN\" (also \
         \"ip6tables:\"; without a chain, or \"iptables:CHAIN\"), \"conntrack\", \"xfrm\", \"tc:PORT\", or \"all\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok()
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "an absolute path such as \"/run/underpass\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value).map(Self::from).filter(|path| path.is_absolute())
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }
}

macro_rules! integer {
    ($($type:ty, $expected:literal;)+) => {
        $(impl Value for $type {
            const EXPECTED: &'static str = $expected;
            fn read(value: &DeValue<'_>) -> Option<Self> {
                let integer = value.as_integer()?;
                Self::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
        })+
    };
}

integer! {
    u8, "a number from 0 to 255";
    u16, "a number from 0 to 65535";
    u32, "a number from 0 to 4294967295";
    usize, "a number from 0 on";
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration such as \"500ms\", \"60s\", \"5m\" or \"1h\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        parse_duration(string(value)?)
    }
    fn hint(value: &DeValue<'_>) -> Option<String> {
        let number = value.as_integer()?;
        Some(format!("the number {number} has no unit; write \"{number}s\" for seconds"))
    }
}

/// A whole number with the unit ms, s, m or h.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// The shortest text that [`parse_duration`] reads as this duration (whole milliseconds).
pub(super) fn format_duration(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    match (seconds, milliseconds) {
        (0, 0) => "0s".to_owned(),
        (_, 1..) => format!("{}ms", duration.as_millis()),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

impl Value for IpAddr {
    const EXPECTED: &'static str = "an address such as \"172.20.0.11\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok()
    }
}

impl Value for Ipv4Addr {
    const EXPECTED: &'static str = "an IPv4 address such as \"172.20.0.11\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok()
    }
}

impl Value for IpNet {
    const EXPECTED: &'static str = "a prefix such as \"10.233.64.0/18\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok().filter(|net: &Self| *net == net.trunc())
    }
    fn hint(value: &DeValue<'_>) -> Option<String> {
        let text = string(value)?;
        if let Ok(net) = text.parse::<Self>() {
            return Some(format!("{text:?} has host bits set; write \"{}\"", net.trunc()));
        }
        let host = Self::from(text.parse::<IpAddr>().ok()?);
        Some(format!("{text:?} has no length; write \"{host}\" for the single address"))
    }
}

impl Value for CommunityPattern {
    const EXPECTED: &'static str =
        "a community such as \"64512:100\", \"64512:*\" or \"no-export\" (see docs/policy.md)";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok()
    }
}

impl Value for LargeCommunityPattern {
    const EXPECTED: &'static str = "a large community such as \"64512:1:2\" or \"64512:1:*\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok()
    }
}

impl Value for AsPathMask {
    const EXPECTED: &'static str = "a mask of AS paths such as \"64512 ? 64600..64700 *\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        string(value)?.parse().ok()
    }
    fn hint(value: &DeValue<'_>) -> Option<String> {
        string(value)?.parse::<Self>().err().map(|error| error.to_string())
    }
}

/// Where to accept connections: a socket address, or an address with the port left out (179).
pub(super) struct Listen(pub SocketAddr);

impl Value for Listen {
    const EXPECTED: &'static str =
        "an address such as \"172.20.0.20\" or \"172.20.0.20:179\" (\"[::1]:179\")";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        let text = string(value)?;
        let with_port = text.parse().ok();
        with_port.or_else(|| Some(SocketAddr::new(text.parse().ok()?, BGP_PORT))).map(Self)
    }
}

macro_rules! names {
    ($($type:ty, $expected:literal, { $($name:literal => $value:expr),+ };)+) => {
        $(impl Value for $type {
            const EXPECTED: &'static str = $expected;
            fn read(value: &DeValue<'_>) -> Option<Self> {
                match string(value)? {
                    $($name => Some($value),)+
                    _ => None,
                }
            }
        })+
    };
}

names! {
    LogFormat, "\"human\" or \"json\"", { "human" => Self::Human, "json" => Self::Json };
    Engine, "\"flat\" or \"lpm-trie\"", { "flat" => Self::Flat, "lpm-trie" => Self::LpmTrie };
    Services, "\"pass\" or \"forward\"", { "pass" => Self::Pass, "forward" => Self::Forward };
    Exceeded, "\"discard\", \"restart\" or \"shutdown\"", {
        "discard" => Self::Discard, "restart" => Self::Restart, "shutdown" => Self::Shutdown
    };
    NextHopPeer, "\"accept\" or \"refuse\"", { "accept" => Self::Accept, "refuse" => Self::Refuse };
    RuleAction, "\"accept\" or \"reject\"", { "accept" => Self::Accept, "reject" => Self::Reject };
    Family, "\"ipv4-unicast\" or \"ipv6-unicast\"", { "ipv4-unicast" => Self::Ipv4, "ipv6-unicast" => Self::Ipv6 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("0s", Some(Duration::ZERO)),
            ("60s", Some(Duration::from_mins(1))),
            ("5m", Some(Duration::from_mins(5))),
            ("2h", Some(Duration::from_hours(2))),
            ("60", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(1500), "1500ms"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_mins(1), "1m"),
            (Duration::from_hours(2), "2h"),
        ] {
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Some(duration));
        }
    }
}
