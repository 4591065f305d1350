//! What maps and processes take up.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::Context;
use aya::maps::MapInfo;
use aya::programs::ProgramInfo;

/// Bytes that the kernel accounts to all maps that a program uses.
///
/// # Errors
/// The kernel does not say which they are, or a map cannot be asked.
pub fn maps_of(program: &ProgramInfo) -> anyhow::Result<u64> {
    let ids = program.map_ids().context("cannot ask for a program's maps")?;
    let ids = ids.context("the kernel does not tell a program's maps")?;
    ids.into_iter()
        .map(|id| {
            let info = MapInfo::from_id(id).context("cannot ask for a map")?;
            descriptor(info.fd().context("cannot open a map")?.as_fd())
        })
        .sum()
}

fn descriptor(fd: BorrowedFd<'_>) -> anyhow::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    value(&text, "memlock").context("the description of a map has no memlock")
}

/// Resident memory of a process in KiB; `None` when it is gone.
pub fn resident_kib(pid: u32) -> Option<u64> {
    value(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS")
}

/// The number of the line `name: number`.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::{resident_kib, value};

    #[test]
    fn numbers_of_proc_files() {
        let text = "pos:\t0\nmap_type:\t2\nmemlock:\t8392704\nVmRSS:\t  1234 kB\n";
        assert_eq!(value(text, "memlock"), Some(8_392_704));
        assert_eq!(value(text, "VmRSS"), Some(1234));
        assert_eq!(value(text, "map"), None);
    }

    #[test]
    fn our_own_memory_is_known() {
        assert!(resident_kib(std::process::id()).is_some_and(|kib| kib > 100));
    }
}
