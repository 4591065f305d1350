//! A BPF array map in the memory of the process (`BPF_F_MMAPABLE`): written without a system call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// The words of a mapped array. Unmapped when it is dropped; the map itself lives on.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<AtomicU32>,
    words: usize,
}

impl Mapping {
    /// Maps the first `bytes` bytes of an array map; a whole number of pages.
    ///
    /// # Errors
    /// The map is not mappable, or smaller.
    pub fn new(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a descriptor that is open.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { start, words: bytes / size_of::<AtomicU32>() })
    }

    /// The words. Programs read them meanwhile, so they are atomics.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: mapped as long as `self` lives, page-aligned, and accessed through atomics only.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped; `words` hands out nothing that outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU32>()) };
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and its words are atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}
