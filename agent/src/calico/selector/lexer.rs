//! A selector's text cut into tokens.

use super::Comparison;

/// Longest key of a label that Calico takes.
const KEY_BYTES: usize = 512;

/// What is wrong, at a byte of the text.
pub(super) struct Fault {
    pub offset: usize,
    pub message: String,
}

/// A token and the byte where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'s> {
    pub offset: usize,
    pub kind: Kind<'s>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'s> {
    Key(&'s str),
    Text(&'s str),
    Compare(Comparison),
    In,
    NotIn,
    All,
    Global,
    Has(&'s str),
    Not,
    And,
    Or,
    OpenParenthesis,
    CloseParenthesis,
    OpenBrace,
    CloseBrace,
    Comma,
    End,
}

impl Kind<'_> {
    /// The token as an error names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Key(key) => format!("the key {key:?}"),
            Self::Text(text) => format!("the value {text:?}"),
            Self::Compare(comparison) => format!("`{comparison}`"),
            Self::Has(key) => format!("`has({key})`"),
            Self::In => "`in`".to_owned(),
            Self::NotIn => "`not in`".to_owned(),
            Self::All => "`all()`".to_owned(),
            Self::Global => "`global()`".to_owned(),
            Self::Not => "`!`".to_owned(),
            Self::And => "`&&`".to_owned(),
            Self::Or => "`||`".to_owned(),
            Self::OpenParenthesis => "`(`".to_owned(),
            Self::CloseParenthesis => "`)`".to_owned(),
            Self::OpenBrace => "`{`".to_owned(),
            Self::CloseBrace => "`}`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Cuts a selector into tokens; the last one is [`Kind::End`].
///
/// # Errors
/// Something is no token.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let mut lexer = Lexer { text, rest: text };
    let mut tokens: Vec<Token<'_>> = Vec::new();
    loop {
        lexer.skip_blanks();
        let offset = lexer.offset();
        let behind_key = matches!(tokens.last(), Some(Token { kind: Kind::Key(_), .. }));
        let kind = lexer.next(behind_key)?;
        let end = kind == Kind::End;
        tokens.push(Token { offset, kind });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'s> {
    text: &'s str,
    rest: &'s str,
}

impl<'s> Lexer<'s> {
    fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn error(&self, message: impl Into<String>) -> Fault {
        Fault { offset: self.offset(), message: message.into() }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, prefix: &str) -> bool {
        let taken = self.rest.strip_prefix(prefix);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    fn next(&mut self, behind_key: bool) -> Result<Kind<'s>, Fault> {
        let symbols = [
            ("(", Kind::OpenParenthesis),
            (")", Kind::CloseParenthesis),
            ("{", Kind::OpenBrace),
            ("}", Kind::CloseBrace),
            (",", Kind::Comma),
            ("==", Kind::Compare(Comparison::Equal)),
            ("!=", Kind::Compare(Comparison::NotEqual)),
            ("!", Kind::Not),
            ("&&", Kind::And),
            ("||", Kind::Or),
        ];
        if self.rest.is_empty() {
            return Ok(Kind::End);
        }
        if let Some((_, kind)) = symbols.into_iter().find(|(symbol, _)| self.take(symbol)) {
            return Ok(kind);
        }
        match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.text_in(quote),
            Some('=') => Err(self.error("a single `=`; write `==`")),
            Some('&') => Err(self.error("a single `&`; write `&&`")),
            Some('|') => Err(self.error("a single `|`; write `||`")),
            _ if behind_key => self.operator(),
            _ => self.term(),
        }
    }

    fn text_in(&mut self, quote: char) -> Result<Kind<'s>, Fault> {
        let value = &self.rest[1..];
        let Some(end) = value.find(quote) else {
            return Err(self.error(format!("the value is not closed; add {quote} at its end")));
        };
        self.rest = &value[end + 1..];
        Ok(Kind::Text(&value[..end]))
    }

    /// Words behind a key are operators, whatever follows them without a blank.
    fn operator(&mut self) -> Result<Kind<'s>, Fault> {
        let two_words = [
            ("starts", "with", Kind::Compare(Comparison::StartsWith)),
            ("ends", "with", Kind::Compare(Comparison::EndsWith)),
            ("not", "in", Kind::NotIn),
        ];
        let start = self.rest;
        if self.take("contains") {
            return Ok(Kind::Compare(Comparison::Contains));
        }
        for (first, second, kind) in two_words {
            if self.take(first) {
                self.skip_blanks();
                if self.take(second) {
                    return Ok(kind);
                }
                self.rest = start;
            }
        }
        if self.take("in") {
            return Ok(Kind::In);
        }
        Err(self.error(
            "expected an operator behind the key: ==, !=, in, not in, contains, starts with or ends with",
        ))
    }

    fn term(&mut self) -> Result<Kind<'s>, Fault> {
        if self.take("has(") {
            self.skip_blanks();
            let key = self.key("expected the key of a label in `has(`")?;
            self.close("has(")?;
            return Ok(Kind::Has(key));
        }
        for (function, kind) in [("all(", Kind::All), ("global(", Kind::Global)] {
            if self.take(function) {
                self.close(function)?;
                return Ok(kind);
            }
        }
        let key = self.key("expected the key of a label, has(), all(), `!` or `(`")?;
        Ok(Kind::Key(key))
    }

    fn close(&mut self, function: &str) -> Result<(), Fault> {
        self.skip_blanks();
        if self.take(")") { Ok(()) } else { Err(self.error(format!("expected `)` of `{function}`"))) }
    }

    fn key(&mut self, expected: &str) -> Result<&'s str, Fault> {
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        let end = self.rest.find(|c| !is_key(c)).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at(end);
        if key.is_empty() {
            let found = self.rest.chars().next().map_or("the end".to_owned(), |c| format!("{c:?}"));
            return Err(self.error(format!("{expected}, found {found}")));
        }
        if key.len() > KEY_BYTES {
            return Err(self.error(format!("the key is longer than {KEY_BYTES} characters; shorten it")));
        }
        self.rest = rest;
        Ok(key)
    }
}
