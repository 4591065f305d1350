//! Tests of the compile step: tables of cases, and properties against a naive model.

mod cases;
mod facts;
mod increments;
mod naive;
mod own;
mod property;

use std::net::IpAddr;

use ipnet::IpNet;

use super::model::{Fib, Target};
use crate::netlink::model::IfIndex;

/// The longest match for packets that come in on `port`, as the XDP program looks it up.
fn lookup(fib: &Fib, port: IfIndex, address: IpAddr) -> Option<(IpNet, &Target)> {
    let view = fib.ports[&port].view;
    let host = IpNet::from(address);
    (0..=host.prefix_len()).rev().find_map(|length| {
        let prefix = IpNet::new(address, length).expect("a length of the family").trunc();
        fib.prefixes.get(&(view, prefix)).map(|target| (prefix, target.as_ref()))
    })
}
