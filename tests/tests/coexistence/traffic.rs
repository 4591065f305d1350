//! Traffic that goes on while something is done.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::topology;
use underpass_tests::traffic::udp::{self, Stream};

/// A second of datagrams, one per millisecond, in enough flows for every next hop.
const SECOND: Stream = Stream {
    count: 1000,
    payload: 200,
    flows: 32,
    gap: Duration::from_millis(1),
    deadline: Duration::from_secs(30),
};

/// Sends from one machine to a pod as long as `work` runs, and checks that every datagram arrives.
/// Both machines are sending before `work` begins and after it has ended.
pub fn during<T>(
    lab: &mut ReferenceLab,
    [from, pod]: [&str; 2],
    what: &str,
    work: impl FnOnce(&mut ReferenceLab) -> T,
) -> T {
    let address = topology::pod_address(pod).unwrap_or_else(|| panic!("{pod} is no pod"));
    let to = SocketAddr::new(IpAddr::V4(address), 7000);
    let (source, sink) = (lab.netns(from), lab.netns(pod));
    let send = || -> Result<u64> {
        let report = udp::send(&source, &sink, to, SECOND)?;
        report.check_intact()?;
        Ok(report.received)
    };
    send().unwrap_or_else(|error| panic!("before {what}: {error:#}"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut seconds = 0;
            while !done.load(Ordering::Acquire) || seconds == 0 {
                send()?;
                seconds += 1;
            }
            send()
        });
        // Also ends the traffic when `work` panics, which the scope would wait for.
        let ended = Ended(&done);
        let result = work(lab);
        drop(ended);
        let sent = traffic.join().expect("no panic");
        sent.unwrap_or_else(|error| panic!("during {what}: {error:#}"));
        result
    })
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
