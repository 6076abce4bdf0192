//! Errors in statements and in their evaluation.

/// A statement that cannot be run. `column` counts characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at column {column}")]
pub struct SqlError {
    pub problem: String,
    pub column: usize,
}

impl SqlError {
    /// A problem at a byte of the statement.
    pub(crate) fn at(sql: &str, offset: usize, problem: impl Into<String>) -> SqlError {
        let before = sql.get(..offset).unwrap_or(sql);
        SqlError { problem: problem.into(), column: before.chars().count() + 1 }
    }
}

/// An evaluation that failed: the event does not fit the statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct EvalError {
    pub kind: EvalErrorKind,
    pub problem: String,
}

/// What kind of failure an evaluation met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalErrorKind {
    /// A value has the wrong type, or a result does not exist.
    Value,
    /// The evaluation would take more steps or memory than one event may.
    Budget,
}

impl EvalError {
    /// A value that cannot be computed.
    pub(crate) fn new(problem: impl Into<String>) -> EvalError {
        EvalError { kind: EvalErrorKind::Value, problem: problem.into() }
    }

    /// A bound that was hit.
    pub(crate) fn budget(problem: impl Into<String>) -> EvalError {
        EvalError { kind: EvalErrorKind::Budget, problem: problem.into() }
    }

    /// The same error, with the name of the function that it comes from.
    pub(crate) fn within(self, function: &str) -> EvalError {
        EvalError { kind: self.kind, problem: format!("{function}: {}", self.problem) }
    }
}

/// The known name that is nearest to a wrong one, where one is near enough to be meant.
pub fn did_you_mean<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|name| (distance(wrong, name), name)).min()?;
    (near.0 <= 1 + wrong.len() / 4).then_some(near.1)
}

/// Edits from one word to another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (above + 1).min(row[j] + 1).min(diagonal + usize::from(ca != *cb));
            diagonal = above;
        }
    }
    row[b.len()]
}
