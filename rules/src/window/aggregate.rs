//! Aggregates: many values to one, in memory that does not grow with their number.

use hookline_schemas::Value;
use serde::{Deserialize, Serialize};

use super::stored;
use crate::error::EvalError;
use crate::operator::total_order;

/// How many values `percentile` keeps. Up to so many it is exact; of more it keeps a random sample, whose rank is wrong by
/// less than 4 of 100 in 95 of 100 cases.
const SAMPLE_MAX: usize = 512;

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateKind {
    /// How many events, or how many with a value.
    Count,
    Sum,
    Avg,
    Min,
    Max,
    First,
    Last,
    /// The standard deviation of a sample (n - 1); none of a single value.
    Stddev,
    /// The value below which a fraction of the values lies, between two values in proportion.
    Percentile,
}

impl AggregateKind {
    /// All of them.
    pub const ALL: &'static [AggregateKind] = &[
        AggregateKind::Count,
        AggregateKind::Sum,
        AggregateKind::Avg,
        AggregateKind::Min,
        AggregateKind::Max,
        AggregateKind::First,
        AggregateKind::Last,
        AggregateKind::Stddev,
        AggregateKind::Percentile,
    ];

    /// The name in statements.
    pub const fn name(self) -> &'static str {
        match self {
            AggregateKind::Count => "count",
            AggregateKind::Sum => "sum",
            AggregateKind::Avg => "avg",
            AggregateKind::Min => "min",
            AggregateKind::Max => "max",
            AggregateKind::First => "first",
            AggregateKind::Last => "last",
            AggregateKind::Stddev => "stddev",
            AggregateKind::Percentile => "percentile",
        }
    }

    /// The aggregate of that name, in lower case.
    pub(crate) fn find(name: &str) -> Option<AggregateKind> {
        AggregateKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether a value can go in.
    ///
    /// # Errors
    /// It is no number where one is needed. What is missing or null is left out by all aggregates, and no error.
    pub(crate) fn check(self, value: &Value) -> Result<(), EvalError> {
        let takes_all =
            matches!(self, AggregateKind::Count | AggregateKind::Min | AggregateKind::Max | AggregateKind::First | AggregateKind::Last);
        match value {
            Value::Undefined | Value::Null | Value::Int(_) | Value::Float(_) => Ok(()),
            _ if takes_all => Ok(()),
            other => Err(EvalError::new(format!("{}: expected a number, found {}", self.name(), other.type_name()))),
        }
    }
}

/// What an aggregate has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Accumulator {
    Count(u64),
    Sum { count: u64, ints: i128, floats: Option<Bits> },
    Moments { count: u64, mean: Bits, squares: Bits },
    Kept(#[serde(with = "stored")] Value),
    Sample { count: u64, random: u64, values: Vec<Bits> },
}

/// A float that is stored bit by bit, so that it comes back as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bits(u64);

impl Bits {
    const ZERO: Bits = Bits(0);

    fn of(float: f64) -> Bits {
        Bits(float.to_bits())
    }

    fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl Accumulator {
    pub(super) fn new(kind: AggregateKind) -> Accumulator {
        match kind {
            AggregateKind::Count => Accumulator::Count(0),
            AggregateKind::Sum => Accumulator::Sum { count: 0, ints: 0, floats: None },
            AggregateKind::Avg | AggregateKind::Stddev => Accumulator::Moments { count: 0, mean: Bits::ZERO, squares: Bits::ZERO },
            AggregateKind::Min | AggregateKind::Max | AggregateKind::First | AggregateKind::Last => Accumulator::Kept(Value::Undefined),
            AggregateKind::Percentile => Accumulator::Sample { count: 0, random: 0x9E37_79B9_7F4A_7C15, values: Vec::new() },
        }
    }

    /// Takes a value that [`AggregateKind::check`] has let through.
    pub(super) fn add(&mut self, kind: AggregateKind, value: &Value) {
        if value.is_null() {
            return;
        }
        match self {
            Accumulator::Count(count) => *count += 1,
            Accumulator::Sum { count, ints, floats } => {
                *count += 1;
                match value {
                    Value::Int(int) => *ints = ints.saturating_add(i128::from(*int)),
                    other => *floats = Some(Bits::of(floats.map_or(0.0, Bits::get) + number(other))),
                }
            }
            Accumulator::Moments { count, mean, squares } => {
                *count += 1;
                let from_old_mean = number(value) - mean.get();
                *mean = Bits::of(mean.get() + from_old_mean / *count as f64);
                *squares = Bits::of(squares.get() + from_old_mean * (number(value) - mean.get()));
            }
            Accumulator::Kept(kept) => {
                let is_better = match kind {
                    _ if *kept == Value::Undefined => true,
                    AggregateKind::Min => total_order(value, kept).is_lt(),
                    AggregateKind::Max => total_order(value, kept).is_gt(),
                    AggregateKind::First => false,
                    _ => true,
                };
                if is_better {
                    *kept = value.clone();
                }
            }
            Accumulator::Sample { count, random, values } => {
                *count += 1;
                if values.len() < SAMPLE_MAX {
                    values.push(Bits::of(number(value)));
                    return;
                }
                // Of all values so far, each is in the sample with the same chance.
                let place = usize::try_from(next_random(random) % *count).unwrap_or(usize::MAX);
                if let Some(slot) = values.get_mut(place) {
                    *slot = Bits::of(number(value));
                }
            }
        }
    }

    /// The value of the aggregate; undefined where nothing went in.
    pub(super) fn result(&self, kind: AggregateKind, fraction: f64) -> Value {
        match self {
            Accumulator::Count(count) => Value::unsigned(*count),
            Accumulator::Sum { count: 0, .. } | Accumulator::Moments { count: 0, .. } | Accumulator::Sample { count: 0, .. } => {
                Value::Undefined
            }
            Accumulator::Sum { ints, floats, .. } => match (floats, i64::try_from(*ints)) {
                (None, Ok(sum)) => Value::Int(sum),
                _ => finite(*ints as f64 + floats.map_or(0.0, Bits::get)),
            },
            Accumulator::Moments { mean, .. } if kind == AggregateKind::Avg => finite(mean.get()),
            Accumulator::Moments { count: 1, .. } => Value::Undefined,
            Accumulator::Moments { count, squares, .. } => finite((squares.get() / (*count - 1) as f64).sqrt()),
            Accumulator::Kept(value) => value.clone(),
            Accumulator::Sample { values, .. } => {
                let mut sorted: Vec<f64> = values.iter().map(|bits| bits.get()).collect();
                sorted.sort_unstable_by(f64::total_cmp);
                let rank = fraction * (sorted.len() - 1) as f64;
                let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
                finite(below + (above - below) * rank.fract())
            }
        }
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Int(int) => *int as f64,
        Value::Float(float) => *float,
        _ => 0.0,
    }
}

/// A float, or undefined where it is beyond what JSON and SQL hold.
fn finite(float: f64) -> Value {
    if float.is_finite() { Value::Float(float) } else { Value::Undefined }
}

/// A number that looks random (xorshift): the same ones after every start, so that a window can be computed again.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
