//! One plan for the peer's session, in the language of each daemon.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::rig::{AGENT, AGENT6, AS, PEER, PEER6, RESTART_SECONDS};

/// A path that the peer announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub prefix: &'static str,
    pub next_hop: &'static str,
}

/// Short for a path.
pub const fn via(prefix: &'static str, next_hop: &'static str) -> Path {
    Path { prefix, next_hop }
}

/// What the peer is to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub paths: Vec<Path>,
    /// The session is over IPv6.
    pub over_ipv6: bool,
    /// IPv4 routes are exchanged, over IPv6 with IPv6 next hops (RFC 8950). IPv6 routes always are over IPv6.
    pub ipv4: bool,
    /// It sends all paths (RFC 7911).
    pub add_path: bool,
    /// TCP-MD5.
    pub password: Option<&'static str>,
    /// GTSM (RFC 5082) with one hop.
    pub gtsm: bool,
    /// TTL of what it sends, instead of what it would take itself.
    pub ttl: Option<u8>,
}

impl Plan {
    /// IPv4 routes over IPv4.
    pub fn announcing(paths: &[Path]) -> Self {
        Self { paths: paths.to_vec(), ipv4: true, ..Self::default() }
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        if self.over_ipv6 { (PEER6.into(), AGENT6.into()) } else { (PEER.into(), AGENT.into()) }
    }

    /// Paths of one family, in layers that have each prefix once.
    fn layers(&self, ipv6: bool) -> Vec<Vec<Path>> {
        let mut layers: Vec<Vec<Path>> = Vec::new();
        for path in self.paths.iter().filter(|path| is_ipv6(path) == ipv6) {
            let free = layers.iter_mut().find(|layer| layer.iter().all(|other| other.prefix != path.prefix));
            match free {
                Some(layer) => layer.push(*path),
                None => layers.push(vec![*path]),
            }
        }
        layers
    }
}

/// Whether it is a path to an IPv6 prefix.
pub fn is_ipv6(path: &Path) -> bool {
    path.prefix.contains(':')
}

/// What BIRD 1.6 and 2 have in common, up to the channels.
fn bird(plan: &Plan) -> String {
    let (own, peer) = plan.ends();
    let mut text = format!(
        "protocol bgp edge {{\n  local {own} as {AS};\n  neighbor {peer} as {AS};\n  direct;\n  \
         connect delay time 1;\n  connect retry time 1;\n  error wait time 1,2;\n  graceful restart on;\n  \
         graceful restart time {RESTART_SECONDS};\n  debug {{ states, packets }};\n"
    );
    if let Some(password) = plan.password {
        let _ = writeln!(text, "  password \"{password}\";");
    }
    if plan.gtsm {
        text.push_str("  ttl security on;\n");
    }
    text
}

/// `channel` is BIRD 2's.
fn feeds(text: &mut String, name: &str, channel: &str, layers: &[Vec<Path>]) {
    for (number, layer) in layers.iter().enumerate() {
        let _ = writeln!(text, "protocol static {name}{number} {{ {channel}");
        for path in layer {
            let _ = writeln!(text, "  route {} via {};", path.prefix, path.next_hop);
        }
        text.push_str("}\n");
    }
}

fn bird_head() -> String {
    format!("router id {PEER};\nprotocol device {{ scan time 2; }}\n")
}

/// Either program of BIRD 1.6: it has one family, that of the session.
pub fn bird1(plan: &Plan) -> String {
    let mut text = bird_head();
    feeds(&mut text, "feed", "", &plan.layers(plan.over_ipv6));
    text.push_str(&bird(plan));
    text.push_str("  next hop keep;\n  import none;\n  export all;\n");
    if plan.over_ipv6 {
        // Without it bird6 names itself as the next hop of routes without a link-local one.
        text.push_str("  missing lladdr ignore;\n");
    }
    if plan.add_path {
        text.push_str("  add paths tx;\n");
    }
    text + "}\n"
}

/// BIRD 2.
pub fn bird2(plan: &Plan) -> String {
    let mut text = bird_head();
    feeds(&mut text, "four", "ipv4;", &plan.layers(false));
    feeds(&mut text, "six", "ipv6;", &plan.layers(true));
    text.push_str(&bird(plan));
    let add_path = if plan.add_path { "add paths tx; " } else { "" };
    let channel = format!("import none; export all; next hop keep; {add_path}");
    if plan.ipv4 {
        let extended = if plan.over_ipv6 { "extended next hop on; " } else { "" };
        let _ = writeln!(text, "  ipv4 {{ {channel}{extended}}};");
    }
    if plan.over_ipv6 {
        let _ = writeln!(text, "  ipv6 {{ {channel}}};");
    }
    text + "}\n"
}

/// FRR's bgpd. A `network` gives one path per prefix; further ones are redistributed from the kernel.
pub fn frr(plan: &Plan) -> String {
    let (_, peer) = plan.ends();
    let mut text = format!(
        "router bgp {AS}\n bgp router-id {PEER}\n no bgp default ipv4-unicast\n no bgp network import-check\n \
         bgp graceful-restart\n bgp graceful-restart restart-time {RESTART_SECONDS}\n \
         bgp graceful-restart preserve-fw-state\n neighbor {peer} remote-as {AS}\n \
         neighbor {peer} timers connect 1\n"
    );
    if let Some(password) = plan.password {
        let _ = writeln!(text, " neighbor {peer} password {password}");
    }
    if plan.gtsm {
        let _ = writeln!(text, " neighbor {peer} ttl-security hops 1");
    }
    if plan.over_ipv6 && plan.ipv4 {
        let _ = writeln!(text, " neighbor {peer} capability extended-nexthop");
    }
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        if if ipv6 { !plan.over_ipv6 } else { !plan.ipv4 } {
            continue;
        }
        let _ = write!(text, " address-family {family} unicast\n  neighbor {peer} activate\n");
        if plan.add_path {
            let _ = write!(
                text,
                "  neighbor {peer} addpath-tx-all-paths\n  redistribute kernel route-map equal\n"
            );
        }
        for path in plan.layers(ipv6).first().into_iter().flatten() {
            let _ = writeln!(text, "  {}", frr_network(path));
        }
        text.push_str(" exit-address-family\n");
    }
    // As good as a `network`, which is of internal origin.
    text.push_str("exit\nroute-map equal permit 10\n set origin igp\n");
    for path in &plan.paths {
        text.push_str("exit\n");
        text.push_str(&frr_hop(path).join("\n"));
        text.push('\n');
    }
    text
}

/// The statement that announces a path.
pub fn frr_network(path: &Path) -> String {
    format!("network {} route-map via-{}", path.prefix, path.next_hop)
}

/// The route map that gives it its next hop.
pub fn frr_hop(path: &Path) -> [String; 2] {
    let what = if path.next_hop.contains(':') { "ipv6 next-hop global" } else { "ip next-hop" };
    [format!("route-map via-{} permit 10", path.next_hop), format!("set {what} {}", path.next_hop)]
}

/// Paths of FRR beyond the first of each prefix.
pub fn frr_further(plan: &Plan) -> Vec<Path> {
    [false, true].iter().flat_map(|ipv6| plan.layers(*ipv6).into_iter().skip(1).flatten()).collect()
}

/// `GoBGP`, down until its paths are there: they are not in the configuration.
pub fn gobgp(plan: &Plan) -> String {
    let (own, peer) = plan.ends();
    let password =
        plan.password.map(|password| format!("auth-password = \"{password}\"\n")).unwrap_or_default();
    let mut text = format!(
        "[global.config]\nas = {AS}\nrouter-id = \"{PEER}\"\n\n[[neighbors]]\n[neighbors.config]\n\
         neighbor-address = \"{peer}\"\npeer-as = {AS}\nadmin-down = true\n{password}\
         [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
         [neighbors.transport.config]\nlocal-address = \"{own}\"\n\
         [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = {RESTART_SECONDS}\n"
    );
    if plan.gtsm {
        text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
    }
    for (family, wanted) in [("ipv4-unicast", plan.ipv4), ("ipv6-unicast", plan.over_ipv6)] {
        if wanted {
            let _ = write!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n\
                 [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
            );
            if plan.add_path {
                text.push_str("[neighbors.afi-safis.add-paths.config]\nsend-max = 8\n");
            }
        }
    }
    text
}
