//! Settings that netlink does not tell: `/proc/sys/net/ipv4/conf` and `/proc/sys/net/ipv6/conf` of the
//! network namespace.

use std::collections::BTreeMap;
use std::fs::read_to_string;

use super::model::{IfIndex, Ipv4Conf, Ipv6Conf, Link};

/// Raw IPv4 values of one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Values {
    forwarding: u8,
    rp_filter: u8,
    send_redirects: u8,
}

/// Reads the IPv4 settings of all links. A link without settings (it went away, or cannot do IPv4) is
/// left out.
pub fn ipv4(links: &BTreeMap<IfIndex, Link>) -> BTreeMap<IfIndex, Ipv4Conf> {
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
    let value = |name| value("ipv4", folder, name);
    Some(Values {
        forwarding: value("forwarding")?,
        rp_filter: value("rp_filter")?,
        send_redirects: value("send_redirects")?,
    })
}

/// Raw IPv6 values of one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Values6 {
    forwarding: u8,
    disable_ipv6: u8,
    proxy_ndp: u8,
    mtu: u32,
}

/// Reads the IPv6 settings of all links. A link without settings, or a kernel without IPv6, is left out.
pub fn ipv6(links: &BTreeMap<IfIndex, Link>) -> BTreeMap<IfIndex, Ipv6Conf> {
    let Some(all) = values6("all") else { return BTreeMap::new() };
    links.iter().filter_map(|(&index, link)| Some((index, combine6(all, values6(&link.name)?)))).collect()
}

/// `disable_ipv6` of `all` is written through to the interfaces and only theirs is looked at.
const fn combine6(all: Values6, interface: Values6) -> Ipv6Conf {
    let forwarding = all.forwarding != 0 && interface.forwarding != 0;
    Ipv6Conf {
        forwarding: forwarding && interface.disable_ipv6 == 0 && all.proxy_ndp == 0,
        mtu: interface.mtu,
    }
}

fn values6(folder: &str) -> Option<Values6> {
    Some(Values6 {
        forwarding: value("ipv6", folder, "forwarding")?,
        disable_ipv6: value("ipv6", folder, "disable_ipv6")?,
        proxy_ndp: value("ipv6", folder, "proxy_ndp")?,
        mtu: value("ipv6", folder, "mtu")?,
    })
}

fn value<T: std::str::FromStr>(family: &str, folder: &str, name: &str) -> Option<T> {
    let text = read_to_string(format!("/proc/sys/net/{family}/conf/{folder}/{name}")).ok()?;
    text.trim().parse().ok()
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

    #[test]
    fn ipv6_forwards_by_all_and_the_interface() {
        let values = |(forwarding, disable_ipv6, proxy_ndp)| Values6 {
            forwarding,
            disable_ipv6,
            proxy_ndp,
            mtu: 1500,
        };
        for (name, all, interface, expected) in [
            ("nothing", (0, 0, 0), (0, 0, 0), false),
            ("all", (1, 0, 0), (0, 0, 0), false),
            ("the interface", (0, 0, 0), (1, 0, 0), false),
            ("both", (1, 0, 0), (1, 0, 0), true),
            ("both, accepting router advertisements", (1, 0, 0), (2, 0, 0), true),
            ("disabled", (1, 0, 0), (1, 1, 0), false),
            ("disabled for those to come", (1, 1, 0), (1, 0, 0), true),
            ("a proxy", (1, 0, 1), (1, 0, 0), false),
        ] {
            let conf = combine6(values(all), values(interface));
            assert_eq!(conf, Ipv6Conf { forwarding: expected, mtu: 1500 }, "{name}");
        }
    }
}
