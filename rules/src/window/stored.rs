//! The state of a window as bytes, so that a restart loses nothing of it: JSON, with values in the form of records, which
//! keeps their types.

use hookline_schemas::Value;
use hookline_schemas::record::{decode_row, encode_row};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

use super::{Window, WindowError, WindowLimits, WindowPlan, WindowState};

impl Window {
    /// All of its state.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.state).expect("the state has text keys only, and no float")
    }

    /// The window as it was.
    ///
    /// # Errors
    /// The bytes are damaged, or of another statement.
    pub fn from_bytes(plan: WindowPlan, limits: WindowLimits, bytes: &[u8]) -> Result<Window, WindowError> {
        let state: WindowState = serde_json::from_slice(bytes).map_err(|error| WindowError::Damaged(error.to_string()))?;
        if state.statement != plan.statement {
            return Err(WindowError::OtherStatement);
        }
        let accumulators = plan.aggregates.len();
        let mut panes = state.groups.iter().flat_map(|group| &group.panes);
        if panes.any(|pane| pane.accumulators.len() != accumulators) {
            return Err(WindowError::Damaged("it has another number of aggregates".to_owned()));
        }
        Ok(Window::with_state(plan, limits, state))
    }
}

/// Writes a value as the hexadecimal text of its record.
pub(super) fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    let mut encoded = Vec::new();
    encode_row(&mut encoded, value);
    serializer.serialize_str(&encoded.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Reads it back.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let encoded: Option<Vec<u8>> = digits.collect();
    let encoded = encoded.ok_or_else(|| D::Error::custom("a value is no hexadecimal text"))?;
    decode_row(&encoded.into()).map_err(D::Error::custom)
}
