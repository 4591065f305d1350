//! What may be wrong with the machine: somebody else's XDP program, no bpffs, an agent that runs already.

use std::time::Instant;

use anyhow::ensure;
use nix::mount::umount;
use underpass_tests::agent::Agent;
use underpass_tests::lab::Lab;
use underpass_tests::wait;
use underpass_tests::xdp::PassProgram;

use super::{DATAPATH, ROUTER, SOON, bgp, status_command, two_machines, wait_answers, wait_ended};

#[test]
fn somebody_elses_program_is_named_and_left_alone() {
    let Some(lab) = two_machines() else { return };
    let router = lab.netns(ROUTER);
    let foreign = PassProgram::load(&lab).expect("a program");
    foreign.attach(&router, "eth0").expect("attached");
    let id = xdp_program(&lab).expect("it is attached");

    let mut agent = Agent::start(&lab, ROUTER, DATAPATH).expect("started");
    let status = wait_answers(&mut agent);
    let port = status.datapath.expect("configured").ports.pop().expect("a port");
    assert!(!port.attached && !port.ingress && !port.egress, "{port:?}");
    let problem = port.problem.expect("it cannot be used");
    assert!(problem.contains(&format!("eth0 already runs XDP program {id} in native mode")), "{problem}");
    let (code, text) = status_command(&agent);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("XDP program {id}")), "{text}");
    // The agent tries again every second: it must not win by trying.
    wait_uptime(&mut agent, 3);
    assert_eq!(xdp_program(&lab), Some(id), "while the agent runs");
    agent.stop().expect("stopped");
    let flushed = agent.cli(&["flush"]).expect("underpass starts");
    assert!(flushed.status.success(), "{}", String::from_utf8_lossy(&flushed.stderr));
    assert_eq!(xdp_program(&lab), Some(id), "after the flush");

    agent.restart().expect("started");
    wait_answers(&mut agent);
    router.ip("link set dev eth0 xdp off\n").expect("detached");
    wait::until("the agent attaches once the port is free", SOON, || {
        let status = agent.client().status()?;
        let ports = status.datapath.map(|datapath| datapath.ports).unwrap_or_default();
        ensure!(ports.iter().all(|port| port.attached), "{ports:?}");
        Ok(())
    })
    .expect("attached");
    assert!(xdp_program(&lab).is_some_and(|ours| ours != id), "another program than before");
}

#[test]
fn a_stop_during_the_start_is_a_clean_one() {
    let Some(lab) = two_machines() else { return };
    let mut agent = Agent::start(&lab, ROUTER, &(DATAPATH.to_owned() + &bgp(""))).expect("started");
    let socket = agent.client().socket();
    let deadline = Instant::now() + SOON;
    // The socket comes first; sessions, programs and maps take a while longer.
    while !socket.exists() {
        assert!(Instant::now() < deadline, "{}", agent.process().log_tail());
        std::thread::yield_now();
    }
    let status = agent.stop().expect("stopped");
    assert!(status.success(), "{status}: {}", agent.process().log_tail());
    assert!(!socket.exists(), "the socket goes with the agent");
}

#[test]
fn a_missing_bpffs_is_told_with_its_remedy() {
    let Some(lab) = two_machines() else { return };
    umount(&lab.bpffs()).expect("the lab's own bpffs");
    let mut agent = Agent::start(&lab, ROUTER, DATAPATH).expect("started");
    let (code, log) = wait_ended(&mut agent);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("mount -t bpf"), "{log}");

    // Routes are worth having without a fast path.
    let mut agent = Agent::start(&lab, ROUTER, &(DATAPATH.to_owned() + &bgp(""))).expect("started");
    let status = wait_answers(&mut agent);
    assert!(status.datapath.is_none() && status.bgp.is_some(), "{status:?}");
    let problem = status.problems.iter().find(|problem| problem.starts_with("no fast path"));
    assert!(problem.is_some_and(|problem| problem.contains("mount -t bpf")), "{:?}", status.problems);
    assert_eq!(status_command(&agent).0, Some(1));
}

#[test]
fn a_second_agent_does_not_start() {
    let Some(lab) = two_machines() else { return };
    let mut agent = Agent::start(&lab, ROUTER, DATAPATH).expect("started");
    wait_answers(&mut agent);
    let socket = agent.client().socket();
    let program = xdp_program(&lab).expect("ours");
    let elsewhere = lab.dir().join("elsewhere.sock");
    let elsewhere = elsewhere.to_str().expect("UTF-8");
    let cases = [
        (
            "with the same socket",
            vec!["run"],
            format!("another underpass is running at {}", socket.display()),
        ),
        (
            "with the same pins",
            vec!["run", "--socket", elsewhere],
            lab.bpffs().join(ROUTER).display().to_string(),
        ),
    ];
    for (name, arguments, expected) in cases {
        let output = agent.cli(&arguments).expect("underpass starts");
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(&expected), "{name}: {text}");
        agent.client().status().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(xdp_program(&lab), Some(program), "{name}: the first one's program");
    }
    agent.process().check().expect("it runs");
}

fn xdp_program(lab: &Lab) -> Option<u32> {
    lab.netns(ROUTER).xdp_program("eth0").expect("an interface")
}

/// Waits until the agent has run for so many seconds.
fn wait_uptime(agent: &mut Agent, seconds: u64) {
    wait::until("the agent has run for a while", SOON, || {
        agent.process().check()?;
        let uptime = agent.client().status()?.uptime_seconds;
        ensure!(uptime >= seconds, "{uptime} s");
        Ok(())
    })
    .expect("it runs");
}
