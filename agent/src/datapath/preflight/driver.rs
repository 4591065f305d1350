//! What drivers ask of a port's set-up. Each answer is a reason with its remedy, or `None`.

use super::super::facts::{DriverFacts, Offloads, Peer, offload, xdp_feature};
use super::{Policy, State, turned_on};

/// A page less the room that XDP takes in it: 256 bytes in front, `skb_shared_info` (320) behind. What
/// frames may have in a driver that gives each a page.
const PAGE_ROOM: u32 = 4096 - 256 - 320;

/// Largest MTU for a program that takes frames in one buffer only, by driver. Others are unknown.
fn linear_mtu(driver: &str) -> Option<u32> {
    Some(match driver {
        // ENA_XDP_MAX_MTU, mlx5e_xdp_max_mtu: Ethernet header, one tag and checksum.
        "ena" | "mlx5_core" => PAGE_ROOM - 14 - 4 - 4,
        // BNXT_MAX_PAGE_MODE_MTU: Ethernet header and one tag.
        "bnxt_en" => PAGE_ROOM - 18,
        // virtnet_xdp_set: Ethernet header.
        "virtio_net" => PAGE_ROOM - 14,
        // Buffers of 3072 bytes; i40e counts two tags (I40E_PACKET_HDR_PAD), ixgbe one.
        "i40e" | "ice" => 3072 - 26,
        "ixgbe" => 3072 - 22,
        _ => return None,
    })
}

/// Drivers whose `ndo_xdp_xmit` takes the queue of the CPU it runs on and drops the frame where there
/// is none (`mlx5e_xdp_xmit`, `i40e_xdp_xmit`).
const TRANSMIT_BY_CPU: &[&str] = &["i40e", "mlx5_core"];

/// The MTU is above what the driver takes.
pub fn mtu_problem(facts: &DriverFacts, policy: Policy) -> Option<String> {
    let (name, mtu) = (&facts.name, facts.mtu);
    let limit = linear_mtu(facts.driver.as_deref()?)?;
    if mtu <= limit || (policy.frags && facts.can(xdp_feature::RX_SG)) {
        return None;
    }
    let frags = if policy.frags {
        "its driver does not hand frames in several buffers to XDP"
    } else {
        "the program takes frames in one buffer only"
    };
    Some(format!(
        "an MTU of {mtu} is above the {limit} bytes that fit into one buffer, and {frags}: \
         `ip link set {name} mtu {limit}`, if the whole network agrees"
    ))
}

/// The device joins received packets to larger ones, which are no packets of the wire any more.
pub fn aggregation_problem(facts: &DriverFacts) -> Option<String> {
    let name = &facts.name;
    if let Some(state) = turned_on(facts, offload::LRO) {
        return Some(match state {
            State::Changeable => format!("large receive offload is on: `ethtool -K {name} lro off`"),
            State::Fixed => "large receive offload is on and cannot be turned off".to_owned(),
        });
    }
    match (turned_on(facts, offload::GRO_HW)?, facts.driver.as_deref()) {
        // What the guest's driver can turn off, it turns off itself as long as a program is attached
        // (virtnet_clear_guest_offloads).
        (State::Changeable, Some("virtio_net")) => None,
        (State::Fixed, Some("virtio_net")) => Some(format!(
            "the host joins the packets of {name} (guest offloads) and offers no way to turn that off: give \
             the virtual device ctrl_guest_offloads=on, or guest_tso4=off,guest_tso6=off,guest_ufo=off"
        )),
        (State::Changeable, _) => {
            Some(format!("the device joins packets (GRO in hardware): `ethtool -K {name} rx-gro-hw off`"))
        }
        (State::Fixed, _) => {
            Some("the device joins packets (GRO in hardware) and cannot stop that".to_owned())
        }
    }
}

/// The driver does not take a program with as many queues as there are.
pub fn queue_problem(facts: &DriverFacts) -> Option<String> {
    let (name, channels) = (&facts.name, facts.channels?);
    if facts.is_kind("veth") {
        let peer = facts.peer.as_ref()?;
        let sending = peer.channels?.tx;
        return (channels.rx < sending).then(|| {
            format!(
                "it has {} receive queues and its peer {} has {sending} transmit queues: \
                 `ethtool -L {} tx {}`, or create it with `numrxqueues {sending}`",
                channels.rx, peer.name, peer.name, channels.rx
            )
        });
    }
    match facts.driver.as_deref()? {
        "ena" if channels.max_combined > 0 && channels.combined * 2 > channels.max_combined => {
            let half = channels.max_combined / 2;
            Some(format!(
                "the driver needs a transmit queue for XDP beside each of its {} channels and has {} in all: \
                 `ethtool -L {name} combined {half}`",
                channels.combined, channels.max_combined
            ))
        }
        "bnxt_en" if channels.combined == 0 && channels.rx > 0 => Some(format!(
            "receive and transmit channels are separate: `ethtool -L {name} rx 0 tx 0 combined {}`",
            channels.rx
        )),
        _ => None,
    }
}

/// Redirected frames of some CPUs would be lost for want of a queue.
pub fn transmit_queue_problem(facts: &DriverFacts) -> Option<String> {
    let (driver, channels) = (facts.driver.as_deref()?, facts.channels?);
    if !TRANSMIT_BY_CPU.contains(&driver) || channels.combined == 0 || channels.combined >= facts.cpus {
        return None;
    }
    let (name, cpus) = (&facts.name, facts.cpus);
    let remedy = if channels.max_combined >= cpus {
        format!("`ethtool -L {name} combined {cpus}` ends that")
    } else {
        format!("it has at most {} channels", channels.max_combined)
    };
    Some(format!(
        "the driver of {name} drops redirected frames of the CPUs above its {} channels ({cpus} CPUs): nothing \
         is forwarded to it from other ports; {remedy}",
        channels.combined
    ))
}

/// A transmit queue that CPUs share.
pub fn queue_note(facts: &DriverFacts) -> Option<String> {
    let channels = facts.channels?;
    let short = facts.driver.as_deref() == Some("virtio_net")
        && channels.combined + facts.cpus > channels.max_combined;
    short.then(|| {
        format!(
            "{} queue pairs for {} channels and {} CPUs: XDP shares transmit queues under a lock; give the \
             virtual device more, or lower `ethtool -L {} combined`",
            channels.max_combined, channels.combined, facts.cpus, facts.name
        )
    })
}

/// A tag that XDP does not see, because it does not lie in the frame any more.
pub fn hidden_tag(facts: &DriverFacts) -> Option<String> {
    let name = &facts.name;
    let vlan = facts.uppers.iter().find(|upper| upper.kind == "vlan");
    if facts.is_kind("veth") {
        // The tag comes beside the frame when the peer leaves its insertion to "hardware" (txvlan);
        // the port's own setting has no effect.
        let hides = match &facts.peer {
            Some(Peer { offloads: Some(offloads), .. }) => {
                offloads.get(offload::TX_VLAN).is_none_or(|offload| offload.on)
            }
            _ => true,
        };
        return vlan.filter(|_| hides).map(|vlan| {
            format!(
                "{} is on top of it, and the tags of a veth do not lie in the frame unless its peer is set \
                 `txvlan off`, which can be seen in the same namespace only: move {} to another device",
                vlan.name, vlan.name
            )
        });
    }
    let strips = [offload::RX_VLAN, offload::RX_VLAN_STAG].iter().any(|name| facts.has_on(name));
    if !strips {
        return None;
    }
    let filters = facts.has_on(offload::RX_VLAN_FILTER);
    let why = match (vlan, facts.promiscuous, filters) {
        (Some(vlan), ..) => format!("{} is on top of it", vlan.name),
        (None, true, _) => "it is promiscuous".to_owned(),
        (None, false, false) => "it does not filter by VLAN".to_owned(),
        (None, false, true) => return None,
    };
    Some(format!(
        "{why}, and the device takes tags off before XDP sees them: `ethtool -K {name} rxvlan off` \
         (and rx-vlan-stag-hw-parse off)"
    ))
}

/// Frames that are not what was on the wire, or that others take before the kernel routes them.
pub fn altered_on_receipt(facts: &DriverFacts) -> Option<String> {
    let name = &facts.name;
    if facts.tap_vnet_header == Some(true) {
        return Some(format!(
            "its frames come with offload headers (vnet_hdr): checksums may be missing and packets joined; \
             open {name} without IFF_VNET_HDR, in QEMU `vnet_hdr=off`"
        ));
    }
    facts.uppers.iter().find_map(|upper| match upper.kind.as_str() {
        "macsec" if facts.has_on(offload::MACSEC) => Some(format!(
            "the device decrypts for {}, and what comes out looks like plain packets: \
             `ethtool -K {name} macsec-hw-offload off`",
            upper.name
        )),
        "ipvlan" | "ipvtap" => Some(format!(
            "{} takes packets with the same MAC address off it before they are routed: move it to another device",
            upper.name
        )),
        _ => None,
    })
}

/// Why packets would leave the port's program otherwise than the kernel's forwarding, in generic mode.
///
/// There the program sees what `netif_receive_skb` sees: packets that GRO joined, frames without the
/// tag that lies in the buffer's metadata, checksums still to be computed; and `generic_xdp_tx` hands
/// the buffer to the driver as it is, without the stack's segmentation and checksums
/// (net/core/dev.c). So only ports on which nothing of that can happen are left, and what is unknown
/// counts against them.
pub fn inexact_in_generic_mode(facts: &DriverFacts) -> Option<String> {
    let name = &facts.name;
    let mut commands = Vec::new();
    let own: &[(&str, &str)] = match facts.kind.as_deref() {
        None => &[
            (offload::GRO, "gro"),
            (offload::LRO, "lro"),
            (offload::GRO_HW, "rx-gro-hw"),
            (offload::RX_VLAN, "rxvlan"),
            (offload::RX_VLAN_STAG, "rx-vlan-stag-hw-parse"),
        ],
        Some("veth") => &[(offload::GRO, "gro")],
        Some(kind) => {
            return Some(format!("{name} is a {kind} device, whose sender may leave packets unfinished"));
        }
    };
    let Some(offloads) = &facts.offloads else {
        return Some(format!("the offloads of {name} are unknown"));
    };
    commands.extend(to_turn_off(name, offloads, own));
    if facts.is_kind("veth") {
        let Some(Peer { name: peer, offloads: Some(offloads), .. }) = &facts.peer else {
            return Some(format!(
                "the peer of {name} is in another namespace, and may leave packets unfinished"
            ));
        };
        let theirs = [
            (offload::TX_CHECKSUM, "tx"),
            (offload::TX_CHECKSUM_SCTP, "tx-checksum-sctp"),
            (offload::TSO, "tso"),
            (offload::GSO, "gso"),
            (offload::TX_VLAN, "txvlan"),
        ];
        commands.extend(to_turn_off(peer, offloads, &theirs));
    }
    (!commands.is_empty()).then(|| format!("needs {}", commands.join(" and ")))
}

/// The command that turns those of `names` off that are on.
fn to_turn_off(interface: &str, offloads: &Offloads, names: &[(&str, &str)]) -> Option<String> {
    let on: Vec<String> = names
        .iter()
        .filter(|(name, _)| offloads.get(*name).is_some_and(|offload| offload.on))
        .map(|(_, command)| format!("{command} off"))
        .collect();
    (!on.is_empty()).then(|| format!("`ethtool -K {interface} {}`", on.join(" ")))
}
