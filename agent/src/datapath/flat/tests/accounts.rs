//! No unit is lost, none is used twice, and no path is longer than the lookup follows.

use underpass_common::fib::flat::{DIRECTORY_WORDS, NODES4, NODES6, Slot, directory};

use super::super::memory::Memory;
use super::super::node;
use super::super::walk::blocks;
use super::*;

/// Longest path of nodes behind a slot.
fn depth<M: Memory>(table: &FlatTable<M>, slot: Slot) -> u32 {
    let Some(found) = slot.node() else { return 0 };
    let load = |index| Slot::from_word(table.store.load(index));
    let next = if found.kind == underpass_common::fib::flat::Kind::Skip {
        let skip = node::read_skip(&table.store, found);
        vec![load(skip.other), load(skip.behind)]
    } else {
        node::slots(&table.store, found).into_iter().map(|(index, _)| load(index)).collect()
    };
    1 + next.into_iter().map(|slot| depth(table, slot)).max().unwrap_or(0)
}

fn audit<M: Memory>(table: &FlatTable<M>) {
    let mut found = Vec::new();
    for view in 0..4 {
        for (ipv6, most) in [(false, NODES4), (true, NODES6)] {
            let slot = Slot::from_word(table.store.load(directory(view, ipv6)));
            found.extend(blocks(&table.store, slot, if ipv6 { 128 } else { 32 }).expect("sound"));
            assert!(depth(table, slot) <= most, "a path of {} nodes", depth(table, slot));
        }
    }
    found.sort_unstable();
    for pair in found.windows(2) {
        assert!(pair[0].unit + pair[0].units <= pair[1].unit, "{pair:?} overlap");
    }
    let used: u32 = found.iter().map(|block| block.units).sum();
    assert_eq!(used + DIRECTORY_WORDS / 4 + table.space.resting(), table.space.used(), "units in use");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_unit_is_accounted_for(
        changes in prop::collection::vec(any_change(), 1..300),
        batch in prop::collection::vec(any_change(), 1..400),
        rest in 20usize..60,
    ) {
        let mut table = table();
        for (number, (key, target)) in changes.iter().enumerate() {
            table.set(*key, *target).expect("room");
            if number % rest == 0 {
                table.rested();
                audit(&table);
            }
        }
        audit(&table);
        let batch: Vec<_> = batch.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect();
        prop_assert_eq!(table.set_all(&batch), []);
        audit(&table);
        table.rested();
        let keys: Vec<_> = table.prefixes().map(|(key, _)| key).collect();
        for key in keys {
            table.set(key, None).expect("room");
        }
        audit(&table);
        table.rested();
        prop_assert_eq!(table.usage().used, u64::from(DIRECTORY_WORDS) * 4, "an empty table uses nothing");
    }
}
