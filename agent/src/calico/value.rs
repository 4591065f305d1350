//! Values as Calico writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An AS number: decimal, or two 16-bit halves with a dot between them.
pub(super) fn as_number(text: &str) -> Option<u32> {
    let number = match text.split_once('.') {
        None => text.parse().ok()?,
        Some((high, low)) => {
            let (high, low): (u16, u16) = (digits(high)?.parse().ok()?, digits(low)?.parse().ok()?);
            u32::from(high) << 16 | u32::from(low)
        }
    };
    (number != 0).then_some(number)
}

/// Digits alone: `parse` would also take a sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

/// A duration of Go's: numbers with units behind each other, "1h30m", "120s", "1.5s".
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// `peerIP`: an address, with a port `172.20.0.254:1179` or `[fd00::1]:1179`.
pub(super) fn endpoint(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let (address, port) = if let Ok(address) = text.parse::<IpAddr>() {
        (address, None)
    } else {
        let socket: SocketAddr = text.parse().ok()?;
        if matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return None;
        }
        (socket.ip(), Some(socket.port()))
    };
    (is_unicast(address) && port != Some(0)).then_some((address, port))
}

fn is_unicast(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST))
}

/// An address of a node, with the length of its network or without: then it is alone in it.
pub(super) fn ipv4_interface(text: &str) -> Option<Ipv4Net> {
    let net = text.parse().ok().or_else(|| Ipv4Net::new(text.parse().ok()?, 32).ok())?;
    is_unicast(IpAddr::V4(net.addr())).then_some(net)
}

/// As [`ipv4_interface`], in IPv6.
pub(super) fn ipv6_interface(text: &str) -> Option<Ipv6Net> {
    let address = |text: &str| text.parse::<Ipv6Addr>().ok();
    let net = text.parse().ok().or_else(|| Ipv6Net::new(address(text)?, 128).ok())?;
    is_unicast(IpAddr::V6(net.addr())).then_some(net)
}

/// A prefix without host bits.
pub(super) fn prefix(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    (net.trunc() == net).then_some(net)
}

/// A boolean as text, as some of the older resources have it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A name of a Secret or a key of one: it becomes part of a path.
pub(super) fn secret_name(text: &str) -> Option<String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let usable = !text.is_empty() && text.len() <= 253 && text.chars().all(valid) && !text.starts_with("..");
    (usable && text != ".").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numbers_are_decimal_or_dotted() {
        for (text, expected) in [
            ("64512", Some(64512)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("1.10", Some(65546)),
            ("65535.65535", Some(u32::MAX)),
            ("65536.0", None),
            ("0.0", None),
            ("0", None),
            ("1.+2", None),
            ("1.2.3", None),
            ("-1", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(as_number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [
            ("120s", Some(120.0)),
            ("2m0s", Some(120.0)),
            ("1h30m", Some(5400.0)),
            ("1.5s", Some(1.5)),
            ("250ms", Some(0.25)),
            ("0", Some(0.0)),
            ("120", None),
            ("s", None),
            ("1d", None),
            ("-5s", None),
            ("1s ", None),
            ("99999999999999999999h", None),
            ("1..5s", None),
            ("", None),
        ] {
            assert_eq!(duration(text).map(|found| found.as_secs_f64()), seconds, "{text:?}");
        }
    }

    #[test]
    fn endpoints_are_addresses_with_or_without_a_port() {
        for (text, expected) in [
            ("172.20.0.254", Some(("172.20.0.254", None))),
            ("172.20.0.254:1179", Some(("172.20.0.254", Some(1179)))),
            ("fd00::1", Some(("fd00::1", None))),
            ("[fd00::1]:1179", Some(("fd00::1", Some(1179)))),
            ("[fd00::1]", None),
            ("172.20.0.254:0", None),
            ("172.20.0.254:70000", None),
            ("[fe80::1%2]:179", None),
            ("0.0.0.0", None),
            ("224.0.0.5", None),
            ("ff02::1", None),
            ("leaf01", None),
            ("", None),
        ] {
            let expected = expected.map(|(address, port)| (address.parse().expect("literal"), port));
            assert_eq!(endpoint(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_of_secrets_cannot_leave_a_folder() {
        for (text, valid) in [
            ("bgp-secrets", true),
            ("rr.password_1", true),
            (".hidden", true),
            ("", false),
            (".", false),
            ("..", false),
            ("../etc", false),
            ("a/b", false),
            ("a b", false),
            ("a\"b", false),
        ] {
            assert_eq!(secret_name(text).is_some(), valid, "{text:?}");
        }
    }
}
