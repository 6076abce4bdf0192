//! RocksDB, with our families and settings; opened again in the same process where a write has failed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hookline_schemas::config::{DurabilityLevel, Store as Settings};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, ErrorKind, IteratorMode, Options,
    WriteBatch,
};

use super::{Error, keys};

/// The database. Readers and writers share it; opening it again excludes them.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    settings: Settings,
    /// `None` only while it is opened again, under the lock.
    db: RwLock<Option<DB>>,
    /// A write has failed: RocksDB takes no more until it is opened again.
    failed: AtomicBool,
    /// How many writes it had seen when it was opened.
    found_sequence: u64,
    /// The sequence number behind the last write that succeeded.
    written: AtomicU64,
    /// Writes that are to fail: for a simulation.
    #[cfg(test)]
    pub(super) failures: std::sync::atomic::AtomicU32,
}

/// How the log is read when the database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Up to the first record that is torn: everything before it is kept.
    PointInTime,
    /// All that can be read, also behind damage.
    SkipDamaged,
}

/// A family of the database.
pub(super) type Family<'a> = &'a ColumnFamily;
/// A key and its value.
pub(super) type Pair = (Box<[u8]>, Box<[u8]>);

impl Database {
    pub(super) fn open(path: &Path, settings: &Settings, recovery: Recovery) -> Result<Database, rocksdb::Error> {
        let db = open(path, settings, recovery)?;
        Ok(Database {
            path: path.to_owned(),
            settings: settings.clone(),
            found_sequence: db.latest_sequence_number(),
            written: AtomicU64::new(0),
            db: RwLock::new(Some(db)),
            #[cfg(test)]
            failures: std::sync::atomic::AtomicU32::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// The database, for as long as the guard lives. A thread may hold several.
    pub(super) fn get(&self) -> MappedRwLockReadGuard<'_, DB> {
        RwLockReadGuard::map(self.db.read_recursive(), |db| db.as_ref().expect("it is open but for a moment under the lock"))
    }

    /// The value of a key.
    pub(super) fn value(&self, family: &str, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let db = self.get();
        db.get_cf(self::family(&db, family), key).map_err(|error| read_error(&error))
    }

    /// Writes to the log and the memtables, without waiting for the disk.
    pub(super) fn write(&self, write: WriteBatch) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Write("a write has failed before, and the database is not open again yet".into()));
        }
        #[cfg(test)]
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            self.failed.store(true, Ordering::Release);
            return Err(Error::Write("the simulation wants it so".into()));
        }
        let db = self.get();
        if let Err(error) = db.write(write) {
            self.failed.store(true, Ordering::Release);
            return Err(write_error(&error));
        }
        self.written.fetch_max(db.latest_sequence_number(), Ordering::AcqRel);
        Ok(())
    }

    /// Writes what is in the log to the disk.
    pub(super) fn sync(&self) -> Result<(), rocksdb::Error> {
        self.get().flush_wal(true)
    }

    /// Writes the memtables into tables.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let db = self.get();
        let families: Vec<Family<'_>> = keys::FAMILIES.iter().map(|name| self::family(&db, name)).collect();
        db.flush_cfs_opt(&families, &rocksdb::FlushOptions::default()).map_err(|error| write_error(&error))
    }

    /// Whether it takes no writes until [`Database::reopen`].
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Opens it again after a failed write. What was written before is in its log.
    pub(super) fn reopen(&self, mut attempts: u32) -> Result<(), rocksdb::Error> {
        let mut db = self.db.write();
        drop(db.take());
        // The lock is held while it fails: nobody looks into what is not there.
        loop {
            match open(&self.path, &self.settings, Recovery::PointInTime) {
                Ok(opened) => break *db = Some(opened),
                Err(error) if attempts == 0 => return Err(error),
                Err(_) => attempts -= 1,
            }
            std::thread::sleep(REOPEN_PAUSE);
        }
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    /// How many writes it had seen in all its life when it was opened.
    pub(super) fn found_sequence(&self) -> u64 {
        self.found_sequence
    }

    /// Whether it has everything that was ever written to it by this process.
    pub(super) fn is_complete(&self) -> bool {
        self.sequence() >= self.written.load(Ordering::Acquire)
    }

    /// How many writes it has seen, in all its life.
    pub(super) fn sequence(&self) -> u64 {
        self.get().latest_sequence_number()
    }

    /// Ends flushes and compactions that are under way. What they were about is still in the log or in the old tables.
    pub(super) fn end_background_work(&self) {
        self.get().cancel_all_background_work(false);
    }

    /// What it takes on the disk, bytes: tables, and the log.
    pub(super) fn disk_bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|metadata| std::os::unix::fs::MetadataExt::blocks(&metadata) * 512).sum()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A family by its name.
pub(super) fn family<'a>(db: &'a DB, name: &str) -> Family<'a> {
    db.cf_handle(name).expect("every family is made when the database is opened")
}

/// All pairs of a family from a key on; the empty key is ours, see `Store::check_format`. What cannot be read ends the iteration with an error.
pub(super) fn pairs<'a>(db: &'a DB, name: &str, from: &[u8]) -> impl Iterator<Item = Result<Pair, Error>> + use<'a> {
    let mut options = rocksdb::ReadOptions::default();
    // What is read once, from its beginning to its end, must not push out what is read often.
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD);
    let mode = IteratorMode::From(from, Direction::Forward);
    let pairs = db.iterator_cf_opt(family(db, name), options, mode).map(|pair| pair.map_err(|error| read_error(&error)));
    pairs.filter(|pair| pair.as_ref().map_or(true, |(key, _)| !key.is_empty()))
}

/// How long to wait before it is opened once more.
const REOPEN_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// Bytes that a long iteration reads at a time.
pub(super) const READAHEAD: usize = 1 << 20;

/// Damage stays; everything else may pass.
pub(super) fn read_error(error: &rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => Error::DamagedFile(error.to_string()),
        _ => Error::Read(error.to_string()),
    }
}

/// A write tells of damage, too: of what a compaction has found.
pub(super) fn write_error(error: &rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => Error::DamagedFile(error.to_string()),
        _ => Error::Write(error.to_string()),
    }
}

fn open(path: &Path, settings: &Settings, recovery: Recovery) -> Result<DB, rocksdb::Error> {
    let mut options = options(settings);
    options.set_wal_recovery_mode(match recovery {
        Recovery::PointInTime => DBRecoveryMode::PointInTime,
        Recovery::SkipDamaged => DBRecoveryMode::SkipAnyCorruptedRecord,
    });
    let cache = Cache::new_lru_cache(settings.block_cache_bytes);
    let families = keys::FAMILIES.iter().map(|name| {
        let mut options = Options::default();
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        // Looked up by keys that are mostly not there: clients that are new, topics without a retained message.
        if [keys::SESSION, keys::RETAINED].contains(name) {
            table.set_bloom_filter(10.0, false);
        }
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(if *name == keys::CHUNK { settings.write_buffer_bytes } else { 4 << 20 });
        options.set_max_write_buffer_number(2);
        // Set and cleared over and over: what is left of it must not slow the next look.
        if [keys::RETAINED, keys::RETAINED_EXPIRY].contains(name) {
            options.add_compact_on_deletion_collector_factory(4096, 1024, 0.5);
        }
        ColumnFamilyDescriptor::new(*name, options)
    });
    DB::open_cf_descriptors(&options, path, families)
}

/// The settings of the database as a whole. `docs/store.md` has the measurements behind them.
pub(super) fn options(settings: &Settings) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Idle families would pin old logs for ever.
    options.set_max_total_wal_size(4 * settings.write_buffer_bytes as u64);
    // Reused log files need no new metadata at each sync: nearly twice the syncs a second.
    options.set_recycle_log_file_num(if settings.level == DurabilityLevel::Disk { 2 } else { 0 });
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options
}
