//! The kernel's rule walk and route lookup, compiled into prefixes and targets.
