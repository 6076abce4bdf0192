//! Wall-clock time. Deadlines use [`std::time::Instant`] instead: it never jumps.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// A time such as `2026-12-31T00:00:00Z`, in milliseconds since the Unix epoch.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
}
