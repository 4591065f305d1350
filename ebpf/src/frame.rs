//! The frame in packet memory: the only place that makes references into it.
//!
//! A frame may lie in several buffers (jumbo frames, aggregates). References are into the first one, which
//! holds the headers; the length is that of all of them.

use core::cell::Cell;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;

/// Longest frame without jumbo frames: every driver's buffer has room for it, untagged.
const ORDINARY_FRAME: usize = 1514;

/// A frame that begins `OFFSET` bytes into the packet: 0 for a real one, the header's length for
/// one behind a [`underpass_common::abi::ProbeHeader`].
pub struct Frame<const OFFSET: usize> {
    ctx: *mut xdp_md,
    /// Bytes of the packet as it came in: of its first buffer, or of all once [`Self::measure`] has asked.
    packet_length: Cell<usize>,
}

impl<const OFFSET: usize> Frame<OFFSET> {
    /// The frame of a program's context. Takes the context, so that there is one frame only.
    #[inline(always)]
    #[expect(clippy::needless_pass_by_value, reason = "ownership stands for exclusive access to the packet")]
    pub fn new(ctx: XdpContext) -> Self {
        let frame = Self { ctx: ctx.ctx, packet_length: Cell::new(0) };
        let (start, end) = frame.bounds();
        frame.packet_length.set(end.wrapping_sub(start));
        frame
    }

    /// The same packet, looked at from another offset.
    #[inline(always)]
    pub fn at_offset<const OTHER: usize>(self) -> Frame<OTHER> {
        Frame { ctx: self.ctx, packet_length: self.packet_length }
    }

    /// The context, for helpers.
    #[inline(always)]
    pub const fn context(&self) -> *mut xdp_md {
        self.ctx
    }

    /// Index of the port that the packet came in on.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: the kernel's context is valid while the program runs.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// Bytes from the Ethernet header on, padding included, as far as they were counted: those in the first
    /// buffer, or in all after [`Self::measure`]. Only meaningful when the packet has `OFFSET` bytes, which
    /// [`Self::bytes`] finds out.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        self.packet_length.get().wrapping_sub(OFFSET)
    }

    /// Counts the bytes in all buffers. A call of its own, which would be a tenth of a packet's time: for
    /// what is long, padded, or left to the kernel.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the target has 64 bits")]
    pub fn measure(&self) {
        // SAFETY: the kernel's context is valid while the program runs.
        self.packet_length.set(unsafe { bpf_xdp_get_buff_len(self.ctx) } as usize);
    }

    /// Bytes from the Ethernet header on, counted no further than it takes to know whether there are `wanted`,
    /// or more. A packet may end exactly where the first buffer does, with padding in the next one; a short one
    /// does not: drivers begin another buffer when the first is full.
    #[inline(always)]
    pub fn length_for(&self, wanted: usize) -> usize {
        let length = self.length();
        if length < wanted || (length == wanted && length > ORDINARY_FRAME) {
            self.measure();
        }
        self.length()
    }

    /// Whether the frame lies in more than one buffer.
    #[inline(always)]
    pub fn is_scattered(&self) -> bool {
        let (start, end) = self.bounds();
        end.wrapping_sub(start) < self.packet_length.get()
    }

    /// `N` bytes at `AT` of the frame, or `None` when its first buffer is shorter.
    #[inline(always)]
    pub fn bytes<const AT: usize, const N: usize>(&self) -> Option<&[u8; N]> {
        let (start, end) = self.bounds();
        if start + OFFSET + AT + N > end {
            return None;
        }
        // SAFETY: just checked to lie in the packet; bytes need no alignment; writers take `&mut self`.
        Some(unsafe { &*((start + OFFSET + AT) as *const [u8; N]) })
    }

    /// As [`Self::bytes`], at a position that is known once everything is inlined.
    #[inline(always)]
    pub fn bytes_at<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        let (start, end) = self.bounds();
        if start + OFFSET + at + N > end {
            return None;
        }
        // SAFETY: as in `bytes`.
        Some(unsafe { &*((start + OFFSET + at) as *const [u8; N]) })
    }

    /// As [`Self::bytes`], to write.
    #[inline(always)]
    pub fn bytes_mut<const AT: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let (start, end) = self.bounds();
        if start + OFFSET + AT + N > end {
            return None;
        }
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference.
        Some(unsafe { &mut *((start + OFFSET + AT) as *mut [u8; N]) })
    }

    /// Cuts the last `count` bytes off. `false` when the driver refuses; nothing has changed then.
    #[inline(always)]
    pub fn trim(&mut self, count: usize) -> bool {
        let Ok(count) = i32::try_from(count) else { return false };
        // SAFETY: the context is the kernel's; `&mut self` rules out references that this invalidates.
        unsafe { bpf_xdp_adjust_tail(self.ctx, -count) == 0 }
    }

    /// First address of the packet and the one behind the last byte of its first buffer.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel's context is valid while the program runs.
        unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) }
    }
}
