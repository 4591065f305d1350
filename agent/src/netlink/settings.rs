//! Settings that netlink does not tell: `/proc/sys/net/ipv4/conf` of the network namespace.

use std::collections::BTreeMap;
use std::fs::read_to_string;

use super::model::{IfIndex, Ipv4Conf, Link};

/// Raw values of one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Values {
    forwarding: u8,
    rp_filter: u8,
    send_redirects: u8,
}

/// Reads the settings of all links. A link without settings (it went away, or cannot do IPv4) is
/// left out.
pub fn read(links: &BTreeMap<IfIndex, Link>) -> BTreeMap<IfIndex, Ipv4Conf> {
    let Some(all) = values("all") else { return BTreeMap::new() };
    links.iter().filter_map(|(&index, link)| Some((index, combine(all, values(&link.name)?)))).collect()
}

/// What the kernel makes of `all` and the interface: `forwarding` is the interface's alone,
/// `rp_filter` the larger (`IN_DEV_MAXCONF`), `send_redirects` either (`IN_DEV_ORCONF`;
/// linux/inetdevice.h).
const fn combine(all: Values, interface: Values) -> Ipv4Conf {
    Ipv4Conf {
        forwarding: interface.forwarding != 0,
        rp_filter: if all.rp_filter > interface.rp_filter { all.rp_filter } else { interface.rp_filter },
        send_redirects: all.send_redirects != 0 || interface.send_redirects != 0,
    }
}

fn values(folder: &str) -> Option<Values> {
    let value = |name: &str| -> Option<u8> {
        let text = read_to_string(format!("/proc/sys/net/ipv4/conf/{folder}/{name}")).ok()?;
        text.trim().parse().ok()
    };
    Some(Values {
        forwarding: value("forwarding")?,
        rp_filter: value("rp_filter")?,
        send_redirects: value("send_redirects")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_interface_are_combined_as_the_kernel_does() {
        let values =
            |(forwarding, rp_filter, send_redirects)| Values { forwarding, rp_filter, send_redirects };
        for (name, all, interface, expected) in [
            ("nothing", (0, 0, 0), (0, 0, 0), (false, 0, false)),
            ("forwarding of all is no setting of the interface", (1, 0, 0), (0, 0, 0), (false, 0, false)),
            ("forwarding of the interface", (0, 0, 0), (1, 0, 0), (true, 0, false)),
            ("strict and loose is loose", (0, 1, 0), (0, 2, 0), (false, 2, false)),
            ("the larger of all", (0, 2, 0), (0, 1, 0), (false, 2, false)),
            ("redirects by all", (0, 0, 1), (0, 0, 0), (false, 0, true)),
            ("redirects by the interface", (0, 0, 0), (0, 0, 1), (false, 0, true)),
        ] {
            let conf = combine(values(all), values(interface));
            assert_eq!((conf.forwarding, conf.rp_filter, conf.send_redirects), expected, "{name}");
        }
    }
}
