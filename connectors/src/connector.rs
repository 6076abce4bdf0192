//! The contract of a connector's sink: connect, announce, deliver, check, close.

use hookline_schemas::Record;
use hookline_schemas::access::LookupError;
use hookline_schemas::ports::BoxFuture;

/// Where records go.
///
/// One delivery worker owns a sink and calls one method at a time. Each call may be given up at its deadline: dropping
/// its future must leave the sink usable, or in need of `connect`.
pub trait Sink: Send {
    /// How many records one call of `deliver` takes at the most; the action's settings may say less.
    fn records_max(&self) -> usize {
        usize::MAX
    }

    /// Makes the connection, or makes it anew. Called first, and after every [`Failure::Reconnect`].
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Says which records come next, after those of the calls before; also such that it was told of already. A sink may begin with them, as long as
    /// they stay behind those before them.
    fn announce(&mut self, _records: &[Record]) {}

    /// Whether it has begun with records that were announced and not delivered yet.
    fn has_begun(&self) -> bool {
        false
    }

    /// Delivers all records, in their order. `Ok` means that the outside system has confirmed every one.
    /// After [`Failure::Retry`] it is called again with the same records; some of them may have arrived.
    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>>;

    /// Asks whether the outside system is well. Called while there is nothing to deliver.
    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Ends the connection in good order.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

/// Why a call failed, judged once, by the connector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Try again over the same connection.
    #[error("{0}")]
    Retry(String),
    /// The connection is of no use any more.
    #[error("{0}")]
    Reconnect(String),
    /// The records themselves are at fault: no attempt will ever succeed. Of several, the delivery finds the one.
    #[error("{0}")]
    Reject(String),
}

/// A question that is at fault itself says nothing about the system.
impl From<Failure> for LookupError {
    fn from(failure: Failure) -> LookupError {
        match failure {
            Failure::Reject(problem) => LookupError::Question(problem),
            Failure::Retry(problem) | Failure::Reconnect(problem) => LookupError::Backend(problem),
        }
    }
}
