//! The folder on the BPF file system that holds the maps and links.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use underpass_common::abi::{self, ABI_VERSION};

use crate::netlink::model::IfIndex;
use crate::sys::bpf_link::XdpLink;

/// File names of pinned links: this and the interface index. The index, not the name: it stays when
/// the interface is renamed, and bpffs takes no dots, which names may have.
const LINK_PREFIX: &str = "link_";

/// The pin folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The folder lies on another file system.
    #[error(
        "{} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf` or set \
         agent.bpffs to a folder on one", path.display()
    )]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// Another agent has it.
    #[error(
        "another agent uses {}: stop it, or give each its own agent.bpffs", path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// "create", "lock", "read", "remove", ...
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
}

impl PinError {
    fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.to_owned(), source: source.into() }
    }
}

/// `<bpffs>/v<ABI_VERSION>`.
pub fn folder(bpffs: &Path) -> PathBuf {
    bpffs.join(format!("v{ABI_VERSION}"))
}

/// Where a map is pinned.
pub fn map(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// Where the link of an interface is pinned.
pub fn link(folder: &Path, ifindex: IfIndex) -> PathBuf {
    folder.join(format!("{LINK_PREFIX}{ifindex}"))
}

/// Makes the pin folder below `bpffs`.
///
/// # Errors
/// Not on a BPF file system, or it cannot be made.
pub fn create(bpffs: &Path) -> Result<PathBuf, PinError> {
    let folder = folder(bpffs);
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let on_bpffs = statfs(existing)
        .map(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
        .map_err(|error| PinError::io("examine", existing, error))?;
    if !on_bpffs {
        return Err(PinError::NotBpffs { path: bpffs.to_owned() });
    }
    fs::create_dir_all(&folder).map_err(|error| PinError::io("create", &folder, error))?;
    Ok(folder)
}

/// Takes the folder `bpffs` for one agent, as long as the returned value lives.
///
/// # Errors
/// Another agent holds it, or it cannot be opened.
pub fn claim(bpffs: &Path) -> Result<Flock<File>, PinError> {
    let file = File::open(bpffs).map_err(|error| PinError::io("open", bpffs, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => PinError::InUse { path: bpffs.to_owned() },
        errno => PinError::io("lock", bpffs, errno),
    })
}

/// Waits for the lock on the control word; held for one read and one write of it, by the agent and
/// by `underpass on|off`.
///
/// # Errors
/// The folder cannot be opened or locked.
pub fn lock_control(folder: &Path) -> Result<Flock<File>, PinError> {
    let file = File::open(folder).map_err(|error| PinError::io("open", folder, error))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| PinError::io("lock", folder, errno))
}

/// Interfaces that have a pinned link here.
///
/// # Errors
/// The folder cannot be read.
pub fn links(folder: &Path) -> Result<Vec<(IfIndex, PathBuf)>, PinError> {
    let mut links = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| PinError::io("read", folder, error))? {
        let entry = entry.map_err(|error| PinError::io("read", folder, error))?;
        let name = entry.file_name();
        let ifindex = name.to_str().and_then(|name| name.strip_prefix(LINK_PREFIX));
        if let Some(ifindex) = ifindex.and_then(|digits| digits.parse().ok()) {
            links.push((ifindex, entry.path()));
        }
    }
    links.sort_unstable();
    Ok(links)
}

/// Removes a pin; one that is not there is no error.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> Result<bool, PinError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(PinError::io("remove", path, error)),
    }
}

/// Gives a pin another name; what has that name is unpinned.
///
/// # Errors
/// The file system refuses.
pub fn rename(from: &Path, to: &Path) -> Result<(), PinError> {
    fs::rename(from, to).map_err(|error| PinError::io("rename", from, error))
}

/// What [`flush`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Links: each was a program on an interface.
    pub links: usize,
    /// Maps.
    pub maps: usize,
}

/// Detaches every program of ours from its interface and removes all maps of this ABI. Works without
/// a running agent; traffic goes on through the kernel. A missing folder is no error.
///
/// # Errors
/// An agent is running, or something cannot be removed.
pub fn flush(bpffs: &Path) -> Result<Flushed, PinError> {
    let folder = folder(bpffs);
    let mut flushed = Flushed::default();
    if !folder.try_exists().map_err(|error| PinError::io("examine", &folder, error))? {
        return Ok(flushed);
    }
    let _claim = claim(bpffs)?;
    for (ifindex, path) in links(&folder)? {
        // A program that is still open elsewhere would stay attached behind the removed pin.
        if let Ok(link) = XdpLink::open(&path)
            && let Ok(info) = link.info()
            && info.ifindex != 0
        {
            tracing::info!(ifindex, program = info.program_id, "detaching XDP program");
        }
        flushed.links += usize::from(remove(&path)?);
    }
    for name in abi::map::ALL.into_iter().chain([super::growth::NEXT]) {
        flushed.maps += usize::from(remove(&map(&folder, name))?);
    }
    fs::remove_dir(&folder).map_err(|error| PinError::io("remove", &folder, error))?;
    Ok(flushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_folder_is_refused_with_the_mount_command() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let error = create(&dir.path().join("underpass")).expect_err("tmpfs is no bpffs");
        assert!(matches!(error, PinError::NotBpffs { .. }), "{error}");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert!(!dir.path().join("underpass").exists(), "nothing may be left behind");
    }

    #[test]
    fn folder_belongs_to_one_agent_at_a_time() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = claim(dir.path()).expect("free");
        let error = claim(dir.path()).expect_err("taken");
        assert!(matches!(error, PinError::InUse { .. }), "{error}");
        drop(first);
        claim(dir.path()).expect("free again");
    }

    #[test]
    fn only_link_pins_are_listed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for name in ["link_12", "link_7", "link_x", "UP_PORTS", "link_"] {
            fs::write(dir.path().join(name), "").expect("writable");
        }
        let found: Vec<_> =
            links(dir.path()).expect("readable").into_iter().map(|(ifindex, _)| ifindex).collect();
        assert_eq!(found, [7, 12]);
    }

    #[test]
    fn flushing_nothing_is_no_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(flush(&dir.path().join("none")).expect("nothing to do"), Flushed::default());
    }

    #[test]
    fn flushing_what_cannot_be_looked_into_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = flush(file.path()).expect_err("a file is no folder");
        assert!(error.to_string().contains("cannot examine"), "{error}");
    }
}
