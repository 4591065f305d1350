//! What another configuration means for what is running. Pure.

use std::net::IpAddr;

use super::model::{Bgp, Config, Kernel, Peer};

/// How deep a change of a peer's configuration goes; the later the deeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Nothing changed.
    None,
    /// Taken on while the session goes on.
    InPlace,
    /// The session goes on; the peer is asked for its routes again (RFC 2918).
    Refresh,
    /// The session begins anew; its routes stay until they were sent again.
    Reset,
}

/// What becomes of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Only the new configuration has it.
    Added,
    /// Only the old one had it.
    Removed,
    /// Both have it.
    Changed {
        /// How deep the change goes.
        depth: Depth,
        /// The keys that differ.
        keys: Vec<&'static str>,
        /// Taken down or brought up by `enabled`.
        enabled: Option<bool>,
    },
}

/// A peer and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDiff {
    /// Its address, by which it is known.
    pub peer: IpAddr,
    /// Its name in the newer configuration that has it.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

impl PeerDiff {
    /// Whether the peer goes on as it is.
    pub const fn is_unchanged(&self) -> bool {
        matches!(self.fate, Fate::Changed { depth: Depth::None, .. })
    }
}

/// What differs between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Every peer of either, those of the new one first, in its order.
    pub peers: Vec<PeerDiff>,
    /// Other addresses are listened on.
    pub listen: bool,
    /// What the RIB works with differs.
    pub rib: bool,
    /// `[datapath]` differs, and both have one.
    pub datapath: bool,
    /// `kernel.flush_on_stop` differs.
    pub flush_on_stop: bool,
    /// Keys that only a restart of the agent takes on.
    pub needs_restart: Vec<&'static str>,
}

impl Diff {
    /// Whether there is anything to do or to tell.
    pub fn is_empty(&self) -> bool {
        let Self { peers, listen, rib, datapath, flush_on_stop, needs_restart } = self;
        peers.iter().all(PeerDiff::is_unchanged)
            && !(*listen || *rib || *datapath || *flush_on_stop)
            && needs_restart.is_empty()
    }
}

/// Compares the configuration that runs with the one that is to run.
pub fn diff(old: &Config, new: &Config) -> Diff {
    let Config { agent, log, datapath, bgp, kernel } = old;
    let Kernel { table, protocol, metric, flush_on_stop } = kernel;
    let mut result = Diff {
        datapath: datapath.is_some() && new.datapath.is_some() && *datapath != new.datapath,
        flush_on_stop: *flush_on_stop != new.kernel.flush_on_stop,
        ..Diff::default()
    };
    let restarts = [
        ("agent.socket", agent.socket != new.agent.socket),
        ("agent.bpffs", agent.bpffs != new.agent.bpffs),
        ("log", *log != new.log),
        ("datapath", datapath.is_some() != new.datapath.is_some()),
        ("bgp", bgp.is_some() != new.bgp.is_some()),
        ("kernel.table", *table != new.kernel.table),
        ("kernel.protocol", *protocol != new.kernel.protocol),
        ("kernel.metric", *metric != new.kernel.metric),
    ];
    result.needs_restart = restarts.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
    if let (Some(old_bgp), Some(new_bgp)) = (bgp, &new.bgp) {
        diff_bgp(old_bgp, new_bgp, old.service_ranges() != new.service_ranges(), &mut result);
    }
    result
}

fn diff_bgp(old: &Bgp, new: &Bgp, service_ranges: bool, result: &mut Diff) {
    let Bgp {
        local_as: _,
        router_id: _,
        listen,
        peers,
        import,
        prefix_sets,
        maximum_paths,
        maximum_paths_ebgp,
        maximum_paths_ibgp,
        keep_last_known,
    } = old;
    let shared = Shared {
        import: *import != new.import,
        service_ranges,
        prefix_sets: *prefix_sets != new.prefix_sets,
    };
    result.listen = *listen != new.listen;
    for peer in &new.peers {
        let fate = match peers.iter().find(|other| other.address == peer.address) {
            Some(before) => changed((old, before), (new, peer), shared),
            None => Fate::Added,
        };
        result.peers.push(PeerDiff { peer: peer.address, name: peer.name.clone(), fate });
    }
    let gone = peers.iter().filter(|peer| !new.peers.iter().any(|other| other.address == peer.address));
    result.peers.extend(gone.map(|peer| PeerDiff {
        peer: peer.address,
        name: peer.name.clone(),
        fate: Fate::Removed,
    }));
    result.rib = shared.import
        || service_ranges
        || *maximum_paths_ebgp != new.maximum_paths_ebgp
        || *maximum_paths_ibgp != new.maximum_paths_ibgp
        || *maximum_paths != new.maximum_paths
        || *keep_last_known != new.keep_last_known
        || old.router_id != new.router_id
        || !result.peers.iter().all(PeerDiff::is_unchanged);
}

/// What differs for all peers.
#[derive(Clone, Copy)]
struct Shared {
    import: bool,
    service_ranges: bool,
    prefix_sets: bool,
}

/// Every key of a peer is looked at: a new one does not compile until it has a depth.
fn changed((old_bgp, old): (&Bgp, &Peer), (new_bgp, new): (&Bgp, &Peer), shared: Shared) -> Fate {
    use Depth::{InPlace, Refresh, Reset};
    let Peer {
        name,
        address: _,
        port,
        remote_as,
        enabled,
        passive,
        source_address,
        interface,
        password,
        // Compared as they are inherited.
        router_id: _,
        local_as: _,
        hold_time,
        min_hold_time,
        send_hold_time,
        tcp_user_timeout,
        connect_retry,
        connect_retry_max,
        families,
        add_path,
        extended_messages,
        extended_next_hop,
        graceful_restart,
        stale_time,
        keep_last_known,
        ttl,
        ttl_security,
        max_prefixes,
        max_prefixes_warning,
        max_prefixes_exceeded,
        max_prefixes_restart,
        next_hop_peer,
        rules,
        rules_default,
    } = old;
    let found = [
        ("name", InPlace, *name != new.name),
        ("enabled", InPlace, *enabled != new.enabled),
        ("port", Reset, *port != new.port),
        ("remote_as", Reset, *remote_as != new.remote_as),
        ("passive", InPlace, *passive != new.passive),
        ("source_address", Reset, *source_address != new.source_address),
        ("interface", Reset, *interface != new.interface),
        ("password", Reset, *password != new.password),
        ("router_id", Reset, old_bgp.router_id_of(old) != new_bgp.router_id_of(new)),
        ("local_as", Reset, old_bgp.local_as_of(old) != new_bgp.local_as_of(new)),
        ("hold_time", Reset, *hold_time != new.hold_time),
        ("min_hold_time", Reset, *min_hold_time != new.min_hold_time),
        ("send_hold_time", InPlace, *send_hold_time != new.send_hold_time),
        ("tcp_user_timeout", Reset, *tcp_user_timeout != new.tcp_user_timeout),
        ("connect_retry", InPlace, *connect_retry != new.connect_retry),
        ("connect_retry_max", InPlace, *connect_retry_max != new.connect_retry_max),
        ("families", Reset, *families != new.families),
        ("add_path", Reset, *add_path != new.add_path),
        ("extended_messages", Reset, *extended_messages != new.extended_messages),
        ("extended_next_hop", Reset, *extended_next_hop != new.extended_next_hop),
        ("graceful_restart", Reset, *graceful_restart != new.graceful_restart),
        ("stale_time", InPlace, *stale_time != new.stale_time),
        ("keep_last_known", InPlace, *keep_last_known != new.keep_last_known),
        ("ttl", Reset, *ttl != new.ttl),
        ("ttl_security", Reset, *ttl_security != new.ttl_security),
        ("max_prefixes", Refresh, *max_prefixes != new.max_prefixes),
        ("max_prefixes_warning", InPlace, *max_prefixes_warning != new.max_prefixes_warning),
        ("max_prefixes_exceeded", InPlace, *max_prefixes_exceeded != new.max_prefixes_exceeded),
        ("max_prefixes_restart", InPlace, *max_prefixes_restart != new.max_prefixes_restart),
        ("next_hop_peer", Refresh, *next_hop_peer != new.next_hop_peer),
        ("rules", Refresh, *rules != new.rules),
        ("rules_default", Refresh, *rules_default != new.rules_default),
        ("bgp.prefix_sets", Refresh, shared.prefix_sets && !new.rules.is_empty()),
        ("bgp.import", Refresh, shared.import),
        ("datapath.service_ranges", Refresh, shared.service_ranges),
    ];
    let differing = found.iter().filter(|(.., differs)| *differs);
    Fate::Changed {
        depth: differing.clone().map(|(_, depth, _)| *depth).max().unwrap_or(Depth::None),
        keys: differing.map(|(key, ..)| *key).collect(),
        enabled: (*enabled != new.enabled).then_some(new.enabled),
    }
}
