//! Tables that are too small, and words that are none.

use super::*;

/// Distinct hosts all over the address space: a node or two each.
fn hosts(count: u32) -> impl Iterator<Item = Key> {
    (0..count).map(|n| (0, v4(n.wrapping_mul(0x9e37_79b1), 32)))
}

#[test]
fn a_change_that_does_not_fit_changes_nothing() {
    let (mut table, mut model) = (FlatTable::new(heap(70_000)), Model::default());
    let mut refused = Vec::new();
    for key in hosts(4000) {
        match table.set(key, Some(7)) {
            Ok(()) => model.set((key, Some(7))),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Full);
                refused.push(key);
                // What rests is not to be had yet; after a grace period it may be enough.
                table.rested();
            }
        }
    }
    assert!(refused.len() > 100, "only {} were refused", refused.len());
    let seen: Vec<_> = hosts(4000).map(|(_, prefix)| prefix).collect();
    check(&table, &model, &seen);
    // Once others are gone there is room again.
    let kept: Vec<_> = model.keys();
    for (key, _) in kept.iter().take(kept.len() / 2) {
        table.set(*key, None).expect("a removal needs little");
        model.set((*key, None));
        table.rested();
    }
    table.set(refused[0], Some(8)).expect("room again");
    model.set((refused[0], Some(8)));
    check(&table, &model, &seen);
}

#[test]
fn a_batch_that_does_not_fit_goes_in_as_far_as_it_can() {
    let (mut table, mut model) = (FlatTable::new(heap(70_000)), Model::default());
    let changes: Vec<Change> = hosts(4000).map(|key| (key, Some(3))).collect();
    assert_eq!(table.set_whole(&changes).len(), 4000, "all or nothing");
    assert!(table.is_empty());
    let refused = table.set_all(&changes);
    assert!(!refused.is_empty() && refused.len() < 4000, "{}", refused.len());
    for (at, change) in changes.iter().enumerate() {
        if !refused.iter().any(|(place, _)| *place == at) {
            model.set(*change);
        }
    }
    check(&table, &model, &changes.iter().map(|((_, prefix), _)| *prefix).collect::<Vec<_>>());
    assert!(matches!(table.copy_to(heap(1 << 12)), Err(Refusal::Full)));
    let mut copy = table.copy_to(heap(WORDS)).expect("a larger table takes all");
    for (at, _) in refused {
        copy.set(changes[at].0, changes[at].1).expect("room");
        model.set(changes[at]);
    }
    check(&copy, &model, &changes.iter().map(|((_, prefix), _)| *prefix).collect::<Vec<_>>());
}

#[test]
fn ids_out_of_range_are_refused() {
    let mut table = table();
    let prefix = v4(0x0a00_0000, 8);
    assert_eq!(table.set((128, prefix), Some(1)), Err(Refusal::View(128)));
    assert_eq!(table.set((0, prefix), Some(u32::MAX)), Err(Refusal::Target(u32::MAX)));
    assert_eq!(table.set_all(&[((0, prefix), Some(1)), ((200, prefix), Some(1))]), [(1, Refusal::View(200))]);
    assert_eq!(table.lookup(0, "10.1.2.3".parse().expect("an address")), Some(1));
}

proptest! {
    #![proptest_config(cases())]

    /// Words of a crashed or foreign writer are refused or give a table; nothing panics and nothing hangs.
    #[test]
    fn words_of_any_origin(
        changes in prop::collection::vec(any_change(), 1..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..20),
    ) {
        let mut table = FlatTable::new(heap(1 << 18));
        for (key, target) in changes {
            table.set(key, target).expect("room");
        }
        for (place, word) in damage {
            let used = usize::try_from(table.usage().used / 4).expect("small");
            table.memory()[place.index(used)].store(word, std::sync::atomic::Ordering::Relaxed);
        }
        let words: HeapMemory =
            table.memory().iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed).into()).collect();
        if let Ok(mut adopted) = FlatTable::adopt(words) {
            let keys: Vec<_> = adopted.prefixes().map(|(key, _)| key).collect();
            for key in keys {
                let _ = adopted.set(key, None);
            }
        }
        table.lookup(0, "10.233.64.1".parse().expect("an address"));
    }
}
