use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as Client;
use std::path::PathBuf;
use std::time::Instant;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::api::client::{self, ClientError};
use crate::api::model::{
    BgpStatus, CounterRow, Counters, DatapathStatus, KernelAnswer, KernelRoute, KernelStatus, Lookup,
    NextHopView, PeerStatus, Peers, PortStatus, RouteStatus, Routes, Status, XdpAnswer, XdpRoute,
};

const SHORT: Patience = Patience { client: Duration::from_millis(200), agent: Duration::from_millis(200) };

/// A server whose main loop answers by a function.
struct Agent {
    socket: PathBuf,
    serving: JoinHandle<()>,
    answering: JoinHandle<()>,
    _folder: TempDir,
}

impl Agent {
    fn start(patience: Patience, mut answer: impl FnMut(Call) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("made/underpass.sock");
        let server = Server::bind(&socket, SOCKET_MODE).expect("bound").with_patience(patience);
        let (calls, mut received) = mpsc::channel(1);
        let serving = tokio::spawn(server.serve(calls));
        let answering = tokio::spawn(async move {
            while let Some(call) = received.recv().await {
                answer(call);
            }
        });
        Self { socket, serving, answering, _folder: folder }
    }

    /// Answers every request with the same response.
    fn with(response: Response) -> Self {
        Self::start(Patience::default(), move |call| {
            let _ = call.reply.send(response.clone());
        })
    }

    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        let socket = self.socket.clone();
        off_loop(move || client::call(&socket, &request)).await
    }

    /// Sends bytes, closes the sending side when told to, and reads until the server closes.
    async fn converse(&self, bytes: Vec<u8>, close: bool) -> String {
        let socket = self.socket.clone();
        off_loop(move || {
            let mut client = Client::connect(socket).expect("connected");
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
            // The server may close before it has taken everything.
            let _ = client.write_all(&bytes);
            if close {
                client.shutdown(std::net::Shutdown::Write).expect("closed");
            }
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            String::from_utf8(answer).expect("UTF-8")
        })
        .await
    }
}

async fn off_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn requests() -> Vec<Request> {
    vec![
        Request::Status,
        Request::Peers,
        Request::Routes,
        Request::Lookup { address: address("10.233.70.5"), source: None, interface: None },
        Request::Lookup {
            address: address("2001:db8::5"),
            source: Some(address("2001:db8::1")),
            interface: Some("eth0".to_owned()),
        },
        Request::Counters,
    ]
}

fn hop() -> NextHopView {
    NextHopView {
        gateway: Some(address("172.20.0.13")),
        interface: "eth0".to_owned(),
        mac: Some("02:00:00:00:00:13".to_owned()),
        live: true,
    }
}

fn responses() -> Vec<Response> {
    let status = Status {
        schema: 1,
        version: "0.1.0".to_owned(),
        abi: 1,
        uptime_seconds: 3,
        datapath: Some(DatapathStatus { ports: vec![PortStatus::default()], ..DatapathStatus::default() }),
        bgp: Some(BgpStatus {
            local_as: u32::MAX,
            router_id: Ipv4Addr::new(172, 20, 0, 20),
            peers: 1,
            established: 0,
            prefixes: 0,
            paths: 0,
            filtered: [("own_next_hop".to_owned(), u64::MAX)].into(),
        }),
        kernel: Some(KernelStatus::default()),
        problems: vec!["line\nbreak and \"quotes\"".to_owned()],
    };
    let peer = PeerStatus {
        state: "Established".to_owned(),
        uptime_seconds: Some(1),
        flaps: 0,
        received: 1,
        accepted: 1,
        stale: 0,
        end_of_rib: true,
        hold_seconds: Some(90),
        updates: 1,
        last_error: None,
        ..PeerStatus::new("node1", "172.20.0.11".parse().expect("an address"), 64512)
    };
    let route = RouteStatus {
        prefix: "10.233.70.0/26".parse().expect("a prefix"),
        rib: Some(vec![address("172.20.0.13")]),
        rib_state: Some("synced".to_owned()),
        kernel: Some(KernelRoute {
            kind: "unicast".to_owned(),
            table: 254,
            protocol: "bird".to_owned(),
            metric: 0,
            next_hops: vec![hop()],
        }),
        xdp: Some(XdpRoute {
            verdict: "forward".to_owned(),
            reason: None,
            target: 1,
            next_hops: vec![hop()],
        }),
        agree: true,
    };
    let lookup = Lookup {
        schema: 1,
        address: address("10.233.70.5"),
        source: address("172.20.0.254"),
        interface: "eth0".to_owned(),
        prefix: None,
        xdp: XdpAnswer {
            verdict: "pass".to_owned(),
            reason: "no_route".to_owned(),
            target: 0,
            next_hops: Vec::new(),
            chosen: Some(hop()),
            interface: None,
        },
        kernel: KernelAnswer { kind: "error".to_owned(), gateway: None, interface: None, error: None },
        agree: true,
    };
    let counter = CounterRow {
        interface: "eth0".to_owned(),
        verdict: "passed".to_owned(),
        reason: "no_route".to_owned(),
        packets: u64::MAX,
        bytes: 0,
    };
    vec![
        Response::Status(status),
        Response::Peers(Peers { schema: 1, peers: vec![peer] }),
        Response::Routes(Routes { schema: 1, routes: vec![route] }),
        Response::Lookup(lookup),
        Response::Counters(Counters { schema: 1, counters: vec![counter] }),
        Response::Error { message: "no such port".to_owned() },
    ]
}

#[tokio::test]
async fn every_request_arrives_as_it_was_sent() {
    let (seen, mut requests_seen) = mpsc::unbounded_channel();
    let agent = Agent::start(Patience::default(), move |call| {
        seen.send(call.request).expect("the test listens");
        let _ = call.reply.send(Response::Error { message: String::new() });
    });
    for request in requests() {
        agent.call(request.clone()).await.expect("answered");
        assert_eq!(requests_seen.recv().await, Some(request));
    }
}

#[tokio::test]
async fn every_response_arrives_as_it_was_sent() {
    for response in responses() {
        let agent = Agent::with(response.clone());
        assert_eq!(agent.call(Request::Status).await.expect("answered"), response);
    }
}

#[tokio::test]
async fn a_response_larger_than_any_buffer_arrives() {
    let Response::Routes(Routes { routes, .. }) = responses().swap_remove(2) else { panic!("routes") };
    let many = Response::Routes(Routes { schema: 1, routes: vec![routes[0].clone(); 20_000] });
    let agent = Agent::with(many.clone());
    assert!(agent.call(Request::Routes).await.expect("answered") == many);
}

#[tokio::test]
async fn one_connection_may_ask_several_times() {
    let agent = Agent::with(Response::Error { message: "x".to_owned() });
    let answer = agent.converse(b"{\"command\":\"status\"}\n{\"command\":\"peers\"}\n".to_vec(), true).await;
    assert_eq!(answer, "{\"report\":\"error\",\"message\":\"x\"}\n".repeat(2));
}

#[tokio::test]
async fn garbage_is_answered_with_an_error() {
    let agent = Agent::start(Patience::default(), |call| panic!("must not be asked: {call:?}"));
    for (name, bytes) in [
        ("an empty line", b"\n".to_vec()),
        ("no JSON", b"GET / HTTP/1.1\n".to_vec()),
        ("no UTF-8", b"\xff\xfe\x00\n".to_vec()),
        ("an unknown command", b"{\"command\":\"reboot\"}\n".to_vec()),
        ("an unknown field", b"{\"command\":\"lookup\",\"address\":\"10.0.0.1\",\"bogus\":1}\n".to_vec()),
        ("a bad value", b"{\"command\":\"lookup\",\"address\":\"ten\"}\n".to_vec()),
        ("half a request", b"{\"command\":".to_vec()),
        ("deep nesting", [b"[".repeat(50_000), b"\n".to_vec()].concat()),
    ] {
        let answer = agent.converse(bytes, true).await;
        let response: Response =
            serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{name}: {error}: {answer}"));
        let Response::Error { message } = response else { panic!("{name}: {response:?}") };
        assert!(message.starts_with("the request is not understood: "), "{name}: {message}");
    }
    assert!(!agent.answering.is_finished(), "the main loop was asked");
}

#[tokio::test]
async fn a_line_too_long_is_refused_and_ends_the_connection() {
    let agent = Agent::start(Patience::default(), |call| panic!("must not be asked: {call:?}"));
    for length in [REQUEST_LIMIT, REQUEST_LIMIT * 4] {
        let answer = agent.converse(vec![b' '; length], false).await;
        // With unread bytes in flight the answer may be lost with the connection.
        assert!(answer.is_empty() || answer.contains("longer than 65536 bytes"), "{answer}");
    }
    let mut line = br#"{"command":"bogus"}"#.to_vec();
    line.resize(REQUEST_LIMIT - 1, b' ');
    line.push(b'\n');
    let answer = agent.converse(line, true).await;
    assert!(answer.contains("not understood"), "a line of the full length is read: {answer}");
}

#[tokio::test]
async fn silent_and_slow_clients_are_left() {
    let agent = Agent::start(SHORT, |call| {
        let _ = call.reply.send(Response::Error { message: "x".to_owned() });
    });
    let started = Instant::now();
    assert_eq!(agent.converse(Vec::new(), false).await, "", "a silent client");
    assert_eq!(agent.converse(b"{\"comm".to_vec(), false).await, "", "a client that stops in its request");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left() {
    let message = "x".repeat(4 << 20);
    let agent = Agent::start(SHORT, move |call| {
        let _ = call.reply.send(Response::Error { message: message.clone() });
    });
    let socket = agent.socket.clone();
    let received = off_loop(move || {
        let mut silent = Client::connect(socket).expect("connected");
        silent.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        silent.write_all(b"{\"command\":\"status\"}\n").expect("sent");
        // The answer fills the socket's buffer. Writing fails as soon as the server has given up.
        let deadline = Instant::now() + Duration::from_secs(20);
        while silent.write_all(b" ").is_ok() {
            assert!(Instant::now() < deadline, "the server waits for ever");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut received = Vec::new();
        let _ = silent.read_to_end(&mut received);
        received.len()
    })
    .await;
    assert!(received < 4 << 20, "{received} bytes");
}

#[tokio::test]
async fn silent_clients_do_not_shut_out_others_for_longer_than_the_patience() {
    let agent = Agent::start(SHORT, |call| {
        let _ = call.reply.send(Response::Error { message: "x".to_owned() });
    });
    let socket = agent.socket.clone();
    let silent = off_loop(move || {
        (0..CONNECTIONS * 2).map(|_| Client::connect(&socket).expect("connected")).collect::<Vec<_>>()
    })
    .await;
    let response = agent.call(Request::Status).await.expect("answered");
    assert_eq!(response, Response::Error { message: "x".to_owned() });
    drop(silent);
}

#[tokio::test]
async fn a_busy_or_stopping_agent_says_so() {
    let mut kept = Vec::new();
    let busy = Agent::start(SHORT, move |call| kept.push(call));
    let response = busy.call(Request::Status).await.expect("answered");
    assert!(matches!(&response, Response::Error { message } if message.contains("busy")), "{response:?}");

    let stopping = Agent::start(SHORT, drop);
    let response = stopping.call(Request::Status).await.expect("answered");
    assert_eq!(response, Response::Error { message: "the agent is stopping".to_owned() });
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_server() {
    let agent = Agent::with(Response::Error { message: String::new() });
    let metadata = fs::metadata(&agent.socket).expect("bound");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    agent.answering.abort();
    agent.serving.await.expect("ends when nobody takes calls");
    assert!(!agent.socket.exists());
    let error = client::call(&agent.socket, &Request::Status).expect_err("nobody there");
    assert!(error.is_nobody_there(), "{error}");
    let expected = format!("cannot reach the agent at {}: ", agent.socket.display());
    assert!(
        error.to_string().starts_with(&expected)
            && error.to_string().ends_with("is `underpass run` running?")
    );
}

#[tokio::test]
async fn a_running_agent_is_not_replaced_and_a_dead_ones_socket_is() {
    let agent = Agent::with(Response::Error { message: "alive".to_owned() });
    let error = Server::bind(&agent.socket, SOCKET_MODE).expect_err("refused");
    assert!(error.to_string().starts_with("another underpass is running at "), "{error}");
    assert!(agent.call(Request::Status).await.is_ok(), "the running agent still answers");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("underpass.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "the file of a dead agent stays");
    drop(Server::bind(&path, SOCKET_MODE).expect("replaced"));

    // A listener without the lock, such as another program's.
    let _foreign = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    assert!(matches!(Server::bind(&path, SOCKET_MODE), Err(ServerError::Running { .. })));

    let file = folder.path().join("file");
    fs::write(&file, "precious").expect("written");
    assert!(matches!(Server::bind(&file, SOCKET_MODE), Err(ServerError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&file).expect("still there"), "precious");
}

#[tokio::test]
async fn a_foreign_answer_is_told_from_silence() {
    let folder = tempfile::tempdir().expect("a folder");
    for (answer, expected) in [("", "does not answer"), ("hello\n", "answers in an unknown way")] {
        let path = folder.path().join(format!("{}.sock", answer.len()));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let foreign = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 256];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("sent");
        });
        let asked = path.clone();
        let error = off_loop(move || client::call(&asked, &Request::Status)).await.expect_err("no report");
        assert!(error.to_string().contains(expected) && !error.is_nobody_there(), "{error}");
        foreign.join().expect("no panic");
    }
}
