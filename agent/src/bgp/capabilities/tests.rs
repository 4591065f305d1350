use super::*;
use crate::bgp::testing::{OUR_AS, OUR_ID, PEER_AS, PEER_ID, peer_open, settings};

const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

#[test]
fn refused_opens() {
    struct Case {
        name: &'static str,
        settings: Settings,
        open: Open,
        expected: (u8, u8, &'static [u8]),
    }
    let internal = || Settings { remote_as: OUR_AS, ..settings() };
    let from_our_as = || Open { autonomous_system: OUR_AS, ..peer_open() };
    let only_v4 = || Settings { families: vec![Family::Ipv4], ..settings() };
    let lists = |families: &[Family]| {
        let mut open = peer_open();
        open.capabilities.families = Some(families.to_vec());
        open
    };
    let cases = [
        Case {
            name: "wrong AS",
            settings: settings(),
            open: Open { autonomous_system: 65000, ..peer_open() },
            expected: (2, 2, &[]),
        },
        Case {
            name: "AS 0",
            settings: settings(),
            open: Open { autonomous_system: 0, ..peer_open() },
            expected: (2, 2, &[]),
        },
        Case {
            name: "identifier zero",
            settings: settings(),
            open: Open { router_id: Ipv4Addr::UNSPECIFIED, ..peer_open() },
            expected: (2, 3, &[]),
        },
        Case {
            name: "our own identifier, same AS",
            settings: internal(),
            open: Open { router_id: OUR_ID, ..from_our_as() },
            expected: (2, 3, &[]),
        },
        Case {
            name: "hold time 1 s",
            settings: settings(),
            open: Open { hold_time: 1, ..peer_open() },
            expected: (2, 6, &[]),
        },
        Case {
            name: "hold time 2 s",
            settings: settings(),
            open: Open { hold_time: 2, ..peer_open() },
            expected: (2, 6, &[]),
        },
        Case {
            name: "below our own least hold time",
            settings: Settings { min_hold_time: Some(6), ..settings() },
            open: Open { hold_time: 5, ..peer_open() },
            expected: (2, 6, &[]),
        },
        Case {
            name: "no hold time where there must be one",
            settings: Settings { min_hold_time: Some(6), ..settings() },
            open: Open { hold_time: 0, ..peer_open() },
            expected: (2, 6, &[]),
        },
        Case {
            name: "other family only",
            settings: only_v4(),
            open: lists(&[Family::Ipv6]),
            expected: (2, 7, &[1, 4, 0, 1, 0, 1]),
        },
        Case {
            name: "families that nobody knows",
            settings: settings(),
            open: lists(&[]),
            expected: (2, 7, &[1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1]),
        },
    ];
    for case in cases {
        let refusal = negotiate(&case.settings, &case.open).expect_err(case.name);
        assert_eq!((refusal.code, refusal.subcode, &refusal.data[..]), case.expected, "{}", case.name);
    }
}

#[test]
fn accepted_opens() {
    struct Case {
        name: &'static str,
        settings: Settings,
        change: fn(&mut Open),
        expected: fn(&mut Negotiated),
    }
    let cases = [
        Case { name: "everything", settings: settings(), change: |_| {}, expected: |_| {} },
        Case {
            name: "the shorter hold time: the peer's",
            settings: settings(),
            change: |open| open.hold_time = 3,
            expected: |agreed| agreed.hold_time = Duration::from_secs(3),
        },
        Case {
            name: "the shorter hold time: ours",
            settings: settings(),
            change: |open| open.hold_time = 240,
            expected: |_| {},
        },
        Case {
            name: "hold time zero",
            settings: settings(),
            change: |open| open.hold_time = 0,
            expected: |agreed| agreed.hold_time = Duration::ZERO,
        },
        Case {
            name: "our identifier, other AS (RFC 6286)",
            settings: settings(),
            change: |open| open.router_id = OUR_ID,
            expected: |agreed| agreed.router_id = OUR_ID,
        },
        Case {
            name: "no capabilities at all: IPv4 unicast (RFC 4760 §8)",
            settings: settings(),
            change: |open| open.capabilities = Capabilities::default(),
            expected: |agreed| {
                agreed.families = vec![Family::Ipv4];
                agreed.add_path = Vec::new();
                agreed.four_octet_as = false;
                agreed.graceful_restart = None;
                agreed.extended_messages = false;
                (agreed.route_refresh, agreed.enhanced_refresh) = (false, false);
            },
        },
        Case {
            name: "one family",
            settings: settings(),
            change: |open| open.capabilities.families = Some(vec![Family::Ipv6]),
            expected: |agreed| {
                agreed.families = vec![Family::Ipv6];
                agreed.add_path = vec![Family::Ipv6];
            },
        },
        Case {
            name: "peer can only receive several paths",
            settings: settings(),
            change: |open| {
                for (_, direction) in &mut open.capabilities.add_path {
                    *direction = AddPath { receive: true, send: false };
                }
            },
            expected: |agreed| agreed.add_path = Vec::new(),
        },
        Case {
            name: "several paths not wanted",
            settings: Settings { add_path: false, ..settings() },
            change: |_| {},
            expected: |agreed| agreed.add_path = Vec::new(),
        },
        Case {
            name: "just our own least hold time",
            settings: Settings { min_hold_time: Some(6), ..settings() },
            change: |open| open.hold_time = 6,
            expected: |agreed| agreed.hold_time = Duration::from_secs(6),
        },
        Case {
            name: "extended next hops, wanted by both",
            settings: Settings { extended_next_hop: true, ..settings() },
            change: |open| open.capabilities.extended_next_hop = true,
            expected: |agreed| agreed.extended_next_hop = true,
        },
        Case {
            name: "extended next hops, wanted by the peer alone",
            settings: settings(),
            change: |open| open.capabilities.extended_next_hop = true,
            expected: |_| {},
        },
        Case {
            name: "extended next hops, wanted by us alone",
            settings: Settings { extended_next_hop: true, ..settings() },
            change: |_| {},
            expected: |_| {},
        },
        Case {
            name: "graceful restart not wanted",
            settings: Settings { graceful_restart: false, ..settings() },
            change: |_| {},
            expected: |agreed| agreed.graceful_restart = None,
        },
    ];
    for case in cases {
        let mut open = peer_open();
        (case.change)(&mut open);
        let mut expected = Negotiated {
            router_id: PEER_ID,
            hold_time: Duration::from_secs(9),
            four_octet_as: true,
            families: BOTH.to_vec(),
            add_path: BOTH.to_vec(),
            extended_messages: true,
            extended_next_hop: false,
            graceful_restart: peer_open().capabilities.graceful_restart,
            route_refresh: true,
            enhanced_refresh: true,
        };
        (case.expected)(&mut expected);
        assert_eq!(negotiate(&case.settings, &open), Ok(expected), "{}", case.name);
    }
}

#[test]
fn what_is_kept_while_the_peer_restarts() {
    struct Case {
        name: &'static str,
        restart: Option<GracefulRestart>,
        stale_time: u64,
        expected: &'static [(Family, u64)],
        preserved: &'static [Family],
    }
    let restart = |restart_time, families: &[(Family, bool)]| {
        Some(GracefulRestart {
            restarted: true,
            notification: false,
            restart_time,
            families: families.to_vec(),
        })
    };
    let cases = [
        Case { name: "not offered", restart: None, stale_time: 300, expected: &[], preserved: &[] },
        Case {
            name: "the peer's time, one family preserved",
            restart: restart(120, &[(Family::Ipv4, true), (Family::Ipv6, false)]),
            stale_time: 300,
            expected: &[(Family::Ipv4, 120), (Family::Ipv6, 120)],
            preserved: &[Family::Ipv4],
        },
        Case {
            name: "our limit",
            restart: restart(4095, &[(Family::Ipv6, true)]),
            stale_time: 300,
            expected: &[(Family::Ipv6, 300)],
            preserved: &[Family::Ipv6],
        },
        Case {
            name: "helper without families",
            restart: restart(120, &[]),
            stale_time: 300,
            expected: &[],
            preserved: &[],
        },
        Case {
            name: "no time",
            restart: restart(0, &[(Family::Ipv4, true)]),
            stale_time: 300,
            expected: &[],
            preserved: &[Family::Ipv4],
        },
    ];
    for case in cases {
        let mut open = peer_open();
        open.capabilities.graceful_restart = case.restart;
        let agreed = negotiate(&settings(), &open).expect(case.name);
        let expected: Vec<_> =
            case.expected.iter().map(|(family, time)| (*family, Duration::from_secs(*time))).collect();
        assert_eq!(agreed.retain(Duration::from_secs(case.stale_time)), expected, "{}", case.name);
        assert_eq!(agreed.forwarding_preserved(), case.preserved, "{}", case.name);
    }
}

#[test]
fn families_that_are_not_in_use_are_not_kept() {
    let mut open = peer_open();
    open.capabilities.families = Some(vec![Family::Ipv4]);
    let agreed = negotiate(&settings(), &open).expect("accepted");
    let kept: Vec<Family> =
        agreed.retain(Duration::from_secs(10)).iter().map(|(family, _)| *family).collect();
    assert_eq!(kept, [Family::Ipv4]);
    assert_eq!(PEER_AS, open.autonomous_system);
}

#[test]
fn what_was_agreed_has_names() {
    let mut open = peer_open();
    open.capabilities.extended_next_hop = true;
    let names = |settings: &Settings| negotiate(settings, &open).expect("agreed").names();
    let all = [
        "ipv4-unicast",
        "ipv6-unicast",
        "add-path-ipv4-unicast",
        "add-path-ipv6-unicast",
        "four-octet-as",
        "route-refresh",
        "enhanced-route-refresh",
        "graceful-restart",
        "extended-messages",
        "extended-next-hop",
    ];
    assert_eq!(names(&Settings { extended_next_hop: true, ..settings() }), all);
    let less = Settings {
        families: vec![Family::Ipv6],
        add_path: false,
        graceful_restart: false,
        extended_messages: false,
        ..settings()
    };
    assert_eq!(names(&less), ["ipv6-unicast", "four-octet-as", "route-refresh", "enhanced-route-refresh"]);
}
