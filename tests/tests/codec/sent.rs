//! What the agent sends, read by the other codecs.

use bgpkit_parser::models::BgpMessage as Bgpkit;
use netgauze_bgp_pkt::BgpMessage as Netgauze;
use netgauze_bgp_pkt::iana::RouteRefreshSubcode;
use netgauze_bgp_pkt::notification::BgpNotificationMessage;
use netgauze_iana::address_family::AddressType;
use underpass::bgp::capabilities::Settings;
use underpass::bgp::notification::Notification;
use underpass::bgp::wire::{self, RefreshKind};
use underpass::config;
use underpass::netlink::model::Family;

use super::plan::Kind;
use super::{bgpkit, netgauze, open};

const KIND: Kind = Kind { four_octet_as: true, add_path: false };

#[test]
fn open_with_every_capability() {
    let text = r#"
        [bgp]
        local_as = 4200000000
        router_id = "10.0.0.9"
        [[bgp.peers]]
        address = "10.0.0.1"
        remote_as = 64513
        hold_time = "9s"
        families = ["ipv4-unicast", "ipv6-unicast"]
    "#;
    let bgp = config::parse(text).config.bgp.expect("the section is there");
    let bytes = wire::open(&Settings::new(&bgp, &bgp.peers[0]).open());
    let both = [Family::Ipv4, Family::Ipv6];
    let expected = open::Said {
        autonomous_system: 4_200_000_000,
        hold_time: 9,
        router_id: u32::from_be_bytes([10, 0, 0, 9]),
        families: both.to_vec(),
        add_path: both.map(|family| (family, true, false)).to_vec(),
        restart: Some((false, 120, both.map(|family| (family, false)).to_vec())),
        route_refresh: true,
    };
    assert_eq!(open::ours(&bytes), expected);
    assert_eq!(open::netgauze(&bytes), expected);
    assert_eq!(open::bgpkit(&bytes), expected);
}

#[test]
fn keepalive() {
    assert_eq!(netgauze::message(&wire::keepalive(), KIND), Netgauze::KeepAlive);
    assert_eq!(bgpkit::message(&wire::keepalive(), KIND), Bgpkit::KeepAlive);
}

#[test]
fn notifications() {
    // Code, subcode, data. RFC 9687 (code 8) is unknown to netgauze 0.13.
    let cases: [(u8, u8, &[u8]); 8] = [
        (1, 2, &[0, 18]),
        (2, 2, &[]),
        (3, 1, &[]),
        (3, 10, &[33, 10, 0, 0, 0, 0]),
        (4, 0, &[]),
        (5, 3, &[]),
        (6, 2, b"\x0bmaintenance"),
        (7, 1, &[0; 23]),
    ];
    for (code, subcode, data) in cases {
        let bytes = wire::notification(&Notification::new(code, subcode, "").with_data(data.to_vec()));
        let name = format!("{code}/{subcode}");
        let Netgauze::Notification(read) = netgauze::message(&bytes, KIND) else { panic!("{name}") };
        let kind = match read {
            BgpNotificationMessage::MessageHeaderError(_) => 1,
            BgpNotificationMessage::OpenMessageError(_) => 2,
            BgpNotificationMessage::UpdateMessageError(_) => 3,
            BgpNotificationMessage::HoldTimerExpiredError(_) => 4,
            BgpNotificationMessage::FiniteStateMachineError(_) => 5,
            BgpNotificationMessage::CeaseError(_) => 6,
            BgpNotificationMessage::RouteRefreshError(_) => 7,
        };
        assert_eq!(kind, code, "{name}");
        let Bgpkit::Notification(read) = bgpkit::message(&bytes, KIND) else { panic!("{name}") };
        assert_eq!((read.error.get_codes(), &read.data[..]), ((code, subcode), data), "{name}");
    }
}

#[test]
fn route_refresh() {
    let kinds = [
        (RefreshKind::Request, 0, RouteRefreshSubcode::NormalRequest),
        (RefreshKind::Begin, 1, RouteRefreshSubcode::BeginningOfRouteRefresh),
        (RefreshKind::End, 2, RouteRefreshSubcode::EndOfRouteRefresh),
    ];
    let families = [(Family::Ipv4, 1, AddressType::Ipv4Unicast), (Family::Ipv6, 2, AddressType::Ipv6Unicast)];
    for (kind, subtype, netgauze_kind) in kinds {
        for (family, afi, netgauze_family) in families {
            let bytes = wire::route_refresh(family, kind);
            let Netgauze::RouteRefresh(read) = netgauze::message(&bytes, KIND) else { panic!("{kind:?}") };
            assert_eq!((read.address_type(), read.operation_type()), (netgauze_family, netgauze_kind));
            let Bgpkit::RouteRefresh(read) = bgpkit::message(&bytes, KIND) else { panic!("{kind:?}") };
            assert_eq!((read.afi, read.subtype, read.safi, read.data.len()), (afi, subtype, 1, 0));
        }
    }
}

#[test]
fn end_of_rib() {
    for (family, expected) in
        [(Family::Ipv4, AddressType::Ipv4Unicast), (Family::Ipv6, AddressType::Ipv6Unicast)]
    {
        let bytes = wire::end_of_rib(family);
        let Netgauze::Update(read) = netgauze::message(&bytes, KIND) else { panic!("{family:?}") };
        assert_eq!(read.end_of_rib(), Some(expected));
        let Bgpkit::Update(read) = bgpkit::message(&bytes, KIND) else { panic!("{family:?}") };
        assert!(read.is_end_of_rib(), "{family:?}");
    }
}
