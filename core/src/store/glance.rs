//! A look at a store that changes nothing: not even where a broker has it open.

use std::path::Path;

use bytes::Bytes;
use rocksdb::{DB, IteratorMode, LogLevel, Options};

use super::chunk::Chunk;
use super::database::{family, read_error};
use super::{Error, Store, keys};

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The version of the formats; `None`: the store was never opened to its end.
    pub format: Option<u64>,
    /// The newest version that this code can read.
    pub format_known: u64,
    /// When the newest record that is still there was written, milliseconds since the Unix epoch.
    pub newest_at_ms: Option<u64>,
}

/// Looks at the store in `data_dir`; `None`: there is none.
///
/// # Errors
/// It cannot be read. That may pass where a broker writes at this moment.
pub fn glance(data_dir: &Path) -> Result<Option<Glance>, Error> {
    let path = Store::folder(data_dir);
    if !path.join("CURRENT").exists() {
        return Ok(None);
    }
    let mut options = Options::default();
    // RocksDB's log would be a new file in the folder.
    options.set_info_logger(rocksdb::InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    let wanted = [keys::META, keys::CHUNK];
    let there = DB::list_cf(&options, &path).map_err(|error| read_error(&error))?;
    if !wanted.iter().all(|name| there.iter().any(|family| family == name)) {
        return Ok(Some(Glance { format: None, format_known: keys::FORMAT_VERSION, newest_at_ms: None }));
    }
    let db = DB::open_cf_for_read_only(&options, &path, wanted, false).map_err(|error| read_error(&error))?;
    let format = db.get_cf(family(&db, keys::META), keys::FORMAT).map_err(|error| read_error(&error))?;
    let last = db.iterator_cf(family(&db, keys::CHUNK), IteratorMode::End).next().transpose().map_err(|error| read_error(&error))?;
    Ok(Some(Glance {
        format: format.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?))),
        format_known: keys::FORMAT_VERSION,
        newest_at_ms: last.and_then(|(_, value)| Chunk::parse(Bytes::from(value.into_vec())).ok()).map(|chunk| chunk.time_ms()),
    }))
}

#[cfg(test)]
mod tests {
    use hookline_schemas::config::Store as Settings;
    use rocksdb::WriteBatch;

    use super::*;

    #[test]
    fn a_store_of_a_newer_version_is_seen_and_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(glance(folder.path()).expect("looked"), None);
        let store = Store::open(folder.path(), "n", &Settings::default()).expect("opens").store;
        let seen = glance(folder.path()).expect("looked, while it is open").expect("there is one");
        assert_eq!((seen.format, seen.format_known), (Some(keys::FORMAT_VERSION), keys::FORMAT_VERSION));
        let mut write = WriteBatch::default();
        write.put_cf(family(&store.db.get(), keys::META), keys::FORMAT, (keys::FORMAT_VERSION + 1).to_be_bytes());
        store.db.write(write).expect("written");
        store.close();
        drop(store);
        assert_eq!(glance(folder.path()).expect("looked").expect("there is one").format, Some(keys::FORMAT_VERSION + 1));
        let refused = Store::open(folder.path(), "n", &Settings::default()).expect_err("newer").to_string();
        assert!(refused.contains(": it is in format") && refused.contains("use a newer one"), "{refused}");
    }
}
