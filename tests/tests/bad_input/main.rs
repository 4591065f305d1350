//! Bad input from every side: the operator's file, peers, the machine. What happens is a clear error,
//! what can go on goes on, and nothing of others is harmed.

mod configuration;
mod garbage;
mod guards;
mod machine;
mod reload;
mod sessions;
mod updates;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use underpass::api::model::{PeerStatus, Status};
use underpass_tests::agent::Agent;
use underpass_tests::lab::Lab;
use underpass_tests::netns;
use underpass_tests::privilege::can_raise_labs;
use underpass_tests::wait;

/// For what takes a moment; BIRD and the agent both wait after an error.
const SOON: Duration = Duration::from_secs(30);

/// The agent's machine and its neighbour.
const ROUTER: &str = "router";
const NEIGHBOUR: &str = "neighbour";
const ROUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NEIGHBOUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

const ROUTER_AS: u32 = 64512;
const NEIGHBOUR_AS: u32 = 64513;

/// A fast path on the one port, for everything.
const DATAPATH: &str = "[datapath]\nports = [\"eth0\"]\naccelerate = [\"10.0.0.0/8\"]\n";

/// Two machines with a cable. `None`, with a line that says why, where labs cannot be raised.
fn two_machines() -> Option<Lab> {
    if !can_raise_labs() {
        return None;
    }
    let lab = Lab::new().expect("a lab");
    let machines = lab.add_machines(&[ROUTER, NEIGHBOUR]).expect("namespaces");
    let [router, neighbour] = machines.as_slice() else { panic!("two machines") };
    router.sysctl(&[("ipv4.ip_forward", "1")]).expect("a router forwards");
    let (one, other) = (router.name(), neighbour.name());
    netns::ip(&format!("link add eth0 netns {one} type veth peer name eth0 netns {other}\n"))
        .expect("a cable");
    for (machine, address) in [(router, ROUTER_ADDRESS), (neighbour, NEIGHBOUR_ADDRESS)] {
        machine.ip(&format!("address add {address}/24 dev eth0\nlink set eth0 up\n")).expect("addresses");
    }
    Some(lab)
}

/// BGP with the neighbour. `more` are further keys of the peer, or further peers.
fn bgp(more: &str) -> String {
    format!(
        "[bgp]\nlocal_as = {ROUTER_AS}\nrouter_id = \"{ROUTER_ADDRESS}\"\nlisten = [\"{ROUTER_ADDRESS}\"]\n\
         [bgp.import]\nprefixes = [{{ prefix = \"10.233.64.0/18\", min = 24, max = 32 }}]\n\
         next_hops = [\"10.0.0.0/24\"]\n\
         [[bgp.peers]]\nname = \"neighbour\"\naddress = \"{NEIGHBOUR_ADDRESS}\"\nremote_as = {NEIGHBOUR_AS}\n\
         connect_retry = \"1s\"\nconnect_retry_max = \"2s\"\n{more}"
    )
}

/// BIRD's end of the session. `more` are further statements of the protocol.
fn bird(router_as: u32, routes: &str, more: &str) -> String {
    format!(
        "router id {NEIGHBOUR_ADDRESS};\nprotocol device {{ scan time 2; }}\n\
         protocol static {{ ipv4; {routes} }}\n\
         protocol bgp agent {{ local {NEIGHBOUR_ADDRESS} as {NEIGHBOUR_AS}; neighbor {ROUTER_ADDRESS} as {router_as};\n\
         connect delay time 1; connect retry time 1; error wait time 1, 2; {more}\n\
         ipv4 {{ import none; export all; }};\n}}\n"
    )
}

/// The agent's session of that name.
fn session(agent: &Agent, name: &str) -> anyhow::Result<PeerStatus> {
    let peers = agent.client().peers()?.peers;
    peers.into_iter().find(|peer| peer.name == name).ok_or_else(|| anyhow::anyhow!("no peer {name}"))
}

/// Waits until the last error of a session has all these words.
fn wait_last_error(agent: &Agent, name: &str, words: &[&str]) {
    wait::until(&format!("{name} ends with {words:?}"), SOON, || {
        let session = session(agent, name)?;
        let error = session.last_error.unwrap_or_default();
        ensure!(words.iter().all(|word| error.contains(word)), "{}: {error:?}", session.state);
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Exit code and standard output of `underpass status`.
fn status_command(agent: &Agent) -> (Option<i32>, String) {
    let output = agent.cli(&["status"]).expect("underpass starts");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the agent answers.
fn wait_answers(agent: &mut Agent) -> Status {
    wait::until("the agent answers", SOON, || {
        agent.process().check()?;
        agent.client().status()
    })
    .expect("it runs")
}

/// Waits until the agent has ended: its exit code and its log.
fn wait_ended(agent: &mut Agent) -> (Option<i32>, String) {
    let status = wait::until("the agent ends", SOON, || {
        agent.process().exited()?.ok_or_else(|| anyhow::anyhow!("it runs"))
    });
    (status.expect("it ends").code(), agent.process().log_tail())
}
