//! The frame in packet memory: the only place that makes references into it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;

/// A frame that begins `OFFSET` bytes into the packet: 0 for a real one, the header's length for
/// one behind a [`underpass_common::abi::ProbeHeader`].
pub struct Frame<const OFFSET: usize> {
    ctx: *mut xdp_md,
}

impl<const OFFSET: usize> Frame<OFFSET> {
    /// The frame of a program's context. Takes the context, so that there is one frame only.
    #[inline(always)]
    #[expect(clippy::needless_pass_by_value, reason = "ownership stands for exclusive access to the packet")]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx: ctx.ctx }
    }

    /// The same packet, looked at from another offset.
    #[inline(always)]
    pub fn at_offset<const OTHER: usize>(self) -> Frame<OTHER> {
        Frame { ctx: self.ctx }
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

    /// Bytes from the Ethernet header on, padding included. Only meaningful when the packet has
    /// `OFFSET` bytes, which [`Self::bytes`] finds out.
    #[inline(always)]
    pub fn length(&self) -> usize {
        let (start, end) = self.bounds();
        end.wrapping_sub(start + OFFSET)
    }

    /// `N` bytes at `AT` of the frame, or `None` when it is shorter.
    #[inline(always)]
    pub fn bytes<const AT: usize, const N: usize>(&self) -> Option<&[u8; N]> {
        let (start, end) = self.bounds();
        if start + OFFSET + AT + N > end {
            return None;
        }
        // SAFETY: just checked to lie in the packet; bytes need no alignment; writers take `&mut self`.
        Some(unsafe { &*((start + OFFSET + AT) as *const [u8; N]) })
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

    /// First address of the packet and the one behind its last byte.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel's context is valid while the program runs.
        unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) }
    }
}
