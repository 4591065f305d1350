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

/// Most resident memory that a process had so far, in KiB; `None` when it is gone.
pub fn peak_kib(pid: u32) -> Option<u64> {
    value(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM")
}

/// Processor time of a process and its threads, in user and kernel mode, in seconds.
///
/// # Errors
/// The process is gone.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&text).with_context(|| format!("{path} has no times"))?;
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(crate::traffic::as_f64(ticks) / crate::traffic::as_f64(u64::try_from(hertz)?))
}

/// Fields 14 and 15 of `/proc/PID/stat`, `utime` and `stime`. The second field may have spaces; it ends with the
/// last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
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
    use super::{cpu_seconds, peak_kib, resident_kib, ticks, value};

    #[test]
    fn numbers_of_proc_files() {
        let text = "pos:\t0\nmap_type:\t2\nmemlock:\t8392704\nVmRSS:\t  1234 kB\n";
        assert_eq!(value(text, "memlock"), Some(8_392_704));
        assert_eq!(value(text, "VmRSS"), Some(1234));
        assert_eq!(value(text, "map"), None);
    }

    #[test]
    fn our_own_memory_is_known() {
        let pid = std::process::id();
        let now = resident_kib(pid).expect("we run");
        assert!(now > 100 && peak_kib(pid).is_some_and(|peak| peak >= now));
    }

    #[test]
    fn processor_time_is_user_and_kernel_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 10 0 0 0 12 30 5 5 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert!(cpu_seconds(std::process::id()).is_ok());
    }
}
