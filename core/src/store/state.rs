//! Small values that hooks keep over a restart.

use hookline_schemas::ports::{KeyValue, QueueError, StateStore};
use rocksdb::WriteBatch;

use super::database::{family, pairs};
use super::{Store, keys};

impl StateStore for Store {
    fn load(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, QueueError> {
        let db = self.db.get();
        let mut found = Vec::new();
        for pair in pairs(&db, keys::STATE, prefix) {
            let (key, value) = pair.map_err(|error| QueueError(error.to_string()))?;
            if !key.starts_with(prefix) {
                break;
            }
            found.push((key.into_vec(), value.into_vec()));
        }
        Ok(found)
    }

    fn keep(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), QueueError> {
        let mut write = WriteBatch::default();
        {
            let db = self.db.get();
            let state = family(&db, keys::STATE);
            match value {
                Some(value) => write.put_cf(state, key, value),
                None => write.delete_cf(state, key),
            }
        }
        self.db.write(write).map_err(|error| QueueError(error.to_string()))
    }
}
