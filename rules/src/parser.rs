//! Tokens to the tree: recursive descent, with precedence from OR up to the unary minus.

use hookline_schemas::Value;

use crate::ast::{Expr, Field, Select, Source, Step};
use crate::error::{SqlError, did_you_mean};
use crate::function;
use crate::lexer::{Kind, Token, tokens};
use crate::operator::Binary;

/// Words that are no names unless they are quoted.
const KEYWORDS: &[&str] = &[
    "SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN", "CASE", "WHEN", "THEN", "ELSE", "END", "DIV", "MOD", "FOREACH", "DO",
    "INCASE",
];

/// How deep expressions may nest: more than anyone writes, less than the stack holds.
const DEPTH_MAX: usize = 100;

/// Reads a statement.
pub(crate) fn parse(sql: &str) -> Result<Select, SqlError> {
    let mut parser = Parser { sql, tokens: tokens(sql)?, at: 0, depth: 0 };
    let select = parser.select()?;
    match parser.peek() {
        Kind::End => Ok(select),
        other => Err(parser.unexpected(&other.clone(), "the end of the statement")),
    }
}

struct Parser<'a> {
    sql: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn select(&mut self) -> Result<Select, SqlError> {
        if self.is_keyword("FOREACH") {
            return Err(self.error("FOREACH is not there yet; SELECT is"));
        }
        self.expect_keyword("SELECT")?;
        let mut fields = vec![self.field()?];
        while self.take_symbol(",") {
            fields.push(self.field()?);
        }
        self.expect_keyword("FROM")?;
        let mut from = vec![self.source()?];
        while self.take_symbol(",") {
            from.push(self.source()?);
        }
        let condition = if self.take_keyword("WHERE") { Some(self.expr()?) } else { None };
        Ok(Select { fields, from, condition })
    }

    fn field(&mut self) -> Result<Field, SqlError> {
        if self.take_symbol("*") {
            return Ok(Field::All);
        }
        let start = self.offset();
        let expr = self.expr()?;
        let text = self.sql[start..self.offset()].trim().to_owned();
        let has_alias = self.take_keyword("AS") || matches!(self.peek(), Kind::Word(word) if !is_keyword(word));
        let alias = if has_alias {
            self.alias()?
        } else {
            match &expr {
                // Without an alias a path keeps its nesting.
                Expr::Path(steps) => {
                    steps.iter().map_while(|step| if let Step::Key(key) = step { Some(key.clone()) } else { None }).collect()
                }
                _ => vec![text.into()],
            }
        };
        Ok(Field::Expr { expr, alias })
    }

    fn alias(&mut self) -> Result<Vec<Box<str>>, SqlError> {
        let mut path = vec![self.name("a name")?.into()];
        loop {
            if self.take_symbol(".") {
                path.push(self.name("a name")?.into());
            } else if *self.peek() == Kind::Symbol("[") {
                return Err(self.error("an alias cannot have an index yet"));
            } else {
                return Ok(path);
            }
        }
    }

    fn source(&mut self) -> Result<Source, SqlError> {
        let offset = self.offset();
        match self.next() {
            Kind::Double(name) | Kind::Single(name) => Ok(Source { name, offset }),
            other => {
                self.at -= 1;
                Err(self.unexpected(&other, "a topic filter in quotes, such as \"t/#\""))
            }
        }
    }

    fn expr(&mut self) -> Result<Expr, SqlError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("the expression is nested too deeply"));
        }
        let expr = self.or();
        self.depth -= 1;
        expr
    }

    fn or(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.and()?;
        while self.take_keyword("OR") {
            left = Expr::Binary(Binary::Or, Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.not()?;
        while self.take_keyword("AND") {
            left = Expr::Binary(Binary::And, Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, SqlError> {
        let mut count = 0;
        while self.take_keyword("NOT") {
            count += 1;
        }
        let expr = self.comparison()?;
        Ok((0..count).fold(expr, |expr, _| Expr::Not(Box::new(expr))))
    }

    fn comparison(&mut self) -> Result<Expr, SqlError> {
        let left = self.sum()?;
        let negated = self.is_keyword("NOT");
        if negated {
            self.at += 1;
        }
        if self.take_keyword("IN") {
            return self.in_list(left, negated);
        }
        if negated {
            return Err(self.error("expected IN behind NOT"));
        }
        let operators = [
            ("=~", Binary::MatchesTopic),
            ("=", Binary::Equal),
            ("!=", Binary::NotEqual),
            ("<>", Binary::NotEqual),
            ("<=", Binary::LessOrEqual),
            ("<", Binary::Less),
            (">=", Binary::GreaterOrEqual),
            (">", Binary::Greater),
        ];
        let found = operators.iter().find(|(symbol, _)| *self.peek() == Kind::Symbol(symbol));
        let Some((_, operator)) = found else { return Ok(left) };
        self.at += 1;
        Ok(Expr::Binary(*operator, Box::new(left), Box::new(self.sum()?)))
    }

    fn in_list(&mut self, needle: Expr, negated: bool) -> Result<Expr, SqlError> {
        self.expect_symbol("(")?;
        if *self.peek() == Kind::Symbol(")") {
            return Err(self.error("the list behind IN is empty"));
        }
        let list = self.list(")")?;
        Ok(Expr::In { needle: Box::new(needle), list, negated })
    }

    fn sum(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Kind::Symbol("+") => Binary::Add,
                Kind::Symbol("-") => Binary::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.unary()?;
        loop {
            let operator = match self.peek() {
                Kind::Symbol("*") => Binary::Multiply,
                Kind::Symbol("/") => Binary::Divide,
                Kind::Word(word) if word.eq_ignore_ascii_case("div") => Binary::Div,
                Kind::Word(word) if word.eq_ignore_ascii_case("mod") => Binary::Mod,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(operator, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr, SqlError> {
        let mut negative = false;
        loop {
            if self.take_symbol("-") {
                negative = !negative;
            } else if !self.take_symbol("+") {
                break;
            }
        }
        let expr = self.primary()?;
        Ok(if negative { Expr::Negate(Box::new(expr)) } else { expr })
    }

    fn primary(&mut self) -> Result<Expr, SqlError> {
        let offset = self.offset();
        match self.next() {
            Kind::Int(int) => Ok(Expr::Literal(Value::Int(int))),
            Kind::Float(float) => Ok(Expr::Literal(Value::Float(float))),
            Kind::Single(text) => Ok(Expr::Literal(Value::text(&text))),
            Kind::Symbol("(") => {
                let expr = self.expr()?;
                self.expect_symbol(")")?;
                Ok(expr)
            }
            Kind::Symbol("[") => self.list_or_range(),
            Kind::Word(word) if word.eq_ignore_ascii_case("case") => self.case(),
            Kind::Word(word) if word.eq_ignore_ascii_case("true") => Ok(Expr::Literal(Value::Bool(true))),
            Kind::Word(word) if word.eq_ignore_ascii_case("false") => Ok(Expr::Literal(Value::Bool(false))),
            Kind::Word(word) if *self.peek() == Kind::Symbol("(") && (!is_keyword(&word) || word.eq_ignore_ascii_case("mod")) => {
                self.at += 1;
                self.call(&word, offset)
            }
            Kind::Word(word) if !is_keyword(&word) => self.path(word),
            Kind::Double(name) => self.path(name),
            other => {
                self.at -= 1;
                Err(self.unexpected(&other, "a value"))
            }
        }
    }

    fn call(&mut self, name: &str, offset: usize) -> Result<Expr, SqlError> {
        let function = function::find(&name.to_ascii_lowercase()).ok_or_else(|| {
            let hint = did_you_mean(name, function::TABLE.iter().map(|f| f.name)).map(|near| format!("; did you mean \"{near}\"?"));
            SqlError::at(self.sql, offset, format!("unknown function \"{name}\"{}", hint.unwrap_or_default()))
        })?;
        let arguments = self.list(")")?;
        if !function.arity.contains(&arguments.len()) {
            let expected = match (*function.arity.start(), *function.arity.end()) {
                (min, max) if min == max => format!("{min}"),
                (min, usize::MAX) => format!("{min} or more"),
                (min, max) => format!("{min} to {max}"),
            };
            let problem = format!("function \"{}\" takes {expected} arguments, not {}", function.name, arguments.len());
            return Err(SqlError::at(self.sql, offset, problem));
        }
        Ok(Expr::Call(function, arguments))
    }

    /// Expressions up to the closing mark.
    fn list(&mut self, end: &'static str) -> Result<Vec<Expr>, SqlError> {
        let mut list = Vec::new();
        if self.take_symbol(end) {
            return Ok(list);
        }
        loop {
            list.push(self.expr()?);
            if self.take_symbol(end) {
                return Ok(list);
            }
            self.expect_symbol(",")?;
        }
    }

    fn list_or_range(&mut self) -> Result<Expr, SqlError> {
        if self.take_symbol("]") {
            return Ok(Expr::List(Vec::new()));
        }
        let first = self.expr()?;
        if self.take_symbol("..") {
            let last = self.expr()?;
            self.expect_symbol("]")?;
            return Ok(Expr::Range(Box::new(first), Box::new(last)));
        }
        if self.take_symbol("]") {
            return Ok(Expr::List(vec![first]));
        }
        self.expect_symbol(",")?;
        let mut list = vec![first];
        list.extend(self.list("]")?);
        Ok(Expr::List(list))
    }

    fn case(&mut self) -> Result<Expr, SqlError> {
        let subject = if self.is_keyword("WHEN") { None } else { Some(Box::new(self.expr()?)) };
        let mut branches = Vec::new();
        while self.take_keyword("WHEN") {
            let when = self.expr()?;
            self.expect_keyword("THEN")?;
            branches.push((when, self.expr()?));
        }
        if branches.is_empty() {
            return Err(self.error("expected WHEN in CASE"));
        }
        let otherwise = if self.take_keyword("ELSE") { Some(Box::new(self.expr()?)) } else { None };
        self.expect_keyword("END")?;
        Ok(Expr::Case { subject, branches, otherwise })
    }

    fn path(&mut self, first: String) -> Result<Expr, SqlError> {
        let mut steps = vec![Step::Key(first.into())];
        loop {
            if self.take_symbol(".") {
                match self.next() {
                    Kind::Word(name) | Kind::Single(name) | Kind::Double(name) => steps.push(Step::Key(name.into())),
                    Kind::Int(number) => steps.push(Step::Key(number.to_string().into())),
                    other => {
                        self.at -= 1;
                        return Err(self.unexpected(&other, "a name"));
                    }
                }
            } else if self.take_symbol("[") {
                let first = self.expr()?;
                let step = if self.take_symbol("..") { Step::Range(first, self.expr()?) } else { Step::Index(first) };
                self.expect_symbol("]")?;
                steps.push(step);
            } else {
                return Ok(Expr::Path(steps));
            }
        }
    }

    fn name(&mut self, what: &str) -> Result<String, SqlError> {
        match self.next() {
            Kind::Word(name) | Kind::Single(name) | Kind::Double(name) => Ok(name),
            other => {
                self.at -= 1;
                Err(self.unexpected(&other, what))
            }
        }
    }

    fn peek(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&Kind::End, |token| &token.kind)
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

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&self.peek().clone(), &format!("\"{symbol}\""))) }
    }

    fn unexpected(&self, found: &Kind, expected: &str) -> SqlError {
        self.error(format!("expected {expected}, found {found}"))
    }

    fn error(&self, problem: impl Into<String>) -> SqlError {
        SqlError::at(self.sql, self.offset(), problem)
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_at_the_column() {
        let cases = [
            ("SELEC * FROM \"t\"", 1, "expected SELECT"),
            ("SELECT * FROM t", 15, "topic filter in quotes"),
            ("SELECT uper(clientid) FROM \"t\"", 8, "did you mean \"upper\"?"),
            ("SELECT a + FROM \"t\"", 12, "expected a value"),
            ("SELECT upper() FROM \"t\"", 8, "takes 1 arguments, not 0"),
            ("SELECT a FROM \"t\" WHERE a = 'x", 29, "without its end"),
            ("SELECT a FROM \"t\" WHERE (a = 1", 31, "expected \")\""),
            ("SELECT ä, ? FROM \"t\"", 11, "unexpected character"),
            ("SELECT a FROM \"t\" b", 19, "expected the end"),
            ("SELECT 99999999999999999999 FROM \"t\"", 8, "too large"),
            ("SELECT * FROM", 14, "topic filter in quotes"),
        ];
        for (sql, column, problem) in cases {
            let error = parse(sql).expect_err(sql);
            assert_eq!(error.column, column, "{sql}: {error}");
            assert!(error.problem.contains(problem), "{sql}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let sql = format!("SELECT {}1{} FROM \"t\"", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse(&sql).is_err());
    }
}
