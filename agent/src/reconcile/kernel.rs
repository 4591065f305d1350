//! Routes of our own in the kernel.
