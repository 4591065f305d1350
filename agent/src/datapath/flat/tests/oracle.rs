//! Edits in any order give the answers of `prefix-trie`.

use super::*;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn edits_one_by_one(changes in prop::collection::vec(any_change(), 1..120)) {
        let (mut table, mut model) = (table(), Model::default());
        let mut seen = Vec::new();
        for change in changes {
            table.set(change.0, change.1).expect("room");
            table.rested();
            model.set(change);
            seen.push(change.0.1);
            check(&table, &model, &seen[seen.len().saturating_sub(12)..]);
        }
        check(&table, &model, &seen);
    }

    #[test]
    fn edits_in_batches(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 1..500), 1..5),
        rest in any::<bool>(),
    ) {
        let (mut table, mut model) = (table(), Model::default());
        let mut seen = Vec::new();
        for batch in batches {
            let batch: Vec<Change> = batch.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect();
            prop_assert_eq!(table.set_all(&batch), []);
            for change in batch {
                model.set(change);
                seen.push(change.0.1);
            }
            if rest {
                table.rested();
            }
            check(&table, &model, &seen);
        }
    }

    #[test]
    fn what_is_adopted_answers_and_is_edited_alike(
        before in prop::collection::vec(any_change(), 1..400),
        after in prop::collection::vec(any_change(), 1..30),
    ) {
        let (mut table, mut model) = (table(), Model::default());
        let mut seen = Vec::new();
        for change in before {
            table.set(change.0, change.1).expect("room");
            table.rested();
            model.set(change);
            seen.push(change.0.1);
        }
        let words = table.memory().iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed).into());
        let mut adopted = FlatTable::adopt(words.collect::<HeapMemory>()).expect("sound");
        for view in 0..4 {
            for address in seen.iter().flat_map(|prefix| edges(*prefix)) {
                prop_assert_eq!(adopted.lookup(view, address), model.lookup(view, address));
            }
        }
        // What it takes for its prefixes gives the same answers, and can be taken out piece by piece.
        let mut pieces = Model::default();
        for (key, target) in adopted.prefixes() {
            pieces.set((key, Some(target)));
        }
        for (key, target) in after {
            adopted.set(key, target).expect("room");
            adopted.rested();
            pieces.set((key, target));
            seen.push(key.1);
        }
        check(&adopted, &pieces, &seen);
        let keys: Vec<_> = adopted.prefixes().map(|(key, _)| key).collect();
        for key in keys {
            adopted.set(key, None).expect("room");
            adopted.rested();
        }
        check(&adopted, &Model::default(), &seen);
    }

    #[test]
    fn a_copy_depends_on_the_prefixes_alone(
        changes in prop::collection::vec(any_change(), 1..400),
        seed in any::<u64>(),
    ) {
        let (mut one, mut other) = (table(), table());
        let mut model = Model::default();
        for change in changes {
            one.set(change.0, change.1).expect("room");
            one.rested();
            model.set(change);
        }
        let mut keys = model.keys();
        // Another order, by a walk through the list in steps.
        let step = usize::try_from(seed % 97).expect("small") * 2 + 1;
        let count = keys.len();
        for turn in 0..count {
            let at = turn * step % keys.len();
            let (key, target) = keys.swap_remove(at);
            other.set(key, Some(target)).expect("room");
            other.rested();
        }
        let words = |table: &FlatTable<HeapMemory>| -> Vec<u32> {
            let copy = table.copy_to(heap(WORDS)).expect("room");
            copy.memory().iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed)).collect()
        };
        let (one, other) = (words(&one), words(&other));
        prop_assert!(one == other, "equal prefixes, different words");
    }
}

/// Every length of both families, alone and beside its neighbours.
#[test]
fn every_length() {
    let (mut table, mut model) = (table(), Model::default());
    let mut seen = Vec::new();
    for length in 0..=32 {
        for bits in [0x0ae9_4041, 0xffff_ffff, 0] {
            seen.push(v4(bits, length));
        }
    }
    for length in 0..=128 {
        for bits in [0x2001_0db8_0001_0002_0003_0004_0005_0006, u128::MAX, 0] {
            seen.push(v6(bits, length));
        }
    }
    for (target, prefix) in (1..).zip(&seen) {
        table.set((0, *prefix), Some(target)).expect("room");
        model.set(((0, *prefix), Some(target)));
    }
    check(&table, &model, &seen);
    for prefix in seen.iter().rev().step_by(2) {
        table.set((0, *prefix), None).expect("room");
        model.set(((0, *prefix), None));
        check(&table, &model, std::slice::from_ref(prefix));
    }
    check(&table, &model, &seen);
}

/// Blocks of a cluster, its hosts, and what covers them: the table that a node has.
#[test]
fn cluster_of_ten_thousand_blocks() {
    let (mut table, mut model) = (table(), Model::default());
    let mut changes: Vec<Change> = (0..10_000)
        .map(|n: u32| {
            ((0, v4(0x0a00_0000 + n.wrapping_mul(0x9e37_79b1) % (1 << 18) * 64, 26)), Some(n % 16 + 2))
        })
        .collect();
    changes.push(((0, v4(0, 0)), Some(0)));
    changes.push(((0, v4(0x0ae9_4000, 18)), Some(1)));
    changes.sort_unstable();
    changes.dedup_by_key(|change| change.0);
    assert_eq!(table.set_all(&changes), []);
    for change in &changes {
        model.set(*change);
    }
    let seen: Vec<_> = changes.iter().map(|((_, prefix), _)| *prefix).collect();
    check(&table, &model, &seen);
    assert!(table.usage().used < 700 << 10, "{:?}", table.usage());
    for change in changes.iter().step_by(3) {
        table.set(change.0, None).expect("room");
        table.rested();
        model.set((change.0, None));
    }
    check(&table, &model, &seen);
}
