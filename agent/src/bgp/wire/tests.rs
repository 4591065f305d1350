use proptest::prelude::*;

use bytes::Bytes;

use super::*;
use crate::bgp::testing::{OUR_AS, OUR_ID, message, peer_open, received, settings, update_body};

#[test]
fn header_errors_carry_what_rfc_4271_asks_for() {
    struct Case {
        name: &'static str,
        bytes: Vec<u8>,
        expected: (u8, u8, Vec<u8>),
    }
    let with_length = |kind: u8, length: u16| {
        let mut bytes = message(kind, &[0; 40]);
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let cases = [
        Case { name: "text", bytes: b"GET / HTTP/1.1\r\n".to_vec(), expected: (1, 1, vec![]) },
        Case { name: "one wrong byte is enough", bytes: vec![0xff, 0xfe], expected: (1, 1, vec![]) },
        Case { name: "length 18", bytes: with_length(4, 18), expected: (1, 2, vec![0, 18]) },
        Case { name: "length 4097", bytes: with_length(2, 4097), expected: (1, 2, vec![0x10, 0x01]) },
        Case { name: "KEEPALIVE with a body", bytes: with_length(4, 20), expected: (1, 2, vec![0, 20]) },
        Case { name: "short OPEN", bytes: with_length(1, 28), expected: (1, 2, vec![0, 28]) },
        Case { name: "short UPDATE", bytes: with_length(2, 22), expected: (1, 2, vec![0, 22]) },
        Case { name: "short NOTIFICATION", bytes: with_length(3, 20), expected: (1, 2, vec![0, 20]) },
        Case { name: "short ROUTE-REFRESH", bytes: with_length(5, 22), expected: (1, 2, vec![0, 22]) },
        Case { name: "type 0", bytes: with_length(0, 19), expected: (1, 3, vec![0]) },
        Case { name: "type 6", bytes: with_length(6, 19), expected: (1, 3, vec![6]) },
        Case {
            name: "version 3",
            bytes: message(1, &[3, 0xfc, 0, 0, 9, 10, 0, 0, 1, 0]),
            expected: (2, 1, vec![0, 4]),
        },
        Case {
            name: "unknown optional parameter",
            bytes: message(1, &[4, 0xfc, 0, 0, 9, 10, 0, 0, 1, 3, 99, 1, 0]),
            expected: (2, 4, vec![]),
        },
        Case {
            name: "optional parameters longer than the message",
            bytes: message(1, &[4, 0xfc, 0, 0, 9, 10, 0, 0, 1, 9, 2, 0]),
            expected: (2, 0, vec![]),
        },
        Case {
            name: "UPDATE whose withdrawn routes end outside",
            bytes: message(2, &[0, 9, 0, 0]),
            expected: (3, 1, vec![]),
        },
        Case {
            name: "long end of refresh (RFC 7313 §5)",
            bytes: message(5, &[0, 1, 2, 1, 0]),
            expected: (7, 1, message(5, &[0, 1, 2, 1, 0])[..23].to_vec()),
        },
    ];
    for case in cases {
        let error = decode(&mut BytesMut::from(&case.bytes[..]), MAX_MESSAGE).expect_err(case.name);
        assert_eq!((error.code, error.subcode, error.data.to_vec()), case.expected, "{}", case.name);
    }
}

#[test]
fn extended_messages_are_read_where_they_were_offered() {
    struct Case {
        name: &'static str,
        bytes: Vec<u8>,
        longest: usize,
        expected: Result<&'static str, (u8, u8)>,
    }
    let filled = |kind, length: usize| message(kind, &vec![0; length - HEADER]);
    let cases = [
        Case { name: "UPDATE of 4096", bytes: filled(2, 4096), longest: MAX_MESSAGE, expected: Ok("UPDATE") },
        Case { name: "UPDATE of 4097", bytes: filled(2, 4097), longest: MAX_MESSAGE, expected: Err((1, 2)) },
        Case { name: "offered: 4097", bytes: filled(2, 4097), longest: MAX_EXTENDED, expected: Ok("UPDATE") },
        Case {
            name: "offered: 65535",
            bytes: filled(2, 65535),
            longest: MAX_EXTENDED,
            expected: Ok("UPDATE"),
        },
        Case {
            name: "OPEN stays short",
            bytes: filled(1, 4097),
            longest: MAX_EXTENDED,
            expected: Err((1, 2)),
        },
    ];
    for case in cases {
        let result = decode(&mut BytesMut::from(&case.bytes[..]), case.longest);
        let found = result.map(|message| message.expect("whole").name()).map_err(|n| (n.code, n.subcode));
        assert_eq!(found, case.expected, "{}", case.name);
    }
}

#[test]
fn capabilities_of_a_peer_are_read_beside_unknown_ones() {
    let read = |capabilities: &[u8]| {
        let length = u8::try_from(capabilities.len()).expect("short");
        let body = [&[4, 0xfc, 1, 0, 9, 10, 0, 0, 1, length + 2, 2, length][..], capabilities].concat();
        match received(&message(1, &body)) {
            Ok(Message::Open(open)) => open.capabilities,
            other => panic!("an OPEN, not {other:?}"),
        }
    };
    assert!(read(&[6, 0]).extended_messages);
    assert!(read(&[5, 6, 0, 1, 0, 1, 0, 2]).extended_next_hop);
    assert!(!read(&[5, 6, 0, 1, 0, 4, 0, 2]).extended_next_hop, "labels are not ours");
    assert!(
        read(&[5, 12, 64, 4, 0, 71, 0, 2, 0, 1, 0, 1, 0, 2]).extended_next_hop,
        "beside an unknown family"
    );
    let restart = read(&[64, 2, 0x40, 120]).graceful_restart.expect("offered");
    assert!(restart.notification && !restart.restarted && restart.restart_time == 120);
}

#[test]
fn messages_come_out_one_by_one_whatever_the_pieces() {
    let mut stream = message(4, &[]);
    stream.extend(message(2, &[0, 0, 0, 0]));
    stream.extend(message(3, &[6, 2]));
    let mut buffer = BytesMut::new();
    let mut names = Vec::new();
    for byte in stream {
        buffer.extend_from_slice(&[byte]);
        while let Some(message) = decode(&mut buffer, MAX_EXTENDED).expect("no error") {
            names.push(message.name());
        }
    }
    assert_eq!(names, ["KEEPALIVE", "UPDATE", "NOTIFICATION"]);
    assert!(buffer.is_empty());
}

#[test]
fn our_open_reads_back_as_it_was_meant() {
    for autonomous_system in [OUR_AS, 4_200_000_000] {
        let ours = Open { autonomous_system, ..settings().open() };
        assert_eq!(received(&open(&ours)), Ok(Message::Open(ours)));
    }
}

#[test]
fn our_open_byte_for_byte() {
    let bytes = open(&settings().open());
    let expected: &[u8] = &[
        4, 0xfc, 0x00, 0, 9, 10, 0, 0, 9, 42, 2, 40, // version, AS 64512, hold 9 s, id, one parameter
        1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, // IPv4 and IPv6 unicast
        2, 0, // route refresh
        6, 0, // extended messages
        64, 10, 0x40, 120, 0, 1, 1, 0, 0, 2, 1, 0, // graceful restart, no R, N, no F
        65, 4, 0, 0, 0xfc, 0, // 4-octet AS
        69, 8, 0, 1, 1, 1, 0, 2, 1, 1, // ADD-PATH: receive
        70, 0, // enhanced route refresh
    ];
    let expected = {
        let mut whole = expected.to_vec();
        (whole[9], whole[11]) =
            (u8::try_from(expected.len() - 10).unwrap(), u8::try_from(expected.len() - 12).unwrap());
        message(1, &whole)
    };
    assert_eq!(&bytes[..], &expected[..]);
    assert_eq!(OUR_ID.octets(), [10, 0, 0, 9]);
}

#[test]
fn the_other_messages_byte_for_byte() {
    let cease = Notification::cease(2).with_data(vec![1, b'x']);
    let cases: [(&str, Bytes, Vec<u8>); 6] = [
        ("KEEPALIVE", keepalive(), message(4, &[])),
        ("NOTIFICATION", super::notification(&cease), message(3, &[6, 2, 1, b'x'])),
        ("End-of-RIB IPv4", end_of_rib(Family::Ipv4), message(2, &[0, 0, 0, 0])),
        (
            "End-of-RIB IPv6",
            end_of_rib(Family::Ipv6),
            message(2, &update_body(&[], &[0x80, 15, 3, 0, 2, 1], &[])),
        ),
        ("refresh", route_refresh(Family::Ipv4, RefreshKind::Request), message(5, &[0, 1, 0, 1])),
        ("end of refresh", route_refresh(Family::Ipv6, RefreshKind::End), message(5, &[0, 2, 2, 1])),
    ];
    for (name, actual, expected) in cases {
        assert_eq!(&actual[..], &expected[..], "{name}");
    }
    let huge = super::notification(&Notification::cease(1).with_data(vec![7; 70_000]));
    assert_eq!(huge.len(), MAX_MESSAGE);
}

/// The crate drops the whole capability when it meets a family that it does not know.
#[test]
fn add_path_with_a_foreign_family_in_the_list() {
    let capability = [69, 12, 0, 1, 1, 3, 0x40, 0x05, 99, 3, 0, 2, 1, 9];
    let mut body = vec![4, 0xfc, 0x01, 0, 9, 10, 0, 0, 1, 16, 2, 14];
    body.extend_from_slice(&capability);
    let Ok(Message::Open(open)) = received(&message(1, &body)) else { panic!("an OPEN") };
    let both = AddPath { receive: true, send: true };
    assert_eq!(open.capabilities.add_path, [(Family::Ipv4, both)], "mode 9 is ignored");
    assert_eq!(open.capabilities.families, None);
}

#[test]
fn as_zero_in_the_fixed_field_is_as_zero() {
    let body = [4, 0, 0, 0, 9, 10, 0, 0, 1, 8, 2, 6, 65, 4, 0, 0, 0xfc, 0x01];
    let Ok(Message::Open(open)) = received(&message(1, &body)) else { panic!("an OPEN") };
    assert_eq!(open.autonomous_system, 0);
}

#[test]
fn notifications_in_words() {
    let cases = [
        ((2, 2), "OPEN Message Error: Bad Peer AS"),
        ((4, 0), "Hold Timer Expired"),
        ((6, 2), "Cease: Administrative Shutdown"),
        ((6, 7), "Cease: Connection Collision Resolution"),
        ((6, 99), "Cease"),
        ((77, 1), "unknown error code"),
    ];
    for ((code, subcode), expected) in cases {
        assert_eq!(words(code, subcode), expected);
    }
    let mut reason = vec![6, 2, 9];
    reason.extend_from_slice(b"be\nright.");
    let Ok(Message::Notification(shutdown)) = received(&message(3, &reason)) else { panic!("NOTIFICATION") };
    assert_eq!(shutdown.to_string(), "6/2 Cease: Administrative Shutdown (beright.)");
}

proptest! {
    /// Nothing that a peer sends makes us panic, and no more than a message is ever kept.
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0_u8..7) {
        let whole = message(kind, &bytes);
        let mut buffer = BytesMut::from(&whole[..]);
        let _ = decode(&mut buffer, MAX_EXTENDED);
        let mut buffer = BytesMut::from(&bytes[..]);
        let _ = decode(&mut buffer, MAX_EXTENDED);
        bytes.truncate(200);
        let body = update_body(&[], &bytes, &bytes);
        if let Ok(Message::Update(update)) = received(&message(2, &body)) {
            let families = [Family::Ipv4, Family::Ipv6];
            for external in [false, true] {
                for add_path in [&families[..], &[]] {
                    let encoding = Encoding { four_octet_as: external, external, extended_next_hop: !external, families: &families, add_path };
                    let _ = parse(&update, encoding);
                }
            }
        }
    }

    /// Our own decoder and the crate's agree on capabilities, whatever is offered.
    #[test]
    fn opens_read_back(hold_time in any::<u16>(), autonomous_system in 1_u32.., id in any::<u32>(), refresh in any::<bool>()) {
        let mut offered = peer_open();
        offered.hold_time = hold_time;
        offered.autonomous_system = autonomous_system;
        offered.router_id = id.into();
        offered.capabilities.route_refresh = refresh;
        prop_assert_eq!(received(&open(&offered)), Ok(Message::Open(offered)));
    }
}
