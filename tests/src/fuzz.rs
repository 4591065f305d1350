//! Bodies of the fuzz targets (docs/fuzzing.md). They live here so that `tests/tests/fuzz_corpus.rs` replays the
//! corpus without a fuzzer. Each takes any bytes and panics where the agent breaks a promise.

mod config;
mod session;
mod stream;
mod update;

pub use config::config;
pub use session::session;
pub use stream::stream;
pub use update::update;

/// Takes an input; panics where the agent breaks a promise.
pub type Target = fn(&[u8]);

/// The targets by the name of their corpus folder.
pub const TARGETS: [(&str, Target); 4] =
    [("stream", stream), ("update", update), ("session", session), ("config", config)];

/// Reads an input piece by piece; past its end there are zeros.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// Up to `length` bytes.
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
