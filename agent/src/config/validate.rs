//! What the values must be beyond their types. Pure: a function of the configuration.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{Agent, Config, Datapath, Kernel, Log};
use super::problem::Severity;
use super::validate_bgp::check_bgp;
use super::value::format_duration;
use crate::netlink::model::{TABLE_LOCAL, TABLE_MAIN};

/// A problem with the value of a key; the caller knows where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path of the key, "bgp.peers[0].address".
    pub key: String,
    /// Whether the agent can start.
    pub severity: Severity,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Collects findings.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn error(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { key: key.into(), severity: Severity::Error, message: message.into() });
    }

    pub(super) fn warning(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { key: key.into(), severity: Severity::Warning, message: message.into() });
    }
}

/// Lists everything that is wrong with a configuration whose values have the right types.
pub fn validate(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    check_agent(&config.agent, &mut findings);
    check_log(&config.log, &mut findings);
    if let Some(datapath) = &config.datapath {
        check_datapath(datapath, &mut findings);
    }
    check_kernel(&config.kernel, &mut findings);
    if let Some(bgp) = &config.bgp {
        check_bgp(bgp, &mut findings);
    }
    if config.datapath.is_none() && config.bgp.is_none() {
        findings.error(
            "",
            "neither [datapath] nor [bgp]: the agent would have nothing to do; `underpass config example` shows both",
        );
    }
    findings.0
}

/// `sun_path` of a Unix socket address holds this many bytes and a final zero.
const SOCKET_PATH_BYTES: usize = 107;

fn check_agent(agent: &Agent, findings: &mut Findings) {
    let absolute = "the path is relative; write it from the root, such as \"/run/underpass\"";
    for (key, path) in [("agent.socket", &agent.socket), ("agent.bpffs", &agent.bpffs)] {
        if !Path::is_absolute(path) {
            findings.error(key, absolute);
        }
    }
    if agent.socket.as_os_str().as_bytes().len() > SOCKET_PATH_BYTES {
        let message =
            format!("longer than the {SOCKET_PATH_BYTES} bytes that a socket's path can have; shorten it");
        findings.error("agent.socket", message);
    }
}

fn check_log(log: &Log, findings: &mut Findings) {
    if let Err(error) = log.filter.parse::<tracing_subscriber::EnvFilter>() {
        let message = format!("{error}; write a level (\"info\") or targets (\"underpass::bgp=debug,info\")");
        findings.error("log.filter", message);
    }
}

/// Longest name of an interface (`IFNAMSIZ` less the final zero).
const INTERFACE_NAME_BYTES: usize = 15;
/// Below this a busy machine may lose its fast path between two renewals.
const LEASE_MIN: Duration = Duration::from_secs(5);
/// Above this a dead agent's table lives too long.
const LEASE_MAX: Duration = Duration::from_hours(1);
const CARRIER_WAIT_MAX: Duration = Duration::from_mins(1);

fn check_datapath(datapath: &Datapath, findings: &mut Findings) {
    for (index, pattern) in datapath.ports.iter().enumerate() {
        check_port(&format!("datapath.ports[{index}]"), pattern, findings);
    }
    for (index, prefix) in datapath.accelerate.iter().enumerate() {
        let key = format!("datapath.accelerate[{index}]");
        check_forwardable(&key, prefix, findings);
        if datapath.accelerate[..index].contains(prefix) {
            findings.error(key, format!("{prefix} is listed twice; remove one"));
        }
    }
    for (index, entry) in datapath.bypass.iter().enumerate() {
        if datapath.bypass[..index].contains(entry) {
            findings.error(
                format!("datapath.bypass[{index}]"),
                format!("\"{entry}\" is listed twice; remove one"),
            );
        }
    }
    if datapath.lease < LEASE_MIN || datapath.lease > LEASE_MAX {
        let lease = format_duration(datapath.lease);
        let message = format!(
            "{lease} is outside of 5s to 1h: shorter ones expire while the agent is busy, longer ones let a dead \
             agent's table live on; the default is \"60s\""
        );
        findings.error("datapath.lease", message);
    }
    if datapath.carrier_wait > CARRIER_WAIT_MAX {
        let wait = format_duration(datapath.carrier_wait);
        findings.error("datapath.carrier_wait", format!("{wait} is above 1m; the default is \"10s\""));
    }
}

fn check_port(key: &str, pattern: &str, findings: &mut Findings) {
    let wildcard = pattern.contains(['*', '?', '[', '{']);
    if pattern.is_empty() {
        findings.error(key, "empty; name a port or a pattern such as \"eth*\"");
    } else if glob_match::glob_match(pattern, "lo") {
        findings.error(
            key,
            format!("{pattern:?} matches the loopback interface; name the uplinks, such as \"eth*\""),
        );
    } else if !wildcard && pattern.len() > INTERFACE_NAME_BYTES {
        let message =
            format!("{pattern:?} is longer than the {INTERFACE_NAME_BYTES} bytes of an interface's name");
        findings.error(key, message);
    } else if glob_match::glob_match(pattern, "cali0123456789a") {
        let message =
            format!("{pattern:?} matches pods' interfaces (cali*), whose packets gain nothing; narrow it");
        findings.warning(key, message);
    }
}

fn check_forwardable(key: &str, prefix: &IpNet, findings: &mut Findings) {
    const NOT_UNICAST: [(&str, &str); 5] = [
        ("0.0.0.0/8", "\"this network\""),
        ("127.0.0.0/8", "loopback"),
        ("224.0.0.0/3", "multicast and reserved addresses"),
        ("ff00::/8", "multicast"),
        ("fe80::/10", "link-local addresses"),
    ];
    if prefix.prefix_len() == 0 {
        let message = "the whole address space: service addresses without a route of their own would follow the \
                       default route past kube-proxy; list the ranges to accelerate (pods, hosts)";
        findings.error(key, message);
        return;
    }
    for (range, name) in NOT_UNICAST {
        let range: IpNet = range.parse().expect("a literal prefix");
        if range.contains(prefix) || prefix.contains(&range) {
            findings.error(
                key,
                format!("{prefix} overlaps {range} ({name}), which is never forwarded; narrow it"),
            );
            return;
        }
    }
}

/// Protocol numbers of routes (`rtm_protocol`, linux/rtnetlink.h) that belong to somebody else.
const FOREIGN_PROTOCOLS: [(u8, &str); 25] = [
    (0, "RTPROT_UNSPEC, which the kernel does not keep"),
    (1, "ICMP redirects"),
    (2, "the kernel's own routes"),
    (3, "routes made at boot, by DHCP clients and by Calico's Felix for pods"),
    (4, "static routes of the administrator"),
    (8, "gated"),
    (9, "router advertisements"),
    (10, "MRT"),
    (11, "FRR's zebra"),
    (12, "BIRD, which takes such routes for its own and removes them"),
    (13, "DECnet"),
    (14, "XORP"),
    (15, "netsukuku"),
    (16, "DHCP clients"),
    (17, "mrouted"),
    (18, "keepalived"),
    (42, "babel"),
    (80, "Calico's Felix, which removes such routes"),
    (84, "OVN"),
    (99, "Open/R"),
    (186, "FRR's BGP, which removes such routes"),
    (187, "FRR's IS-IS"),
    (188, "FRR's OSPF"),
    (189, "FRR's RIP"),
    (192, "FRR's EIGRP"),
];

fn check_kernel(kernel: &Kernel, findings: &mut Findings) {
    if let Some((number, owner)) = FOREIGN_PROTOCOLS.iter().find(|(number, _)| *number == kernel.protocol) {
        let message =
            format!("{number} belongs to {owner}; take a number that nobody uses, the default is 210");
        findings.error("kernel.protocol", message);
    }
    match kernel.table {
        0 => findings.error("kernel.table", "0 is no table; the default is 254 (main)"),
        TABLE_LOCAL => {
            findings.error("kernel.table", "255 is the kernel's table of local addresses; the default is 254 (main)");
        }
        TABLE_MAIN => {}
        table => findings.warning(
            "kernel.table",
            format!(
                "table {table} is only used with rules of yours: `lookup main suppress_prefixlength 0` and after it \
                 `lookup {table}`; the default is 254 (main)"
            ),
        ),
    }
    if kernel.metric == 0 {
        let message =
            "0 is the metric of BIRD's and static routes: ours would keep theirs out; the default is 200";
        findings.error("kernel.metric", message);
    }
}
