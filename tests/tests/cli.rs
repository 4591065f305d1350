//! The command line as its users see it: output, exit codes, closed pipes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use underpass::api::model::{
    CounterRow, Counters, Done, KernelAnswer, Lookup, PeerAction, Peers, Reloaded, ReloadedChange, Request,
    Response, Routes, SCHEMA, Status, XdpAnswer,
};
use underpass::api::server::{Call, SOCKET_MODE, Server};

/// The program under test: `UNDERPASS_BIN` (`cargo xtask test` sets it) or the one beside the tests.
fn binary() -> PathBuf {
    let path = std::env::var_os("UNDERPASS_BIN").map_or_else(
        || {
            let tests = std::env::current_exe().expect("the test's own path");
            tests.ancestors().nth(2).expect("target/debug").join("underpass")
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run `cargo build -p underpass`", path.display());
    path
}

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("started");
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A folder with a configuration whose socket and pins are in the folder.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a folder") };
        machine.configure("[datapath]\nports = [\"none0\"]\naccelerate = [\"10.233.64.0/18\"]\n");
        machine
    }

    fn configure(&self, rest: &str) {
        let agent =
            format!("[agent]\nsocket = \"{}\"\nbpffs = \"{}\"\n", text(&self.socket()), text(&self.bpffs()));
        fs::write(self.config(), agent + rest).expect("written");
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("underpass.toml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("underpass.sock")
    }

    fn bpffs(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        run(&[&["-c", text(&self.config())], arguments].concat())
    }

    /// Exit code and report.
    fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let (code, out, error) = self.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(error, "", "{arguments:?}");
        (code, serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{problem}: {out}")))
    }
}

/// The socket of a running agent, with reports of ours.
struct FakeAgent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeAgent {
    fn start(socket: PathBuf, answer: impl Fn(Request) -> Response + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (bound, ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let server = Server::bind(&socket, SOCKET_MODE).expect("bound");
                bound.send(()).expect("the test waits");
                let (calls, mut received) = tokio::sync::mpsc::channel::<Call>(1);
                let answering = async move {
                    while let Some(Call { request, reply }) = received.recv().await {
                        let _ = reply.send(answer(request));
                    }
                };
                tokio::select! {
                    () = server.serve(calls) => {}
                    () = answering => {}
                    _ = stopped => {}
                }
            });
        });
        ready.recv().expect("the socket is bound");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lookup_report(agree: bool) -> Lookup {
    Lookup {
        schema: SCHEMA,
        address: "10.233.70.5".parse().expect("an address"),
        source: "172.20.0.254".parse().expect("an address"),
        interface: "eth0".to_owned(),
        prefix: None,
        xdp: XdpAnswer {
            verdict: "pass".to_owned(),
            reason: "no_route".to_owned(),
            target: 0,
            next_hops: Vec::new(),
            chosen: None,
            interface: None,
        },
        kernel: KernelAnswer { kind: "local".to_owned(), gateway: None, interface: None, error: None },
        agree,
    }
}

fn report(request: &Request) -> Response {
    match request {
        Request::Status => {
            Response::Status(Status { schema: SCHEMA, version: "9.9.9".to_owned(), ..Status::default() })
        }
        Request::Peers => Response::Peers(Peers { schema: SCHEMA, peers: Vec::new() }),
        Request::Routes => Response::Routes(Routes { schema: SCHEMA, routes: Vec::new() }),
        Request::Lookup { .. } => Response::Lookup(lookup_report(true)),
        Request::Peer { action, .. } => Response::Done(Done {
            schema: SCHEMA,
            peer: "172.20.0.11".parse().expect("an address"),
            action: *action,
        }),
        Request::Reload => Response::Reloaded(Reloaded {
            schema: SCHEMA,
            changes: vec![ReloadedChange {
                object: "peer rr1 (172.20.0.11)".to_owned(),
                action: "reset".to_owned(),
                keys: vec!["hold_time".to_owned()],
            }],
            needs_restart: vec!["log".to_owned()],
            problems: Vec::new(),
        }),
        Request::Counters => Response::Counters(Counters {
            schema: SCHEMA,
            counters: vec![CounterRow {
                interface: "eth0".to_owned(),
                verdict: "passed".to_owned(),
                reason: "no_route".to_owned(),
                packets: 7,
                bytes: 420,
            }],
        }),
    }
}

const COMMANDS: [&str; 13] = [
    "run", "status", "peers", "peer", "reload", "routes", "lookup", "counters", "flush", "off", "on",
    "config", "version",
];

#[test]
fn version_and_usage() {
    let version = env!("CARGO_PKG_VERSION");
    let (code, out, _) = run(&["version"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, format!("underpass {version} (ABI {})\n", underpass_common::abi::ABI_VERSION));
    let (code, out, _) = run(&["version", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, report["version"].as_str()), (Some(0), Some(version)));
    assert_eq!(report["schema"], SCHEMA);

    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for command in COMMANDS {
        let described = |line: &str| line.trim_start().starts_with(&format!("{command} "));
        assert!(out.lines().any(described), "{command}: {out}");
    }
    for arguments in [&["frobnicate"][..], &[], &["status", "-o", "xml"], &["lookup"], &["lookup", "ten"]] {
        let (code, out, error) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!error.is_empty(), "{arguments:?}");
    }
}

#[test]
fn config_example_passes_config_check() {
    let machine = Machine::new();
    let (code, example, _) = run(&["config", "example"]);
    assert_eq!(code, Some(0));
    fs::write(machine.config(), example).expect("written");
    assert_eq!(machine.run(&["config", "check"]), (Some(0), "ok\n".to_owned(), String::new()));
}

#[test]
fn config_check_lists_every_problem() {
    let machine = Machine::new();
    machine.configure("[datapath]\nport = [\"eth0\"]\naccelerate = [\"10.233.64.0/18\"]\nlease = \"1s\"\n");
    let (code, out, error) = machine.run(&["config", "check"]);
    assert_eq!((code, error.as_str()), (Some(1), ""));
    let name = machine.config();
    let lines: Vec<&str> =
        out.lines().map(|line| line.strip_prefix(text(&name)).expect("starts with the file")).collect();
    assert_eq!(
        lines[0],
        ":4:1: datapath.ports: missing; set it to a list, each element a port's name or a pattern, such as \
         \"eth0\" or \"eth*\""
    );
    assert_eq!(lines[1], ":5:1: datapath.port: unknown key; did you mean `ports`?");
    assert!(lines[2].starts_with(":7:9: datapath.lease: 1s is outside of 5s to 1h"), "{}", lines[2]);
    assert_eq!(lines.len(), 3);

    machine.configure("[datapath]\nports = [\"eth0\"]\naccelerate = [\"10.0.0.0/8\"]\n[kernel]\n");
    let (code, out, _) = machine.run(&["config", "check"]);
    assert_eq!((code, out.lines().last()), (Some(0), Some("ok")));
    assert!(out.contains(":7:2: warning: kernel: has no effect without [bgp]"), "{out}");

    let (code, out, error) = run(&["-c", "/nonexistent/underpass.toml", "config", "check"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.starts_with("error: cannot read /nonexistent/underpass.toml: No such file"), "{error}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(binary()).args(["config", "example"]).stdout(writer).output().expect("started");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn without_an_agent_the_commands_say_so() {
    let machine = Machine::new();
    for command in
        [&["status"][..], &["peers"], &["routes", "-o", "json"], &["lookup", "10.0.0.1"], &["reload"]]
    {
        let (code, out, error) = machine.run(command);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command:?}");
        let expected = format!("error: cannot reach the agent at {}: ", text(&machine.socket()));
        assert!(error.starts_with(&expected) && error.contains("is `underpass run` running?"), "{error}");
    }
    let (code, _, error) = run(&["-c", "/nonexistent.toml", "status"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("/nonexistent.toml"), "a file that was named must exist: {error}");
}

#[test]
fn reports_come_as_tables_and_as_json() {
    let machine = Machine::new();
    let _agent = FakeAgent::start(machine.socket(), |request| report(&request));
    let counters = "PORT  VERDICT  REASON    PACKETS  BYTES\neth0  passed   no_route        7    420\n";
    let lookup = ["lookup", "10.233.70.5", "--in", "eth0", "--from", "10.0.0.1"];
    let reloaded = "peer rr1 (172.20.0.11): reset (hold_time)\nlog: differs, and only a restart of the agent \
                    takes it on\n";
    let down = Request::Peer { peer: "rr1".to_owned(), action: PeerAction::Down, message: String::new() };
    for (command, table, response) in [
        (&["status"][..], "Agent     underpass 9.9.9", report(&Request::Status)),
        (&["peers"], "no peers are configured", report(&Request::Peers)),
        (&["routes"], "no routes", report(&Request::Routes)),
        (&["counters"], counters, report(&Request::Counters)),
        (&["reload"], reloaded, report(&Request::Reload)),
        (&["peer", "rr1", "down"], "172.20.0.11 is taken down\n", report(&down)),
        (&lookup, "Packet    to 10.233.70.5", Response::Lookup(lookup_report(true))),
    ] {
        let (code, out, error) = machine.run(command);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{command:?}");
        assert!(out.starts_with(table), "{command:?}: {out}");
        let (code, out, _) = machine.run(&[command, &["-o", "json"]].concat());
        let printed: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let mut expected = serde_json::to_value(response).expect("JSON");
        expected.as_object_mut().expect("an object").remove("report");
        assert_eq!((code, printed), (Some(0), expected), "{command:?}");
    }
}

#[test]
fn lookup_passes_its_options_on() {
    let machine = Machine::new();
    let (seen, asked) = mpsc::channel();
    let _agent = FakeAgent::start(machine.socket(), move |request| {
        seen.send(request).expect("the test listens");
        Response::Lookup(lookup_report(false))
    });
    let (code, out, _) = machine.run(&["lookup", "10.233.70.5", "--in", "eth1", "--from", "10.0.0.1"]);
    assert_eq!(code, Some(1), "XDP and the kernel disagree");
    assert!(out.contains("Agree     no"), "{out}");
    let expected = Request::Lookup {
        address: "10.233.70.5".parse().expect("an address"),
        source: Some("10.0.0.1".parse().expect("an address")),
        interface: Some("eth1".to_owned()),
    };
    assert_eq!(asked.recv().expect("asked"), expected);
}

#[test]
fn problems_and_refusals_have_exit_codes() {
    let machine = Machine::new();
    let _agent = FakeAgent::start(machine.socket(), |request| match request {
        Request::Lookup { .. } => Response::Error { message: "no port is named eth9".to_owned() },
        _ => Response::Status(Status { problems: vec!["port eth1 is down".to_owned()], ..Status::default() }),
    });
    let (code, out, _) = machine.run(&["status"]);
    assert_eq!(code, Some(1));
    assert!(out.ends_with("Problems  port eth1 is down\n"), "{out}");
    assert_eq!(machine.run(&["status", "-o", "json"]).0, Some(1));
    assert_eq!(
        machine.run(&["lookup", "10.0.0.1", "--in", "eth9"]),
        (Some(2), String::new(), "error: no port is named eth9\n".to_owned())
    );
    let (code, _, error) = machine.run(&["peers"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("another report"), "{error}");

    let (code, _, error) = machine.run(&["flush"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("is running and would put everything back; stop it first"), "{error}");

    // A configuration with errors does not hide the agent, and --socket needs none at all.
    machine.configure("bogus = 1\n");
    assert_eq!(machine.run(&["status"]).0, Some(1));
    assert_eq!(run(&["--socket", text(&machine.socket()), "status"]).0, Some(1));
    // What would be removed cannot be known from it.
    let (code, _, error) = machine.run(&["flush"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("agent.bogus: unknown key"), "{error}");
}

#[test]
fn config_check_as_json() {
    let machine = Machine::new();
    let (code, report) = machine.json(&["config", "check"]);
    assert_eq!((code, &report["ok"], &report["problems"]), (Some(0), &json!(true), &json!([])));
    machine.configure("[datapath]\nports = [\"none0\"]\naccelerate = [\"10.233.64.0/18\"]\ntypo = 1\n");
    let (code, report) = machine.json(&["config", "check"]);
    assert_eq!((code, &report["ok"]), (Some(1), &json!(false)));
    let problem = &report["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["key"], &problem["severity"]),
        (&json!(7), &json!("datapath.typo"), &json!("error")),
        "{problem}"
    );
}

#[test]
fn the_kill_switch_without_a_data_plane() {
    let machine = Machine::new();
    let (code, out, error) = machine.run(&["off"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.starts_with("nothing to switch off: no data plane is loaded below "), "{out}");
    let (code, out, error) = machine.run(&["on"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.contains("no data plane is loaded below "), "{error}");

    let (code, report) = machine.json(&["off"]);
    assert_eq!((code, report), (Some(0), json!({ "schema": 1, "enabled": false, "loaded": false })));

    // Where one may not look (here: a file in the place of the folder) nobody says that all is off.
    fs::write(machine.bpffs(), "").expect("written");
    for command in ["off", "on", "flush"] {
        let (code, out, error) = machine.run(&[command]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command}");
        assert!(error.contains(text(&machine.bpffs())), "{command}: {error}");
    }
}

/// Whether a test that needs root can run; it says why not, and fails where it must run.
fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let _ = writeln!(std::io::stderr(), "SKIP {test}: needs root for a network namespace of its own");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} must run under CI=true");
    false
}

#[test]
fn flush_takes_out_our_routes_and_no_others() {
    if !is_root("flush_takes_out_our_routes_and_no_others") {
        return;
    }
    let machine = Machine::new();
    machine.configure(
        "[bgp]\nlocal_as = 64512\nrouter_id = \"10.9.0.1\"\n[[bgp.peers]]\naddress = \"10.9.0.2\"\n\
         remote_as = 64512\n[bgp.import]\nprefixes = [\"10.10.0.0/24\"]\nnext_hops = [\"10.9.0.0/24\"]\n",
    );
    let script = r#"
        set -e
        ip link add up0 type veth peer name up1
        ip link set up0 up
        ip link set up1 up
        ip address add 10.9.0.1/24 dev up0
        ip route add 10.10.0.0/24 proto 210 metric 200 nexthop via 10.9.0.2 nexthop via 10.9.0.3
        ip route add 10.10.1.0/24 via 10.9.0.2 proto 210 metric 200
        ip route add 10.10.1.0/24 via 10.9.0.2 proto 12
        ip route add 10.11.0.0/24 via 10.9.0.2 proto 210 metric 200 table 300
        "$1" -c "$2" flush
        echo "-- left"
        ip route show table all | grep ' via '
        echo "-- again"
        "$1" -c "$2" flush -o json | tr -d ' \n'
    "#;
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", script, "sh", text(&binary()), text(&machine.config())])
        .output()
        .expect("unshare of util-linux");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "detached 0 programs, removed 0 maps and the routes of 2 prefixes (table 254, protocol 210)",
            "-- left",
            "10.11.0.0/24 via 10.9.0.2 dev up0 table 300 proto 210 metric 200",
            "10.10.1.0/24 via 10.9.0.2 dev up0 proto bird",
            "-- again",
            r#"{"errors":[],"maps":0,"programs":0,"protocol":210,"routes":0,"schema":1,"table":254}"#,
        ]
    );
}

/// Steps of an operator with a running agent.
const OPERATOR: &str = include_str!("cli/operator.sh");

#[test]
fn an_operator_steers_a_running_agent() {
    if !is_root("an_operator_steers_a_running_agent") {
        return;
    }
    let machine = Machine::new();
    let mount = machine.folder.path().join("mount");
    let pins = mount.join("underpass");
    let config = format!(
        "[agent]\nsocket = \"{}\"\nbpffs = \"{}\"\n[datapath]\nports = [\"up0\"]\naccelerate = [\"10.233.64.0/18\"]\n",
        text(&machine.socket()),
        text(&pins)
    );
    fs::write(machine.config(), config).expect("written");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--kill-child", "--fork", "--pid", "sh", "-c"])
        .args([OPERATOR, "sh", text(&binary()), text(&machine.config()), text(&mount)])
        .output()
        .expect("unshare of util-linux");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    let step = |name: &str| -> &str {
        let start = out.find(&format!("-- {name}\n")).unwrap_or_else(|| panic!("{name} is missing: {out}"));
        out[start..].split("\n-- ").next().expect("not empty")
    };
    for (name, parts) in [
        ("status", &["Datapath  on, lease ", "in sync with the kernel", "up0"][..]),
        ("lookup", &["to 10.233.70.5", "Prefix    10.233.70.0/26", "unicast via 10.9.0.2 out by up0", "= 0"]),
        ("off", &["off: every packet is left to the kernel", "= 0"]),
        ("status of one that is off", &["Datapath  off (kill switch", "= 1"]),
        ("lookup of one that is off", &["XDP       pass (off)", "= 0"]),
        ("on", &["on: packets are forwarded", "= 0"]),
        ("status of one that is on", &["Datapath  on, lease "]),
        ("unknown port", &["nope is not a managed port", "= 2"]),
        ("second agent", &["another underpass is running at ", "= 1"]),
        ("flush of a running one", &["stop it first", "= 2"]),
        ("stopped", &["= 0"]),
        ("off without an agent", &["off: every packet is left to the kernel", "= 0"]),
        ("flush", &["detached 1 programs, removed ", "= 0"]),
    ] {
        assert!(!step(name).contains("still attached"), "{out}");
        for part in parts {
            assert!(step(name).contains(part), "{name}: {part:?} is missing: {}", step(name));
        }
    }
}
