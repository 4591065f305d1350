//! YAML text as documents whose every value knows its place.
//!
//! Only what Kubernetes' resources need: mappings with text as keys, sequences, scalars. Aliases, own tags and keys
//! that stand twice are refused rather than guessed at. JSON is YAML too.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::config::Position;

/// Mappings and sequences within each other.
const DEPTH: usize = 64;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub position: Position,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A scalar. `plain`: without quotes, so that it may be a number, a boolean or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: String,
    pub position: Position,
    pub node: Node,
}

/// Why text is no YAML that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub position: Position,
    pub message: String,
}

/// The documents of a stream, those without content left out.
///
/// # Errors
/// The text is no YAML, or uses more of it than resources do. The documents before are lost: a file is taken whole
/// or not at all.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut documents = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => {
                let node = reader.node(event, span, 0)?;
                if !node.is_null() {
                    documents.push(node);
                }
            }
        }
    }
}

impl Node {
    /// Nothing at all, or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null(text))
    }

    /// The value of a key, when this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The text of a scalar, whatever its type.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The value as an error names it.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, plain } => {
                let text: String = text.chars().take(60).collect();
                match (plain, Kind::of(&text)) {
                    (true, Kind::Number) => format!("the number {text}"),
                    (true, Kind::Boolean) => format!("the boolean {text}"),
                    _ => format!("the text {text:?}"),
                }
            }
        }
    }
}

/// What a plain scalar is (YAML 1.2 core schema, and the booleans of YAML 1.1 that Kubernetes still knows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
}

impl Kind {
    pub(super) fn of(text: &str) -> Self {
        const BOOLEANS: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];
        let digits = text.trim_start_matches(['-', '+']);
        if is_null(text) {
            Self::Null
        } else if BOOLEANS.iter().any(|boolean| text.eq_ignore_ascii_case(boolean)) {
            Self::Boolean
        } else if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && (digits.parse::<f64>().is_ok() || digits.starts_with("0x") || digits.starts_with("0o"))
        {
            Self::Number
        } else {
            Self::Text
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(syntax(&error)),
            // The parser ends with `StreamEnd`, which nobody asks beyond.
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Fault> {
        let position = place(&span);
        let fault = |message: String| Err(Fault { position, message });
        if depth == DEPTH {
            return fault(format!("more than {DEPTH} mappings and lists within each other"));
        }
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                let as_text = known_tag(tag.as_deref(), position)?;
                let plain = style == ScalarStyle::Plain && !as_text;
                Value::Scalar { text: text.into_owned(), plain }
            }
            Event::SequenceStart(_, tag) => {
                known_tag(tag.as_deref(), position)?;
                Value::List(self.list(depth)?)
            }
            Event::MappingStart(_, tag) => {
                known_tag(tag.as_deref(), position)?;
                Value::Map(self.map(depth)?)
            }
            Event::Alias(_) => return fault("an alias (`*name`); write the value out".to_owned()),
            other => return fault(format!("not valid YAML: {other:?} where a value should be")),
        };
        Ok(Node { position, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(elements),
                (event, span) => elements.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys = std::collections::HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let position = place(&span);
            let fault = |message: String| Err(Fault { position, message });
            let Event::Scalar(key, _, _, _) = event else {
                return fault("the key of a mapping is no text".to_owned());
            };
            if key == "<<" {
                return fault("a merge key (`<<`); write the fields out".to_owned());
            }
            if !keys.insert(key.clone()) {
                return fault(format!("the key {key:?} stands twice in one mapping; remove one"));
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push(Entry { key: key.into_owned(), position, node });
        }
    }
}

/// Whether a tag makes text of a scalar; tags of one's own are refused.
fn known_tag(tag: Option<&Tag>, position: Position) -> Result<bool, Fault> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) => Err(Fault { position, message: format!("the tag {tag} is not known; remove it") }),
    }
}

fn syntax(error: &ScanError) -> Fault {
    let position = Position { line: error.marker().line(), column: error.marker().col() + 1 };
    Fault { position, message: format!("not valid YAML: {}", error.info()) }
}

fn place(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = documents(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    #[test]
    fn a_stream_has_many_documents_and_empty_ones_count_for_nothing() {
        for (text, count) in [
            ("", 0),
            ("# nothing\n", 0),
            ("---\n---\n...\n", 0),
            ("a: 1", 1),
            ("\u{feff}a: 1\n---\nb: 2\n---\n", 2),
            ("{\"a\": [1, {\"b\": null}]}", 1),
            ("null\n--- {a: 1}\n", 1),
        ] {
            assert_eq!(documents(text).map(|documents| documents.len()), Ok(count), "{text:?}");
        }
    }

    #[test]
    fn values_know_their_place() {
        let document = one("kind: BGPPeer\nspec:\n  asNumber: 65009\n  list:\n  - x\n  - y: 'z'\n");
        let spec = document.get("spec").expect("there");
        for (node, line, column) in
            [(document.get("kind"), 1, 7), (spec.get("asNumber"), 3, 13), (Some(spec), 3, 3)]
        {
            assert_eq!(node.expect("there").position, Position { line, column });
        }
        let Value::Map(entries) = &spec.value else { panic!("{spec:?}") };
        assert_eq!(entries[0].position, Position { line: 3, column: 3 });
    }

    #[test]
    fn scalars_are_described_by_what_they_are() {
        for (text, expected) in [
            ("a: 5", "the number 5"),
            ("a: 1.5", "the number 1.5"),
            ("a: '5'", "the text \"5\""),
            ("a: !!str 5", "the text \"5\""),
            ("a: true", "the boolean true"),
            ("a: Yes", "the boolean Yes"),
            ("a: ~", "nothing"),
            ("a:", "nothing"),
            ("a: ''", "the text \"\""),
            ("a: 172.20.0.11", "the text \"172.20.0.11\""),
            ("a: infinite", "the text \"infinite\""),
            ("a: []", "a list"),
            ("a: {}", "a mapping"),
        ] {
            assert_eq!(one(text).get("a").expect("there").describe(), expected, "{text}");
        }
    }

    #[test]
    fn more_than_resources_need_is_refused() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        for (text, line, column, message) in [
            ("a: 1\na: 2\n", 2, 1, "stands twice"),
            ("a: &x 1\nb: *x\n", 2, 4, "an alias"),
            ("a: {b: 1}\nc:\n  <<: {d: 1}\n", 3, 3, "a merge key"),
            ("a: !mine 1", 1, 4, "the tag !mine is not known"),
            ("? [a]\n: 1\n", 1, 3, "is no text"),
            ("a: [1\nb: 2", 2, 2, "not valid YAML"),
            ("a: 'b", 1, 4, "not valid YAML"),
            (deep.as_str(), 1, 65, "more than 64"),
        ] {
            let fault = documents(text).expect_err(text);
            assert!(fault.message.contains(message), "{text}: {fault:?}");
            assert_eq!(fault.position, Position { line, column }, "{text}: {fault:?}");
        }
        assert!(documents(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-:{}\\[\\]a1 \n\t'\"#&*!|>%?,.]{0,60}") {
            let _ = documents(&text);
        }
    }
}
