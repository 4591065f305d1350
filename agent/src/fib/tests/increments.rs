//! What single changes do to the compiled table.

use crate::fib::compile::{Compiler, FibDelta};
use crate::fib::model::CompileConfig;
use crate::netlink::model::Delta;
use crate::netlink::text::{DEFAULT_RULES, state};

const LINKS: &str = "
    link 2 eth0
    link 3 eth1
    link 4 cali1
";

fn compiler() -> Compiler {
    Compiler::new(CompileConfig {
        ports: vec!["eth*".into()],
        accelerate: vec!["10.0.0.0/8".parse().expect("a prefix")],
        services: Vec::new(),
    })
}

fn prefix_delta(prefix: &str) -> Delta {
    Delta { prefixes: [prefix.parse().expect("a prefix")].into(), ..Delta::default() }
}

#[test]
fn a_delta_names_what_changed_and_nothing_else() {
    let before = state(&format!(
        "{LINKS}{DEFAULT_RULES}route 10.1.0.0/16 via 1.1.1.1 dev 2\nroute 10.2.0.0/16 via 1.1.1.1 dev 2"
    ));
    let mut compiler = compiler();
    assert!(compiler.update(&before, &Delta::default()).full, "the first update is a full one");
    assert_eq!(
        compiler.update(&before, &prefix_delta("10.1.0.0/16")),
        FibDelta::default(),
        "nothing changed"
    );

    let after = state(&format!(
        "{LINKS}{DEFAULT_RULES}route 10.1.0.0/16 via 1.1.1.2 dev 2\nroute 10.2.0.0/16 via 1.1.1.1 dev 2"
    ));
    let changes = compiler.update(&after, &prefix_delta("10.1.0.0/16"));
    let view = compiler.fib().ports[&2].view;
    assert!(!changes.full && changes.ports.is_empty());
    assert_eq!(changes.prefixes, [(view, "10.1.0.0/16".parse().expect("a prefix"))].into());
}

#[test]
fn views_keep_their_ids() {
    let rules = |extra: &str| state(&format!("{LINKS}{DEFAULT_RULES}{extra}"));
    let mut compiler = compiler();
    compiler.update(&rules(""), &Delta::full());
    let view = compiler.fib().ports[&2].view;

    compiler.update(&rules("rule 5 iif eth1 blackhole"), &Delta::full());
    let other = compiler.fib().ports[&3].view;
    assert_ne!(compiler.fib().ports[&2].view, other);

    compiler.update(&rules("rule 5 iif eth1 blackhole\nlink 9 eth9"), &Delta::full());
    assert_eq!(compiler.fib().ports[&3].view, other, "an equal walk keeps its id");

    compiler.update(&rules(""), &Delta::full());
    assert!(
        ![view, other].contains(&compiler.fib().ports[&3].view)
            || compiler.fib().ports[&3].view == compiler.fib().ports[&2].view
    );
}

#[test]
fn pods_that_come_and_go_are_no_full_compile() {
    let before = state(&format!("{LINKS}{DEFAULT_RULES}"));
    let mut compiler = compiler();
    compiler.update(&before, &Delta::full());
    let mut after = before.clone();
    after.links.remove(&4);
    let changes = compiler.update(&after, &Delta { interfaces: [4].into(), ..Delta::default() });
    assert_eq!(changes, FibDelta::default());

    after.links.remove(&3);
    assert!(
        compiler.update(&after, &Delta { interfaces: [3].into(), ..Delta::default() }).full,
        "a managed port does"
    );
}
