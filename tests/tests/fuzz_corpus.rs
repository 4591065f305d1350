//! Replays the corpus and what fuzzing once found (docs/fuzzing.md).

use std::fs;
use std::path::{Path, PathBuf};

use underpass_tests::fuzz::TARGETS;

/// The files of one target, named in the order that they are run.
fn files(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

#[test]
fn every_file_of_corpus_and_regressions_passes() {
    for (name, target) in TARGETS {
        let corpus = files("corpus", name);
        assert!(!corpus.is_empty(), "fuzz/corpus/{name} is empty");
        for path in corpus.into_iter().chain(files("regressions", name)) {
            let data = fs::read(&path).expect("a readable file");
            assert!(std::panic::catch_unwind(|| target(&data)).is_ok(), "{} fails", path.display());
        }
    }
}
