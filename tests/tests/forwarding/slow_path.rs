//! Packets that need more than forwarding, while XDP is on: the kernel's work still gets done.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use underpass_tests::netns::Netns;
use underpass_tests::traffic::udp::{self, Stream};
use underpass_tests::{topology, wait};

use super::{Counts, LAB, SOON, target, wait_forwards};

#[test]
fn fragments_are_forwarded_and_reassembled_at_the_receiver() {
    let Some(lab) = LAB.take() else { return };
    for (from, to, agents) in [
        ("client", "pod3", &[("node1", "eth0"), ("node2", "eth0")][..]),
        ("gwclient", "pod3b", &[("gw1", "eth1")]),
    ] {
        let before: Vec<Counts> = agents
            .iter()
            .map(|(agent, port)| {
                wait_forwards(&lab, agent, port, from, to);
                Counts::of(&lab, agent)
            })
            .collect();
        // 4,008 bytes behind the IP header are three fragments of 1,480, 1,480 and 1,048.
        let stream = Stream { count: 60, payload: 4000, gap: Duration::from_millis(1), ..Stream::default() };
        let report = udp::send(&lab.netns(from), &lab.netns(to), target(to, 7000), stream).expect("traffic");
        report.check_intact().expect("every datagram is whole");
        let added =
            agents.iter().zip(before).map(|((agent, _), before)| before.added(&lab, agent).forwarded());
        assert_eq!(added.sum::<u64>(), 3 * stream.count, "fragments forwarded by XDP from {from} to {to}");
    }
}

#[test]
fn the_agents_kernel_says_that_the_ttl_has_expired() {
    let Some(lab) = LAB.take() else { return };
    let rack = &topology::RACKS[0];
    let reflectors: Vec<Ipv4Addr> = rack.reflectors().map(|node| node.address).collect();
    let cases = [
        // The spine and leaf01 take one each: a reflector gets it with one left.
        ("client", "pod3", 3, reflectors, &[("node1", "eth0"), ("node2", "eth0")][..]),
        ("gwclient", "pod3b", 1, vec![Ipv4Addr::new(192, 168, 200, 1)], &[("gw1", "eth1")]),
    ];
    for (from, to, ttl, agents_addresses, agents) in cases {
        let before: Vec<Counts> = agents.iter().map(|(agent, _)| Counts::of(&lab, agent)).collect();
        let error = provoke(&lab.netns(from), to, 100, Some(ttl)).expect("an ICMP error");
        // ICMP time exceeded (11), exceeded in transit (0).
        assert_eq!((error.kind, error.code), (11, 0), "{error:?}");
        assert!(agents_addresses.contains(&error.from), "{error:?} is not from {agents_addresses:?}");
        let mut expired = 0;
        for ((agent, port), before) in agents.iter().zip(before) {
            let added = before.added(&lab, agent);
            assert_eq!(added.forwarded(), 0, "{agent}: {added:?}");
            expired += added.get(port, "ttl_expired");
        }
        assert!(expired > 0, "counted by one of {agents:?}");
    }
}

#[test]
fn the_agents_kernel_says_that_a_packet_is_too_big() {
    const MTU: u32 = 1400;
    let Some(lab) = LAB.take() else { return };
    wait_forwards(&lab, "gw1", "eth1", "gwclient", "pod3b");
    let (gw1, client) = (lab.netns("gw1"), lab.netns("gwclient"));
    gw1.ip(&format!("link set eth0 mtu {MTU}\n")).expect("a smaller MTU");
    let before = Counts::of(&lab, "gw1");
    // 1,500 bytes with headers: fits into every MTU but the new one. Linux sets DF on its own.
    let error = provoke(&client, "pod3b", 1472, None).expect("an ICMP error");
    // ICMP destination unreachable (3), fragmentation needed (4).
    assert_eq!((error.kind, error.code, error.info), (3, 4, MTU), "{error:?}");
    assert_eq!(error.from, Ipv4Addr::new(192, 168, 200, 1), "gw1's address towards the client");
    let added = before.added(&lab, "gw1");
    assert!(added.get("eth1", "too_big") > 0, "{added:?}");

    // The client has learned the MTU: now it cuts datagrams itself, and XDP forwards the pieces.
    let before = Counts::of(&lab, "gw1");
    let stream = Stream { count: 50, payload: 1472, gap: Duration::from_millis(1), ..Stream::default() };
    let report = udp::send(&client, &lab.netns("pod3b"), target("pod3b", 7000), stream).expect("traffic");
    report.check_intact().expect("everything arrives");
    assert_eq!(before.added(&lab, "gw1").get("eth1", "forwarded_redirect"), 2 * stream.count);

    gw1.ip("link set eth0 mtu 1500\n").expect("the MTU as it was");
    client.ip("route flush cache\n").expect("the client forgets the MTU");
    wait::until("full packets are forwarded again", SOON, || {
        let report = udp::send(&client, &lab.netns("pod3b"), target("pod3b", 7000), stream)?;
        report.check_intact()
    })
    .expect("as before");
}

/// An ICMP error that came back to the sender.
#[derive(Debug)]
struct IcmpError {
    kind: u8,
    code: u8,
    /// The next hop's MTU, of "fragmentation needed".
    info: u32,
    from: Ipv4Addr,
}

/// Sends a datagram of `length` bytes every now and then, until an ICMP error comes back. Routers limit
/// the rate of their errors.
fn provoke(from: &Netns, to: &str, length: usize, ttl: Option<u32>) -> Result<IcmpError> {
    let socket = from.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("a socket")?;
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).context("cannot ask for ICMP errors")?;
    if let Some(ttl) = ttl {
        socket.set_ttl(ttl).context("cannot set the TTL")?;
    }
    socket.connect(target(to, 7020)).context("no route")?;
    let datagram = vec![0x55; length];
    wait::until("an ICMP error comes back", SOON, || {
        // Tells of an earlier error, and then sends nothing.
        let _ = socket.send(&datagram);
        wait::until("an answer", Duration::from_millis(500), || read_error(&socket))
    })
}

fn read_error(socket: &UdpSocket) -> Result<IcmpError> {
    let mut payload = [0; 2048];
    let mut slices = [IoSliceMut::new(&mut payload)];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
        .context("no ICMP error yet")?;
    let error =
        message.cmsgs().context("the control messages do not fit")?.find_map(|message| match message {
            ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => Some(IcmpError {
                kind: error.ee_type,
                code: error.ee_code,
                info: error.ee_info,
                from: Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)),
            }),
            _ => None,
        });
    let error = error.context("an error of another kind")?;
    ensure!(!IpAddr::V4(error.from).is_unspecified(), "not from the network: {error:?}");
    Ok(error)
}
