//! Counts the routes of a namespace by the kernel's own notifications, the same for every daemon.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt,
};
use underpass_tests::netns::Netns;

/// Group `RTNLGRP_IPV4_ROUTE` as a bit of `nl_groups`.
const ROUTES: u32 = 1 << 6;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
/// Room for a million notifications that nobody has read yet.
const RECEIVE_BUFFER: usize = 1 << 30;
/// Pause when there is nothing to read: the resolution of the clock.
const PAUSE: Duration = Duration::from_millis(2);

/// A thread that counts.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<anyhow::Result<()>>>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stop: AtomicBool,
    /// Routes that came, less those that went.
    routes: AtomicI64,
    wanted: i64,
    /// Microseconds after `started` at which there were as many as wanted for the first time; 0: not yet.
    reached: AtomicI64,
}

impl Watch {
    /// Counts in a namespace from now on, until there are `wanted` more routes than now.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn start(netns: &Netns, wanted: usize) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            routes: AtomicI64::new(0),
            wanted: i64::try_from(wanted)?,
            reached: AtomicI64::new(0),
        });
        let socket = netns.enter(open)??;
        let counts = Arc::clone(&shared);
        let thread = netns.spawn(move || counts.run(&socket));
        Ok(Self { shared, thread: Some(thread) })
    }

    /// When there were as many as wanted for the first time.
    pub fn reached(&self) -> Option<Instant> {
        let after = u64::try_from(self.shared.reached.load(Ordering::Acquire)).ok()?;
        (after > 0).then(|| self.shared.started + Duration::from_micros(after))
    }

    /// Routes more than at the start.
    pub fn routes(&self) -> i64 {
        self.shared.routes.load(Ordering::Relaxed)
    }

    /// Whether it still counts.
    ///
    /// # Errors
    /// It does not, because notifications were lost.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.end();
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the thread that counts routes panicked"))??
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _counted = self.end();
    }
}

impl Shared {
    fn run(&self, socket: &OwnedFd) -> anyhow::Result<()> {
        let (mut routes, mut head) = (0, [0; 8]);
        while !self.stop.load(Ordering::Relaxed) {
            // Only the start of each message is copied: one route per message.
            match recv(socket.as_raw_fd(), &mut head, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => match u16::from_ne_bytes([head[4], head[5]]) {
                    RTM_NEWROUTE => routes += 1,
                    RTM_DELROUTE => routes -= 1,
                    _ => {}
                },
                Err(Errno::EAGAIN) => {
                    self.routes.store(routes, Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    return Err(error).context("notifications of routes were lost, the pass cannot be timed");
                }
            }
            if routes == self.wanted && self.reached.load(Ordering::Relaxed) == 0 {
                let after = self.started.elapsed().as_micros();
                self.reached.store(i64::try_from(after).unwrap_or(i64::MAX).max(1), Ordering::Release);
            }
        }
        Ok(())
    }
}

fn open() -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .context("cannot open a netlink socket")?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("no large receive buffer")?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, ROUTES)).context("cannot watch routes")?;
    let granted = nix::sys::socket::getsockopt(&socket, sockopt::RcvBuf)?;
    ensure!(granted >= RECEIVE_BUFFER / 2, "the kernel grants a receive buffer of {granted} bytes only");
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use underpass_tests::lab::Lab;
    use underpass_tests::wait;

    use super::*;

    #[test]
    fn routes_that_come_and_go_are_counted() {
        let lab = Lab::new().expect("root");
        lab.add_machines(&["a"]).expect("a namespace");
        let netns = lab.netns("a");
        netns.ip("link add d0 type bridge\nlink set d0 up\n").expect("a device");
        let mut watch = Watch::start(&netns, 3).expect("a watch");
        let add = |number| format!("route add 192.0.2.{number}/32 dev d0\n");
        netns.ip(&(add(1) + &add(2) + "route del 192.0.2.1/32 dev d0\n" + &add(3))).expect("routes");
        wait::until("both are counted", Duration::from_secs(5), || {
            ensure!(watch.routes() == 2, "{}", watch.routes());
            Ok(())
        })
        .expect("2 routes");
        assert_eq!(watch.reached(), None);
        netns.ip(&add(4)).expect("a route");
        wait::until("the third is counted", Duration::from_secs(5), || watch.reached().context("not yet"))
            .expect("3 routes");
        watch.check().expect("nothing was lost");
    }
}
