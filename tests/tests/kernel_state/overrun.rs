//! More notifications than the socket holds.

use std::fmt::Write as _;

use underpass::fib::model::CompileConfig;
use underpass::netlink::monitor::Options;

use crate::follower::{Follower, block_on};
use crate::router;

/// Routes that are added and removed again, each a notification.
const ROUTES: u32 = 100_000;
/// Routes that are there in the end.
const LEFT: u32 = 25;

#[test]
fn lost_notifications_lead_to_a_resync() {
    let (_lab, router) = router();
    let lines = |verb: &str, range: std::ops::Range<u32>| {
        range.fold(String::new(), |mut lines, i| {
            let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + i * 16);
            writeln!(lines, "route {verb} {prefix}/28 via 172.20.{}.2", i % 2).expect("a string takes it");
            lines
        })
    };
    let changes = lines("add", 0..ROUTES) + &lines("del", LEFT..ROUTES);
    router
        .enter(|| {
            block_on(async {
                let config = CompileConfig {
                    ports: vec!["eth*".into()],
                    accelerate: vec!["10.0.0.0/8".parse().expect("a prefix")],
                    services: Vec::new(),
                };
                let options = Options { receive_buffer: 8 << 10, ..Options::default() };
                let mut follower = Follower::start(&options, config);
                let namespace = router.clone();
                let flood = std::thread::spawn(move || namespace.ip(&changes));
                while !flood.is_finished() {
                    follower_step(&mut follower).await;
                }
                flood.join().expect("no panic").expect("the routes");
                follower.catch_up("after the flood").await;
                let counters = follower.monitor.counters();
                assert!(counters.resyncs >= 1, "{counters:?}");
                let routes = &follower.monitor.state().routes;
                let main = routes.prefixes(254).filter(|prefix| prefix.prefix_len() == 28);
                assert_eq!(main.count(), LEFT as usize);
            });
        })
        .expect("the namespace");
}

async fn follower_step(follower: &mut Follower) {
    let pause = std::time::Duration::from_millis(50);
    if let Ok(delta) = tokio::time::timeout(pause, follower.monitor.next()).await {
        follower.compiler.update(follower.monitor.state(), &delta.expect("the monitor works"));
    }
}
