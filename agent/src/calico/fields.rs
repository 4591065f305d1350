//! Reads the fields of a resource and keeps account: which were asked for, and what is wrong with them. A bad field is
//! reported and left out, so that one pass finds every problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use super::problem::{Problem, Severity};
use super::yaml::{Entry, Kind, Node, Value};
use crate::config::Position;

/// A file, and the problems found in it.
pub(super) struct File<'f> {
    pub path: &'f Path,
    pub problems: RefCell<Vec<Problem>>,
}

impl<'f> File<'f> {
    pub(super) fn new(path: &'f Path) -> Self {
        Self { path, problems: RefCell::default() }
    }

    pub(super) fn report(
        &self,
        position: Position,
        field: impl Into<String>,
        severity: Severity,
        message: impl Into<String>,
    ) {
        let (file, field, message) = (self.path.to_owned(), field.into(), message.into());
        self.problems.borrow_mut().push(Problem { file, position, field, severity, message });
    }
}

/// A mapping that is being read; [`Section::finish`] warns about the keys that nobody asked for.
pub(super) struct Section<'s> {
    file: &'s File<'s>,
    /// "`BGPPeer rack1`".
    resource: &'s str,
    /// "spec.password"; empty for the resource itself.
    path: String,
    position: Position,
    entries: &'s [Entry],
    asked: BTreeSet<&'static str>,
}

impl<'s> Section<'s> {
    /// A mapping, or `None` after the report when it is something else; nothing counts as an empty mapping.
    pub(super) fn new(file: &'s File<'s>, resource: &'s str, path: String, node: &'s Node) -> Option<Self> {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            _ if node.is_null() => &[],
            _ => {
                let message = format!("expected a mapping, found {}", node.describe());
                file.report(node.position, label(resource, &path), Severity::Error, message);
                return None;
            }
        };
        let position = node.position;
        Some(Self { file, resource, path, position, entries, asked: BTreeSet::new() })
    }

    fn child(&self, key: impl Display) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    fn find(&mut self, key: &'static str) -> Option<&'s Node> {
        self.asked.insert(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!entry.node.is_null()).then_some(&entry.node)
    }

    /// Whether the key is there with a value.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Fields that Calico knows and that decide nothing here.
    pub(super) fn ignore(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// Reports a problem at a field, or at the mapping when it is not there.
    pub(super) fn report(&self, key: &str, severity: Severity, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let position = entry.map_or(self.position, |entry| entry.node.position);
        self.file.report(position, label(self.resource, &self.child(key)), severity, message);
    }

    /// A mapping below this one; `None` without it.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'s>> {
        let node = self.find(key)?;
        Section::new(self.file, self.resource, self.child(key), node)
    }

    /// The elements of a list; empty without it.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Item<'s>> {
        let Some(node) = self.find(key) else { return Vec::new() };
        let Value::List(nodes) = &node.value else {
            self.report(key, Severity::Error, format!("expected a list, found {}", node.describe()));
            return Vec::new();
        };
        let path = self.child(key);
        let item = |(index, node)| Item {
            file: self.file,
            resource: self.resource,
            path: format!("{path}[{index}]"),
            node,
        };
        nodes.iter().enumerate().map(item).collect()
    }

    /// Text that is not empty; Calico takes the empty text for an absent one.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, "text", |text| Some(text.to_owned()))
    }

    /// Text that means something else; `expected` names it.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let node = self.find(key)?;
        self.item(key, node).parsed(expected, parse)
    }

    /// A number in a range.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let node = self.find(key)?;
        let number = match &node.value {
            Value::Scalar { text, plain: true } => text.parse().ok().filter(|number| range.contains(number)),
            _ => None,
        };
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            let message = format!("expected a number from {low} to {high}, found {}", node.describe());
            self.report(key, Severity::Error, message);
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.find(key)?;
        let boolean = match &node.value {
            Value::Scalar { text, plain: true } => super::value::boolean(text),
            _ => None,
        };
        if boolean.is_none() {
            let message = format!("expected true or false, found {}", node.describe());
            self.report(key, Severity::Error, message);
        }
        boolean
    }

    /// A number or text, as AS numbers may be written.
    pub(super) fn number_or_text<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let node = self.find(key)?;
        let found = match &node.value {
            // A plain 1.10 is a fraction, and the same as 1.1.
            Value::Scalar { text, plain: true } if text.contains('.') => {
                let message = format!("{text} without quotes is a fraction; write \"{text}\"");
                self.report(key, Severity::Error, message);
                return None;
            }
            Value::Scalar { text, .. } => parse(text),
            _ => None,
        };
        if found.is_none() {
            let message = format!("expected {expected}, found {}", node.describe());
            self.report(key, Severity::Error, message);
        }
        found
    }

    /// The entries of a mapping whose keys are anybody's, with text as values.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let read = |entry: &'s Entry| {
            let item = Item {
                file: section.file,
                resource: section.resource,
                path: section.child(&entry.key),
                node: &entry.node,
            };
            let value = if entry.node.is_null() { String::new() } else { item.any_text()? };
            Some((entry.key.clone(), value))
        };
        section.entries.iter().filter_map(read).collect()
    }

    fn item(&self, key: &str, node: &'s Node) -> Item<'s> {
        Item { file: self.file, resource: self.resource, path: self.child(key), node }
    }

    /// Warns about every key that was not asked for.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(entry.key.as_str())) {
            let field = label(self.resource, &self.child(&entry.key));
            let message = "unknown field; it is not taken over";
            self.file.report(entry.position, field, Severity::Warning, message);
        }
    }
}

/// One value, of a list or of a mapping.
pub(super) struct Item<'s> {
    file: &'s File<'s>,
    resource: &'s str,
    path: String,
    node: &'s Node,
}

impl<'s> Item<'s> {
    /// The value as a mapping; `None` after the report when it is something else.
    pub(super) fn section(&self) -> Option<Section<'s>> {
        Section::new(self.file, self.resource, self.path.clone(), self.node)
    }

    /// Text that means something else; the empty text counts as absent.
    pub(super) fn parsed<T>(&self, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.any_text()?;
        if text.is_empty() {
            return None;
        }
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(format!("expected {expected}, found {}", self.node.describe()));
        }
        parsed
    }

    fn any_text(&self) -> Option<String> {
        match &self.node.value {
            Value::Scalar { text, plain } if !plain || Kind::of(text) == Kind::Text => Some(text.clone()),
            Value::Scalar { text, .. } => {
                self.refuse(format!(
                    "expected text, found {}; put it in quotes: \"{text}\"",
                    self.node.describe()
                ));
                None
            }
            _ => {
                self.refuse(format!("expected text, found {}", self.node.describe()));
                None
            }
        }
    }

    fn refuse(&self, message: String) {
        let field = label(self.resource, &self.path);
        self.file.report(self.node.position, field, Severity::Error, message);
    }
}

fn label(resource: &str, path: &str) -> String {
    match (resource, path) {
        (resource, "") => resource.to_owned(),
        ("", path) => path.to_owned(),
        (resource, path) => format!("{resource}: {path}"),
    }
}
