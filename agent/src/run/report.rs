//! What the agent tells about itself: `status`, `peers`, `counters`.

use std::collections::BTreeSet;
use std::time::Instant;

use underpass_common::abi::ABI_VERSION;

use super::Agent;
use super::forwarding::Forwarding;
use super::routing::Routing;
use crate::api::model::{
    BgpStatus, CounterRow, Counters, DatapathStatus, KernelStatus, PeerStatus, Peers, Response, RuleStatus,
    RulesStatus, SCHEMA, Status,
};
use crate::bgp::{SessionStatus, State as SessionState};
use crate::netlink::model::Family;

impl Agent {
    pub(super) fn status(&mut self) -> Status {
        let mut problems: Vec<String> = self.no_fast_path.iter().cloned().collect();
        let resyncs = self.monitor.resyncs();
        let datapath =
            self.forwarding.as_mut().map(|forwarding| datapath_status(forwarding, resyncs, &mut problems));
        problems.extend(self.routing.iter().flat_map(routing_problems));
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            uptime_seconds: self.started.elapsed().as_secs(),
            datapath,
            bgp: self.routing.as_ref().map(bgp_status),
            kernel: self.routing.as_ref().map(kernel_status),
            problems,
        }
    }

    pub(super) fn peers(&self) -> Peers {
        let peers = self.routing.iter().flat_map(|routing| {
            routing.speaker.sessions().into_iter().map(|session| peer_status(&session, routing))
        });
        Peers { schema: SCHEMA, peers: peers.collect() }
    }

    pub(super) fn counters(&self) -> Response {
        let Some(forwarding) = &self.forwarding else {
            return Response::Error {
                message: "this agent has no fast path, see `underpass status`".to_owned(),
            };
        };
        let state = self.monitor.state();
        match forwarding.counters() {
            Ok(totals) => {
                let rows = totals.into_iter().map(|(ifindex, reason, total)| CounterRow {
                    interface: ifindex.map_or_else(
                        || "(other)".to_owned(),
                        |index| {
                            state
                                .links
                                .get(&index)
                                .map_or_else(|| format!("#{index}"), |link| link.name.clone())
                        },
                    ),
                    verdict: if reason.is_forwarded() { "forwarded" } else { "passed" }.to_owned(),
                    reason: reason.label().to_owned(),
                    packets: total.packets,
                    bytes: total.bytes,
                });
                Response::Counters(Counters { schema: SCHEMA, counters: rows.collect() })
            }
            Err(problem) => Response::Error { message: problem.to_string() },
        }
    }
}

fn datapath_status(forwarding: &mut Forwarding, resyncs: u64, problems: &mut Vec<String>) -> DatapathStatus {
    let totals = forwarding.totals();
    let (enabled, lease_seconds) = forwarding.control().unwrap_or_else(|problem| {
        problems.push(problem.to_string());
        (false, 0)
    });
    if !enabled {
        problems.push(
            "the kill switch is off, packets stay with the kernel: `underpass on` ends that".to_owned(),
        );
    }
    problems.extend(forwarding.problems());
    let rules = rules_status(forwarding);
    problems.extend(rule_problem(&rules));
    DatapathStatus {
        enabled,
        lease_seconds,
        synced: totals.synced,
        ports: forwarding.port_statuses(),
        prefixes: totals.prefixes,
        prefixes_forwarding: totals.prefixes_forwarding,
        targets: totals.targets,
        next_hops: totals.next_hops,
        next_hops_live: totals.next_hops_live,
        resyncs,
        rules,
    }
}

fn rules_status(forwarding: &Forwarding) -> RulesStatus {
    let guard = forwarding.guard();
    let name = |ifindex: &u32| {
        let port = forwarding.ports().get(ifindex);
        port.map_or_else(|| format!("#{ifindex}"), |port| port.name.clone())
    };
    let findings = guard.findings().iter().map(|finding| {
        let families: BTreeSet<&str> = finding.packets.iter().map(|(family, _)| family.name()).collect();
        let ports: BTreeSet<u32> = finding.packets.iter().map(|(_, port)| *port).collect();
        RuleStatus {
            place: finding.place.clone(),
            rule: finding.id.clone(),
            text: finding.text.clone(),
            why: finding.why.clone(),
            families: families.into_iter().map(str::to_owned).collect(),
            ports: ports.iter().map(name).collect(),
            bypassed: finding.bypassed.clone(),
            remedy: match &finding.bypassed {
                Some(entry) => format!("none needed: datapath.bypass has \"{entry}\""),
                None => format!(
                    "add \"{}\" to datapath.bypass if XDP need not ask it, remove it, or narrow it or \
                     datapath.accelerate so that they have nothing in common",
                    finding.name
                ),
            },
        }
    });
    RulesStatus {
        findings: findings.collect(),
        idle_bypasses: guard.idle_bypasses().to_vec(),
        read_milliseconds: u64::try_from(guard.took().as_millis()).unwrap_or(u64::MAX),
    }
}

fn rule_problem(rules: &RulesStatus) -> Option<String> {
    let closing: Vec<&RuleStatus> = rules.findings.iter().filter(|rule| rule.bypassed.is_none()).collect();
    let first = closing.first()?;
    let ports: BTreeSet<&str> = closing.iter().flat_map(|rule| &rule.ports).map(String::as_str).collect();
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!(
        "{} rules of the kernel could decide about packets from {ports}, which stay with the kernel: {} ({}) \
         first, {}",
        closing.len(),
        first.place,
        first.why,
        first.remedy
    ))
}

fn bgp_status(routing: &Routing) -> BgpStatus {
    let sessions = routing.speaker.sessions();
    let accepted = |session: &SessionStatus| {
        routing.rib.peer_counts(&session.address).map_or(0, |counts| counts.accepted)
    };
    BgpStatus {
        local_as: routing.config.local_as,
        router_id: routing.config.router_id,
        peers: sessions.len(),
        established: sessions.iter().filter(|session| session.state == SessionState::Established).count(),
        prefixes: routing.rib.selected_routes().len(),
        paths: sessions.iter().map(accepted).sum(),
        filtered: routing
            .rib
            .filtered()
            .iter()
            .map(|(reason, count)| (reason.label().to_owned(), *count))
            .collect(),
    }
}

fn kernel_status(routing: &Routing) -> KernelStatus {
    let counts = routing.reconciler.counts();
    let ownership = routing.reconciler.ownership();
    KernelStatus {
        table: ownership.table,
        protocol: ownership.protocol,
        desired: counts.desired,
        synced: counts.synced,
        pending: counts.pending,
        errors: counts.errors,
    }
}

fn peer_status(session: &SessionStatus, routing: &Routing) -> PeerStatus {
    let counts = routing.rib.peer_counts(&session.address).unwrap_or_default();
    let now = Instant::now();
    let kept = routing.rib.kept_of(&session.address);
    let names = |families: &[Family]| families.iter().map(|family| family.name().to_owned()).collect();
    let limit = routing.rib.limit_status(&session.address).unwrap_or_default();
    PeerStatus {
        state: session.state.to_string(),
        uptime_seconds: session.uptime.map(|uptime| uptime.as_secs()),
        flaps: session.flaps,
        received: counts.received,
        accepted: counts.accepted,
        stale: counts.stale,
        max_prefixes: limit.paths,
        near_max_prefixes: limit.near,
        end_of_rib: session.synchronized(),
        hold_seconds: session.hold_time.map(|hold| hold.as_secs()),
        updates: session.updates,
        last_error: session.last_error.clone(),
        admin_down: session.is_down,
        router_id: session.router_id,
        families: names(&session.families),
        add_path: names(&session.add_path),
        capabilities: session.capabilities.iter().map(|name| (*name).to_owned()).collect(),
        graceful_restart: session.graceful_restart,
        treated_as_withdraw: session.treated_as_withdraw,
        attributes_discarded: session.attributes_discarded,
        attributes_ignored: session.attributes_ignored,
        kept_seconds: kept.map(|(_, until)| until.saturating_duration_since(now).as_secs()),
        ..PeerStatus::new(&session.name, session.address, session.remote_as)
    }
}

/// A peer that is near the bound on its paths.
fn near_limit(session: &SessionStatus, routing: &Routing) -> Option<String> {
    let limit = routing.rib.limit_status(&session.address).filter(|limit| limit.near)?;
    Some(format!(
        "{} ({}) announces {} paths of {} at most: raise its max_prefixes if they are wanted",
        session.name, session.address, limit.used, limit.paths
    ))
}

/// Sessions that are not up, and routes that the kernel does not take.
fn routing_problems(routing: &Routing) -> Vec<String> {
    let mut problems: Vec<String> = routing
        .speaker
        .sessions()
        .iter()
        .filter(|session| session.state != SessionState::Established && !session.is_down)
        .map(|session| {
            let why = session.last_error.as_deref().unwrap_or("no answer from the peer yet");
            format!("session with {} ({}) is {}: {why}", session.name, session.address, session.state)
        })
        .collect();
    let now = Instant::now();
    problems.extend(routing.rib.kept().map(|(peer, paths, until)| {
        let left = until.saturating_duration_since(now).as_secs();
        format!(
            "{paths} paths of {peer} are kept as the last known for another {left} s at most: every peer of its \
             AS was lost"
        )
    }));
    problems.extend(routing.speaker.sessions().iter().filter_map(|session| near_limit(session, routing)));
    let unreachable = routing.rib.unreachable();
    problems.extend(unreachable.first_key_value().map(|(next_hop, prefix)| {
        format!(
            "next hop {next_hop} of {prefix} is in no subnet of ours and no route leads there, neither of the \
             kernel nor learned: {} such next hops",
            unreachable.len()
        )
    }));
    let errors = routing.reconciler.counts().errors;
    if errors > 0 {
        problems.push(format!("{errors} routes are not in the kernel, `underpass routes` says why"));
    }
    problems
}
