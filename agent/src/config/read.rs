//! From a TOML document to [`Config`]: which keys exist, where, of which type and with which default.

mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use toml::de::DeTable;

use super::model::{Agent, Bgp, Config, Datapath, Import, Kernel, Log, PasswordSource, Peer, PrefixRange};
use super::problem::{Position, Problem, Severity};
use super::reader::{Element, Findings, Reader, Section};
use super::value::{Listen, Pattern};

/// A document read as far as possible.
pub(super) struct Read {
    /// With stand-ins where there are problems.
    pub config: Config,
    /// Problems of syntax, keys and types.
    pub problems: Vec<Problem>,
    /// Where each key is.
    pub positions: BTreeMap<String, Position>,
    /// Every key of the sections that the document has.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the documentation"))]
    pub known: BTreeSet<String>,
}

/// Reads a document.
pub(super) fn read(text: &str) -> Read {
    let (table, errors) = DeTable::parse_recoverable(text);
    let reader = Reader::new(text);
    let mut root = reader.root(table.get_ref());
    let config = read_config(&mut root);
    root.finish();
    let Findings { mut problems, positions, known } = reader.finish();
    if !errors.is_empty() {
        // After a syntax error the rest of the document may be misread: only that is worth telling.
        problems = errors.iter().map(|error| syntax_problem(text, error)).collect();
    }
    Read { config, problems, positions, known }
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let offset = error.span().map_or(0, |span| span.start);
    let message = format!("not valid TOML: {}", error.message());
    Problem { position: Position::of(text, offset), key: String::new(), severity: Severity::Error, message }
}

fn read_config(root: &mut Section<'_, '_>) -> Config {
    let agent = read_agent(root.section("agent"));
    let log = read_log(root.section("log"));
    let datapath = root.section("datapath");
    let kernel = root.section("kernel");
    let bgp = root.section("bgp");
    if kernel.exists() && !bgp.exists() {
        let message = "has no effect without [bgp]: this agent has no routes of its own; remove the section";
        root.problem("kernel", Severity::Warning, message.to_owned());
    }
    Config {
        agent,
        log,
        datapath: datapath.exists().then(|| read_datapath(datapath)),
        kernel: read_kernel(kernel),
        bgp: bgp.exists().then(|| read_bgp(bgp)),
    }
}

fn read_agent(mut section: Section<'_, '_>) -> Agent {
    let default = Agent::default();
    let agent =
        Agent { socket: section.or("socket", default.socket), bpffs: section.or("bpffs", default.bpffs) };
    section.finish();
    agent
}

fn read_log(mut section: Section<'_, '_>) -> Log {
    let default = Log::default();
    let log =
        Log { format: section.or("format", default.format), filter: section.or("filter", default.filter) };
    section.finish();
    log
}

fn read_datapath(mut section: Section<'_, '_>) -> Datapath {
    let default = Datapath::default();
    let datapath = Datapath {
        ports: section.required_list::<Pattern>("ports").into_iter().map(|pattern| pattern.0).collect(),
        accelerate: section.required_list("accelerate"),
        service_ranges: section.optional_list("service_ranges").unwrap_or(default.service_ranges),
        services: section.or("services", default.services),
        fib: section.or("fib", default.fib),
        lease: section.or("lease", default.lease),
        generic: section.or("generic", default.generic),
        carrier_wait: section.or("carrier_wait", default.carrier_wait),
        bypass: section.optional_list("bypass").unwrap_or(default.bypass),
    };
    section.finish();
    datapath
}

fn read_kernel(mut section: Section<'_, '_>) -> Kernel {
    let default = Kernel::default();
    let kernel = Kernel {
        table: section.or("table", default.table),
        protocol: section.or("protocol", default.protocol),
        metric: section.or("metric", default.metric),
        flush_on_stop: section.or("flush_on_stop", default.flush_on_stop),
    };
    section.finish();
    kernel
}

fn read_bgp(mut section: Section<'_, '_>) -> Bgp {
    let local_as = section.required("local_as", 0);
    let default = Bgp::new(local_as, section.required("router_id", Ipv4Addr::UNSPECIFIED));
    let listen = section.optional_list::<Listen>("listen").unwrap_or_default();
    let peers = section.required_elements("peers", "a table [[bgp.peers]]");
    let bgp = Bgp {
        listen: listen.into_iter().map(|listen| listen.0).collect(),
        maximum_paths: section.or("maximum_paths", default.maximum_paths),
        maximum_paths_ebgp: section.optional("maximum_paths_ebgp"),
        maximum_paths_ibgp: section.optional("maximum_paths_ibgp"),
        prefix_sets: policy::read_sets(&section.section("prefix_sets")),
        keep_last_known: section.or("keep_last_known", default.keep_last_known),
        import: read_import(section.section("import")),
        peers: peers.into_iter().filter_map(|peer| read_peer(&peer)).collect(),
        ..default
    };
    section.finish();
    bgp
}

fn read_peer(element: &Element<'_, '_>) -> Option<Peer> {
    let Some(mut section) = element.table() else {
        element.refuse("a table [[bgp.peers]]");
        return None;
    };
    let address = section.required("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let default = Peer::new(address, section.required("remote_as", 0));
    let peer = Peer {
        name: section.or("name", default.name),
        address,
        port: section.or("port", default.port),
        remote_as: default.remote_as,
        enabled: section.or("enabled", default.enabled),
        passive: section.or("passive", default.passive),
        source_address: section.optional("source_address"),
        interface: section.optional("interface"),
        password: read_password(&mut section),
        router_id: section.optional("router_id"),
        local_as: section.optional("local_as"),
        hold_time: section.or("hold_time", default.hold_time),
        min_hold_time: section.optional("min_hold_time"),
        send_hold_time: section.or("send_hold_time", default.send_hold_time),
        tcp_user_timeout: section.optional("tcp_user_timeout"),
        connect_retry: section.or("connect_retry", default.connect_retry),
        connect_retry_max: section.or("connect_retry_max", default.connect_retry_max),
        families: section.optional_list("families").unwrap_or(default.families),
        add_path: section.or("add_path", default.add_path),
        extended_messages: section.or("extended_messages", default.extended_messages),
        extended_next_hop: section.or("extended_next_hop", default.extended_next_hop),
        graceful_restart: section.or("graceful_restart", default.graceful_restart),
        stale_time: section.or("stale_time", default.stale_time),
        keep_last_known: section.optional("keep_last_known"),
        ttl: section.optional("ttl"),
        ttl_security: section.optional("ttl_security"),
        max_prefixes: section.or("max_prefixes", default.max_prefixes),
        max_prefixes_warning: section.or("max_prefixes_warning", default.max_prefixes_warning),
        max_prefixes_exceeded: section.or("max_prefixes_exceeded", default.max_prefixes_exceeded),
        max_prefixes_restart: section.or("max_prefixes_restart", default.max_prefixes_restart),
        next_hop_peer: section.or("next_hop_peer", default.next_hop_peer),
        rules: policy::read_rules(&mut section),
        rules_default: section.optional("rules_default"),
    };
    section.finish();
    Some(peer)
}

fn read_password(section: &mut Section<'_, '_>) -> Option<PasswordSource> {
    let file: Option<PathBuf> = section.optional("password_file");
    let variable: Option<String> = section.optional("password_env");
    if file.is_some() && variable.is_some() {
        let message = "set beside `password_file`; a session has one password, remove one of the keys";
        section.problem("password_env", Severity::Error, message.to_owned());
    }
    file.map(PasswordSource::File).or_else(|| variable.map(PasswordSource::Environment))
}

fn read_import(mut section: Section<'_, '_>) -> Import {
    if !section.exists() {
        section.absent("name what peers may announce with the keys `prefixes` and `next_hops`");
        return Import::default();
    }
    let default = Import::default();
    let prefixes = section.required_elements("prefixes", RANGE);
    let import = Import {
        prefixes: prefixes.iter().filter_map(read_range).collect(),
        next_hops: section.required_list("next_hops"),
        own_blocks: section.optional_list("own_blocks").unwrap_or(default.own_blocks),
        encapsulated: section.optional_list("encapsulated").unwrap_or(default.encapsulated),
        ippool_files: section.optional_list("ippool_files").unwrap_or(default.ippool_files),
        max_paths_per_prefix: section.or("max_paths_per_prefix", default.max_paths_per_prefix),
    };
    section.finish();
    import
}

/// What a range is, for people.
const RANGE: &str =
    "a prefix such as \"10.233.0.0/18\" or a range { prefix = \"10.233.64.0/18\", min = 24, max = 32 }";

/// A range; without bounds exactly the prefix.
fn read_range(element: &Element<'_, '_>) -> Option<PrefixRange> {
    let Some(mut section) = element.table() else {
        if !element.is_string() {
            element.refuse(RANGE);
            return None;
        }
        let prefix: ipnet::IpNet = element.read()?;
        return Some(PrefixRange { prefix, min: prefix.prefix_len(), max: prefix.prefix_len() });
    };
    let prefix: Option<ipnet::IpNet> = section.required_option("prefix");
    let min = section.optional("min");
    let max = section.optional("max");
    section.finish();
    let prefix = prefix?;
    let length = prefix.prefix_len();
    Some(PrefixRange { prefix, min: min.unwrap_or(length), max: max.unwrap_or(min.unwrap_or(length)) })
}
