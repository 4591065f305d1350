//! Underpass's configurations in the reference lab; `[agent]` and `[log]` are added by whoever starts it.

use std::fmt::Write as _;

use super::{CLIENT_NET, GATEWAY, GATEWAY_CLIENT_NET, POD_RANGE, RACKS, SERVICE_RANGE};

/// On a node: BIRD's routes are compiled for the one uplink, no BGP of its own. Where a proxy terminates
/// services, the kernel tracks connections.
pub fn node() -> String {
    format!(
        "[datapath]\nports = [\"eth0\"]\n\
         accelerate = [\"{POD_RANGE}\", \"{CLIENT_NET}\", \"{GATEWAY_CLIENT_NET}\"]\n\
         service_ranges = [\"{SERVICE_RANGE}\"]\n\
         bypass = [\"conntrack\"]\n"
    )
}

/// On gw1: an iBGP client of rack 1's reflectors, which writes table main and forwards between two ports.
///
/// It only dials: BIRD's own attempts to connect are refused, so that there is one connection per peer.
pub fn gateway() -> String {
    let mut text = format!(
        "[datapath]\nports = [\"eth0\", \"eth1\"]\n\
         accelerate = [\"{POD_RANGE}\", \"{GATEWAY_CLIENT_NET}\"]\n\
         service_ranges = [\"{SERVICE_RANGE}\"]\n\
         \n[bgp]\nlocal_as = {}\nrouter_id = \"{GATEWAY}\"\n\
         \n[bgp.import]\n\
         prefixes = [{{ prefix = \"{POD_RANGE}\", min = 24, max = 32 }}, \"{SERVICE_RANGE}\"]\n\
         next_hops = [\"{}\"]\n",
        RACKS[0].node_as,
        RACKS[0].subnet(),
    );
    for node in RACKS[0].reflectors() {
        let _ = write!(
            text,
            "\n[[bgp.peers]]\nname = \"{}\"\naddress = \"{}\"\nremote_as = {}\n\
             source_address = \"{GATEWAY}\"\nhold_time = \"9s\"\nconnect_retry = \"1s\"\n\
             connect_retry_max = \"2s\"\n",
            node.name, node.address, RACKS[0].node_as
        );
    }
    text
}
