//! The kernel's state as Underpass sees it, in namespaces of a lab: what the monitor follows is what
//! a fresh dump shows, and what is compiled from it is what the kernel itself answers.

mod follow;
mod follower;
mod oracle;
mod overrun;
mod questions;

use std::time::Duration;

use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;
use underpass_tests::wait;

/// A router with two ports, and what is behind them. Gives the lab and the router.
fn router() -> (Lab, Netns) {
    let lab = Lab::new().expect("a lab; it needs root");
    let machines = lab.add_machines(&["router", "far"]).expect("namespaces");
    let [router, far] = machines.try_into().expect("two namespaces");
    for port in 0..2 {
        underpass_tests::netns::ip(&format!(
            "link add eth{port} netns {} type veth peer name far{port} netns {}\n",
            router.name(),
            far.name()
        ))
        .expect("a veth pair");
        router
            .ip(&format!("addr add 172.20.{port}.1/24 dev eth{port}\nlink set eth{port} up\n"))
            .expect("a port");
        far.ip(&format!("addr add 172.20.{port}.2/24 dev far{port}\nlink set far{port} up\n"))
            .expect("a far end");
    }
    let settings =
        [("ipv4.ip_forward", "1"), ("ipv4.conf.all.rp_filter", "0"), ("ipv4.conf.default.rp_filter", "0")];
    router.sysctl(&settings).expect("sysctls of the namespace");
    // A late carrier would be one more change, in the middle of those of a test.
    let carriers = || {
        let state = router.enter(follower::fresh)?;
        let up = state.links.values().filter(|link| link.name.starts_with("eth") && link.carrier).count();
        let mut hops = state.routes.bodies().flat_map(|route| &route.next_hops);
        anyhow::ensure!(up == 2 && !hops.any(|hop| hop.link_down), "{up} of two ports have a carrier");
        Ok(())
    };
    wait::until("the ports are up", Duration::from_secs(20), carriers).expect("carriers");
    (lab, router)
}
