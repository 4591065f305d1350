//! Operations on the kernel's routes as data, and who carries them out.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nix::errno::Errno;

use crate::config;
use crate::netlink::model::{Family, Route};

/// Metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// Which routes are ours, and the key of those that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Route table.
    pub table: u32,
    /// `rtm_protocol`: every route of the table with it is ours.
    pub protocol: u8,
    /// Metric of the routes that we write.
    pub metric: u32,
}

impl From<&config::model::Kernel> for Ownership {
    fn from(kernel: &config::model::Kernel) -> Self {
        Self { table: kernel.table, protocol: kernel.protocol, metric: kernel.metric }
    }
}

impl Ownership {
    /// The metric as it is read back: the kernel has no IPv6 route with metric 0.
    pub const fn metric_of(self, family: Family) -> u32 {
        match (family, self.metric) {
            (Family::Ipv6, 0) => IPV6_DEFAULT_METRIC,
            (_, metric) => metric,
        }
    }

    /// Whether a route is ours.
    pub fn is_ours(self, route: &Route) -> bool {
        route.table == self.table && route.protocol == self.protocol
    }
}

/// A unicast route as we write it: no TOS, weight 1 each, the kernel finds the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRoute {
    /// Table.
    pub table: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Metric.
    pub metric: u32,
    /// Destination.
    pub prefix: IpNet,
    /// Gateways, sorted, unique, at least one.
    pub next_hops: Arc<[IpAddr]>,
}

/// One operation. Takes out only what it names, as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds a route where the key is free (`NLM_F_CREATE | NLM_F_EXCL`).
    Add(OwnRoute),
    /// Adds `new` beside what is there (`NLM_F_CREATE | NLM_F_APPEND`) and, if that succeeded, takes
    /// out `old`. All IPv6 routes with one key are one multipath route: there, `new` and `old` hold
    /// just the next hops that come and go.
    Replace {
        /// Comes.
        new: OwnRoute,
        /// Go; may be empty.
        old: Vec<Route>,
    },
    /// Takes out routes, all to the same prefix.
    Delete {
        /// Destination.
        prefix: IpNet,
        /// Routes; at least one.
        routes: Vec<Route>,
    },
}

impl Op {
    /// Destination.
    pub const fn prefix(&self) -> IpNet {
        match self {
            Self::Add(route) | Self::Replace { new: route, .. } => route.prefix,
            Self::Delete { prefix, .. } => *prefix,
        }
    }

    /// IPv6 next hops that come.
    pub fn added_ipv6(&self) -> impl Iterator<Item = IpAddr> {
        let (Self::Add(route) | Self::Replace { new: route, .. }) = self else {
            return [].iter().copied();
        };
        let next_hops = if route.prefix.addr().is_ipv6() { &route.next_hops[..] } else { &[] };
        next_hops.iter().copied()
    }

    /// Whether it only makes less of what is there: fewer next hops or routes, and nothing new.
    pub fn only_takes_out(&self) -> bool {
        match self {
            Self::Add(_) => false,
            Self::Delete { .. } => true,
            Self::Replace { new, old } => {
                let present: BTreeSet<IpAddr> =
                    old.iter().flat_map(|route| &route.next_hops).filter_map(|hop| hop.gateway).collect();
                new.next_hops.len() < present.len() && new.next_hops.iter().all(|hop| present.contains(hop))
            }
        }
    }

    /// Name for counters and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Replace { .. } => "replace",
            Self::Delete { .. } => "delete",
        }
    }
}

/// An operation that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {prefix}: {message}")]
pub struct RouteError {
    /// Destination of the route.
    pub prefix: IpNet,
    /// Positive error number; 0 when the kernel did not answer.
    pub errno: i32,
    /// What the kernel said, and what it means here.
    pub message: String,
}

impl RouteError {
    /// From the kernel's error number (positive) and the text of its extended acknowledgement.
    pub fn new(prefix: IpNet, errno: i32, text: Option<&str>) -> Self {
        let kernel = text.map_or_else(|| Errno::from_raw(errno).desc().to_owned(), ToOwned::to_owned);
        let meaning = match Errno::from_raw(errno) {
            Errno::EEXIST => " (a route with the same metric was added meanwhile)",
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => " (a next hop is not on-link)",
            Errno::EPERM => " (CAP_NET_ADMIN is missing)",
            _ => "",
        };
        Self { prefix, errno, message: format!("{kernel}{meaning}") }
    }

    /// The kernel did not answer at all.
    pub fn no_answer(prefix: IpNet) -> Self {
        Self { prefix, errno: 0, message: "the netlink socket gave no answer".to_owned() }
    }
}

/// Carries operations out. One real implementation
/// ([`RouteWriter`](crate::netlink::route_writer::RouteWriter)) and one in memory
/// ([`MemoryKernel`](super::memory::MemoryKernel)).
pub trait RouteTarget {
    /// Carries out the operations, in no particular order among different prefixes. One result per
    /// operation, in the order given. Taking out what is not there any more is no error.
    fn execute(&mut self, ops: &[Op]) -> impl Future<Output = Vec<Result<(), RouteError>>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_prefix_the_kernels_words_and_the_meaning() {
        let prefix: IpNet = "10.9.0.0/26".parse().unwrap();
        let cases = [
            (
                libc::ENETUNREACH,
                Some("Nexthop has invalid gateway"),
                "route 10.9.0.0/26: Nexthop has invalid gateway (a next hop is not on-link)",
            ),
            (libc::EPERM, None, "route 10.9.0.0/26: Operation not permitted (CAP_NET_ADMIN is missing)"),
            (libc::EINVAL, None, "route 10.9.0.0/26: Invalid argument"),
        ];
        for (errno, text, expected) in cases {
            assert_eq!(RouteError::new(prefix, errno, text).to_string(), expected);
        }
    }

    #[test]
    fn ipv6_has_no_metric_zero() {
        let ownership = Ownership { table: 254, protocol: 201, metric: 0 };
        assert_eq!((ownership.metric_of(Family::Ipv4), ownership.metric_of(Family::Ipv6)), (0, 1024));
    }
}
