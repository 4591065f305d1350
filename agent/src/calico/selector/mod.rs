//! Selectors: which nodes a resource is about.
//!
//! The grammar is Calico's (`libcalico-go/lib/selector`), its oddities included: keys are letters, digits and
//! `_ . - /`, values are quoted and have no escapes, operators in words are only known behind a key, blanks and
//! tabs are the only white space. `!` binds before `&&`, `&&` before `||`.

mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use parser::parse;

/// Labels of a node.
pub type Labels = BTreeMap<String, String>;

/// A parsed selector. What [`parse`] gives prints as a selector that parses to the same tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `all()`, also what an empty selector means.
    All,
    /// `global()`: as `all()` where nodes are selected.
    Global,
    /// `has(key)`.
    Has(String),
    /// `key == 'value'` and its relatives.
    Compare(String, Comparison, String),
    /// `key in {'a', 'b'}`.
    In(String, BTreeSet<String>),
    /// `key not in {'a', 'b'}`; true without the label.
    NotIn(String, BTreeSet<String>),
    /// `!operand`.
    Not(Box<Selector>),
    /// `a && b && ...`, two at least.
    And(Vec<Selector>),
    /// `a || b || ...`, two at least.
    Or(Vec<Selector>),
}

/// An operator between a key and one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`.
    Equal,
    /// `!=`; true without the label.
    NotEqual,
    /// `contains`.
    Contains,
    /// `starts with`.
    StartsWith,
    /// `ends with`.
    EndsWith,
}

/// Why a selector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct SelectorError {
    /// Where, in characters of the selector; the first is 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Selector {
    /// Whether a node with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::All | Self::Global => true,
            Self::Has(key) => labels.contains_key(key),
            Self::Compare(key, comparison, value) => {
                comparison.holds(labels.get(key).map(String::as_str), value)
            }
            Self::In(key, values) => labels.get(key).is_some_and(|label| values.contains(label)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|label| !values.contains(label)),
            Self::Not(operand) => !operand.matches(labels),
            Self::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }
}

impl Comparison {
    fn holds(self, label: Option<&str>, value: &str) -> bool {
        let Some(label) = label else { return self == Self::NotEqual };
        match self {
            Self::Equal => label == value,
            Self::NotEqual => label != value,
            Self::Contains => label.contains(value),
            Self::StartsWith => label.starts_with(value),
            Self::EndsWith => label.ends_with(value),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Contains => "contains",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(key) => write!(f, "has({key})"),
            Self::Compare(key, comparison, value) => {
                write!(f, "{key} {comparison} ")?;
                quoted(f, value)
            }
            Self::In(key, values) => set(f, key, "in", values),
            Self::NotIn(key, values) => set(f, key, "not in", values),
            Self::Not(operand) => match **operand {
                // `!!a` would be read as `a`.
                Self::Not(_) => write!(f, "!({operand})"),
                _ => write!(f, "!{operand}"),
            },
            Self::And(operands) => joined(f, operands, " && "),
            Self::Or(operands) => joined(f, operands, " || "),
        }
    }
}

/// A value has no more than one kind of quote in it: there are no escapes.
fn quoted(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let quote = if value.contains('\'') { '"' } else { '\'' };
    write!(f, "{quote}{value}{quote}")
}

fn set(f: &mut fmt::Formatter<'_>, key: &str, operator: &str, values: &BTreeSet<String>) -> fmt::Result {
    write!(f, "{key} {operator} {{")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        quoted(f, value)?;
    }
    f.write_str("}")
}

fn joined(f: &mut fmt::Formatter<'_>, operands: &[Selector], operator: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        write!(f, "{operand}")?;
    }
    f.write_str(")")
}
