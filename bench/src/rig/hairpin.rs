//! The hairpin rig: frames leave the router by the port they came in on.
//!
//! Every column has a router of its own, because each needs the routes by its own port. The generator's
//! devices are the sinks, and the program there is what lets the routers' ports send by `XDP_TX`:
//!
//! ```text
//! generator                    router-kernel, router-fib-helper, ...
//!   kernel     <----------->   port
//!   fib-helper <----------->   port
//! ```
//!
//! The frames come from a network behind a gateway on the port: for a source that is on-link there the
//! kernel would send ICMP redirects.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;

use super::{
    EGRESS_SUBNET, Path, QUIET, Rig, mac_text, make_router, neighbours, port, port_address, route_commands,
    subnet_host, take_frames,
};
use crate::column::Column;
use crate::routes::{Family, Routes};

/// The one port of each router.
const PORT: &str = "port";
/// MAC address of the gateway to the frames' source.
const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x47, 0xff];

impl Rig {
    /// Raises the hairpin rig with these columns and routes.
    ///
    /// # Errors
    /// The routes are not IPv4's, or a namespace, link, address or route cannot be made.
    pub fn raise_hairpin(columns: &[Column], routes: Routes) -> anyhow::Result<Self> {
        ensure!(routes.set.family == Family::Ipv4, "the hairpin rig has IPv4 routes");
        let lab = Lab::new()?;
        lab.add_machines(&["generator"])?;
        let generator = lab.netns("generator");
        generator.sysctl(&QUIET)?;
        let started = Instant::now();
        let mut paths = Vec::new();
        for column in columns {
            let machine = format!("router-{}", column.label());
            lab.add_machines(&[&machine])?;
            let path = path(*column, &lab.netns(&machine));
            router(&path, &generator, &routes)
                .with_context(|| format!("cannot make the router of {}", column.label()))?;
            paths.push(path);
        }
        let installed_in = started.elapsed();
        let sinks = paths.iter().map(|path| (generator.clone(), path.device.clone())).collect();
        Ok(Self { lab, generator, sinks, paths, routes, installed_in })
    }
}

fn path(column: Column, router: &Netns) -> Path {
    let number = column.number();
    let router_mac = [0x02, 0, 0, 0, 0x52, number];
    let network = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(198, 19, number, 0)), 24);
    Path {
        column,
        router: router.clone(),
        device: column.label().to_owned(),
        ingress: PORT.to_owned(),
        egress: PORT.to_owned(),
        generator_mac: [0x02, 0, 0, 0, 0x47, number],
        router_mac,
        egress_mac: router_mac,
        source: (IpAddr::V4(Ipv4Addr::new(198, 19, number, 2)), network),
    }
}

/// A router with its port, next hops, the way back to the source, and the routes.
fn router(path: &Path, generator: &Netns, routes: &Routes) -> anyhow::Result<()> {
    path.router.sysctl(&QUIET)?;
    make_router(&path.router, Family::Ipv4)?;
    let peer = format!("name {} address {}", path.device, mac_text(path.generator_mac));
    let mut lines = port(PORT, path.router_mac, &peer, generator);
    lines += &port_address(PORT, Family::Ipv4, EGRESS_SUBNET);
    lines += &neighbours(PORT, Family::Ipv4);
    let gateway = subnet_host(Family::Ipv4, EGRESS_SUBNET, 2);
    // Writing to a String cannot fail.
    let _ = writeln!(lines, "neigh add {gateway} lladdr {} dev {PORT} nud permanent", mac_text(GATEWAY_MAC));
    let _ = writeln!(lines, "route add {} via {gateway} dev {PORT}", path.source.1);
    path.router.ip(&lines)?;
    generator.ip(&format!("link set {} up\n", path.device))?;
    if path.column.is_kernel() {
        take_frames(path)?;
    }
    path.router.ip(&route_commands(routes, PORT))
}
