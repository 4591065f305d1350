//! The fields of each kind but `BGPPeer`.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::super::fields::Section;
use super::super::model::{
    Block, Configuration, DEFAULT_AS, Encapsulation, Node, Pool, Resources, SecretKey, default_block_size,
};
use super::super::problem::Severity;
use super::super::value;

pub(super) const AS_NUMBER: &str = "an AS number, 1 to 4294967295 or \"1.10\"";
pub(super) const DURATION: &str = "a duration such as \"120s\"";
const PREFIX: &str = "a prefix without host bits, such as \"10.233.64.0/18\"";

/// `BGPConfiguration`: "default" is for all nodes, "node.NAME" for one, and of that only the port counts.
pub(super) fn configuration(top: &mut Section<'_>, name: &str, resources: &mut Resources) {
    let Some(mut spec) = top.section("spec") else { return };
    let listen_port = spec.number("listenPort", 1..=u16::MAX);
    if name == "default" {
        resources.configuration = Configuration {
            mesh: spec.boolean("nodeToNodeMeshEnabled").unwrap_or(true),
            as_number: spec.number_or_text("asNumber", AS_NUMBER, value::as_number).unwrap_or(DEFAULT_AS),
            listen_port,
            mesh_password: password(&mut spec, "nodeMeshPassword"),
            mesh_restart_time: spec.parsed("nodeMeshMaxRestartTime", DURATION, value::duration),
            service_ranges: service_ranges(&mut spec),
        };
    } else if let Some(node) = name.strip_prefix("node.") {
        resources.listen_ports.extend(listen_port.map(|port| (node.to_owned(), port)));
        spec.ignore(&["nodeToNodeMeshEnabled", "asNumber", "nodeMeshPassword", "nodeMeshMaxRestartTime"]);
        spec.ignore(&["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"]);
    } else {
        top.report("metadata", Severity::Warning, "Calico knows \"default\" and \"node.NAME\" only; skipped");
        return;
    }
    spec.ignore(&[
        "logSeverityScreen",
        "communities",
        "prefixAdvertisements",
        "bindMode",
        "ignoredInterfaces",
        "serviceLoadBalancerAggregation",
        "localWorkloadPeeringIPV4",
        "localWorkloadPeeringIPV6",
        "programClusterRoutes",
        "ipv4NormalRoutePriority",
        "ipv6NormalRoutePriority",
    ]);
    spec.finish();
}

fn service_ranges(spec: &mut Section<'_>) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for key in ["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"] {
        for item in spec.list(key) {
            let Some(mut block) = item.section() else { continue };
            match block.parsed("cidr", PREFIX, value::prefix) {
                Some(range) if !ranges.contains(&range) => ranges.push(range),
                _ => {}
            }
            block.finish();
        }
    }
    ranges
}

/// `password.secretKeyRef`, of whichever field.
pub(super) fn password(spec: &mut Section<'_>, key: &'static str) -> Option<SecretKey> {
    let mut password = spec.section(key)?;
    let reference = password.section("secretKeyRef");
    password.finish();
    let mut reference = reference?;
    let expected = "letters, digits, `-`, `_` and `.`";
    let name = reference.parsed("name", expected, value::secret_name);
    let key = reference.parsed("key", expected, value::secret_name);
    reference.ignore(&["optional"]);
    for (field, value) in [("name", &name), ("key", &key)] {
        if value.is_none() && !reference.has(field) {
            reference.report(field, Severity::Error, "missing; it says where the password is");
        }
    }
    reference.finish();
    Some(SecretKey { name: name?, key: key? })
}

/// Calico's `Node`.
pub(super) fn calico_node(top: &mut Section<'_>, name: &str, resources: &mut Resources) {
    let mut node = Node::default();
    if let Some(mut metadata) = top.section("metadata") {
        node.labels = metadata.texts("labels").into_iter().collect();
    }
    if let Some(mut spec) = top.section("spec") {
        if let Some(mut bgp) = spec.section("bgp") {
            node.ipv4 =
                bgp.parsed("ipv4Address", "an address such as \"172.20.0.11/24\"", value::ipv4_interface);
            node.ipv6 =
                bgp.parsed("ipv6Address", "an address such as \"fd20::11/64\"", value::ipv6_interface);
            node.as_number = bgp.number_or_text("asNumber", AS_NUMBER, value::as_number);
            node.cluster_id =
                bgp.parsed("routeReflectorClusterID", "an IPv4 address", |text| text.parse().ok());
            bgp.ignore(&["ipv4IPIPTunnelAddr", "interface"]);
            bgp.finish();
        }
        spec.ignore(&[
            "orchRefs",
            "ipv4VXLANTunnelAddr",
            "ipv6VXLANTunnelAddr",
            "vxlanTunnelMACAddr",
            "vxlanTunnelMACAddrV6",
            "wireguard",
            "addresses",
            "interfaces",
        ]);
        spec.finish();
    }
    if let Some(mut status) = top.section("status") {
        node.pod_cidrs = prefixes(&mut status, "podCIDRs");
    }
    resources.nodes.insert(name.to_owned(), node);
}

/// Kubernetes' `Node`, where Calico keeps its own fields in annotations. `replaced`: Calico's `Node` of the name was
/// read already and holds.
pub(super) fn kubernetes_node(top: &mut Section<'_>, name: &str, replaced: bool, resources: &mut Resources) {
    let mut node = Node::default();
    if let Some(mut metadata) = top.section("metadata") {
        node.labels = metadata.texts("labels").into_iter().collect();
        for (key, text) in metadata.texts("annotations") {
            let Some(key) = key.strip_prefix("projectcalico.org/") else { continue };
            if text.is_empty() {
                continue;
            }
            let known = match key {
                "IPv4Address" => set(&mut node.ipv4, value::ipv4_interface(&text)),
                "IPv6Address" => set(&mut node.ipv6, value::ipv6_interface(&text)),
                "ASNumber" => set(&mut node.as_number, value::as_number(&text)),
                "RouteReflectorClusterID" => set(&mut node.cluster_id, text.parse::<Ipv4Addr>().ok()),
                _ => true,
            };
            if !known {
                let message = format!("the annotation projectcalico.org/{key} cannot be {text:?}");
                metadata.report("annotations", Severity::Error, message);
            }
        }
    }
    if let Some(mut spec) = top.section("spec") {
        node.pod_cidrs = prefixes(&mut spec, "podCIDRs");
    }
    if replaced {
        top.report("metadata", Severity::Note, "Calico's Node of this name holds; skipped");
        return;
    }
    resources.nodes.insert(name.to_owned(), node);
}

fn set<T>(to: &mut Option<T>, value: Option<T>) -> bool {
    *to = value;
    to.is_some()
}

fn prefixes(section: &mut Section<'_>, key: &'static str) -> Vec<IpNet> {
    section.list(key).iter().filter_map(|item| item.parsed(PREFIX, value::prefix)).collect()
}

/// The fields of a resource that is nothing without them.
pub(super) fn required_spec<'s>(top: &mut Section<'s>) -> Option<Section<'s>> {
    if !top.has("spec") {
        top.report("spec", Severity::Error, "missing");
    }
    top.section("spec")
}

/// `IPPool`.
pub(super) fn pool(top: &mut Section<'_>, name: &str, resources: &mut Resources) {
    let Some(mut spec) = required_spec(top) else { return };
    let cidr = spec.parsed("cidr", PREFIX, value::prefix);
    if cidr.is_none() && !spec.has("cidr") {
        spec.report("cidr", Severity::Error, "missing; a pool has a range");
    }
    let uses = spec.list("allowedUses");
    let has_uses = !uses.is_empty();
    let uses: Vec<String> =
        uses.iter().filter_map(|item| item.parsed("text", |text| Some(text.to_owned()))).collect();
    let used = |what: &str| uses.iter().any(|used| used == what);
    let block_size = spec.number("blockSize", 20..=128u8);
    let pool = cidr.map(|cidr| Pool {
        cidr,
        block_size: block_size.unwrap_or_else(|| default_block_size(&cidr)),
        ipip: encapsulation(&mut spec, "ipipMode"),
        vxlan: encapsulation(&mut spec, "vxlanMode"),
        disabled: spec.boolean("disabled").unwrap_or(false),
        export_disabled: spec.boolean("disableBGPExport").unwrap_or(false),
        // Without the field: pods and tunnels.
        for_workloads: !has_uses || used("Workload"),
        for_load_balancers: used("LoadBalancer"),
    });
    if spec.has("ipip") {
        spec.report("ipip", Severity::Error, "a field of Calico 2, which 3 refuses; write ipipMode");
    }
    spec.ignore(&[
        "natOutgoing",
        "nodeSelector",
        "namespaceSelector",
        "assignmentMode",
        "disableNewAllocations",
    ]);
    if let Some(pool) = pool {
        check_block_size(&spec, &pool);
        resources.pools.insert(name.to_owned(), pool);
    }
    spec.finish();
}

fn encapsulation(spec: &mut Section<'_>, key: &'static str) -> Encapsulation {
    let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
        "never" => Some(Encapsulation::Never),
        "crosssubnet" => Some(Encapsulation::CrossSubnet),
        "always" => Some(Encapsulation::Always),
        _ => None,
    };
    spec.parsed(key, "Always, CrossSubnet or Never", parse).unwrap_or_default()
}

fn check_block_size(spec: &Section<'_>, pool: &Pool) {
    let (low, high) = match pool.cidr {
        IpNet::V4(_) => (20, 32),
        IpNet::V6(_) => (116, 128),
    };
    let size = pool.block_size;
    if !(low..=high).contains(&size) || size < pool.cidr.prefix_len() {
        let message =
            format!("{size} is no length of a block in {}: {low} to {high}, and within the pool", pool.cidr);
        spec.report("blockSize", Severity::Error, message);
    }
}

/// `BlockAffinity`; one that is not confirmed, or goes, is nobody's.
pub(super) fn block(top: &mut Section<'_>, resources: &mut Resources) {
    let Some(mut spec) = required_spec(top) else { return };
    let cidr = spec.parsed("cidr", PREFIX, value::prefix);
    let node = spec.text("node");
    let state = spec.text("state");
    let deleted = spec.number_or_text("deleted", "true or false", value::boolean).unwrap_or(false);
    spec.ignore(&["type"]);
    spec.finish();
    if let (Some(cidr), Some(node)) = (cidr, node)
        && state.as_deref() == Some("confirmed")
        && !deleted
    {
        resources.blocks.push(Block { node, cidr });
    }
}
