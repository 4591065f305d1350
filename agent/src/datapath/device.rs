//! Reads [`DriverFacts`] by rtnetlink, by the `netdev` and `ethtool` families of generic netlink, and by
//! `SIOCETHTOOL`.
//!
//! Blocking, a few short exchanges: ports are looked at when they are attached and once a second, not
//! per packet. What a device or an older kernel does not tell is unknown, which is no error.

use std::io;

use netlink_packet_core::Nla as _;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    LinkXdp, XdpAttached,
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::ethtool;
use super::facts::{AttachMode, AttachedProgram, DriverFacts, Master, Peer, Upper};
use super::genetlink::{self, invalid, value};
use crate::netlink::model::IfIndex;
use crate::sys;

// include/uapi/linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// `IFLA_TUN_VNET_HDR` of `include/uapi/linux/if_link.h`.
const IFLA_TUN_VNET_HDR: u16 = 5;

/// Ranges of the numbers that CPUs can have: "0-3" or "0,2-5".
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// Asks the kernel about an interface of this thread's network namespace.
///
/// # Errors
/// No such interface (`ENODEV`), or netlink fails.
pub fn driver_facts(ifindex: IfIndex) -> io::Result<DriverFacts> {
    let link = link(ifindex)?;
    let mut facts = facts_of_link(&link);
    if let Some(master) = &mut facts.master
        && let Ok(link) = self::link(master.ifindex)
    {
        *master = master_of_link(&link);
    }
    facts.driver = sys::ethtool::driver(&facts.name).ok().filter(|driver| !driver.is_empty());
    facts.xdp_features = xdp_features(ifindex)?;
    facts.channels = ethtool::channels(ifindex)?;
    facts.offloads = ethtool::offloads(ifindex)?;
    facts.cpus = std::fs::read_to_string(POSSIBLE_CPUS).ok().as_deref().and_then(count_cpus).unwrap_or(0);
    facts.uppers = uppers(ifindex)?;
    if facts.is_kind("veth") {
        facts.peer = peer_index(&link).and_then(peer);
    }
    Ok(facts)
}

fn link(ifindex: IfIndex) -> io::Result<LinkMessage> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    match genetlink::request(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(message))? {
        RouteNetlinkMessage::NewLink(link) => Ok(link),
        _ => Err(invalid("the kernel did not answer RTM_GETLINK with a link")),
    }
}

/// The part that rtnetlink tells.
fn facts_of_link(link: &LinkMessage) -> DriverFacts {
    let flags = link.header.flags;
    let mut facts = DriverFacts {
        ifindex: link.header.index,
        kind: kind(link),
        loopback: flags.contains(LinkFlags::Loopback),
        carrier: flags.contains(LinkFlags::LowerUp),
        promiscuous: flags.contains(LinkFlags::Promisc),
        ..DriverFacts::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => facts.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => facts.mtu = *mtu,
            LinkAttribute::MaxMtu(mtu) => facts.max_mtu = *mtu,
            LinkAttribute::Promiscuity(users) => facts.promiscuous |= *users > 0,
            LinkAttribute::Controller(master) => {
                facts.master = Some(Master { ifindex: *master, ..Master::default() });
            }
            LinkAttribute::Address(address) => {
                facts.ethernet = address.len() == 6 && link.header.link_layer_type == LinkLayerType::Ether;
            }
            LinkAttribute::LinkInfo(infos) => facts.tap_vnet_header = tap_vnet_header(infos),
            LinkAttribute::Xdp(xdp) => facts.attached = attached_programs(xdp),
            _ => {}
        }
    }
    facts
}

fn kind(link: &LinkMessage) -> Option<String> {
    infos(link).iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn infos(link: &LinkMessage) -> &[LinkInfo] {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    infos.unwrap_or_default()
}

fn name(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn tap_vnet_header(infos: &[LinkInfo]) -> Option<bool> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Tun(data)) => data.iter().find_map(|nla| {
            let mut value = vec![0; nla.value_len()];
            nla.emit_value(&mut value);
            (nla.kind() == IFLA_TUN_VNET_HDR).then(|| value.first().is_some_and(|byte| *byte != 0))
        }),
        _ => None,
    })
}

fn master_of_link(link: &LinkMessage) -> Master {
    let vlan_filtering = infos(link).iter().any(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => {
            data.iter().any(|nla| matches!(nla, InfoBridge::VlanFiltering(true)))
        }
        _ => false,
    });
    Master { ifindex: link.header.index, name: name(link), kind: kind(link), vlan_filtering }
}

/// One program per mode; before Linux 4.19 the kernel told only one of them.
fn attached_programs(xdp: &[LinkXdp]) -> Vec<AttachedProgram> {
    let mut programs: Vec<AttachedProgram> = xdp
        .iter()
        .filter_map(|attribute| match attribute {
            LinkXdp::DrvProgId(id) => Some(AttachedProgram { id: *id, mode: AttachMode::Native }),
            LinkXdp::SkbProgId(id) => Some(AttachedProgram { id: *id, mode: AttachMode::Generic }),
            LinkXdp::HwProgId(id) => Some(AttachedProgram { id: *id, mode: AttachMode::Hardware }),
            _ => None,
        })
        .collect();
    let id = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    let mode = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver) => Some(AttachMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(AttachMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(AttachMode::Hardware),
        _ => None,
    });
    if let (true, Some(mode)) = (programs.is_empty(), mode) {
        programs.push(AttachedProgram { id: id.unwrap_or(0), mode });
    }
    programs.sort_unstable();
    programs
}

/// Devices of this namespace that name the interface as the one below them.
fn uppers(ifindex: IfIndex) -> io::Result<Vec<Upper>> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let answers = genetlink::dump(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(question))?;
    let mut uppers: Vec<Upper> = answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) if lower(link) == Some(ifindex) => {
                let kind = kind(link)?;
                (kind != "veth").then(|| Upper { name: name(link), kind })
            }
            _ => None,
        })
        .collect();
    uppers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(uppers)
}

/// `IFLA_LINK`, when it is an index of this namespace.
fn lower(link: &LinkMessage) -> Option<IfIndex> {
    let elsewhere =
        link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) if !elsewhere => Some(*index),
        _ => None,
    })
}

fn peer_index(link: &LinkMessage) -> Option<IfIndex> {
    lower(link).filter(|index| *index != 0)
}

/// The other end of a veth; `None` when it went away in between.
fn peer(ifindex: IfIndex) -> Option<Peer> {
    Some(Peer {
        name: name(&link(ifindex).ok()?),
        channels: ethtool::channels(ifindex).ok()?,
        offloads: ethtool::offloads(ifindex).ok()?,
    })
}

/// One more than the highest number in a list of ranges.
fn count_cpus(ranges: &str) -> Option<u32> {
    ranges.trim().rsplit([',', '-']).next()?.parse::<u32>().ok()?.checked_add(1)
}

/// `NETDEV_A_DEV_XDP_FEATURES` of the interface, or `None` on a kernel without the family.
fn xdp_features(ifindex: IfIndex) -> io::Result<Option<u64>> {
    let question = vec![(NETDEV_A_DEV_IFINDEX, ifindex.to_ne_bytes().to_vec())];
    let answer = genetlink::ask("netdev", NETDEV_CMD_DEV_GET, question)?;
    Ok(answer.and_then(|answer| value(&answer, NETDEV_A_DEV_XDP_FEATURES)).map(u64::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_by_their_highest_number() {
        for (text, expected) in [
            ("0\n", Some(1)),
            ("0-3\n", Some(4)),
            ("0,2-5\n", Some(6)),
            ("0-1,7\n", Some(8)),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(count_cpus(text), expected, "{text:?}");
        }
    }

    #[test]
    fn loopback_is_told_apart() {
        // Reading facts changes nothing, so the namespace of the test run will do.
        let facts = driver_facts(1).expect("every namespace has a loopback interface");
        assert!(facts.loopback);
        assert!(!facts.ethernet);
        assert_eq!(facts.attached, []);
        assert_eq!(facts.name, "lo");
        assert!(facts.offloads.expect("Linux 5.6 and later tell").contains_key("rx-gro"));
    }

    #[test]
    fn missing_interface_is_an_error() {
        let error = driver_facts(0x7fff_fff0).expect_err("no such interface");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{error}");
    }
}
