//! The store without its thread, for simulations: whoever runs one says when it syncs, when a write fails, and where the power goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Store;

/// How much of each log was on the disk at the last sync.
pub(crate) type SyncedLogs = BTreeMap<String, u64>;

impl Store {
    /// What the store's thread does in one round. What is on the disk afterwards.
    pub(crate) fn step(&self) -> SyncedLogs {
        let group = self.next_group(&mut self.writer.lock());
        if self.db.has_failed() {
            self.mend().expect("the folder takes writes");
        }
        match group {
            Some(group) => {
                self.sync_or_die();
                self.release_group(group);
                self.reclaim_if_worthwhile();
            }
            None => {
                self.look_after();
                self.sync_or_die();
            }
        }
        self.look_at_space(false);
        self.logs()
    }

    /// Lets so many of the next writes fail.
    pub(crate) fn fail_writes(&self, count: u32) {
        self.db.failures.store(count, Ordering::Relaxed);
    }

    /// The logs with their lengths.
    pub(crate) fn logs(&self) -> SyncedLogs {
        let entries = std::fs::read_dir(self.db.path()).expect("a folder").flatten();
        let logs = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".log"));
        logs.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().map_or(0, |log| log.len()))).collect()
    }

    /// Makes of the data folder of a store that is gone what a power cut had left: of each log what was synced, and `survives` of the
    /// rest. Tables and their list are synced when they are made.
    pub(crate) fn cut_power(data_dir: &Path, synced: &SyncedLogs, survives: f64) {
        let logs = std::fs::read_dir(Store::folder(data_dir)).expect("a folder").flatten();
        for log in logs.filter(|entry| entry.file_name().to_string_lossy().ends_with(".log")) {
            let length = log.metadata().expect("a file").len();
            // One that began since the last sync is all unsynced.
            let kept = synced.get(&*log.file_name().to_string_lossy()).copied().unwrap_or(0).min(length);
            let kept = kept + ((length - kept) as f64 * survives) as u64;
            let file = std::fs::OpenOptions::new().write(true).open(log.path()).expect("a file");
            file.set_len(kept).expect("cut");
        }
    }
}
