//! The hazards of a fast path, one test each: `docs/hazards.md` lists them.
//!
//! Most run on twin routers ([`rig`]): the kernel alone is the oracle, and what XDP counts shows which of the
//! two dealt with a packet on the router with Underpass.

mod devices;
mod drivers;
mod headers;
mod ipv6;
mod lifecycle;
mod lookup;
mod mtu;
mod neighbour;
mod rig;

use std::collections::BTreeSet;

/// The files of the tests.
const SOURCES: &[&str] = &[
    include_str!("devices.rs"),
    include_str!("drivers.rs"),
    include_str!("headers.rs"),
    include_str!("ipv6.rs"),
    include_str!("lifecycle.rs"),
    include_str!("lookup.rs"),
    include_str!("mtu.rs"),
    include_str!("neighbour.rs"),
    // Where the machinery for it is.
    include_str!("../forwarding_ipv6.rs"),
    include_str!("../kernel_rules/hazards.rs"),
];

/// `docs/hazards.md` names every test, and nothing else.
#[test]
fn the_table_lists_the_tests() {
    let page = include_str!("../../../docs/hazards.md");
    let listed = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| H")?.split(" | ");
        let number: u32 = cells.next()?.parse().expect("a number");
        let name = cells.last()?.trim_end_matches(" |").trim_matches('`');
        assert!(name.starts_with(&format!("h{number:02}_")), "H{number}: {name}");
        Some(name.to_owned())
    });
    let tests = SOURCES.iter().flat_map(|source| source.lines()).filter_map(|line| {
        let name = line.strip_prefix("fn h")?.split('(').next()?;
        name.as_bytes()[0].is_ascii_digit().then(|| format!("h{name}"))
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), tests.collect::<BTreeSet<_>>());
}
