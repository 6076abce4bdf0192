//! EMQX's names below `metrics/` for what follows from our counters. Counters that mean the same have EMQX's name themselves, in
//! `metrics.rs`; `docs/broker.md` says which of its names are not here, and why.

use super::stats::Count;
use crate::metrics::{CONNACK, CONNECT, Turned};

/// The name, with `.` as `/`, and how it is counted.
pub(crate) const ALIASES: &[(&str, Count)] = &[
    ("packets/received", |seen| seen.totals.packets_received.iter().sum()),
    ("packets/sent", |seen| seen.totals.packets_sent.iter().sum()),
    ("packets/publish/error", |seen| seen.totals.refused),
    ("messages/delivered", |seen| seen.totals.sent),
    // A count of what there is, as version 4 has it.
    ("messages/retained", |seen| seen.shared.retained.len()),
    ("client/connect", |seen| seen.totals.packets_received[CONNECT]),
    ("client/connack", |seen| seen.totals.packets_sent[CONNACK]),
    ("client/authorize", |seen| seen.totals.allowed + seen.totals.denied),
    // As version 4 spells it.
    ("session/takeovered", |seen| seen.totals.sessions_taken_over),
    ("overload_protection/new_conn", |seen| seen.shared.strangers.turned(Turned::Memory)),
];
