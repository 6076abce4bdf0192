//! The tree of a statement, as the parser makes it. Chains such as `a AND b AND c` are flat, so that only brackets make it deep.

use hookline_schemas::Value;

use crate::function::Function;
use crate::operator::Binary;
use crate::window::{AggregateKind, WindowKind};

/// A whole statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    /// The fields of SELECT; with FOREACH those before its list.
    pub(crate) fields: Vec<Field>,
    pub(crate) each: Option<Each>,
    pub(crate) from: Vec<Source>,
    pub(crate) condition: Option<Expr>,
    pub(crate) window: Option<WindowClause>,
}

/// The list of FOREACH, and what becomes of each of its items.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Each {
    pub(crate) list: Expr,
    /// What an item is called.
    pub(crate) name: Box<str>,
    /// The name is written in the statement; so called, the list is seen by WHERE too.
    pub(crate) is_named: bool,
    /// DO; without it a row has all columns and the item.
    pub(crate) fields: Option<Vec<Field>>,
    /// INCASE.
    pub(crate) keep: Option<Expr>,
}

/// A field of SELECT or DO.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    /// `*`
    All,
    /// An expression and where its value goes; `offset` is its place in the text.
    Expr { expr: Expr, alias: Vec<Step>, offset: usize },
}

/// A topic filter or event of FROM, with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) offset: usize,
}

/// `GROUP BY …, TUMBLING(10s)`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WindowClause {
    pub(crate) groups: Vec<Expr>,
    pub(crate) kind: WindowKind,
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
    /// Two or more, asked from the left until one holds.
    Or(Vec<Expr>),
    /// Two or more, asked from the left until one does not hold.
    And(Vec<Expr>),
    Compare(Binary, Box<Expr>, Box<Expr>),
    /// `a + b - c`, computed from the left.
    Arithmetic(Box<Expr>, Vec<(Binary, Expr)>),
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
    /// An aggregate of a window.
    Aggregate(Box<Aggregate>),
    /// A value that the window has computed: of a group or of an aggregate.
    Slot(usize),
}

/// An aggregate function with its argument.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) kind: AggregateKind,
    /// None: `count()`, which counts events.
    pub(crate) argument: Option<Expr>,
    /// Of `percentile`: between 0 and 1.
    pub(crate) fraction: f64,
}

/// A step of a path or of an alias.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Key(Box<str>),
    /// 1-based; negative counts from the end. In an alias, 0 puts the value before all others.
    Index(Expr),
    /// `[-0]`: in an alias behind all others; there is nothing to read.
    End,
    /// Both ends included.
    Range(Expr, Expr),
}

impl Expr {
    /// The expressions that it is directly made of.
    pub(crate) fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Literal(_) | Expr::Slot(_) => Vec::new(),
            Expr::Path(steps) => steps.iter().flat_map(Step::parts).collect(),
            Expr::List(items) | Expr::Or(items) | Expr::And(items) | Expr::Call(_, items) => items.iter().collect(),
            Expr::Range(a, b) | Expr::Compare(_, a, b) => vec![&**a, &**b],
            Expr::Negate(expr) | Expr::Not(expr) => vec![&**expr],
            Expr::Arithmetic(first, rest) => std::iter::once(&**first).chain(rest.iter().map(|(_, expr)| expr)).collect(),
            Expr::In { needle, list, .. } => std::iter::once(&**needle).chain(list).collect(),
            Expr::Case { subject, branches, otherwise } => {
                let branches = branches.iter().flat_map(|(when, then)| [when, then]);
                branches.chain(subject.as_deref()).chain(otherwise.as_deref()).collect()
            }
            Expr::Aggregate(aggregate) => aggregate.argument.iter().collect(),
        }
    }

    /// The expression with each of its direct parts replaced.
    pub(crate) fn try_map<E>(self, f: &mut impl FnMut(Expr) -> Result<Expr, E>) -> Result<Expr, E> {
        Ok(match self {
            leaf @ (Expr::Literal(_) | Expr::Slot(_)) => leaf,
            Expr::Path(steps) => Expr::Path(steps.into_iter().map(|step| step.try_map(f)).collect::<Result<_, _>>()?),
            Expr::List(items) => Expr::List(all(items, f)?),
            Expr::Or(items) => Expr::Or(all(items, f)?),
            Expr::And(items) => Expr::And(all(items, f)?),
            Expr::Call(function, arguments) => Expr::Call(function, all(arguments, f)?),
            Expr::Range(first, last) => Expr::Range(boxed(*first, f)?, boxed(*last, f)?),
            Expr::Negate(expr) => Expr::Negate(boxed(*expr, f)?),
            Expr::Not(expr) => Expr::Not(boxed(*expr, f)?),
            Expr::Compare(operator, left, right) => Expr::Compare(operator, boxed(*left, f)?, boxed(*right, f)?),
            Expr::Arithmetic(first, rest) => {
                let first = boxed(*first, f)?;
                let rest = rest.into_iter().map(|(operator, expr)| Ok((operator, f(expr)?)));
                Expr::Arithmetic(first, rest.collect::<Result<_, E>>()?)
            }
            Expr::In { needle, list, negated } => Expr::In { needle: boxed(*needle, f)?, list: all(list, f)?, negated },
            Expr::Case { subject, branches, otherwise } => {
                let subject = subject.map(|subject| boxed(*subject, f)).transpose()?;
                let branches = branches.into_iter().map(|(when, then)| Ok((f(when)?, f(then)?))).collect::<Result<_, E>>()?;
                let otherwise = otherwise.map(|otherwise| boxed(*otherwise, f)).transpose()?;
                Expr::Case { subject, branches, otherwise }
            }
            Expr::Aggregate(aggregate) => {
                let Aggregate { kind, argument, fraction } = *aggregate;
                let argument = argument.map(f).transpose()?;
                Expr::Aggregate(Box::new(Aggregate { kind, argument, fraction }))
            }
        })
    }
}

impl Step {
    /// The expressions in it.
    pub(crate) fn parts(&self) -> Vec<&Expr> {
        match self {
            Step::Key(_) | Step::End => Vec::new(),
            Step::Index(index) => vec![index],
            Step::Range(first, last) => vec![first, last],
        }
    }

    fn try_map<E>(self, f: &mut impl FnMut(Expr) -> Result<Expr, E>) -> Result<Step, E> {
        Ok(match self {
            Step::Key(_) | Step::End => self,
            Step::Index(index) => Step::Index(f(index)?),
            Step::Range(first, last) => Step::Range(f(first)?, f(last)?),
        })
    }
}

fn boxed<E>(expr: Expr, f: &mut impl FnMut(Expr) -> Result<Expr, E>) -> Result<Box<Expr>, E> {
    Ok(Box::new(f(expr)?))
}

fn all<E>(exprs: Vec<Expr>, f: &mut impl FnMut(Expr) -> Result<Expr, E>) -> Result<Vec<Expr>, E> {
    exprs.into_iter().map(f).collect()
}
