//! What `[bgp]` must be beyond its types.

mod policy;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{Bgp, Import, PasswordSource, Peer, PrefixRange};
use super::validate::Findings;
use super::value::format_duration;
use crate::netlink::model::Family;

/// `IFNAMSIZ` without the final zero.
const INTERFACE_NAME: usize = 15;
/// Bounds of `tcp_user_timeout`.
const USER_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

pub(super) fn check_bgp(bgp: &Bgp, findings: &mut Findings) {
    check_as("bgp.local_as", bgp.local_as, findings);
    check_router_id("bgp.router_id", bgp.router_id, findings);
    if !(1..=256).contains(&bgp.maximum_paths) {
        let message = format!("{} is outside of 1 to 256; the default is 16", bgp.maximum_paths);
        findings.error("bgp.maximum_paths", message);
    }
    let by_kind = [("ebgp", bgp.maximum_paths_ebgp), ("ibgp", bgp.maximum_paths_ibgp)];
    for (kind, paths) in by_kind {
        let Some(paths) = paths.filter(|paths| !(1..=bgp.maximum_paths).contains(paths)) else { continue };
        let most = bgp.maximum_paths;
        let message =
            format!("{paths} is outside of 1 to {most}, which is `maximum_paths`; lower it or raise that");
        findings.error(format!("bgp.maximum_paths_{kind}"), message);
    }
    for (index, address) in bgp.listen.iter().enumerate() {
        let key = format!("bgp.listen[{index}]");
        if address.port() == 0 {
            findings.error(key, "port 0 is no port to be dialled; leave it out for 179");
        } else if bgp.listen[..index].contains(address) {
            findings.error(key, format!("{address} is listed twice; remove one"));
        }
    }
    for (index, peer) in bgp.peers.iter().enumerate() {
        let key = |name: &str| format!("bgp.peers[{index}].{name}");
        check_peer(peer, &key, findings);
        if peer.passive && bgp.listen.is_empty() {
            let message =
                "a passive peer dials us, and `bgp.listen` is empty; set it, such as [\"172.20.0.20\"]";
            findings.error(key("passive"), message);
        }
        let earlier = &bgp.peers[..index];
        if let Some(twin) = earlier.iter().position(|other| other.address == peer.address) {
            let message = format!("{} is the address of bgp.peers[{twin}] too; remove one", peer.address);
            findings.error(key("address"), message);
        } else if let Some(twin) = earlier.iter().position(|other| other.name == peer.name) {
            let message =
                format!("{:?} is the name of bgp.peers[{twin}] too; logs need distinct ones", peer.name);
            findings.error(key("name"), message);
        }
    }
    check_import(bgp, findings);
    policy::check_policy(bgp, findings);
}

/// AS numbers that no speaker can have.
fn check_as(key: impl Into<String>, number: u32, findings: &mut Findings) {
    let why = match number {
        0 => "RFC 7607 forbids it",
        23456 => "AS_TRANS stands for AS numbers of four octets (RFC 6793)",
        65535 | u32::MAX => "RFC 7300 reserves it",
        _ => return,
    };
    findings.error(key, format!("{number} is no AS of a speaker: {why}; private ones start at 64512"));
}

fn check_router_id(key: impl Into<String>, id: Ipv4Addr, findings: &mut Findings) {
    // RFC 6286 only asks for a non-zero number; the rest can only be a slip.
    if id.is_unspecified() || id.is_multicast() || id.is_loopback() || id.is_broadcast() {
        let message =
            format!("{id} is no BGP identifier; use an address of this machine that no other speaker uses");
        findings.error(key, message);
    }
}

fn check_peer(peer: &Peer, key: &dyn Fn(&str) -> String, findings: &mut Findings) {
    check_as(key("remote_as"), peer.remote_as, findings);
    if let Some(number) = peer.local_as {
        check_as(key("local_as"), number, findings);
    }
    if let Some(id) = peer.router_id {
        check_router_id(key("router_id"), id, findings);
    }
    check_addresses(peer, key, findings);
    check_times(peer, key, findings);
    if peer.name.is_empty() {
        findings.error(key("name"), "empty; leave the key out to use the address");
    }
    if peer.port == 0 {
        findings.error(key("port"), "port 0 cannot be dialled; leave the key out for 179");
    }
    if peer.ttl == Some(0) {
        findings.error(
            key("ttl"),
            "a TTL of 0 reaches nobody; 1 is for a neighbour on the segment, 255 for any distance",
        );
    }
    check_ttl_security(peer, key, findings);
    if peer.interface.as_ref().is_some_and(|name| name.is_empty() || name.len() > INTERFACE_NAME) {
        let message =
            format!("an interface's name has 1 to {INTERFACE_NAME} octets; leave the key out for any");
        findings.error(key("interface"), message);
    }
    if let Some(PasswordSource::Environment(name)) = &peer.password
        && (name.is_empty() || name.contains(['=', '\0']))
    {
        findings.error(key("password_env"), format!("{name:?} is no name of an environment variable"));
    }
    if peer.extended_next_hop && !peer.families.contains(&Family::Ipv4) {
        let message =
            "is about IPv4 prefixes, and `families` has no \"ipv4-unicast\"; add it or remove the key";
        findings.error(key("extended_next_hop"), message);
    }
    if peer.max_prefixes == 0 {
        findings.error(key("max_prefixes"), "0 accepts nothing; the default is 20000");
    }
    if peer.families.is_empty() {
        findings.error(key("families"), "empty; the default is [\"ipv4-unicast\"]");
    }
    for (index, family) in peer.families.iter().enumerate() {
        if peer.families[..index].contains(family) {
            findings.error(key(&format!("families[{index}]")), "listed twice; remove one");
        }
    }
}

/// GTSM says which TTL we send, and a session can only be as long as it says.
fn check_ttl_security(peer: &Peer, key: &dyn Fn(&str) -> String, findings: &mut Findings) {
    match (peer.ttl_security, peer.ttl) {
        (Some(0 | 255), _) => {
            let message =
                "hops to the peer, 1 to 254: 1 is a neighbour on the segment, 255 would check nothing";
            findings.error(key("ttl_security"), message);
        }
        (Some(_), Some(_)) => {
            let message = "set beside `ttl_security`, which sends with 255; remove one of the keys";
            findings.error(key("ttl"), message);
        }
        _ => {}
    }
}

fn check_addresses(peer: &Peer, key: &dyn Fn(&str) -> String, findings: &mut Findings) {
    let address = peer.address;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        findings
            .error(key("address"), format!("{address} is no address of a peer; give its unicast address"));
    } else if link_local && peer.interface.is_none() {
        let message =
            format!("{address} is link-local: say on which interface, such as `interface = \"eth0\"`");
        findings.error(key("address"), message);
    }
    let Some(source) = peer.source_address else { return };
    if address.is_unspecified() {
        return;
    }
    if Family::of(source) != Family::of(address) {
        let message =
            format!("{source} and the peer's {address} are of different families; give one of the same");
        findings.error(key("source_address"), message);
    } else if source == address {
        findings.error(
            key("source_address"),
            format!("{source} is the peer's address; give one of this machine"),
        );
    } else if source.is_unspecified() || source.is_multicast() {
        let message =
            format!("{source} is no address of this machine; leave the key out for the kernel's choice");
        findings.error(key("source_address"), message);
    }
}

fn check_times(peer: &Peer, key: &dyn Fn(&str) -> String, findings: &mut Findings) {
    let hold = peer.hold_time;
    let hold_text = format_duration(hold);
    if hold.subsec_nanos() != 0 || hold > Duration::from_secs(u64::from(u16::MAX)) {
        let message = format!(
            "{hold_text} does not fit the OPEN message: whole seconds, at most 65535; the default is \"90s\""
        );
        findings.error(key("hold_time"), message);
    } else if !hold.is_zero() && hold < Duration::from_secs(3) {
        let message =
            format!("{hold_text} is refused by RFC 4271 §4.2; give at least \"3s\", or \"0s\" for none");
        findings.error(key("hold_time"), message);
    } else if hold.is_zero() {
        let message = "no hold time: a peer that dies silently is never noticed, and its routes stay";
        findings.warning(key("hold_time"), message);
    }
    if let Some(least) = peer.min_hold_time {
        let text = format_duration(least);
        if least.subsec_nanos() != 0 || least < Duration::from_secs(3) {
            let message = format!("{text} is no hold time: whole seconds, at least \"3s\"");
            findings.error(key("min_hold_time"), message);
        } else if !hold.is_zero() && least > hold {
            let message =
                format!("{text} is more than our own offer of {hold_text}; raise hold_time or lower it");
            findings.error(key("min_hold_time"), message);
        }
    }
    if peer.send_hold_time < Duration::from_secs(3) {
        let text = format_duration(peer.send_hold_time);
        findings.error(key("send_hold_time"), format!("{text} is less than 3s; the default is \"8m\""));
    }
    if peer.tcp_user_timeout.is_some_and(|time| !USER_TIMEOUTS.contains(&time)) {
        findings.error(key("tcp_user_timeout"), "outside of \"1s\" to \"1h\"; leave it out for the default");
    }
    if peer.connect_retry < Duration::from_secs(1) {
        let retry = format_duration(peer.connect_retry);
        findings.error(
            key("connect_retry"),
            format!("{retry} is less than 1s, which would flood the peer; the default is \"5s\""),
        );
    }
    if peer.connect_retry_max < peer.connect_retry {
        let (max, retry) = (format_duration(peer.connect_retry_max), format_duration(peer.connect_retry));
        findings
            .error(key("connect_retry_max"), format!("{max} is less than connect_retry ({retry}); raise it"));
    }
    if peer.graceful_restart && peer.stale_time.is_zero() {
        let message = "0s keeps no paths over the peer's restart; set graceful_restart = false instead";
        findings.error(key("stale_time"), message);
    }
}

fn check_import(bgp: &Bgp, findings: &mut Findings) {
    let import = &bgp.import;
    for (index, range) in import.prefixes.iter().enumerate() {
        let key = format!("bgp.import.prefixes[{index}]");
        if check_bounds(&key, range, findings) && range.max == 0 {
            findings.warning(key, "accepts a default route from any peer; raise max when that is not meant");
        }
    }
    for (index, range) in import.prefixes.iter().enumerate() {
        if let Some(pool) = import.encapsulated.iter().find(|pool| pool.contains(&range.prefix)) {
            let message = format!(
                "inside of the encapsulated pool {pool}, so that nothing is accepted; remove one of them"
            );
            findings.warning(format!("bgp.import.prefixes[{index}]"), message);
        }
    }
    if import.max_paths_per_prefix == 0 {
        findings.error("bgp.import.max_paths_per_prefix", "0 accepts nothing; the default is 32");
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        check_family(bgp, import, family, findings);
    }
}

/// Whether something can be inside of the bounds.
fn check_bounds(key: &str, range: &PrefixRange, findings: &mut Findings) -> bool {
    let (length, longest) = (range.prefix.prefix_len(), range.prefix.max_prefix_len());
    if range.max > longest {
        let message =
            format!("{} is longer than the {longest} bits of an address of {}", range.max, range.prefix);
        findings.error(format!("{key}.max"), message);
    } else if range.min < length {
        let message = format!(
            "{} is shorter than {} itself, so nothing can match; give {length} to {longest}",
            range.min, range.prefix
        );
        findings.error(format!("{key}.min"), message);
    } else if range.min > range.max {
        let message = format!("min {} is greater than max {}; swap or raise them", range.min, range.max);
        findings.error(format!("{key}.max"), message);
    } else {
        return true;
    }
    false
}

/// The guards must let something through of every family offered, and offer every family guarded.
fn check_family(bgp: &Bgp, import: &Import, family: Family, findings: &mut Findings) {
    let (name, key) = match family {
        Family::Ipv4 => ("IPv4", "ipv4-unicast"),
        Family::Ipv6 => ("IPv6", "ipv6-unicast"),
    };
    let of_family = |net: &IpNet| Family::of(net.addr()) == family;
    let offered = bgp.peers.iter().any(|peer| peer.families.contains(&family));
    let prefixes = import.prefixes.iter().position(|range| of_family(&range.prefix));
    let next_hops = import.next_hops.iter().any(of_family);
    if offered && prefixes.is_none() && !import.prefixes.is_empty() {
        let message =
            format!("no {name} range, so that nothing of \"{key}\" is accepted; add one or drop the family");
        findings.error("bgp.import.prefixes", message);
    }
    if offered && prefixes.is_some() && !next_hops && !import.next_hops.is_empty() {
        let message = format!(
            "no {name} network, so that nothing of \"{key}\" is accepted; add the underlay's {name} network"
        );
        findings.error("bgp.import.next_hops", message);
    }
    if let Some(index) = prefixes
        && !offered
        && !bgp.peers.is_empty()
    {
        let message = format!("no peer offers \"{key}\": the range has no effect; add the family to a peer");
        findings.warning(format!("bgp.import.prefixes[{index}]"), message);
    }
}
