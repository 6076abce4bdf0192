//! The file: opened, and what errors mean.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::connector::Failure;

/// How long another program may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the file, and runs the setup.
pub(super) fn open(path: &Path, setup: &str) -> Result<Connection, Failure> {
    let explain = |error: rusqlite::Error| Failure::Reconnect(format!("sqlite {}: {error}", path.display()));
    let connection = Connection::open(path).map_err(explain)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(explain)?;
    // WAL lets others read meanwhile; FULL syncs each transaction, so that what was delivered is on disk.
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").map_err(explain)?;
    connection.execute_batch(setup).map_err(explain)?;
    Ok(connection)
}

/// What an error means. Only what is wrong with the values themselves is rejected.
pub(super) fn classify(error: &rusqlite::Error) -> Failure {
    let text = format!("sqlite: {error}");
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::ParameterOutOfRange) => {
            Failure::Reject(text)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => Failure::Retry(text),
        _ => Failure::Reconnect(text),
    }
}
