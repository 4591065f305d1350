//! From tokens to the tree of a selector.

use std::collections::BTreeSet;

use super::lexer::{Fault, Kind, Token, tokens};
use super::{Selector, SelectorError};

/// Parentheses within each other. Deeper ones are nobody's selector, and the parser is recursive.
const DEPTH: usize = 100;

/// Reads a selector. An empty one selects everything.
///
/// # Errors
/// The text is no selector; the error says where and what was expected.
pub fn parse(text: &str) -> Result<Selector, SelectorError> {
    parse_tokens(text).map_err(|Fault { offset, message }| SelectorError {
        column: text[..offset].chars().count() + 1,
        message,
    })
}

fn parse_tokens(text: &str) -> Result<Selector, Fault> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens };
    if parser.peek().kind == Kind::End {
        return Ok(Selector::All);
    }
    let selector = parser.any_of(0)?;
    match parser.peek().kind {
        Kind::End => Ok(selector),
        _ => Err(parser.expected("`&&`, `||` or the end")),
    }
}

struct Parser<'t, 's> {
    /// The rest; the last token is the end and stays.
    tokens: &'t [Token<'s>],
}

impl<'s> Parser<'_, 's> {
    fn peek(&self) -> &Token<'s> {
        &self.tokens[0]
    }

    fn next(&mut self) -> Token<'s> {
        let token = self.tokens[0].clone();
        if self.tokens.len() > 1 {
            self.tokens = &self.tokens[1..];
        }
        token
    }

    fn take(&mut self, kind: &Kind<'_>) -> bool {
        let found = self.peek().kind == *kind;
        if found {
            self.next();
        }
        found
    }

    fn expected(&self, what: &str) -> Fault {
        let Token { offset, kind } = self.peek();
        Fault { offset: *offset, message: format!("expected {what}, found {}", kind.describe()) }
    }

    fn any_of(&mut self, depth: usize) -> Result<Selector, Fault> {
        let mut operands = vec![self.all_of(depth)?];
        while self.take(&Kind::Or) {
            operands.push(self.all_of(depth)?);
        }
        Ok(if operands.len() == 1 { operands.remove(0) } else { Selector::Or(operands) })
    }

    fn all_of(&mut self, depth: usize) -> Result<Selector, Fault> {
        let mut operands = vec![self.operation(depth)?];
        while self.take(&Kind::And) {
            operands.push(self.operation(depth)?);
        }
        Ok(if operands.len() == 1 { operands.remove(0) } else { Selector::And(operands) })
    }

    fn operation(&mut self, depth: usize) -> Result<Selector, Fault> {
        let mut negated = false;
        while self.take(&Kind::Not) {
            negated = !negated;
        }
        let term = self.term(depth)?;
        Ok(if negated { Selector::Not(Box::new(term)) } else { term })
    }

    fn term(&mut self, depth: usize) -> Result<Selector, Fault> {
        match self.peek().kind {
            Kind::All => {
                self.next();
                Ok(Selector::All)
            }
            Kind::Global => {
                self.next();
                Ok(Selector::Global)
            }
            Kind::Has(key) => {
                self.next();
                Ok(Selector::Has(key.to_owned()))
            }
            Kind::Key(key) => {
                self.next();
                self.comparison(key)
            }
            Kind::OpenParenthesis => self.group(depth),
            _ => Err(self.expected("the key of a label, has(), all(), `!` or `(`")),
        }
    }

    fn group(&mut self, depth: usize) -> Result<Selector, Fault> {
        if depth == DEPTH {
            let message = format!("more than {DEPTH} parentheses within each other; simplify the selector");
            return Err(Fault { offset: self.peek().offset, message });
        }
        self.next();
        let inner = self.any_of(depth + 1)?;
        if self.take(&Kind::CloseParenthesis) { Ok(inner) } else { Err(self.expected("`&&`, `||` or `)`")) }
    }

    fn comparison(&mut self, key: &str) -> Result<Selector, Fault> {
        let operator = self.peek().kind.clone();
        match operator {
            Kind::Compare(comparison) => {
                self.next();
                let Kind::Text(value) = self.peek().kind else {
                    return Err(self.expected("a value in quotes"));
                };
                self.next();
                Ok(Selector::Compare(key.to_owned(), comparison, value.to_owned()))
            }
            Kind::In | Kind::NotIn => {
                self.next();
                let values = self.values()?;
                let selector = if operator == Kind::In { Selector::In } else { Selector::NotIn };
                Ok(selector(key.to_owned(), values))
            }
            _ => Err(self.expected("an operator behind the key, such as `==`")),
        }
    }

    /// `{'a', 'b'}`; as in Calico the set may be empty, and a comma may stand before the brace.
    fn values(&mut self) -> Result<BTreeSet<String>, Fault> {
        if !self.take(&Kind::OpenBrace) {
            return Err(self.expected("a set such as {'a', 'b'}"));
        }
        let mut values = BTreeSet::new();
        while let Kind::Text(value) = self.peek().kind {
            self.next();
            values.insert(value.to_owned());
            if !self.take(&Kind::Comma) {
                break;
            }
        }
        if self.take(&Kind::CloseBrace) { Ok(values) } else { Err(self.expected("a value in quotes or `}`")) }
    }
}
