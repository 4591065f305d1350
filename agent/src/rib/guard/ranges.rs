//! Which prefixes the configured ranges let in, and which networks they do not open by accident.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Guards, Refusal};
use crate::config::model::{Import, PrefixRange};

/// Addresses that are never routed (RFC 6890).
const MARTIANS: [IpNet; 8] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    // Multicast and reserved.
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    // :: and ::1.
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 127)),
    // IPv4-mapped.
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

/// Checks a prefix against the ranges and the networks that a peer must not capture.
///
/// # Errors
/// The first guard that refuses.
pub(super) fn check(guards: Guards<'_>, prefix: IpNet) -> Result<(), Refusal> {
    let import = guards.import;
    let allowed = |allowed: bool, refusal| if allowed { Ok(()) } else { Err(refusal) };
    let open = |network: &IpNet| is_open(import, *network, prefix);
    let never = |network: &IpNet| is_never_inside(import, *network, prefix);
    allowed(prefix.prefix_len() == 0 || MARTIANS.iter().all(never), Refusal::Martian)?;
    check_ranges(import, prefix)?;
    allowed(!import.own_blocks.iter().any(|block| block.contains(&prefix)), Refusal::OwnBlock)?;
    allowed(import.encapsulated.iter().all(never), Refusal::EncapsulatedPool)?;
    allowed(import.next_hops.iter().all(open), Refusal::UnderlayAddress)?;
    allowed(guards.service_ranges.iter().all(open), Refusal::ServiceAddress)
}

/// A default route is accepted only by a range for it alone, so that a range meant for everything
/// more specific does not let it in.
fn check_ranges(import: &Import, prefix: IpNet) -> Result<(), Refusal> {
    let mut ranges = accepting(import, prefix);
    if prefix.prefix_len() == 0 {
        return ranges.any(|range| range.max == 0).then_some(()).ok_or(Refusal::DefaultRoute);
    }
    ranges.next().map(|_| ()).ok_or(Refusal::PrefixNotAllowed)
}

fn accepting(import: &Import, prefix: IpNet) -> impl Iterator<Item = &PrefixRange> {
    import.prefixes.iter().filter(move |range| range.contains(prefix))
}

/// Whether a prefix may be learned in spite of a protected network: apart from it; inside of it by a range that is
/// inside as well; around it by a range that names the prefix itself.
pub(super) fn is_open(import: &Import, network: IpNet, prefix: IpNet) -> bool {
    if network.contains(&prefix) {
        return accepting(import, prefix).any(|range| network.contains(&range.prefix));
    }
    is_never_inside(import, network, prefix)
}

/// The same without the exception for prefixes inside.
fn is_never_inside(import: &Import, network: IpNet, prefix: IpNet) -> bool {
    let inside = network.contains(&prefix);
    let around = prefix.contains(&network);
    !inside && (!around || accepting(import, prefix).any(|range| range.prefix == prefix))
}
