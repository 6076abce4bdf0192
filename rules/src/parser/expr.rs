//! Expressions, with precedence from OR up to the unary minus.

use hookline_schemas::Value;

use super::{Aggregates, DEPTH_MAX, Parser, int, is_keyword};
use crate::ast::{Aggregate, Expr, Step};
use crate::error::{SqlError, did_you_mean};
use crate::function;
use crate::lexer::Kind;
use crate::operator::Binary;
use crate::window::AggregateKind;

const COMPARISONS: &[(&str, Binary)] = &[
    ("=~", Binary::MatchesTopic),
    ("=", Binary::Equal),
    ("!=", Binary::NotEqual),
    ("<>", Binary::NotEqual),
    ("<=", Binary::LessOrEqual),
    ("<", Binary::Less),
    (">=", Binary::GreaterOrEqual),
    (">", Binary::Greater),
];

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr, SqlError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("the expression is nested deeper than {DEPTH_MAX}")));
        }
        let expr = self.or();
        self.depth -= 1;
        expr
    }

    fn or(&mut self) -> Result<Expr, SqlError> {
        let first = self.and()?;
        if !self.is_keyword("OR") {
            return Ok(first);
        }
        let mut exprs = vec![first];
        while self.take_keyword("OR") {
            exprs.push(self.and()?);
        }
        Ok(Expr::Or(exprs))
    }

    fn and(&mut self) -> Result<Expr, SqlError> {
        let first = self.not()?;
        if !self.is_keyword("AND") {
            return Ok(first);
        }
        let mut exprs = vec![first];
        while self.take_keyword("AND") {
            exprs.push(self.not()?);
        }
        Ok(Expr::And(exprs))
    }

    fn not(&mut self) -> Result<Expr, SqlError> {
        let mut count = 0;
        while self.take_keyword("NOT") {
            count += 1;
        }
        let expr = self.comparison()?;
        // Two of them say whether it is true, and two more change nothing.
        let count = if count > 2 { 2 - count % 2 } else { count };
        Ok((0..count).fold(expr, |expr, _| Expr::Not(Box::new(expr))))
    }

    fn comparison(&mut self) -> Result<Expr, SqlError> {
        let left = self.sum()?;
        let negated = self.take_keyword("NOT");
        if self.take_keyword("IN") {
            return self.in_list(left, negated);
        }
        if negated {
            return Err(self.error("expected IN behind NOT"));
        }
        let found = COMPARISONS.iter().find(|(symbol, _)| self.is_symbol(symbol));
        let Some((_, operator)) = found else { return Ok(left) };
        self.at += 1;
        Ok(Expr::Compare(*operator, Box::new(left), Box::new(self.sum()?)))
    }

    fn in_list(&mut self, needle: Expr, negated: bool) -> Result<Expr, SqlError> {
        self.expect_symbol("(")?;
        if self.is_symbol(")") {
            return Err(self.error("the list behind IN is empty"));
        }
        let list = self.list(")")?;
        Ok(Expr::In { needle: Box::new(needle), list, negated })
    }

    pub(super) fn sum(&mut self) -> Result<Expr, SqlError> {
        let first = self.product()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.peek() {
                Kind::Symbol("+") => Binary::Add,
                Kind::Symbol("-") => Binary::Subtract,
                _ => return Ok(chain(first, rest)),
            };
            self.at += 1;
            rest.push((operator, self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr, SqlError> {
        let first = self.unary()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.peek() {
                Kind::Symbol("*") => Binary::Multiply,
                Kind::Symbol("/") => Binary::Divide,
                Kind::Word(word) if word.eq_ignore_ascii_case("div") => Binary::Div,
                Kind::Word(word) if word.eq_ignore_ascii_case("mod") => Binary::Mod,
                _ => return Ok(chain(first, rest)),
            };
            self.at += 1;
            rest.push((operator, self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr, SqlError> {
        let mut is_negative = false;
        loop {
            if self.take_symbol("-") {
                is_negative = !is_negative;
            } else if !self.take_symbol("+") {
                break;
            }
        }
        if let Kind::Int(digits) = *self.peek() {
            // With its sign, because the smallest integer has no positive one.
            let too_large = || self.error(format!("the number {digits} is too large for 64 bits; with a \".0\" it is a float"));
            let value = int(digits, is_negative).ok_or_else(too_large)?;
            self.at += 1;
            return Ok(Expr::Literal(value));
        }
        let expr = self.primary()?;
        Ok(if is_negative { Expr::Negate(Box::new(expr)) } else { expr })
    }

    fn primary(&mut self) -> Result<Expr, SqlError> {
        let offset = self.offset();
        let is_call = *self.peek_at(1) == Kind::Symbol("(");
        match self.next() {
            Kind::Float(float) => Ok(Expr::Literal(Value::Float(float))),
            Kind::Single(text) => Ok(Expr::Literal(Value::text(&text))),
            Kind::Symbol("(") => {
                let expr = self.expr()?;
                self.expect_symbol(")")?;
                Ok(expr)
            }
            Kind::Symbol("[") => self.list_or_range(),
            Kind::Word(word) if is_call && is_function_name(&word) => {
                self.at += 1;
                self.call(&word, offset)
            }
            Kind::Word(word) if word.eq_ignore_ascii_case("case") => self.case(),
            // In lower case only: TRUE is a column like any other.
            Kind::Word(word) if word == "true" => Ok(Expr::Literal(Value::Bool(true))),
            Kind::Word(word) if word == "false" => Ok(Expr::Literal(Value::Bool(false))),
            Kind::Word(word) if !is_keyword(&word) => self.path(word, offset),
            Kind::Double(name) => self.path(name, offset),
            other => Err(self.unexpected_before(&other, "a value")),
        }
    }

    fn call(&mut self, name: &str, offset: usize) -> Result<Expr, SqlError> {
        let lower = name.to_ascii_lowercase();
        let Some(function) = function::find(&lower) else {
            if let Some(kind) = AggregateKind::find(&lower) {
                return self.aggregate(kind, offset);
            }
            let known = function::all().map(|function| function.name).chain(AggregateKind::ALL.iter().map(|kind| kind.name()));
            let hint = did_you_mean(&lower, known).map(|near| format!("; did you mean \"{near}\"?"));
            return Err(SqlError::at(self.sql, offset, format!("unknown function \"{name}\"{}", hint.unwrap_or_default())));
        };
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

    fn aggregate(&mut self, kind: AggregateKind, offset: usize) -> Result<Expr, SqlError> {
        if let Aggregates::Forbidden(place) = self.aggregates {
            return Err(SqlError::at(self.sql, offset, format!("{}() cannot stand in {place}, only in SELECT", kind.name())));
        }
        self.aggregate_at = self.aggregate_at.or(Some(offset));
        let before = std::mem::replace(&mut self.aggregates, Aggregates::Forbidden("another aggregate"));
        let mut arguments = self.list(")")?;
        self.aggregates = before;
        let fail = |problem: String| Err(SqlError::at(self.sql, offset, problem));
        let fraction = match (kind, arguments.len()) {
            (AggregateKind::Percentile, 2) => match arguments.pop() {
                Some(Expr::Literal(Value::Float(fraction))) if (0.0..=1.0).contains(&fraction) => fraction,
                Some(Expr::Literal(Value::Int(fraction @ 0..=1))) => fraction as f64,
                _ => return fail("a percentile is a number between 0 and 1, such as 0.95".to_owned()),
            },
            (AggregateKind::Percentile, count) => return fail(format!("percentile takes 2 arguments, not {count}")),
            (AggregateKind::Count, 0 | 1) | (_, 1) => 0.0,
            (_, count) => return fail(format!("{}() takes 1 argument, not {count}", kind.name())),
        };
        Ok(Expr::Aggregate(Box::new(Aggregate { kind, argument: arguments.pop(), fraction })))
    }

    /// Expressions up to the closing mark.
    pub(super) fn list(&mut self, end: &'static str) -> Result<Vec<Expr>, SqlError> {
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

    fn path(&mut self, first: String, offset: usize) -> Result<Expr, SqlError> {
        let mut steps = vec![Step::Key(first.into())];
        self.steps(&mut steps)?;
        if self.is_symbol("(") {
            let problem = "a function has one plain name, without a module before it";
            return Err(SqlError::at(self.sql, offset, problem));
        }
        Ok(Expr::Path(steps))
    }
}

/// `div` and `mod` are operators between two values, and functions before a bracket.
fn is_function_name(word: &str) -> bool {
    !is_keyword(word) || word.eq_ignore_ascii_case("mod") || word.eq_ignore_ascii_case("div")
}

fn chain(first: Expr, rest: Vec<(Binary, Expr)>) -> Expr {
    if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) }
}
