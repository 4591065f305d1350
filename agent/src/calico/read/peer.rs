//! The fields of `BGPPeer`.

use super::super::fields::Section;
use super::super::model::{BgpPeer, Local, NextHopMode, Remote, Resources};
use super::super::problem::Severity;
use super::super::selector::{self, Selector};
use super::super::value;
use super::kinds::{AS_NUMBER, DURATION, password, required_spec};

/// `BGPPeer`.
pub(super) fn peer(top: &mut Section<'_>, name: &str, resources: &mut Resources) {
    let Some(mut spec) = required_spec(top) else { return };
    if spec.has("localWorkloadSelector") {
        let message = "sessions with workloads of the node itself; skipped";
        return spec.report("localWorkloadSelector", Severity::Note, message);
    }
    let local = local(&mut spec);
    let remote = remote(&mut spec);
    let as_number = spec.number_or_text("asNumber", AS_NUMBER, value::as_number);
    check_as(&mut spec, remote.as_ref(), as_number);
    let keeps = spec.boolean("keepOriginalNextHop").unwrap_or(false);
    let next_hop = spec.parsed("nextHopMode", "Auto, Self or Keep", next_hop_mode);
    let from_node_address = spec.parsed("sourceAddress", "UseNodeIP or None", |text| match text {
        "UseNodeIP" => Some(true),
        "None" => Some(false),
        _ => None,
    });
    let reverse = spec.parsed("reversePeering", "Auto or Manual", |text| match text {
        "Auto" => Some(true),
        "Manual" => Some(false),
        _ => None,
    });
    let filters = spec.list("filters");
    let filters: Vec<String> =
        filters.iter().filter_map(|item| item.parsed("text", |text| Some(text.to_owned()))).collect();
    if !filters.is_empty() {
        spec.report("filters", Severity::Note, "what BGPFilters do to routes is not taken over");
    }
    let local_as = spec.number_or_text("localASNumber", AS_NUMBER, value::as_number);
    let password = password(&mut spec, "password");
    let restart_time = spec.parsed("maxRestartTime", DURATION, value::duration);
    let keepalive_time = spec.parsed("keepaliveTime", DURATION, value::duration);
    let allowed_local_as = spec.number("numAllowedLocalASNumbers", 0..=u32::MAX);
    let ttl_security = spec.number("ttlSecurity", 0..=u8::MAX).filter(|hops| *hops > 0);
    spec.ignore(&["reachableBy"]);
    spec.finish();
    let (Some(local), Some(remote)) = (local, remote) else { return };
    let peer = BgpPeer {
        local,
        remote,
        as_number,
        local_as,
        password,
        from_node_address: from_node_address.unwrap_or(true),
        restart_time,
        keepalive_time,
        allowed_local_as,
        ttl_security,
        next_hop: next_hop.unwrap_or(if keeps { NextHopMode::Keep } else { NextHopMode::Auto }),
        reverse: reverse.unwrap_or(true),
        filters,
    };
    resources.peers.insert(name.to_owned(), peer);
}

fn local(spec: &mut Section<'_>) -> Option<Local> {
    let node = spec.text("node");
    let has_selector = spec.has("nodeSelector");
    match (node, selector(spec, "nodeSelector")) {
        (Some(_), _) if has_selector => {
            spec.report("nodeSelector", Severity::Error, "excludes `node`; keep one of them");
            None
        }
        (Some(node), _) => Some(Local::Node(node)),
        (None, Read::Selector(selector)) => Some(Local::Selected(selector)),
        (None, Read::Absent) => Some(Local::All),
        (None, Read::Bad) => None,
    }
}

fn remote(spec: &mut Section<'_>) -> Option<Remote> {
    let expected = "an address, with a port \"172.20.0.254:1179\" or \"[fd00::1]:1179\"";
    let address = spec.parsed("peerIP", expected, value::endpoint);
    let has_address = spec.has("peerIP");
    match (address, selector(spec, "peerSelector")) {
        (_, Read::Selector(_)) if has_address => {
            spec.report("peerSelector", Severity::Error, "excludes `peerIP`; keep one of them");
            None
        }
        (_, Read::Selector(selector)) => Some(Remote::Selected(selector)),
        (Some((address, port)), Read::Absent) => Some(Remote::Address(address, port)),
        (None, Read::Absent) if !has_address => {
            spec.report("peerIP", Severity::Error, "missing; give it or `peerSelector`");
            None
        }
        _ => None,
    }
}

enum Read {
    Absent,
    Bad,
    Selector(Selector),
}

fn selector(spec: &mut Section<'_>, key: &'static str) -> Read {
    let Some(text) = spec.text(key) else { return Read::Absent };
    match selector::parse(&text) {
        Ok(selector) => Read::Selector(selector),
        Err(error) => {
            spec.report(key, Severity::Error, format!("in the selector {text:?}, {error}"));
            Read::Bad
        }
    }
}

fn check_as(spec: &mut Section<'_>, remote: Option<&Remote>, as_number: Option<u32>) {
    match remote {
        Some(Remote::Selected(_)) if as_number.is_some() => {
            let message = "excludes `peerSelector`: nodes have their own; remove it";
            spec.report("asNumber", Severity::Error, message);
        }
        Some(Remote::Address(..)) if !spec.has("asNumber") => {
            let message = "missing; the default AS of the nodes is taken";
            spec.report("asNumber", Severity::Warning, message);
        }
        _ => {}
    }
}

fn next_hop_mode(text: &str) -> Option<NextHopMode> {
    match text {
        "Auto" => Some(NextHopMode::Auto),
        "Self" => Some(NextHopMode::Own),
        "Keep" => Some(NextHopMode::Keep),
        _ => None,
    }
}
