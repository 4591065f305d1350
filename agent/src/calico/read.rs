//! From YAML documents to [`Resources`].

mod kinds;
mod peer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fields::{File, Section};
use super::model::Resources;
use super::problem::{Problem, Severity};
use super::yaml::{self, Node, Value};
use crate::config::Position;

/// Which resources are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All kinds.
    Everything,
    /// `IPPool` only; others are not even judged.
    Pools,
}

/// The resources of some files, as far as they could be read, and what is wrong with them in the order of the files.
pub(super) fn read(texts: &[(PathBuf, String)], wanted: Wanted) -> (Resources, Vec<Problem>) {
    let mut reader = Reader { wanted, resources: Resources::default(), seen: BTreeMap::new() };
    let mut problems = Vec::new();
    for (path, text) in texts {
        let file = File::new(path);
        match yaml::documents(text) {
            Ok(documents) => {
                for document in &documents {
                    reader.document(&file, document, None);
                }
            }
            Err(fault) => file.report(fault.position, "", Severity::Error, fault.message),
        }
        problems.append(&mut file.problems.into_inner());
    }
    (reader.resources, problems)
}

/// Kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Configuration,
    Peer,
    CalicoNode,
    KubernetesNode,
    Pool,
    Block,
}

/// A resource that was read, for the report when there is another one of its kind and name.
struct Seen {
    file: PathBuf,
    line: usize,
}

struct Reader {
    wanted: Wanted,
    resources: Resources,
    seen: BTreeMap<(Kind, String), Seen>,
}

/// API groups of Calico's resources: as users see them, and as they are stored in Kubernetes.
const CALICO: [&str; 2] = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];

impl Reader {
    /// One document: a resource or a list of them. In a list for one kind, `of` is what its items are when they do not
    /// say it themselves.
    fn document(&mut self, file: &File<'_>, node: &Node, of: Option<(&str, &str)>) {
        let Value::Map(_) = &node.value else {
            let message = format!("expected a resource, found {}", node.describe());
            return file.report(node.position, "", Severity::Error, message);
        };
        let text = |key: &str| node.get(key).and_then(Node::text);
        let kind = text("kind").or(of.map(|(_, kind)| kind));
        let api = text("apiVersion").or(of.map(|(api, _)| api));
        let (Some(kind), Some(api)) = (kind, api) else {
            let message =
                "neither kind nor apiVersion, or only one of them: no resource of Kubernetes; skipped";
            return file.report(node.position, "", Severity::Warning, message);
        };
        if let Some(of) = kind.strip_suffix("List")
            && let Some(items) = node.get("items")
        {
            return self.list(file, items, (!of.is_empty()).then_some((api, of)));
        }
        match known_kind(api, kind) {
            Ok(known) if self.wanted == Wanted::Everything || known == Kind::Pool => {
                self.resource(file, node, known, kind);
            }
            Err(Unknown::Version) => {
                let message = format!("apiVersion {api} is not known; known are {}", CALICO.join(" and "));
                file.report(node.position, kind, Severity::Error, message);
            }
            Err(Unknown::Kind) if self.wanted == Wanted::Everything => {
                let name = node.get("metadata").and_then(|metadata| metadata.get("name"));
                let name = name.and_then(Node::text).unwrap_or("without a name");
                let message = "this kind decides neither sessions nor ranges; skipped";
                file.report(node.position, format!("{kind} {name}"), Severity::Note, message);
            }
            _ => {}
        }
    }

    fn list(&mut self, file: &File<'_>, items: &Node, of: Option<(&str, &str)>) {
        match &items.value {
            Value::List(nodes) => nodes.iter().for_each(|node| self.document(file, node, of)),
            _ if items.is_null() => {}
            _ => {
                let message = format!("expected a list, found {}", items.describe());
                file.report(items.position, "items", Severity::Error, message);
            }
        }
    }

    fn resource(&mut self, file: &File<'_>, node: &Node, known: Kind, kind: &str) {
        let name = node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
        let Some(name) = name else {
            let message = "missing; every resource has a name";
            return file.report(node.position, format!("{kind}: metadata.name"), Severity::Error, message);
        };
        if !is_name(name) {
            let message = format!("{name:?} is no name of a resource: letters, digits, `-`, `_` and `.`");
            return file.report(node.position, format!("{kind}: metadata.name"), Severity::Error, message);
        }
        let resource = format!("{kind} {name}");
        if !self.is_first(file, node.position, known, name, &resource) {
            return;
        }
        let Some(mut top) = Section::new(file, &resource, String::new(), node) else { return };
        top.ignore(&["apiVersion", "kind", "metadata", "status"]);
        match known {
            Kind::Configuration => kinds::configuration(&mut top, name, &mut self.resources),
            Kind::Peer => peer::peer(&mut top, name, &mut self.resources),
            Kind::CalicoNode => kinds::calico_node(&mut top, name, &mut self.resources),
            Kind::KubernetesNode => {
                let replaced = self.seen.contains_key(&(Kind::CalicoNode, name.to_owned()));
                kinds::kubernetes_node(&mut top, name, replaced, &mut self.resources);
            }
            Kind::Pool => kinds::pool(&mut top, name, &mut self.resources),
            Kind::Block => kinds::block(&mut top, &mut self.resources),
        }
        top.finish();
    }

    fn is_first(
        &mut self,
        file: &File<'_>,
        position: Position,
        known: Kind,
        name: &str,
        resource: &str,
    ) -> bool {
        let key = (known, name.to_owned());
        if let Some(Seen { file: other, line }) = self.seen.get(&key) {
            let message =
                format!("defined at {}:{line} already; keep the one that holds", display(other, file.path));
            file.report(position, resource, Severity::Error, message);
            return false;
        }
        self.seen.insert(key, Seen { file: file.path.to_owned(), line: position.line });
        true
    }
}

/// Names end up in comments and file names.
fn is_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=253).contains(&name.len()) && name.chars().all(valid)
}

fn display(other: &Path, here: &Path) -> String {
    if other == here { "this file".to_owned() } else { other.display().to_string() }
}

enum Unknown {
    Kind,
    Version,
}

fn known_kind(api: &str, kind: &str) -> Result<Kind, Unknown> {
    let known = match kind {
        "BGPConfiguration" => Kind::Configuration,
        "BGPPeer" => Kind::Peer,
        "Node" if api == "v1" => return Ok(Kind::KubernetesNode),
        "Node" => Kind::CalicoNode,
        "IPPool" => Kind::Pool,
        "BlockAffinity" => Kind::Block,
        _ => return Err(Unknown::Kind),
    };
    let group = api.split_once('/').map_or("", |(group, _)| group);
    match CALICO.contains(&api) {
        true => Ok(known),
        false if group.ends_with("projectcalico.org") => Err(Unknown::Version),
        false => Err(Unknown::Kind),
    }
}
