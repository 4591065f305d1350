//! Loads the programs and their maps, or adopts the maps that an earlier agent left pinned.

use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;
use underpass_common::abi::{self, FIB_BYTES, FIB_SLACK, program};
use underpass_common::fib::flat::UNIT_WORDS;

use super::OBJECT;
use super::growth;
use super::pins::{self, PinError};
use super::prefix_table::Engine;

/// Bytes of a unit of the flat table.
const UNIT_BYTES: u32 = UNIT_WORDS * 4;
/// Lines of the verifier's log that an error shows; the whole log goes to the debug log.
const LOG_TAIL: usize = 12;
/// The verifier is run this often when signals interrupt it.
const LOAD_ATTEMPTS: u32 = 5;
/// `BPF_F_RDONLY_PROG`: the kernel adds it to device maps by itself (`dev_map_init_map`).
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// Loading failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The pin folder.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A pinned map is not what this version needs.
    #[error(
        "pinned map {} does not fit this version ({what} is {found}, expected {expected}): remove \
         the old maps with `underpass flush` and start again", path.display()
    )]
    PinnedMap {
        /// The pin.
        path: PathBuf,
        /// "type", "key size", "value size", "number of entries", "flags".
        what: &'static str,
        /// What is pinned.
        found: String,
        /// What the object defines.
        expected: String,
    },
    /// A pin cannot be read.
    #[error("cannot read pinned map {}: {source}", path.display())]
    ReadPin {
        /// The pin.
        path: PathBuf,
        /// The answer of the system.
        source: aya::maps::MapError,
    },
    /// The kernel refused a program.
    #[error("the kernel refuses program {name}: {reason}\n{log_tail}")]
    Verifier {
        /// Program.
        name: &'static str,
        /// The kernel's error.
        reason: std::io::Error,
        /// End of the verifier's log.
        log_tail: String,
    },
    /// The object itself, or the kernel refused a map.
    #[error("cannot load the eBPF object: {0} (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root)")]
    Object(String),
}

/// Loads programs and maps below `folder` (see [`pins::create`]), with the prefixes in `engine`.
///
/// # Errors
/// A pinned map does not fit, or the kernel refuses a map or a program.
pub fn load(folder: &Path, engine: Engine) -> Result<Ebpf, LoadError> {
    load_object(OBJECT, folder, engine)
}

/// As [`load`], of another object with the same maps and programs.
///
/// # Errors
/// As [`load`].
pub fn load_object(object: &[u8], folder: &Path, engine: Engine) -> Result<Ebpf, LoadError> {
    load_with_fib(object, folder, engine, None)
}

/// As [`load_object`], with the flat table in the map that is pinned as `fib`, of this size in bytes;
/// `None`: where it belongs.
///
/// # Errors
/// As [`load`].
pub fn load_with_fib(
    object: &[u8],
    folder: &Path,
    engine: Engine,
    fib: Option<(&Path, u32)>,
) -> Result<Ebpf, LoadError> {
    for name in abi::map::ALL.iter().filter(|name| engine.is_foreign(name)) {
        pins::remove(&pins::map(folder, name))?;
    }
    check_pins(folder, engine)?;
    let pinned = abi::map::ALL.iter().filter(|name| !engine.is_foreign(name));
    let mut paths: Vec<_> = pinned.map(|name| (*name, pins::map(folder, name))).collect();
    let mut mask = FIB_BYTES[0] / UNIT_BYTES - 1;
    if engine == Engine::Flat {
        let (path, bytes) = match fib {
            Some((path, bytes)) => (path.to_owned(), bytes),
            None => (pins::map(folder, abi::map::FIB), growth::ensure(folder)?),
        };
        mask = bytes / UNIT_BYTES - 1;
        paths
            .iter_mut()
            .filter(|(name, _)| *name == abi::map::FIB)
            .for_each(|(_, fib)| fib.clone_from(&path));
    }
    let mut loader = EbpfLoader::new();
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    loader.override_global(abi::FIB_UNIT_MASK, &mask, true);
    let mut ebpf = loader.load(object).map_err(|error| LoadError::Object(chain(&error)))?;
    for name in [engine.forward(), engine.probe(), program::PASS] {
        load_program(&mut ebpf, name)?;
    }
    Ok(ebpf)
}

/// A program of the loaded object.
///
/// # Errors
/// The object has no XDP program of that name.
pub fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, LoadError> {
    let program = ebpf.program_mut(name).ok_or_else(|| {
        LoadError::Object(format!("it has no program {name}; rebuild with `cargo xtask setup`"))
    })?;
    program.try_into().map_err(|error: ProgramError| LoadError::Object(chain(&error)))
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    match load_patiently(xdp(ebpf, name)?) {
        Ok(()) => Ok(()),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            tracing::debug!(program = name, %log, "verifier log");
            Err(LoadError::Verifier { name, reason: io_error, log_tail: tail(&log) })
        }
        Err(error) => Err(LoadError::Object(format!("program {name}: {}", chain(&error)))),
    }
}

/// Loads a program, again when a signal has interrupted the verifier (`EAGAIN`), as libbpf does.
fn load_patiently(program: &mut Xdp) -> Result<(), ProgramError> {
    for _ in 1..LOAD_ATTEMPTS {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
    program.load()
}

/// Compares every pin with the object's definition: the loader would take over whatever is there.
fn check_pins(folder: &Path, engine: Engine) -> Result<(), LoadError> {
    let object = Object::parse(OBJECT).map_err(|error| LoadError::Object(chain(&error)))?;
    for name in abi::map::ALL {
        let path = pins::map(folder, name);
        if engine.is_foreign(name) || !path.exists() {
            continue;
        }
        let expected = object.maps.get(name).map(MapShape::of_object).ok_or_else(|| {
            LoadError::Object(format!("it has no map {name}; rebuild with `cargo xtask setup`"))
        })?;
        let found =
            MapInfo::from_pin(&path).map_err(|source| LoadError::ReadPin { path: path.clone(), source })?;
        let mut found = MapShape::of_kernel(&found);
        if name == abi::map::FIB && FIB_BYTES.iter().any(|bytes| bytes + FIB_SLACK == found.value_size) {
            found.value_size = expected.value_size;
        }
        if let Some((what, found, expected)) = found.differs(&expected) {
            return Err(LoadError::PinnedMap { path, what, found, expected });
        }
    }
    Ok(())
}

/// What two maps must share to be exchangeable.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MapShape {
    /// `enum bpf_map_type`.
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

impl MapShape {
    fn of_object(map: &aya_obj::Map) -> Self {
        Self {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
            flags: map.map_flags(),
        }
    }

    fn of_kernel(info: &MapInfo) -> Self {
        Self {
            kind: info.map_type().map_or(0, |kind| kind as u32),
            key_size: info.key_size(),
            value_size: info.value_size(),
            max_entries: info.max_entries(),
            flags: info.map_flags(),
        }
    }

    /// The first difference to `expected`: its name, what is here, what is expected.
    fn differs(&self, expected: &Self) -> Option<(&'static str, String, String)> {
        let flags = |shape: &Self| shape.flags & !BPF_F_RDONLY_PROG;
        [
            ("type", self.kind, expected.kind),
            ("key size", self.key_size, expected.key_size),
            ("value size", self.value_size, expected.value_size),
            ("number of entries", self.max_entries, expected.max_entries),
            ("flags", flags(self), flags(expected)),
        ]
        .into_iter()
        .find(|(_, found, expected)| found != expected)
        .map(|(what, found, expected)| (what, found.to_string(), expected.to_string()))
    }
}

/// The last lines of a verifier log that say something: the instructions that led to the error and
/// the error, without the statistics behind it.
fn tail(log: &str) -> String {
    let statistics = |line: &&str| {
        line.trim().is_empty()
            || line.starts_with("verification time")
            || line.starts_with("stack depth")
            || line.starts_with("processed ")
    };
    let lines: Vec<&str> = log.lines().filter(|line| !statistics(line)).collect();
    if lines.is_empty() {
        return "the verifier wrote no log: a privilege is missing (CAP_BPF, CAP_PERFMON)".to_owned();
    }
    let start = lines.len().saturating_sub(LOG_TAIL);
    let mut text = String::new();
    if start > 0 {
        text = format!("... {start} lines before, see them with log.filter = \"underpass=debug\"\n");
    }
    text + &lines[start..].join("\n")
}

/// An error with its causes, which the loader crate's messages leave out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> MapShape {
        MapShape { kind: 2, key_size: 4, value_size: 24, max_entries: 1024, flags: 0 }
    }

    #[test]
    fn pinned_map_must_match_in_every_respect() {
        let cases: &[(&str, MapShape, Option<&str>)] = &[
            ("same", shape(), None),
            ("read-only flag of device maps", MapShape { flags: 128, ..shape() }, None),
            ("type", MapShape { kind: 1, ..shape() }, Some("type")),
            ("key", MapShape { key_size: 8, ..shape() }, Some("key size")),
            ("value", MapShape { value_size: 32, ..shape() }, Some("value size")),
            ("entries", MapShape { max_entries: 1, ..shape() }, Some("number of entries")),
            ("flags", MapShape { flags: 1, ..shape() }, Some("flags")),
        ];
        for (name, found, expected) in cases {
            assert_eq!(found.differs(&shape()).map(|(what, ..)| what), *expected, "{name}");
        }
    }

    #[test]
    fn object_defines_every_map_and_program() {
        let object = Object::parse(OBJECT).expect("the embedded object parses");
        for name in abi::map::ALL {
            assert!(object.maps.contains_key(name), "map {name}");
        }
        for name in
            [program::FORWARD, program::PROBE, program::FORWARD_LPM, program::PROBE_LPM, program::PASS]
        {
            assert!(object.programs.contains_key(name), "program {name}");
        }
    }

    #[test]
    fn log_tail_keeps_the_error_and_says_what_it_leaves_out() {
        let instructions: Vec<_> = (0..40).map(|n| format!("{n}: (b7) r0 = {n}\n")).collect();
        let mut log = instructions.concat();
        log += "R1 invalid mem access 'scalar'\nverification time 12 usec\nprocessed 40 insns\n\n";
        let shown = tail(&log);
        assert!(shown.starts_with("... 29 lines before"), "{shown}");
        assert!(shown.ends_with("R1 invalid mem access 'scalar'"), "{shown}");
        assert_eq!(shown.lines().count(), LOG_TAIL + 1);
        assert!(tail("\n").contains("privilege"));
    }
}
