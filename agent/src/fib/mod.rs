//! From the kernel's state to what the XDP program needs. Pure.
//!
//! Every prefix at which any answer can change is a *boundary*: the prefixes of the tables that the
//! rules refer to, `to` selectors, `accelerate` and service ranges, and resolved neighbours. All
//! addresses of a boundary that no longer boundary covers get the same answer from the kernel, so
//! one walk per boundary and view compiles the whole table, and a changed prefix touches only the
//! boundaries inside of it. Boundaries are not kept as such: they are those of the tables, the fixed ones and the hosts.

pub mod compile;
pub mod model;
mod own;
mod ranges;
pub mod resolve;
mod rules;
mod shared;
mod source;
mod table;
mod target;
#[cfg(test)]
mod tests;
