//! Agents that start, stop and die; routes that change under load; other programs.

use std::fs;
use std::time::Duration;

use aya::EbpfLoader;
use aya::maps::Array;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use underpass_common::bench::program::GENERATE;
use underpass_common::bench::{FRAME_LEN, GENERATORS, Generator, TTL, map};
use underpass_tests::twin::Shot;
use underpass_tests::wait;

use crate::rig::{REDIRECT, Rig, SOON, host_mac};

/// The end of the lease of [`Rig`]'s agent, with room.
const LEASE_ENDS: Duration = Duration::from_secs(15);

/// While routes change, a packet takes the old way or the new one, and after a withdrawal none.
#[test]
fn h36_changes_under_load_never_misroute() {
    let Some(mut rig) = Rig::with("") else { return };
    let ways = [host_mac(1, 2), host_mac(2, 2)];
    let mut used = [0u32; 2];
    for round in 0..60 {
        let port = 1 + round % 2;
        rig.twin
            .fast
            .netns
            .ip(&format!("route replace 10.233.64.0/18 via 10.1{port}.0.2\n"))
            .expect("a route");
        let shots: Vec<Shot> =
            (1..=50).map(|tag| Shot { port: 0, tag, frame: numbered(&mut rig, tag) }).collect();
        rig.twin.fast.forget();
        rig.twin.fast.send_all(&shots).expect("sent");
        rig.twin.settle().expect("quiet");
        for shot in &shots {
            let [left] = rig.twin.fast.outcome(shot.tag).as_slice() else {
                panic!("round {round}: {:?}", rig.twin.fast.outcome(shot.tag))
            };
            let way = ways.iter().position(|mac| left.frame[..6] == *mac).expect("one of the two");
            assert_eq!(left.port, way + 1, "MAC address and port belong together");
            used[way] += 1;
        }
    }
    assert!(used.iter().all(|used| *used > 500), "{used:?}");

    rig.ip("route del 10.233.64.0/18\n");
    rig.wait_for("no_route", |frame| frame);
    for _ in 0..20 {
        let frame = rig.frame().build();
        assert_eq!(rig.check("withdrawn", &frame, "no_route")[0].port, 0, "network unreachable");
    }
}

fn numbered(rig: &mut Rig, tag: u32) -> Vec<u8> {
    rig.frame().identification(u16::try_from(tag).expect("few")).build()
}

/// A program that is there already, of a policy engine say, is not displaced: its port stays with the kernel.
#[test]
fn h38_another_xdp_program_is_never_displaced() {
    let Some(mut rig) = Rig::with("") else { return };
    let near = rig.twin.fast.netns.clone();
    near.ip("link add x9 type veth peer name y9\n").expect("a veth");
    let foreign = rig.twin.lab().bpffs().join("foreign");
    fs::create_dir(&foreign).expect("a folder");
    let program = load_pass(&foreign.join("pass"));
    near.ip(&format!("link set dev x9 xdpdrv pinned {}\n", program.display())).expect("a veth runs XDP");
    let before = near.xdp_program("x9").expect("it exists");
    assert!(before.is_some());
    // Only now it matches the pattern.
    near.ip("link set x9 name p9\nlink set p9 up\n").expect("another name");
    rig.wait_for_port("p9", |port| {
        !port.attached && port.problem.as_ref().is_some_and(|problem| problem.contains("XDP program"))
    });
    assert_eq!(near.xdp_program("p9").expect("it exists"), before);
    // A new link may come with rules of its own: they are read before packets pass them again.
    rig.wait_for(REDIRECT, |frame| frame);
    let frame = rig.frame().build();
    rig.check_forwarded("the other ports go on", &frame, (1, 2), REDIRECT);
}

/// Loads and pins the program that passes everything.
fn load_pass(pin: &std::path::Path) -> std::path::PathBuf {
    let mut object = EbpfLoader::new().load(underpass::datapath::OBJECT).expect("the object");
    let name = underpass_common::abi::program::PASS;
    let program: &mut Xdp = object.program_mut(name).expect("in it").try_into().expect("an XDP program");
    program.load().expect("loads");
    program.pin(pin).expect("pinned");
    pin.to_owned()
}

/// Live test runs use the same pages again and again: what forwarding has changed in a frame has to be put
/// right each time, or the TTL falls to nothing. The benchmark's source does.
#[test]
fn h39_the_benchmarks_source_resets_recycled_frames() {
    static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("RIVALS_OBJECT"));
    if !underpass_tests::privilege::can_raise_labs() {
        return;
    }
    let mut object = EbpfLoader::new().load(OBJECT).expect("the object");
    let [ttl, udp] = [TTL, 17];
    let map = object.map_mut(map::GENERATOR).expect("in it");
    let mut generators = Array::try_from(map).expect("an array");
    for cpu in 0..GENERATORS {
        let ttl_protocol = u16::from_ne_bytes([ttl, udp]);
        // Its own peer: it waits for no other.
        let generator = Generator { ttl_protocol, frames: u32::MAX, peer: cpu, ..Generator::default() };
        generators.set(cpu, generator, 0).expect("one element for each");
    }
    let program: &mut Xdp = object.program_mut(GENERATE).expect("in it").try_into().expect("an XDP program");
    program.load().expect("loads");
    let run = |frame: &[u8]| {
        let mut out = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        program.test_run(options).expect("a test run");
        out
    };
    let mut frame = vec![0; FRAME_LEN];
    frame[14] = 0x45;
    for ttl in [0, 1, 63] {
        frame[22] = ttl;
        frame[24] = ttl;
        let out = run(&frame);
        assert_eq!(out[22], TTL, "TTL {ttl} came back");
        assert_ne!(out[24..26], frame[24..26], "so did the checksum");
    }
}

/// A pinned program forwards on when its agent is dead, on rows that grow old: when the lease ends, it stops.
#[test]
fn h43_a_dead_agents_program_stops_with_its_lease() {
    let Some(mut rig) = Rig::with("") else { return };
    let frame = rig.frame().build();
    rig.check_forwarded("alive", &frame, (1, 2), REDIRECT);
    rig.twin.agent_mut().kill().expect("killed");
    let passed = |rig: &mut Rig| {
        let before = rig.twin.fast.reached_stack;
        rig.twin.forget();
        let shot = Shot { port: 0, tag: 1, frame: numbered(rig, 1) };
        rig.twin.send(std::slice::from_ref(&shot)).expect("sent");
        assert_eq!(
            rig.twin.differing(&[shot]).expect("settled"),
            [] as [u32; 0],
            "as the kernel, either way"
        );
        rig.twin.fast.reached_stack > before
    };
    assert!(!passed(&mut rig), "the lease still holds");
    wait::until("the lease has ended", LEASE_ENDS, || {
        anyhow::ensure!(passed(&mut rig), "still forwarded by XDP");
        Ok(())
    })
    .expect("PASS");
    rig.twin.agent_mut().restart().expect("started");
    rig.twin.agent_mut().wait_synced(SOON).expect("synced");
    let frame = rig.frame().build();
    rig.check_forwarded("a new agent", &frame, (1, 2), REDIRECT);
}

/// Attaching resets many NICs: the link flaps. A stop does not detach and a restart does not attach anew,
/// so neither interrupts anything. (That ports are attached one at a time matters to real NICs only.)
#[test]
fn h49_stop_and_restart_leave_the_program_attached() {
    let Some(mut rig) = Rig::with("") else { return };
    let near = rig.twin.fast.netns.clone();
    let changes = |port: &str| {
        let path = format!("/sys/class/net/{port}/carrier_changes");
        near.run("cat", [path]).unwrap_or_default()
    };
    let program = |port: &str| near.xdp_program(port).expect("it exists");
    let before = (changes("p0"), program("p0"));
    assert!(before.1.is_some());
    rig.twin.agent_mut().stop().expect("stopped");
    assert_eq!(program("p0"), before.1, "still attached");
    let seen = rig.twin.fast.reached_stack;
    let shot = Shot { port: 0, tag: 1, frame: numbered(&mut rig, 1) };
    rig.twin.send(std::slice::from_ref(&shot)).expect("sent");
    assert_eq!(rig.twin.differing(&[shot]).expect("settled"), [] as [u32; 0]);
    assert_eq!(rig.twin.fast.reached_stack, seen, "XDP forwards on");
    rig.twin.agent_mut().restart().expect("started");
    rig.twin.agent_mut().wait_synced(SOON).expect("synced");
    assert!(program("p0").is_some());
    assert_eq!(changes("p0"), before.0, "no flap");
}
