//! What is never taken from the kernel: packets to local pods and to services.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use underpass_tests::netns::Netns;
use underpass_tests::traffic::udp::{self, Stream};

use super::{Counts, LAB, target, wait_forwards};

/// A `ClusterIP`.
const SERVICE: &str = "10.233.0.10:7011";
/// Port of the pods behind it.
const BACKEND: u16 = 7010;
/// Sockets that ask it, and how often each does.
const FLOWS: usize = 8;
const QUESTIONS: usize = 10;

#[test]
fn packets_to_local_pods_reach_the_kernel() {
    let Some(lab) = LAB.take() else { return };
    // leaf01 sends the flows for node1's block to both reflectors: node2 hairpins its part to node1.
    wait_forwards(&lab, "node2", "eth0", "client", "pod1");
    let (node1, node2) = (Counts::of(&lab, "node1"), Counts::of(&lab, "node2"));
    let stream = Stream { count: 400, flows: super::FLOWS, ..Stream::default() };
    let report = udp::send(&lab.netns("client"), &lab.netns("pod1"), target("pod1", 7000), stream);
    let report = report.expect("traffic");
    report.check_intact().expect("everything arrives");

    let (node1, node2) = (node1.added(&lab, "node1"), node2.added(&lab, "node2"));
    assert_eq!(node1.forwarded(), 0, "a local pod's packets stay with the kernel: {node1:?}");
    assert!(node1.get("eth0", "local") >= stream.count, "{node1:?}");
    let by_node2 = node2.get("eth0", "forwarded_tx");
    let ttls = BTreeMap::from([(60, by_node2), (61, stream.count - by_node2)]);
    assert_eq!(report.ttls, ttls, "by node2 there is one hop more");
    assert!(by_node2 > 0 && by_node2 < stream.count, "leaf01 uses both: {by_node2} by node2");
}

#[test]
fn packets_to_services_reach_the_kernel() {
    let Some(lab) = LAB.take() else { return };
    // Spine and leafs spread flows over all reflectors. What kube-proxy does there: the service's address
    // becomes that of a pod, here of the node's own.
    let backends = [("node1", "pod1"), ("node2", "pod2"), ("node4", "pod4"), ("node5", "pod5")];
    for (node, pod) in backends {
        let to = target(pod, BACKEND);
        let service: SocketAddr = SERVICE.parse().expect("an address");
        let rule = format!("ip daddr {} udp dport {} dnat to {to}", service.ip(), service.port());
        nft(
            &lab.netns(node),
            &format!(
                "table ip proxy {{ chain services {{ type nat hook prerouting priority dstnat; {rule}; }}; }}"
            ),
        );
    }
    let before = backends.map(|(node, _)| Counts::of(&lab, node));
    let done = &AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        for (_, pod) in backends {
            let socket = bind(&lab.netns(pod), target(pod, BACKEND), Duration::from_millis(50));
            scope.spawn(move || echo(&socket, done));
        }
        let answers = ask(&lab.netns("client"));
        done.store(true, Ordering::Release);
        answers
    });
    assert_eq!(answers, FLOWS * QUESTIONS, "every question is answered from the service's address");
    let mut seen = 0;
    for ((node, _), before) in backends.iter().zip(before) {
        let added = before.added(&lab, node);
        assert_eq!(added.forwarded(), 0, "{node} leaves services to the kernel: {added:?}");
        seen += added.get("eth0", "service");
        nft(&lab.netns(node), "delete table ip proxy");
    }
    assert_eq!(seen, (FLOWS * QUESTIONS) as u64, "counted as packets to services");
}

/// Sends questions to the service, one after the other, and counts the right answers. The sockets are
/// connected: the kernel takes answers from the service's address only.
fn ask(client: &Netns) -> usize {
    let mut answers = 0;
    for flow in 0..FLOWS {
        let socket = bind(client, ([0; 4], 0).into(), Duration::from_secs(5));
        socket.connect(SERVICE).expect("a route to the service");
        for question in 0..QUESTIONS {
            let text = format!("question {question} of flow {flow}");
            socket.send(text.as_bytes()).expect("sent");
            let mut answer = [0; 100];
            match socket.recv(&mut answer) {
                Ok(length) if answer[..length] == *text.as_bytes() => answers += 1,
                other => println!("{text}: {other:?}"),
            }
        }
    }
    answers
}

/// Sends back what comes in.
fn echo(socket: &UdpSocket, done: &AtomicBool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done.load(Ordering::Acquire) && Instant::now() < deadline {
        let mut question = [0; 100];
        match socket.recv_from(&mut question) {
            Ok((length, from)) => {
                socket.send_to(&question[..length], from).expect("sent back");
            }
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock), "{error}"),
        }
    }
}

/// A socket that waits for `patience` at most.
fn bind(netns: &Netns, address: SocketAddr, patience: Duration) -> UdpSocket {
    let socket = netns.enter(|| UdpSocket::bind(address)).expect("inside").expect("a free address");
    socket.set_read_timeout(Some(patience)).expect("a time-out");
    socket
}

fn nft(netns: &Netns, command: &str) {
    netns.run("nft", [command]).expect("nft");
}
