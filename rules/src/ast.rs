//! The tree of a statement, as the parser makes it.

use hookline_schemas::Value;

use crate::function::Function;
use crate::operator::Binary;

/// `SELECT … FROM … WHERE …`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Select {
    pub(crate) fields: Vec<Field>,
    pub(crate) from: Vec<Source>,
    pub(crate) condition: Option<Expr>,
}

/// A field of SELECT.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    /// `*`
    All,
    /// An expression and where its value goes.
    Expr { expr: Expr, alias: Vec<Box<str>> },
}

/// A topic filter or event of FROM, with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) offset: usize,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Literal(Value),
    Path(Vec<Step>),
    List(Vec<Expr>),
    /// `[a..b]`
    Range(Box<Expr>, Box<Expr>),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    In {
        needle: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    Call(&'static Function, Vec<Expr>),
    /// With `subject`, its value is compared with each WHEN; without, each WHEN is a condition.
    Case {
        subject: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Key(Box<str>),
    /// 1-based; negative counts from the end.
    Index(Expr),
    /// Both ends included.
    Range(Expr, Expr),
}
