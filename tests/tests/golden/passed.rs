//! Packets that are left to the kernel, untouched.

mod headers;

use underpass_common::abi::{BUCKET_ENTRIES, Control};
use underpass_common::fib::flat::MAX_TARGET;
use underpass_common::nexthop::{
    NextHop, PORT_EGRESS, PORT_GUARDED4, PORT_INGRESS, PORT_INGRESS6, PORT_OWN_SOURCES, Port, Target,
    TargetKind,
};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{DataPlane, INGRESS_IFINDEX};
use underpass_tests::packet::FrameBuilder;

use crate::fixture::{
    ASYMMETRIC_SOURCE, ASYMMETRIC_TARGET, Answer, BY_INGRESS, CASE_TARGET, Case, EGRESS_ROW, EGRESS_TARGET,
    HAIRPIN, HAIRPIN_ROW, HAIRPIN_TARGET, INGRESS_VIEW, ON_LINK, Ports, SOURCE, SOURCE_TARGET, Setup, check,
    egress_port, egress_row, frame, ingress_port, network, pass,
};

fn unchanged(_: &mut DataPlane, _: Ports) {}

fn passed(name: &'static str, frame: Vec<u8>, setup: Setup, reason: Reason, answer: Answer) -> Case {
    Case { name, frame, setup, reason, leaves: None, answer }
}

/// All packets that must be left alone.
pub fn cases(ports: Ports) -> Vec<Case> {
    let mut cases = controlled();
    cases.extend(headers::cases());
    cases.extend(by_destination());
    cases.extend(by_egress(ports));
    cases.extend(by_source(ports));
    cases
}

/// Kill switch, lease, port.
fn controlled() -> Vec<Case> {
    let at_port = Answer { port_number: 1, ..Answer::default() };
    let nowhere = Answer::default();
    let case = |name, setup, reason, answer| passed(name, frame().build(), setup, reason, answer);
    vec![
        case("off", |d, _| control(d, u64::MAX, 0), Reason::Off, at_port),
        case("neither on nor off", |d, _| control(d, u64::MAX, 2), Reason::Off, at_port),
        case("off beats the lease", |d, _| control(d, 0, 0), Reason::Off, at_port),
        case("lease never given", |d, _| control(d, 0, 1), Reason::LeaseExpired, at_port),
        case(
            "off, and no port either",
            |d, _| {
                control(d, 0, 0);
                no_port(d);
            },
            Reason::Off,
            nowhere,
        ),
        case("no port", |d, _| no_port(d), Reason::NotAPort, nowhere),
        case(
            "the slot belongs to another port",
            |d, _| d.set_port(Port { ifindex: INGRESS_IFINDEX + 1024, ..ingress_port() }),
            Reason::NotAPort,
            nowhere,
        ),
        case(
            "port takes IPv6 only",
            |d, _| d.set_port(Port { flags: ingress_port().flags & !PORT_INGRESS, ..ingress_port() }),
            Reason::PortNotReady,
            at_port,
        ),
        case(
            "a rule of the kernel could decide",
            |d, _| d.set_port(Port { flags: ingress_port().flags | PORT_GUARDED4, ..ingress_port() }),
            Reason::KernelRule,
            at_port,
        ),
        case(
            "port not ready",
            |d, _| {
                d.set_port(Port {
                    flags: ingress_port().flags & !(PORT_INGRESS | PORT_INGRESS6),
                    ..ingress_port()
                });
            },
            Reason::PortNotReady,
            at_port,
        ),
    ]
}

fn control(data_plane: &mut DataPlane, lease_until: u64, enabled: u32) {
    data_plane.set_control(Control { lease_until, enabled, flow_seed: 0 });
}

/// Empties the slot of the ingress port.
fn no_port(data_plane: &mut DataPlane) {
    data_plane.set_port(Port { ifindex: INGRESS_IFINDEX + 1024, ..Port::default() });
}

/// What the destination's target says.
fn by_destination() -> Vec<Case> {
    let answer = |target| Answer { port_number: 1, target, ..Answer::default() };
    let case = |name, setup, reason, target| passed(name, frame().build(), setup, reason, answer(target));
    let beyond = [198, 51, 101, 1].into();
    let mut cases = vec![
        passed("no route", frame().destination(beyond).build(), unchanged, Reason::NoRoute, answer(0)),
        case(
            "not accelerated",
            |d, _| refuse(d, Reason::NotAccelerated),
            Reason::NotAccelerated,
            CASE_TARGET,
        ),
        case("local", |d, _| refuse(d, Reason::Local), Reason::Local, CASE_TARGET),
        case("connected", |d, _| refuse(d, Reason::Connected), Reason::Connected, CASE_TARGET),
        case("blackhole", |d, _| refuse(d, Reason::Refused), Reason::Refused, CASE_TARGET),
        case("unsupported", |d, _| refuse(d, Reason::Unsupported), Reason::Unsupported, CASE_TARGET),
        case("table full", |d, _| refuse(d, Reason::TableFull), Reason::TableFull, CASE_TARGET),
        case("service", |d, _| refuse(d, Reason::Service), Reason::Service, CASE_TARGET),
        case(
            "no managed egress",
            |d, _| refuse(d, Reason::EgressNotManaged),
            Reason::EgressNotManaged,
            CASE_TARGET,
        ),
        // A PASS row must never send a frame, whatever it says.
        case(
            "PASS row says TX",
            |d, _| refuse(d, Reason::ForwardedTx),
            Reason::TableInconsistent,
            CASE_TARGET,
        ),
        case(
            "PASS row says redirect",
            |d, _| refuse(d, Reason::ForwardedRedirect),
            Reason::TableInconsistent,
            CASE_TARGET,
        ),
        case("PASS row says nonsense", |d, _| target(d, 0, 4711, 0), Reason::TableInconsistent, CASE_TARGET),
        case("unknown kind of target", |d, _| target(d, 3, 1, 0), Reason::TableInconsistent, CASE_TARGET),
        case("target out of range", |d, _| route(d, 65_536), Reason::TableInconsistent, 65_536),
        case(
            "bucket out of range",
            |d, _| target(d, TargetKind::Group as u32, BUCKET_ENTRIES, 0),
            Reason::TableInconsistent,
            CASE_TARGET,
        ),
    ];
    let mut row = case(
        "row out of range",
        |d, _| target(d, TargetKind::NextHop as u32, 65_536, 0),
        Reason::TableInconsistent,
        CASE_TARGET,
    );
    row.answer.next_hop = 65_536;
    cases.push(row);
    cases.push(case(
        "empty bucket: row 0 is never live",
        |d, _| target(d, TargetKind::Group as u32, 0, 1),
        Reason::NextHopNotLive,
        CASE_TARGET,
    ));
    // The more specific prefix of another view does not count.
    cases.push(passed(
        "no route in this port's view",
        frame().destination([192, 0, 5, 1].into()).build(),
        |d, _| d.set_prefix(INGRESS_VIEW + 1, "192.0.5.0/24".parse().expect("a prefix"), EGRESS_TARGET),
        Reason::NoRoute,
        answer(0),
    ));
    cases
}

/// Routes the golden destination to a target.
fn route(data_plane: &mut DataPlane, id: u32) {
    data_plane.set_prefix(INGRESS_VIEW, "198.51.100.0/26".parse().expect("a prefix"), id);
}

/// Routes it to a target of its own.
fn target(data_plane: &mut DataPlane, kind: u32, index: u32, mask: u32) {
    data_plane.set_target(CASE_TARGET, Target { kind, index, mask, source_flags: 0, source_ports: 0 });
    route(data_plane, CASE_TARGET);
}

/// Routes it to a PASS target.
fn refuse(data_plane: &mut DataPlane, reason: Reason) {
    target(data_plane, TargetKind::Pass as u32, reason as u32, 0);
}

/// What the next hop and its port say.
fn by_egress(ports: Ports) -> Vec<Case> {
    let chosen = Answer {
        port_number: 1,
        target: EGRESS_TARGET,
        source_target: 0,
        next_hop: EGRESS_ROW,
        egress_ifindex: ports.egress,
    };
    let not_live = Answer { egress_ifindex: 0, ..chosen };
    let checked = Answer { source_target: SOURCE_TARGET, ..chosen };
    let case = |name, frame: &FrameBuilder, setup: Setup, reason, answer| {
        passed(name, frame.build(), setup, reason, answer)
    };
    let long = frame().packet_length(1501);
    vec![
        case(
            "next hop not live",
            &frame(),
            |d, p| d.set_next_hop(EGRESS_ROW, NextHop { state: 0, ..egress_row(p) }),
            Reason::NextHopNotLive,
            not_live,
        ),
        case("one byte above the MTU", &long, unchanged, Reason::TooBig, chosen),
        case(
            "above the MTU, may fragment",
            &long.clone().dont_fragment(false),
            unchanged,
            Reason::TooBig,
            chosen,
        ),
        case("GRO aggregate", &frame().packet_length(3400), unchanged, Reason::TooBig, chosen),
        case(
            "smaller route MTU",
            &frame().packet_length(1401),
            |d, p| d.set_next_hop(EGRESS_ROW, NextHop { mtu: 1400, ..egress_row(p) }),
            Reason::TooBig,
            chosen,
        ),
        case(
            "egress port has no row",
            &frame(),
            |d, p| d.set_port(Port { ifindex: p.egress + 1024, ..egress_port(p) }),
            Reason::EgressNotManaged,
            chosen,
        ),
        case(
            "egress port does not transmit XDP frames",
            &frame(),
            |d, p| d.set_port(Port { flags: PORT_INGRESS, ..egress_port(p) }),
            Reason::EgressNotManaged,
            checked,
        ),
        Case {
            answer: Answer { egress_ifindex: ports.other, ..checked },
            ..case(
                "egress port missing from the redirect map",
                &frame(),
                |d, p| {
                    d.set_port(Port { ifindex: p.other, ..egress_port(p) });
                    d.set_next_hop(EGRESS_ROW, NextHop { ifindex: p.other, ..egress_row(p) });
                },
                Reason::EgressNotManaged,
                checked,
            )
        },
        Case {
            answer: Answer {
                target: HAIRPIN_TARGET,
                next_hop: HAIRPIN_ROW,
                egress_ifindex: INGRESS_IFINDEX,
                ..checked
            },
            ..case(
                "hairpin without XDP_TX nor redirect",
                &frame().destination(HAIRPIN),
                |d, _| {
                    let flags = PORT_INGRESS & !PORT_EGRESS;
                    d.set_port(Port { flags, ..ingress_port() });
                },
                Reason::EgressNotManaged,
                checked,
            )
        },
    ]
}

/// What the source says.
fn by_source(ports: Ports) -> Vec<Case> {
    let unknown = frame().source([100, 64, 0, 1].into());
    let asymmetric = frame().source(ASYMMETRIC_SOURCE);
    let forward = |source_target| Answer {
        port_number: 1,
        target: EGRESS_TARGET,
        source_target,
        next_hop: EGRESS_ROW,
        egress_ifindex: ports.egress,
    };
    let hairpin = |source_target| Answer {
        target: HAIRPIN_TARGET,
        next_hop: HAIRPIN_ROW,
        egress_ifindex: INGRESS_IFINDEX,
        ..forward(source_target)
    };
    let case = |name, frame: &FrameBuilder, setup: Setup, reason, answer| {
        passed(name, frame.build(), setup, reason, answer)
    };
    vec![
        case(
            "no room for the source's prefix",
            &frame(),
            |d, _| d.set_target(SOURCE_TARGET, pass(Reason::TableFull, 0, 0)),
            Reason::TableFull,
            forward(SOURCE_TARGET),
        ),
        case("own address as source", &frame(), |d, _| own(d), Reason::SourceInvalid, forward(SOURCE_TARGET)),
        case(
            "own address as source, no filter",
            &frame(),
            |d, _| {
                own(d);
                d.set_port(Port { rp_filter: 0, ..ingress_port() });
            },
            Reason::SourceInvalid,
            forward(SOURCE_TARGET),
        ),
        case(
            "own address as source, where only those are refused and whatever its route",
            &frame(),
            |d, _| {
                d.add_own(SOURCE);
                let flags = ingress_port().flags | PORT_OWN_SOURCES;
                d.set_port(Port { rp_filter: 0, flags, ..ingress_port() });
            },
            Reason::SourceInvalid,
            forward(0),
        ),
        case(
            "target of the source out of range",
            &frame(),
            |d, p| {
                let view = egress_port(p).view;
                d.set_prefix(view, "192.0.2.0/25".parse().expect("a prefix"), MAX_TARGET);
            },
            Reason::TableInconsistent,
            forward(MAX_TARGET),
        ),
        case(
            "strict, another port",
            &asymmetric,
            unchanged,
            Reason::SourceReversePath,
            forward(ASYMMETRIC_TARGET),
        ),
        case("strict, no route", &unknown, unchanged, Reason::SourceReversePath, forward(0)),
        case(
            "loose, no route",
            &unknown,
            |d, _| d.set_port(Port { rp_filter: 2, ..ingress_port() }),
            Reason::SourceReversePath,
            forward(0),
        ),
        case(
            "hairpin, on-link source",
            &frame().destination(HAIRPIN),
            |d, _| d.set_target(SOURCE_TARGET, pass(Reason::Connected, ON_LINK, BY_INGRESS)),
            Reason::WouldRedirect,
            hairpin(SOURCE_TARGET),
        ),
        // The kernel looks for a less preferred route by the ingress port: on-link or not is not known.
        case(
            "hairpin, source by another port, no filter",
            &asymmetric.destination(HAIRPIN),
            |d, _| d.set_port(Port { rp_filter: 0, ..ingress_port() }),
            Reason::WouldRedirect,
            hairpin(ASYMMETRIC_TARGET),
        ),
        case(
            "source looked up in the egress port's view",
            &frame(),
            |d, p| {
                d.set_target(CASE_TARGET, pass(Reason::Local, 0, 0));
                let view = egress_port(p).view;
                d.set_prefix(view, "192.0.2.1/32".parse().expect("a prefix"), CASE_TARGET);
            },
            Reason::SourceInvalid,
            forward(CASE_TARGET),
        ),
    ]
}

/// The source's prefix is no valid source.
fn own(data_plane: &mut DataPlane) {
    data_plane.set_target(SOURCE_TARGET, pass(Reason::Local, 0, BY_INGRESS));
}

#[test]
fn packets_for_the_kernel_stay_untouched() {
    let Some((_keep, ports)) = network() else { return };
    for case in cases(ports) {
        check(&case, ports);
    }
}
