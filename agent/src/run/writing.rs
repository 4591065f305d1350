//! Writes routes on a thread of its own: the kernel works while the loop goes on.

use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::netlink::route_writer::RouteWriter;
use crate::reconcile::kernel::{Op, RouteError};

/// Batches that may be under way: one that the kernel works off and what comes next, so that it never waits for the
/// loop.
const UNDER_WAY: usize = 3;

/// What became of a batch.
pub type Written = (Vec<Op>, Vec<Result<(), RouteError>>);

/// The thread, by its two ends.
#[derive(Debug)]
pub struct Writing {
    orders: mpsc::Sender<Vec<Op>>,
    written: mpsc::Receiver<Written>,
    under_way: usize,
    thread: JoinHandle<()>,
}

impl Writing {
    /// Starts the thread.
    pub fn start(mut writer: RouteWriter) -> Self {
        let (orders, mut ordered) = mpsc::channel::<Vec<Op>>(UNDER_WAY);
        let (results, written) = mpsc::channel(UNDER_WAY);
        let thread = thread::spawn(move || {
            while let Some(ops) = ordered.blocking_recv() {
                let result = writer.write(&ops);
                if results.blocking_send((ops, result)).is_err() {
                    break;
                }
            }
        });
        Self { orders, written, under_way: 0, thread }
    }

    /// Whether another batch can be given.
    pub const fn has_room(&self) -> bool {
        self.under_way < UNDER_WAY
    }

    /// Gives a batch; only when there is room.
    pub fn give(&mut self, ops: Vec<Op>) {
        if self.orders.try_send(ops).is_ok() {
            self.under_way += 1;
        }
    }

    /// Waits for the end of a batch. Cancel-safe. A panic of the thread goes on here.
    pub async fn written(&mut self) -> Written {
        if let Some(written) = self.written.recv().await {
            self.under_way = self.under_way.saturating_sub(1);
            return written;
        }
        let ended = std::mem::replace(&mut self.thread, thread::spawn(|| ()));
        match ended.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            // It goes on for as long as both ends are held.
            Ok(()) => std::future::pending().await,
        }
    }

    /// Ends the thread, once all that was given is written.
    pub async fn finish(self) {
        let Self { orders, mut written, .. } = self;
        drop(orders);
        while written.recv().await.is_some() {}
    }
}
