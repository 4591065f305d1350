//! BGP sessions (RFC 4271). We receive; we announce nothing.
//!
//! `wire` owns every use of the codec and FSM crates, so that they can be replaced.
