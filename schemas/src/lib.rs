//! The contract that Hookline's crates share: plain data and a few traits. No I/O.

/// Who may.
pub mod access;
/// Configuration, as the file has it; its doc comments are the manual.
pub mod config;
/// What happened: hook points, their events, and the columns that rules see.
pub mod event;
/// What a message passes before hooks are told of it.
pub mod gate;
/// The message and the client it came from.
pub mod message;
/// The traits through which the crates meet.
pub mod ports;
/// What a durable queue holds for an action.
pub mod record;
/// SQL tables that Hookline reads and writes.
pub mod sql;
/// `${…}` templates over a row.
pub mod template;
/// Trace context, from message to sink.
pub mod trace;
/// The values of rows and columns.
pub mod value;

pub use event::{Event, HookPoint, HookSet};
pub use message::{Certificate, Client, Message, MessageId};
pub use record::{QueueId, Record};
pub use template::Template;
pub use trace::TraceContext;
pub use value::{Map, Value};
