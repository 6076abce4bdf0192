//! Time: of the day, and, for deadlines, one that never jumps. A simulation sets both.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A time for deadlines.
pub(crate) fn now() -> Instant {
    #[cfg(test)]
    if let Some(simulated) = simulated::now() {
        return simulated;
    }
    Instant::now()
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    #[cfg(test)]
    if let Some(simulated) = simulated::now_ms() {
        return simulated;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// A time such as `2026-12-31T00:00:00Z`, in milliseconds since the Unix epoch.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
}

/// A time as in RFC 3339, with milliseconds; `None`: it is out of all bounds.
pub(crate) fn text(ms: u64) -> Option<String> {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())?;
    Some(format!("{time:.3}"))
}

/// The time of a simulation, in the thread that runs it.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static CLOCK: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    }

    /// The day on which simulations begin, milliseconds since the Unix epoch.
    const BEGIN_MS: u64 = 1_700_000_000_000;

    /// From now on time passes only by [`advance`].
    pub(crate) fn begin() {
        CLOCK.set(Some((Instant::now(), 0)));
    }

    pub(crate) fn advance(by: Duration) {
        CLOCK.set(CLOCK.get().map(|(begin, passed_ms)| (begin, passed_ms + by.as_millis() as u64)));
    }

    pub(super) fn now() -> Option<Instant> {
        CLOCK.get().map(|(begin, passed_ms)| begin + Duration::from_millis(passed_ms))
    }

    pub(super) fn now_ms() -> Option<u64> {
        CLOCK.get().map(|(_, passed_ms)| BEGIN_MS + passed_ms)
    }
}
