//! Tokens to the tree: recursive descent. Here are the clauses; expressions, paths and windows have files of their own.

mod expr;
mod path;
mod window;

use hookline_schemas::Value;

use crate::ast::{Each, Expr, Field, Query, Source, Step};
use crate::error::SqlError;
use crate::lexer::{Kind, Token, tokens};

/// Words that are no names unless they are quoted or stand behind a dot.
const KEYWORDS: &[&str] = &[
    "SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN", "CASE", "WHEN", "THEN", "ELSE", "END", "DIV", "MOD", "FOREACH", "DO",
    "INCASE", "IF",
];

/// How long a statement may be, in bytes.
const STATEMENT_BYTES_MAX: usize = 64 * 1024;

/// How deep expressions may nest: more than anyone writes, less than the stack holds.
const DEPTH_MAX: usize = 128;

/// Reads a statement.
pub(crate) fn parse(sql: &str) -> Result<Query, SqlError> {
    if sql.len() > STATEMENT_BYTES_MAX {
        let problem = format!("the statement is longer than {STATEMENT_BYTES_MAX} bytes; split it into several rules");
        return Err(SqlError { problem, column: STATEMENT_BYTES_MAX });
    }
    let mut parser =
        Parser { sql, tokens: tokens(sql)?, at: 0, depth: 0, is_named: false, aggregates: Aggregates::Allowed, aggregate_at: None };
    let query = parser.query()?;
    match parser.peek() {
        Kind::End => Ok(query),
        other => Err(parser.unexpected(&other.clone(), "the end of the statement")),
    }
}

struct Parser<'a> {
    sql: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Whether the field that was read last has a name behind it.
    is_named: bool,
    aggregates: Aggregates,
    /// Where the first aggregate is.
    aggregate_at: Option<usize>,
}

/// Whether what is being read may hold aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregates {
    Allowed,
    /// With the name of the clause for the error.
    Forbidden(&'static str),
}

impl Parser<'_> {
    fn query(&mut self) -> Result<Query, SqlError> {
        let start = self.offset();
        let is_each = self.take_keyword("FOREACH");
        if !is_each {
            self.expect_keyword("SELECT")?;
        }
        let mut fields = self.fields()?;
        let each = if is_each { Some(self.each(&mut fields)?) } else { None };
        self.expect_keyword("FROM")?;
        let mut from = vec![self.source()?];
        while self.take_symbol(",") {
            from.push(self.source()?);
        }
        self.aggregates = Aggregates::Forbidden("WHERE");
        let condition = if self.take_keyword("WHERE") { Some(self.expr()?) } else { None };
        let window = self.window()?;
        match (&window, self.aggregate_at) {
            (Some(_), _) if is_each => Err(SqlError::at(self.sql, start, "FOREACH and a window do not go together; SELECT does")),
            (None, Some(offset)) => {
                Err(SqlError::at(self.sql, offset, "an aggregate needs a window, such as GROUP BY TUMBLING(10s) behind WHERE"))
            }
            _ => Ok(Query { fields, each, from, condition, window }),
        }
    }

    /// What comes behind the fields of FOREACH; the last of these is the list.
    fn each(&mut self, fields: &mut Vec<Field>) -> Result<Each, SqlError> {
        let (list, alias, offset) = match fields.pop() {
            Some(Field::Expr { expr, alias, offset }) => (expr, alias, offset),
            _ => return Err(self.error("FOREACH needs a list, such as payload.sensors; \"*\" is none")),
        };
        // Fields without a name of their own are columns anyway.
        fields.retain(|field| !matches!(field, Field::Expr { expr: Expr::Path(own), alias, .. } if own == alias));
        let is_named = self.is_named;
        let name: Box<str> = match (is_named, alias.as_slice()) {
            (false, _) => "item".into(),
            (true, [Step::Key(name)]) => name.clone(),
            (true, _) => return Err(SqlError::at(self.sql, offset, "the items of FOREACH need one plain name, such as AS s")),
        };
        let fields = if self.take_keyword("DO") { Some(self.fields()?) } else { None };
        let keep = if self.take_keyword("INCASE") { Some(self.expr()?) } else { None };
        Ok(Each { list, name, is_named, fields, keep })
    }

    fn fields(&mut self) -> Result<Vec<Field>, SqlError> {
        let mut fields = vec![self.field()?];
        while self.take_symbol(",") {
            fields.push(self.field()?);
        }
        Ok(fields)
    }

    fn field(&mut self) -> Result<Field, SqlError> {
        self.is_named = false;
        if self.take_symbol("*") {
            return Ok(Field::All);
        }
        let offset = self.offset();
        let expr = self.expr()?;
        let is_named = self.take_keyword("AS") || matches!(self.peek(), Kind::Word(word) if !is_keyword(word));
        self.is_named = is_named;
        let alias = match (&expr, is_named) {
            (_, true) => self.alias()?,
            // Without a name of its own a path keeps its nesting.
            (Expr::Path(steps), false) => steps.iter().take_while(|step| !matches!(step, Step::Range(..))).cloned().collect(),
            // Everything else is named by its text.
            (_, false) => vec![Step::Key(self.sql.get(offset..self.offset()).unwrap_or_default().trim().into())],
        };
        Ok(Field::Expr { expr, alias, offset })
    }

    fn source(&mut self) -> Result<Source, SqlError> {
        let offset = self.offset();
        match self.next() {
            Kind::Double(name) | Kind::Single(name) => Ok(Source { name, offset }),
            other => Err(self.unexpected_before(&other, "a topic filter in quotes, such as \"t/#\"")),
        }
    }

    fn peek(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&Kind::End, |token| &token.kind)
    }

    fn peek_at(&self, ahead: usize) -> &Kind {
        self.tokens.get(self.at + ahead).map_or(&Kind::End, |token| &token.kind)
    }

    fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(self.sql.len(), |token| token.offset)
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Kind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    fn expect_keyword(&mut self, keyword: &str) -> Result<(), SqlError> {
        if self.take_keyword(keyword) { Ok(()) } else { Err(self.unexpected(&self.peek().clone(), keyword)) }
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Kind::Symbol(found) if *found == symbol)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&self.peek().clone(), &format!("\"{symbol}\""))) }
    }

    fn unexpected(&self, found: &Kind, expected: &str) -> SqlError {
        self.error(format!("expected {expected}, found {found}"))
    }

    /// The same for a token that was taken already.
    fn unexpected_before(&mut self, found: &Kind, expected: &str) -> SqlError {
        self.at -= 1;
        self.unexpected(found, expected)
    }

    fn error(&self, problem: impl Into<String>) -> SqlError {
        SqlError::at(self.sql, self.offset(), problem)
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

/// An integer without its sign, as a value.
fn int(digits: u64, is_negative: bool) -> Option<Value> {
    let int = if is_negative { 0i64.checked_sub_unsigned(digits) } else { i64::try_from(digits).ok() };
    int.map(Value::Int)
}

#[cfg(test)]
mod tests;
