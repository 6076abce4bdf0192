//! What was done by the API: entries as bytes, numbered, bounded by their count; the oldest go. They are synced along with the commits.

use std::ops::ControlFlow;

use rocksdb::{IteratorMode, WriteBatch};

use super::database::{family, read_error};
use super::{Error, Store, keys};

/// Entries that are kept.
const ENTRIES_MAX: u64 = 100_000;

impl Store {
    /// Keeps an entry, without waiting for the disk; its number, which is given to no other one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_audit(&self, entry: &[u8]) -> Result<u64, Error> {
        let mut next = self.next_audit.lock();
        let number = match *next {
            Some(next) => next,
            None => self.last_audit()?.map_or(1, |last| last + 1),
        };
        let mut write = WriteBatch::default();
        {
            let db = self.db.get();
            let family = family(&db, keys::AUDIT);
            write.put_cf(family, number.to_be_bytes(), entry);
            if let Some(old) = number.checked_sub(ENTRIES_MAX) {
                write.delete_cf(family, old.to_be_bytes());
            }
        }
        self.db.write(write)?;
        *next = Some(number + 1);
        Ok(number)
    }

    /// The entries, the newest first, until `visit` has enough of them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn each_audit(&self, mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<(), Error> {
        let db = self.db.get();
        for pair in db.iterator_cf(family(&db, keys::AUDIT), IteratorMode::End) {
            let (key, value) = pair.map_err(|error| read_error(&error))?;
            // The empty key is the store's.
            let Some(number) = keys::number(&key) else { continue };
            if visit(number, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last_audit(&self) -> Result<Option<u64>, Error> {
        let mut last = None;
        self.each_audit(|number, _| {
            last = Some(number);
            ControlFlow::Break(())
        })?;
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::config::Store as Settings;

    use super::*;

    fn numbers(store: &Store) -> Vec<u64> {
        let mut numbers = Vec::new();
        let visit = |number, entry: &[u8]| {
            assert_eq!(entry, format!("{{{number}}}").as_bytes());
            numbers.push(number);
            ControlFlow::Continue(())
        };
        store.each_audit(visit).expect("reads");
        numbers
    }

    #[test]
    fn entries_are_numbered_over_restarts_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings { reserve_bytes: 0, ..Settings::default() };
        let open = || Store::open(folder.path(), "n", &settings).expect("opens").store;
        let keep = |store: &Store, number: u64| assert_eq!(store.keep_audit(format!("{{{number}}}").as_bytes()).ok(), Some(number));
        let store = open();
        (1..=3).for_each(|number| keep(&store, number));
        assert_eq!(numbers(&store), [3, 2, 1]);
        store.close();
        drop(store);
        let store = open();
        (4..=ENTRIES_MAX + 2).for_each(|number| keep(&store, number));
        let all = numbers(&store);
        assert_eq!((all.len() as u64, all[0], all[all.len() - 1]), (ENTRIES_MAX, ENTRIES_MAX + 2, 3));
        assert!(store.check(&mut |_| ControlFlow::Continue(())).is_clean());
        store.close();
    }
}
