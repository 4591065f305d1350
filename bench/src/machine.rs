//! The machine that a result was measured on.

pub mod noise;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What a reader needs to judge a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor's model name.
    pub cpu: String,
    /// Logical processors that are online.
    pub cores: u32,
    /// Runs under a hypervisor, by the processor's flags.
    pub hypervisor: bool,
    /// Kernel release.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// `net.core.bpf_jit_enable`: 0 interprets programs, 1 compiles them. `None`: not readable.
    pub bpf_jit: Option<u32>,
    /// Version of Underpass.
    pub underpass: String,
    /// When the run began, UTC, RFC 3339.
    pub date: String,
}

impl Machine {
    /// Reads it from `/proc`.
    ///
    /// # Errors
    /// A file of `/proc` cannot be read or lacks what is looked for.
    pub fn read() -> anyhow::Result<Self> {
        let cpuinfo = read(Path::new("/proc/cpuinfo"))?;
        let meminfo = read(Path::new("/proc/meminfo"))?;
        let memory_kib = field(&meminfo, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
        let memory_kib: u64 = memory_kib.context("/proc/meminfo has no MemTotal")?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        Ok(Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: u32::try_from(cpuinfo.lines().filter(|line| line.starts_with("processor")).count())?,
            hypervisor: field(&cpuinfo, "flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
            kernel: read(Path::new("/proc/sys/kernel/osrelease"))?.trim().to_owned(),
            memory_mib: memory_kib / 1024,
            bpf_jit: std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            underpass: env!("CARGO_PKG_VERSION").to_owned(),
            date: rfc3339(since_epoch.as_secs()),
        })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The value of the first line `name : value` of a `/proc` file.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// Seconds since 1970 as `YYYY-MM-DDTHH:MM:SSZ` (proleptic Gregorian calendar; years count from March, so
/// that the leap day is the last of a year).
fn rfc3339(seconds: u64) -> String {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468; // 0000-03-01 is day 0
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::{Machine, field, rfc3339};

    #[test]
    fn dates() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(rfc3339(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn fields_of_proc_files() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: fast\nMemTotal:       1024 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU: fast"));
        assert_eq!(field(text, "MemTotal"), Some("1024 kB"));
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::read().expect("/proc is there");
        assert!(machine.cores >= 1 && machine.memory_mib > 0 && !machine.kernel.is_empty());
    }
}
