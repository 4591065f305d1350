//! Lease and kill switch.

use std::time::Duration;

use anyhow::ensure;
use underpass::datapath::Datapath;
use underpass::datapath::control::{self, Switch};
use underpass::datapath::probe::{Addresses, Answer, Flow, udp_frame};
use underpass_common::reason::Reason;
use underpass_tests::wait;

use crate::rig::{LEASE, Rig, SOON};

/// What the program says about any packet from a port that is not managed: lease and kill switch come
/// first.
fn ask(datapath: &mut Datapath) -> Answer {
    let flow = Flow {
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        addresses: Addresses::V4([10, 0, 0, 2].into(), [10, 1, 1, 1].into()),
        source_port: 4000,
        destination_port: 9,
    };
    datapath.probe(u32::MAX, &udp_frame(&flow)).expect("the probe answers")
}

#[test]
fn kill_switch_works_without_an_agent_and_survives_restarts() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let bpffs = rig.bpffs();
        let error = control::set_enabled(&bpffs, false).expect_err("nothing loaded").to_string();
        assert!(error.contains("no data plane is loaded"), "{error}");

        let mut datapath = rig.load();
        datapath.renew_lease(LEASE).expect("renewed");
        assert_eq!(ask(&mut datapath).reason, Reason::Off, "fresh maps do not forward");
        assert_eq!(datapath.arm().expect("written"), Switch::On);
        assert_eq!(ask(&mut datapath).reason, Reason::NotAPort);

        // Beside a running agent, whose renewals must not undo it.
        control::set_enabled(&bpffs, false).expect("written");
        datapath.renew_lease(LEASE).expect("renewed");
        assert_eq!(ask(&mut datapath).reason, Reason::Off);
        assert!(!datapath.enabled().expect("readable"));
        drop(datapath);

        let mut datapath = rig.load();
        assert_eq!(datapath.arm().expect("readable"), Switch::Off, "a restart is no `on`");
        drop(datapath);
        control::set_enabled(&bpffs, true).expect("written");
        assert_eq!(control::switch(&bpffs).expect("readable"), Switch::On);
        let mut datapath = rig.load();
        assert_eq!(ask(&mut datapath).reason, Reason::NotAPort);
    });
}

#[test]
fn lease_ends_without_renewals() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        datapath.arm().expect("written");
        assert_eq!(ask(&mut datapath).reason, Reason::LeaseExpired, "no lease yet");
        datapath.renew_lease(Duration::from_secs(30)).expect("renewed");
        let left = datapath.lease_seconds().expect("readable");
        assert!((28..=30).contains(&left), "{left}");
        assert_eq!(ask(&mut datapath).reason, Reason::NotAPort);

        let begin = std::time::Instant::now();
        datapath.renew_lease(Duration::from_millis(600)).expect("renewed");
        wait::until("the lease ends", SOON, || {
            let reason = ask(&mut datapath).reason;
            ensure!(reason == Reason::LeaseExpired, "{reason:?}");
            Ok(())
        })
        .expect("the lease ends");
        // A wrong tick rate would be off by a factor of 2.5 and more.
        assert!(begin.elapsed() >= Duration::from_millis(600), "{:?}", begin.elapsed());
        assert_eq!(datapath.lease_seconds().expect("readable"), 0);
    });
}
