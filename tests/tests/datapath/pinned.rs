//! The pin folder: what fits, whose it is, how it goes.

use aya::EbpfLoader;
use underpass::datapath::pins::{self, Flushed, PinError};
use underpass::datapath::{Datapath, Engine, OBJECT};
use underpass_common::abi::map;

use crate::rig::{Rig, index};

#[test]
fn pinned_map_of_another_shape_is_refused() {
    let Some(rig) = Rig::raise() else { return };
    let folder = pins::create(&rig.bpffs()).expect("a folder on the lab's bpffs");
    let path = pins::map(&folder, map::PORTS);
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(map::PORTS, 8).map_pin_path(map::PORTS, path.as_path());
    drop(loader.load(OBJECT).expect("the object loads"));
    rig.in_router(|| {
        let error = Datapath::load(&rig.bpffs(), Engine::Flat).err().expect("another size").to_string();
        for part in ["UP_PORTS", "number of entries is 8, expected 1024", "underpass flush"] {
            assert!(error.contains(part), "{error}");
        }
        pins::flush(&rig.bpffs()).expect("the remedy works");
        rig.load();
    });
}

#[test]
fn folder_that_is_not_on_bpffs_or_taken_is_refused() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let error =
            Datapath::load(&rig.lab.dir().join("plain"), Engine::Flat).err().expect("no bpffs").to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
        let first = rig.load();
        let error = Datapath::load(&rig.bpffs(), Engine::Flat).err().expect("taken").to_string();
        assert!(error.contains("another agent uses"), "{error}");
        drop(first);
        rig.load();
    });
}

#[test]
fn flush_takes_everything_away() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let bpffs = rig.bpffs();
        let mut datapath = rig.load();
        datapath.attach(index("e0"), "e0");
        let error = pins::flush(&bpffs).expect_err("the agent runs");
        assert!(matches!(error, PinError::InUse { .. }), "{error}");
        drop(datapath);
        assert!(rig.program("e0").is_some());
        let flushed = pins::flush(&bpffs).expect("flushed");
        // All but those of the other engine.
        let pinned = map::ALL.iter().filter(|name| !Engine::Flat.is_foreign(name)).count();
        assert_eq!(flushed, Flushed { links: 1, maps: pinned });
        assert_eq!(rig.program("e0"), None);
        assert!(!pins::folder(&bpffs).exists());
        assert_eq!(pins::flush(&bpffs).expect("nothing left"), Flushed::default());
    });
}
