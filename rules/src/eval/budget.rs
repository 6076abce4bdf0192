//! What one event may cost one statement: steps and memory are counted, so that no statement holds up the broker.

use std::cell::Cell;

use hookline_schemas::Value;

use crate::error::EvalError;

/// The most expressions that are evaluated.
const STEPS_MAX: u32 = 1_000_000;

/// What one step may look at: keys that are passed, bytes that are compared or given to a function. More counts as more steps.
const LOOKS_PER_STEP: usize = 64;

/// The most memory that values may take which the evaluation makes or copies; an estimate.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How deep values may nest: as deep as JSON is read.
pub(crate) const NESTING_MAX: usize = 128;

/// What is left for one evaluation.
pub(crate) struct Budget {
    steps: Cell<u32>,
    bytes: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { steps: Cell::new(STEPS_MAX), bytes: Cell::new(BYTES_MAX) }
    }
}

impl Budget {
    /// One more expression.
    pub(crate) fn step(&self) -> Result<(), EvalError> {
        self.steps(1)
    }

    /// Work within one expression that grows with what it is about.
    pub(crate) fn work(&self, looks: usize) -> Result<(), EvalError> {
        match looks / LOOKS_PER_STEP {
            0 => Ok(()),
            steps => self.steps(u32::try_from(steps).unwrap_or(u32::MAX)),
        }
    }

    fn steps(&self, steps: u32) -> Result<(), EvalError> {
        let left = self.steps.get().checked_sub(steps);
        let left =
            left.ok_or_else(|| EvalError::budget(format!("more than {STEPS_MAX} steps; make the list shorter or the rule simpler")))?;
        self.steps.set(left);
        Ok(())
    }

    /// Memory that is about to be used.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<(), EvalError> {
        let left = self.bytes.get().checked_sub(bytes);
        let left = left.ok_or_else(|| EvalError::budget(format!("more than {BYTES_MAX} bytes of values; select less")))?;
        self.bytes.set(left);
        Ok(())
    }

    /// A value that was made or is about to be copied.
    pub(crate) fn value(&self, value: &Value) -> Result<(), EvalError> {
        match value {
            Value::Undefined | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => Ok(()),
            other => self.bytes(measure(other, 0)?),
        }
    }
}

/// About how much memory a value takes that lies so deep in another.
///
/// # Errors
/// It nests too deeply.
pub(crate) fn measure(value: &Value, depth: usize) -> Result<usize, EvalError> {
    if depth > NESTING_MAX {
        return Err(EvalError::budget(format!("a value nests deeper than {NESTING_MAX}")));
    }
    let own = size_of::<Value>();
    match value {
        Value::Text(text) => Ok(own + text.len()),
        Value::Bytes(bytes) => Ok(own + bytes.len()),
        Value::Array(items) => items.iter().try_fold(own, |sum, item| Ok(sum + measure(item, depth + 1)?)),
        Value::Map(map) => map.iter().try_fold(own, |sum, (key, item)| Ok(sum + key.len() + own + measure(item, depth + 1)?)),
        _ => Ok(own),
    }
}
