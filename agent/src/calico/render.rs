//! A plan as the text of a configuration file.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::model::{BGP_PORT, NextHopMode};
use super::plan::{Bgp, Datapath, Import, Machine, Peer, Plan, Range};
use super::sessions::Origin;

/// Longest line of a comment.
const WIDTH: usize = 110;

/// The TOML text of a plan. Remarks are comments `# ...`, what is not to be used is commented out as `#key = ...`.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let machine = match &plan.machine {
        Machine::Node(name) => format!("the Calico node {name}"),
        Machine::Address(address) => format!("{address}, a peer of Calico nodes"),
    };
    comment(&mut text, &format!("Underpass for {machine}, from Calico's resources (docs/calico.md)."));
    if !plan.remarks.is_empty() {
        text.push_str("#\n");
    }
    for remark in &plan.remarks {
        comment(&mut text, remark);
    }
    text.push('\n');
    text.push_str(&datapath(&plan.datapath));
    text.push('\n');
    match &plan.bgp {
        Some(bgp) => text.push_str(&sessions(bgp, &plan.machine)),
        None => comment(&mut text, "No BGP session follows from the resources."),
    }
    text
}

fn datapath(datapath: &Datapath) -> String {
    let mut text = String::new();
    comment(&mut text, "Calico's resources do not name interfaces: check `ports`.");
    let mut keys = format!("[datapath]\nports = {}\n", strings(&datapath.ports));
    list(&mut keys, "accelerate", &datapath.accelerate);
    if !datapath.service_ranges.is_empty() {
        list(&mut keys, "service_ranges", &datapath.service_ranges);
    }
    if datapath.is_complete() {
        return text + &keys;
    }
    comment(&mut text, "Commented out, because `accelerate` must name a range.");
    text + &commented_out(&keys)
}

fn sessions(bgp: &Bgp, machine: &Machine) -> String {
    let mut text = String::new();
    match machine {
        Machine::Node(name) if !bgp.live => comment(
            &mut text,
            &format!(
                "Calico's BIRD runs on {name} and has these sessions already; their routes are in the kernel. A second \
                 speaker with its address would disturb them, so this part is commented out. For a node whose BIRD is \
                 gone, --with-sessions prints it live."
            ),
        ),
        Machine::Node(name) => comment(
            &mut text,
            &format!(
                "Calico's BIRD must not run on {name} beside these sessions: two speakers with one address disturb \
                 each other, and BIRD re-exports what it finds in table main. Underpass announces nothing: without \
                 BIRD nobody learns the blocks of {name} from it."
            ),
        ),
        Machine::Address(_) => {}
    }
    let keys = bgp_keys(bgp, machine);
    text + &if bgp.live { keys } else { commented_out(&keys) }
}

fn bgp_keys(bgp: &Bgp, machine: &Machine) -> String {
    let mut text = format!("[bgp]\nlocal_as = {}\n", bgp.local_as);
    match bgp.router_id {
        Some(id) => {
            let _ = writeln!(text, "router_id = \"{id}\"");
        }
        None => comment(&mut text, "router_id: no IPv4 address to take it from"),
    }
    let listen: Vec<String> = bgp.listen.iter().map(endpoint).collect();
    if !listen.is_empty() {
        let _ = writeln!(text, "listen = {}", strings(&listen));
    }
    for peer in &bgp.peers {
        let keys = peer_keys(peer, bgp.local_as);
        text.push('\n');
        text.push_str(&if peer.useful { keys } else { commented_out(&keys) });
    }
    text.push('\n');
    text.push_str(&import_keys(&bgp.import, machine));
    text
}

fn endpoint(socket: &SocketAddr) -> String {
    if socket.port() == BGP_PORT { socket.ip().to_string() } else { socket.to_string() }
}

fn peer_keys(peer: &Peer, local_as: u32) -> String {
    let session = &peer.session;
    let mut text = String::new();
    for line in peer_comments(peer) {
        comment(&mut text, &line);
    }
    text.push_str("[[bgp.peers]]\n");
    let mut key = |name: &str, value: String| {
        let _ = writeln!(text, "{name} = {value}");
    };
    key("name", string(&peer.name));
    key("address", format!("\"{}\"", session.address));
    if session.port != BGP_PORT {
        key("port", session.port.to_string());
    }
    key("remote_as", session.remote_as.to_string());
    if session.local_as != local_as {
        key("local_as", session.local_as.to_string());
    }
    if let Some(source) = session.source_address {
        key("source_address", format!("\"{source}\""));
    }
    if let Some(file) = &peer.password_file {
        key("password_file", string(&file.display().to_string()));
    }
    if let Some(hops) = session.ttl_security.filter(|_| peer.ttl.is_none()) {
        key("ttl_security", hops.to_string());
    }
    if let Some(ttl) = peer.ttl {
        key("ttl", ttl.to_string());
    }
    if session.passive {
        key("passive", "true".to_owned());
    }
    if session.address.is_ipv6() {
        key("families", "[\"ipv6-unicast\"]".to_owned());
    }
    if let Some(hold) = peer.hold_time {
        key("hold_time", duration(hold));
    }
    if let Some(restart) = session.restart_time.filter(|time| time.as_millis() > 0) {
        key("stale_time", duration(restart));
    }
    text
}

fn peer_comments(peer: &Peer) -> Vec<String> {
    let session = &peer.session;
    let mut origin = match &session.origin {
        Origin::Mesh => "node-to-node mesh".to_owned(),
        Origin::Peer(name) => format!("BGPPeer {name}"),
        Origin::Reverse(name) => format!("BGPPeer {name}, the way back"),
    };
    if let Some(id) = session.cluster_id {
        let _ = write!(origin, "; a route reflector, cluster id {id}");
    }
    let mut comments = vec![origin];
    if let Some(secret) = &session.password {
        comments.push(format!(
            "password: key {:?} of the Secret {:?} in the namespace of Calico's pods; put it into the file",
            secret.key, secret.name
        ));
    }
    if let Some(keepalive) = session.keepalive_time {
        comments.push(format!("keepaliveTime {} on Calico's side", duration(keepalive).trim_matches('"')));
    }
    if let Some(count) = session.allowed_local_as.filter(|count| *count > 0) {
        comments.push(format!(
            "numAllowedLocalASNumbers {count}: Calico's side takes paths with its own AS; Underpass refuses loops"
        ));
    }
    match session.next_hop {
        NextHopMode::Auto => {}
        NextHopMode::Own => {
            comments.push("nextHopMode Self: Calico's side names itself as next hop".to_owned());
        }
        NextHopMode::Keep => {
            comments.push("nextHopMode Keep: Calico's side passes next hops on unchanged".to_owned());
        }
    }
    comments
}

fn import_keys(import: &Import, machine: &Machine) -> String {
    let mut text = "[bgp.import]\n".to_owned();
    let ranges: Vec<String> = import.prefixes.iter().map(range).collect();
    lines(&mut text, "prefixes", &ranges);
    list(&mut text, "next_hops", &import.next_hops);
    if !import.own_blocks.is_empty() {
        list(&mut text, "own_blocks", &import.own_blocks);
    } else if let Machine::Node(name) = machine {
        let missing = format!(
            "own_blocks: no BlockAffinity of {name} among the resources; \
             `kubectl get blockaffinities.crd.projectcalico.org -o yaml` prints them"
        );
        comment(&mut text, &missing);
    }
    if !import.encapsulated.is_empty() {
        comment(&mut text, "Pools whose packets travel in others: never used natively.");
        list(&mut text, "encapsulated", &import.encapsulated);
    }
    text
}

fn range(range: &Range) -> String {
    let Range { prefix, min, max } = range;
    if *min == prefix.prefix_len() && min == max {
        return format!("\"{prefix}\"");
    }
    format!("{{ prefix = \"{prefix}\", min = {min}, max = {max} }}")
}

/// A whole number with a unit, in quotes.
fn duration(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("\"{}s\"", time.as_secs())
    } else {
        format!("\"{}ms\"", time.as_millis())
    }
}

/// Any text as a string of TOML.
fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn strings(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| string(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn list(text: &mut String, key: &str, values: &[impl ToString]) {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{}\"", value.to_string())).collect();
    lines(text, key, &quoted);
}

/// A list in one line, or an element per line where that is too long.
fn lines(text: &mut String, key: &str, values: &[String]) {
    let one = format!("{key} = [{}]", values.join(", "));
    if one.len() <= WIDTH {
        text.push_str(&one);
    } else {
        let _ = write!(text, "{key} = [\n    {},\n]", values.join(",\n    "));
    }
    text.push('\n');
}

/// A comment, broken between words.
fn comment(text: &mut String, words: &str) {
    let mut line = "#".to_owned();
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
            text.push_str(&line);
            text.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// Lines that are not to be used; comments in them stay as they are.
fn commented_out(text: &str) -> String {
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        line if line.starts_with('#') => format!("{line}\n"),
        line => format!("#{line}\n"),
    };
    text.lines().map(line).collect()
}
