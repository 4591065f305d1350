//! Walks a TOML document and keeps account: which keys were asked for, where they are, what is
//! wrong with them. A bad value is reported and replaced, so that one pass finds every problem.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Position, Problem, Severity};
use super::value::{Value, describe};

/// What one walk found out.
pub(super) struct Reader<'t> {
    text: &'t str,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    problems: Vec<Problem>,
    /// Where each key of the file is, by path.
    positions: BTreeMap<String, Position>,
    /// Every key that exists in the sections read, `[]` for any index.
    known: BTreeSet<String>,
}

/// The result of a walk.
pub(super) struct Findings {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
    /// Where each key of the file is, by path.
    pub positions: BTreeMap<String, Position>,
    /// Every key that exists in the sections read, `[]` for any index.
    pub known: BTreeSet<String>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, notes: RefCell::default() }
    }

    /// The top of the document.
    pub(super) fn root<'r>(&'r self, table: &'r DeTable<'t>) -> Section<'r, 't> {
        Section {
            reader: self,
            table: Some(table),
            path: String::new(),
            start: 0,
            malformed: false,
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn finish(self) -> Findings {
        let Notes { problems, positions, known } = self.notes.into_inner();
        Findings { problems, positions, known }
    }

    fn report(&self, offset: usize, key: &str, message: String) {
        let position = Position::of(self.text, offset);
        let problem = Problem { position, key: key.to_owned(), severity: Severity::Error, message };
        self.notes.borrow_mut().problems.push(problem);
    }

    fn read<T: Value>(&self, path: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let read = T::read(value.get_ref());
        if read.is_none() {
            let hint = T::hint(value.get_ref());
            let message = hint
                .unwrap_or_else(|| format!("expected {}, found {}", T::EXPECTED, describe(value.get_ref())));
            self.report(value.span().start, path, message);
        }
        read
    }

    fn note(&self, path: &str, span: &Range<usize>) {
        let position = Position::of(self.text, span.start);
        self.notes.borrow_mut().positions.insert(path.to_owned(), position);
    }
}

/// A table that is being read; [`Section::finish`] reports the keys that nobody asked for.
pub(super) struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    table: Option<&'r DeTable<'t>>,
    path: String,
    start: usize,
    /// The key is there, but is no table; that is reported already.
    malformed: bool,
    asked: BTreeSet<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    /// Whether the file has this table.
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Whether it has no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_none_or(|table| table.iter().next().is_none())
    }

    fn child(&self, key: impl Display) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    /// Registers a key and finds its value.
    fn find(&mut self, key: &'static str) -> Option<&'r Spanned<DeValue<'t>>> {
        self.asked.insert(key);
        let path = self.child(key);
        self.reader.notes.borrow_mut().known.insert(without_indexes(&path));
        let (name, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        // A table is reported at its header, anything else at its value.
        let span = if value.get_ref().is_table() { name.span() } else { value.span() };
        self.reader.note(&path, &span);
        Some(value)
    }

    /// The value of an optional key without a default.
    pub(super) fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let value = self.find(key)?;
        self.reader.read(&self.child(key), value)
    }

    /// The value of an optional key.
    pub(super) fn or<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value of a key that must be there; `stand_in` takes its place after the report.
    pub(super) fn required<T: Value>(&mut self, key: &'static str, stand_in: T) -> T {
        self.required_option(key).unwrap_or(stand_in)
    }

    /// The value of a key that must be there, or `None` after the report.
    pub(super) fn required_option<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let Some(value) = self.find(key) else {
            self.missing(key, T::EXPECTED);
            return None;
        };
        self.reader.read(&self.child(key), value)
    }

    /// The list of an optional key; `None` without the key, bad elements are left out.
    pub(super) fn optional_list<T: Value>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let elements = self.elements(key, &format!("a list, each element {}", T::EXPECTED))?;
        Some(elements.into_iter().filter_map(|element| element.read()).collect())
    }

    /// As [`Self::optional_list`]; the key must be there and the list must not be empty.
    pub(super) fn required_list<T: Value>(&mut self, key: &'static str) -> Vec<T> {
        let elements = self.required_elements(key, T::EXPECTED);
        elements.into_iter().filter_map(|element| element.read()).collect()
    }

    /// The elements of a list that must be there and not be empty.
    pub(super) fn required_elements(&mut self, key: &'static str, element: &str) -> Vec<Element<'r, 't>> {
        if self.find(key).is_none() {
            self.missing(key, &format!("a list, each element {element}"));
            return Vec::new();
        }
        self.filled_elements(key, element)
    }

    /// The elements of a list that may be left out, but not be empty; none without the key.
    pub(super) fn filled_elements(&mut self, key: &'static str, element: &str) -> Vec<Element<'r, 't>> {
        let elements = self.optional_elements(key, element);
        if elements.as_ref().is_some_and(Vec::is_empty) {
            let message = format!("the list is empty; give at least one element: {element}");
            self.problem(key, Severity::Error, message);
        }
        elements.unwrap_or_default()
    }

    /// The elements of a list that may be left out.
    pub(super) fn optional_elements(
        &mut self,
        key: &'static str,
        element: &str,
    ) -> Option<Vec<Element<'r, 't>>> {
        self.elements(key, &format!("a list, each element {element}"))
    }

    /// The lists of a table whose keys are names that the file chooses.
    pub(super) fn named_lists(&self, element: &str) -> Vec<(String, Vec<Element<'r, 't>>)> {
        let expected = format!("a list, each element {element}");
        let entries = self.table.into_iter().flat_map(|table| table.iter());
        entries
            .filter_map(|(name, value)| {
                let path = self.child(name.get_ref());
                self.reader.note(&path, &value.span());
                Some((name.get_ref().to_string(), self.list(&path, value, &expected)?))
            })
            .collect()
    }

    fn elements(&mut self, key: &'static str, expected: &str) -> Option<Vec<Element<'r, 't>>> {
        let value = self.find(key)?;
        self.list(&self.child(key), value, expected)
    }

    fn list(
        &self,
        path: &str,
        value: &'r Spanned<DeValue<'t>>,
        expected: &str,
    ) -> Option<Vec<Element<'r, 't>>> {
        let Some(array) = value.get_ref().as_array() else {
            let found = describe(value.get_ref());
            self.reader.report(value.span().start, path, format!("expected {expected}, found {found}"));
            return None;
        };
        let element = |(index, value): (usize, &'r Spanned<DeValue<'t>>)| {
            let path = format!("{path}[{index}]");
            self.reader.note(&path, &value.span());
            Element { reader: self.reader, path, value }
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// The table under `key`; one without content when the file does not have it.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'r, 't> {
        let path = self.child(key);
        let found = self.find(key);
        let table = found.and_then(|value| value.get_ref().as_table());
        if let Some(value) = found
            && table.is_none()
        {
            let found = describe(value.get_ref());
            self.reader.report(
                value.span().start,
                &path,
                format!("expected the table [{path}], found {found}"),
            );
        }
        let start = found.map_or(self.start, |value| value.span().start);
        Section {
            reader: self.reader,
            table,
            path,
            start,
            malformed: found.is_some() && table.is_none(),
            asked: BTreeSet::new(),
        }
    }

    fn missing(&mut self, key: &'static str, expected: &str) {
        self.reader.report(self.start, &self.child(key), format!("missing; set it to {expected}"));
    }

    /// Says that this table itself is missing.
    pub(super) fn absent(&self, message: &str) {
        if self.malformed {
            return;
        }
        self.reader.report(self.start, &self.path, format!("missing; {message}"));
    }

    /// Adds a problem of a key that was read.
    pub(super) fn problem(&self, key: &str, severity: Severity, message: String) {
        let key = self.child(key);
        let mut notes = self.reader.notes.borrow_mut();
        let start = Position::of(self.reader.text, self.start);
        let position = notes.positions.get(&key).copied().unwrap_or(start);
        notes.problems.push(Problem { position, key, severity, message });
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        let unknown = self.table.into_iter().flat_map(|table| table.iter());
        for (name, _) in unknown.filter(|(name, _)| !self.asked.contains(name.get_ref().as_ref())) {
            let message = unknown_key(name.get_ref(), &self.asked);
            self.reader.report(name.span().start, &self.child(name.get_ref()), message);
        }
    }
}

/// One element of a list.
pub(super) struct Element<'r, 't> {
    reader: &'r Reader<'t>,
    path: String,
    value: &'r Spanned<DeValue<'t>>,
}

impl<'r, 't> Element<'r, 't> {
    /// The element as one value.
    pub(super) fn read<T: Value>(&self) -> Option<T> {
        self.reader.read(&self.path, self.value)
    }

    /// The element as a table, or `None` when it is something else.
    pub(super) fn table(&self) -> Option<Section<'r, 't>> {
        let table = Some(self.value.get_ref().as_table()?);
        let start = self.value.span().start;
        Some(Section {
            reader: self.reader,
            table,
            path: self.path.clone(),
            start,
            malformed: false,
            asked: BTreeSet::new(),
        })
    }

    /// Adds a problem of the element as a whole.
    pub(super) fn problem(&self, message: &str) {
        self.reader.report(self.value.span().start, &self.path, message.to_owned());
    }

    /// Whether the element is a string.
    pub(super) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Says that the element is of the wrong type.
    pub(super) fn refuse(&self, expected: &str) {
        let found = describe(self.value.get_ref());
        let message = format!("expected {expected}, found {found}");
        self.reader.report(self.value.span().start, &self.path, message);
    }
}

/// "bgp.peers\[3\].name" becomes "bgp.peers\[\].name".
fn without_indexes(path: &str) -> String {
    path.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn unknown_key(name: &str, known: &BTreeSet<&'static str>) -> String {
    let nearest = known.iter().map(|key| (distance(name, key), key)).min();
    match nearest {
        Some((distance, key)) if distance <= 2 => format!("unknown key; did you mean `{key}`?"),
        _ => {
            let known: Vec<&str> = known.iter().copied().collect();
            format!("unknown key; remove it (known here: {})", known.join(", "))
        }
    }
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replace = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in
            [("", "", 0), ("port", "ports", 1), ("prots", "ports", 2), ("lease", "table", 4), ("ab", "", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
