//! OPENs with capabilities: the same to all three.

use std::net::Ipv4Addr;

use bgpkit_parser::models::{BgpMessage as BgpkitMessage, CapabilityValue, ParamValue};
use netgauze_bgp_pkt::BgpMessage as NetgauzeMessage;
use netgauze_bgp_pkt::capabilities::BgpCapability;
use netgauze_iana::address_family::AddressType;
use proptest::prelude::*;
use underpass::bgp::wire::Message;
use underpass::netlink::model::Family;
use underpass_tests::fake_peer::Open;

use super::plan::Kind;
use super::{bgpkit, netgauze, ours};

/// Restarted, seconds, families with their F bit.
type Restart = (bool, u16, Vec<(Family, bool)>);

/// What an OPEN says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub autonomous_system: u32,
    pub hold_time: u16,
    pub router_id: u32,
    pub families: Vec<Family>,
    /// Family, receive, send.
    pub add_path: Vec<(Family, bool, bool)>,
    pub restart: Option<Restart>,
    pub route_refresh: bool,
}

const KIND: Kind = Kind { four_octet_as: true, add_path: false };

pub fn ours(bytes: &[u8]) -> Said {
    let Message::Open(open) = ours::message(bytes) else { panic!("an OPEN") };
    let known = open.capabilities;
    Said {
        autonomous_system: open.autonomous_system,
        hold_time: open.hold_time,
        router_id: open.router_id.into(),
        families: known.families.unwrap_or_default(),
        add_path: known.add_path.iter().map(|(family, way)| (*family, way.receive, way.send)).collect(),
        restart: known
            .graceful_restart
            .map(|restart| (restart.restarted, restart.restart_time, restart.families)),
        route_refresh: known.route_refresh,
    }
}

pub fn netgauze(bytes: &[u8]) -> Said {
    let NetgauzeMessage::Open(open) = netgauze::message(bytes, KIND) else { panic!("an OPEN") };
    let mut said = Said {
        autonomous_system: open.my_asn4(),
        hold_time: open.hold_time(),
        router_id: open.bgp_id().into(),
        ..Said::default()
    };
    for capability in open.capabilities() {
        match capability {
            BgpCapability::MultiProtocolExtensions(family) => {
                said.families.push(named(family.address_type()));
            }
            BgpCapability::RouteRefresh => said.route_refresh = true,
            BgpCapability::AddPath(list) => {
                said.add_path = list
                    .address_families()
                    .iter()
                    .map(|entry| (named(entry.address_type()), entry.receive(), entry.send()))
                    .collect();
            }
            BgpCapability::GracefulRestartCapability(restart) => {
                let families = restart.address_families().iter();
                let families =
                    families.map(|entry| (named(entry.address_type()), entry.forwarding_state())).collect();
                said.restart = Some((restart.restart(), restart.time(), families));
            }
            _ => {}
        }
    }
    said
}

fn named(family: AddressType) -> Family {
    match family {
        AddressType::Ipv4Unicast => Family::Ipv4,
        AddressType::Ipv6Unicast => Family::Ipv6,
        other => panic!("not sent: {other:?}"),
    }
}

pub fn bgpkit(bytes: &[u8]) -> Said {
    let BgpkitMessage::Open(open) = bgpkit::message(bytes, KIND) else { panic!("an OPEN") };
    let mut said = Said {
        autonomous_system: open.asn.to_u32(),
        hold_time: open.hold_time,
        router_id: open.bgp_identifier.into(),
        ..Said::default()
    };
    for parameter in open.opt_params {
        let ParamValue::Capacities(capabilities) = parameter.param_value else { panic!("capabilities") };
        for capability in capabilities {
            match capability.value {
                CapabilityValue::MultiprotocolExtensions(entry) => {
                    said.families.push(numbered(entry.afi as u16));
                }
                CapabilityValue::RouteRefresh(_) => said.route_refresh = true,
                CapabilityValue::FourOctetAs(entry) => said.autonomous_system = entry.asn,
                CapabilityValue::AddPath(entry) => {
                    said.add_path = entry
                        .address_families
                        .iter()
                        .map(|entry| {
                            let way = entry.send_receive as u8;
                            (numbered(entry.afi as u16), way & 1 != 0, way & 2 != 0)
                        })
                        .collect();
                }
                CapabilityValue::GracefulRestart(entry) => {
                    let families = entry.address_families.iter();
                    let families =
                        families.map(|one| (numbered(one.afi as u16), one.forwarding_state)).collect();
                    said.restart = Some((entry.restart_state, entry.restart_time, families));
                }
                _ => {}
            }
        }
    }
    said
}

fn numbered(afi: u16) -> Family {
    if afi == 1 { Family::Ipv4 } else { Family::Ipv6 }
}

proptest! {
    #[test]
    fn opens_say_the_same_to_all(
        autonomous_system in 1_u32..,
        hold_time in any::<u16>(),
        // netgauze wants a unicast address; RFC 6286 §2.1 any number but zero.
        router_id in 0x0100_0000_u32..0x7f00_0000,
        add_path in any::<bool>(),
        restart in proptest::option::of((0_u16..4096, any::<bool>(), any::<[bool; 2]>())),
        enhanced in any::<bool>(),
    ) {
        let mut open = Open::new(autonomous_system, Ipv4Addr::from(router_id), hold_time);
        let both = [Family::Ipv4, Family::Ipv6];
        let mut expected = Said {
            autonomous_system,
            hold_time,
            router_id,
            families: both.to_vec(),
            route_refresh: true,
            ..Said::default()
        };
        if add_path {
            open = open.with_add_path();
            expected.add_path = both.map(|family| (family, false, true)).to_vec();
        }
        if let Some((seconds, restarted, preserved)) = restart {
            open = open.with_graceful_restart(seconds, restarted, preserved);
            let families = both.into_iter().zip(preserved).collect();
            expected.restart = Some((restarted, seconds, families));
        }
        if enhanced {
            open = open.with(&[70, 0]);
        }
        let bytes = open.bytes();
        prop_assert_eq!(ours(&bytes), expected.clone());
        prop_assert_eq!(netgauze(&bytes), expected.clone());
        prop_assert_eq!(bgpkit(&bytes), expected);
    }
}
