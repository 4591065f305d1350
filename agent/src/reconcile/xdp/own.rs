//! The filter of own addresses.

use super::writer::Writer;
use crate::fib::model::OwnFilter;

/// The filter: what is wanted and what the map holds.
#[derive(Clone, Debug, Default)]
pub struct Own {
    written: OwnFilter,
    want: OwnFilter,
}

impl Own {
    /// Starts with what is in the map.
    pub fn adopt(found: OwnFilter) -> Self {
        Self { written: found, want: OwnFilter::new() }
    }

    /// Adds what is missing, before a port relies on it.
    pub fn open(&mut self, want: &OwnFilter, writer: &mut Writer<'_>) {
        if self.want != *want {
            self.want.clone_from(want);
        }
        for (word, bits) in self.want.clone() {
            let written = self.word(word);
            if bits & !written != 0 {
                self.write(word, written | bits, writer);
            }
        }
    }

    /// Takes away what is no longer wanted.
    pub fn finish(&mut self, writer: &mut Writer<'_>) {
        for (word, written) in self.written.clone() {
            let bits = self.want.get(&word).copied().unwrap_or_default();
            if bits != written {
                self.write(word, bits, writer);
            }
        }
    }

    /// Whether every own address is in the map.
    pub fn is_complete(&self) -> bool {
        self.want.iter().all(|(word, bits)| bits & !self.word(*word) == 0)
    }

    /// Whether the map holds what is wanted.
    pub fn is_synced(&self) -> bool {
        self.written == self.want
    }

    fn word(&self, word: u32) -> u64 {
        self.written.get(&word).copied().unwrap_or_default()
    }

    fn write(&mut self, word: u32, bits: u64, writer: &mut Writer<'_>) {
        if !writer.write(|maps| maps.set_own(word, bits)) {
            return;
        }
        if bits == 0 {
            self.written.remove(&word);
        } else {
            self.written.insert(word, bits);
        }
    }
}
