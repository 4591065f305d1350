//! Loading, attaching and handing over, on real devices and a bpffs of the test's own.

mod attaching;
mod control;
mod generic;
mod groups;
mod growth;
mod hairpin;
mod handover;
mod pinned;
mod refused;
mod rig;
mod sequences;
mod tables;
mod wire;
