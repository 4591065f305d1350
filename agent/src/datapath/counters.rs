//! Reads the per-CPU counters.

use std::collections::BTreeMap;

use aya::maps::{MapData, MapError, PerCpuArray};
use underpass_common::abi::{Counter, MAX_PORTS, counter_index};
use underpass_common::reason::Reason;

/// Counters by port number (0: packets from no managed port) and reason; zero counters are left out.
pub type Totals = BTreeMap<(u32, Reason), Counter>;

/// Sums every counter over all CPUs.
///
/// # Errors
/// The kernel refuses.
pub fn read(map: &PerCpuArray<MapData, Counter>) -> Result<Totals, MapError> {
    let mut totals = Totals::new();
    for port in 0..MAX_PORTS {
        for &reason in Reason::ALL {
            let values = map.get(&counter_index(port, reason as u32), 0)?;
            let total = sum(values.iter());
            if total != Counter::default() {
                totals.insert((port, reason), total);
            }
        }
    }
    Ok(totals)
}

fn sum<'a>(values: impl Iterator<Item = &'a Counter>) -> Counter {
    values.fold(Counter::default(), |total, value| Counter {
        packets: total.packets.wrapping_add(value.packets),
        bytes: total.bytes.wrapping_add(value.bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_is_over_all_cpus() {
        let values =
            [Counter { packets: 1, bytes: 60 }, Counter::default(), Counter { packets: 2, bytes: 3000 }];
        assert_eq!(sum(values.iter()), Counter { packets: 3, bytes: 3060 });
    }
}
