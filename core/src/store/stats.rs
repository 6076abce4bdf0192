//! What the store holds, and what that takes: figures for people and for whoever watches over the broker.

use std::path::Path;
use std::sync::Arc;

use hookline_schemas::QueueId;
use hookline_schemas::config::DurabilityLevel;
use hookline_schemas::ports::Ledger;
use rocksdb::CompactOptions;
use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_NUM_KEYS, PropName};
use serde::{Deserialize, Serialize};

use super::chunk::Chunk;
use super::database::{family, read_error};
use super::queue::{Queue, QueueKind};
use super::{Error, Store, keys};
use crate::{HashMap, clock};

/// The store as a whole.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stats {
    pub node: String,
    pub folder: String,
    /// What an acknowledgement waits for.
    pub level: DurabilityLevel,
    /// The version of the formats.
    pub format: u64,
    /// Nothing new is taken.
    pub is_full: bool,
    /// All files together, as the disk has them.
    pub disk_bytes: u64,
    pub table_files: u64,
    pub table_bytes: u64,
    pub log_files: u64,
    pub log_bytes: u64,
    /// What is in memory and not in tables yet.
    pub memory_bytes: u64,
    pub families: Vec<FamilyStats>,
    pub sessions: u64,
    pub retained: u64,
    pub retained_bytes: u64,
    pub delayed: u64,
    /// Those that are there now; the accounts of the queues have all that ever were.
    pub dead_letters: u64,
    pub queue_count: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    /// Queues whose account is wrong.
    pub unbalanced: u64,
}

/// A family of the database.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FamilyStats {
    pub name: String,
    /// An estimate.
    pub entries: u64,
    pub table_files: u64,
    pub table_bytes: u64,
    pub memory_bytes: u64,
}

/// A queue: its account, and what waits.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct QueueStats {
    pub kind: QueueKind,
    /// The client identifier, or the name of the action.
    pub name: String,
    /// Whether the account is right.
    pub balances: bool,
    #[serde(flatten)]
    pub ledger: Ledger,
    /// Dead letters that are there now.
    pub dead_letters: u64,
    /// How long the oldest record has waited, seconds; `None`: nothing waits, or it cannot be read.
    pub oldest_secs: Option<u64>,
}

/// What compaction has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Compacted {
    /// What the store took on the disk before.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Store {
    /// The figures of the store. Dead letters are counted one by one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        let queues = self.queues();
        let ledgers: Vec<Ledger> = queues.iter().map(|queue| queue.ledger()).collect();
        let families = self.family_stats()?;
        let (log_files, log_bytes) = logs(self.db.path());
        let sum = |of: fn(&FamilyStats) -> u64| -> u64 { families.iter().map(of).sum() };
        Ok(Stats {
            node: self.node.clone(),
            folder: self.db.path().display().to_string(),
            level: self.level,
            format: self.meta(keys::FORMAT)?.unwrap_or_default(),
            is_full: self.is_full(),
            disk_bytes: self.db.disk_bytes(),
            table_files: sum(|family| family.table_files),
            table_bytes: sum(|family| family.table_bytes),
            log_files,
            log_bytes,
            memory_bytes: sum(|family| family.memory_bytes),
            sessions: queues.iter().filter(|queue| queue.kind() == QueueKind::Session).count() as u64,
            retained: self.retained_count(),
            retained_bytes: self.retained_bytes(),
            delayed: self.delayed_count() as u64,
            dead_letters: self.dead_letter_counts()?.values().sum(),
            queue_count: queues.len() as u64,
            pending: ledgers.iter().map(|ledger| ledger.pending).sum(),
            pending_bytes: ledgers.iter().map(|ledger| ledger.pending_bytes).sum(),
            unbalanced: ledgers.iter().filter(|ledger| !ledger.balances()).count() as u64,
            families,
        })
    }

    fn family_stats(&self) -> Result<Vec<FamilyStats>, Error> {
        let db = self.db.get();
        let files = db.live_files().map_err(|error| read_error(&error))?;
        let property = |name: &str, property: &PropName| {
            db.property_int_value_cf(family(&db, name), property).map(Option::unwrap_or_default).map_err(|error| read_error(&error))
        };
        let stats = keys::FAMILIES.iter().map(|name| {
            let own = || files.iter().filter(move |file| file.column_family_name == **name);
            Ok(FamilyStats {
                name: (*name).to_owned(),
                entries: property(name, ESTIMATE_NUM_KEYS)?,
                table_files: own().count() as u64,
                table_bytes: own().map(|file| file.size as u64).sum(),
                memory_bytes: property(name, CUR_SIZE_ALL_MEM_TABLES)?,
            })
        });
        stats.collect()
    }

    /// The queues, the largest first, at most `count`. Of each of these a chunk is read, for the age of what waits.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn queue_stats(&self, count: usize) -> Result<Vec<QueueStats>, Error> {
        let letters = self.dead_letter_counts()?;
        let mut queues: Vec<(Ledger, Arc<Queue>)> = self.queues().into_iter().map(|queue| (queue.ledger(), queue)).collect();
        queues.sort_by(|(a, first), (b, second)| {
            let sizes = (b.pending_bytes, b.pending).cmp(&(a.pending_bytes, a.pending));
            sizes.then_with(|| first.name().cmp(second.name())).then_with(|| first.id().cmp(&second.id()))
        });
        queues.truncate(count);
        Ok(queues.iter().map(|(ledger, queue)| self.stats_of(queue, *ledger, &letters)).collect())
    }

    /// The queues of all actions, by name. Of each a chunk is read, for the age of what waits; dead letters are counted one by one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn action_stats(&self) -> Result<Vec<QueueStats>, Error> {
        let letters = self.dead_letter_counts()?;
        let mut queues = self.queues();
        queues.retain(|queue| queue.kind() == QueueKind::Action);
        queues.sort_by(|first, second| first.name().cmp(second.name()));
        Ok(queues.iter().map(|queue| self.stats_of(queue, queue.ledger(), &letters)).collect())
    }

    fn stats_of(&self, queue: &Queue, ledger: Ledger, letters: &HashMap<QueueId, u64>) -> QueueStats {
        QueueStats {
            kind: queue.kind(),
            name: queue.name().to_owned(),
            balances: ledger.balances(),
            ledger,
            dead_letters: letters.get(&queue.id()).copied().unwrap_or_default(),
            oldest_secs: self.oldest_at_ms(queue).map(|at_ms| clock::now_ms().saturating_sub(at_ms) / 1000),
        }
    }

    /// When the oldest record that waits came into its queue.
    fn oldest_at_ms(&self, queue: &Queue) -> Option<u64> {
        let (_, position) = queue.positions(queue.front(), 1).pop()?;
        let bytes = self.db.value(keys::CHUNK, position.chunk().to_be_bytes()).ok()??;
        Some(Chunk::parse(bytes.into()).ok()?.time_ms())
    }

    /// Writes the tables anew, without what is deleted. The broker may serve meanwhile. `is_wanted` is asked between families.
    pub fn compact(&self, is_wanted: impl Fn() -> bool) -> Compacted {
        let bytes_before = self.db.disk_bytes();
        let mut options = CompactOptions::default();
        // What RocksDB does by itself must not wait for it.
        options.set_exclusive_manual_compaction(false);
        for name in keys::FAMILIES.iter().take_while(|_| is_wanted()) {
            let db = self.db.get();
            db.compact_range_cf_opt(family(&db, name), None::<&[u8]>, None::<&[u8]>, &options);
        }
        Compacted { bytes_before, bytes_after: self.db.disk_bytes() }
    }
}

/// How many log files there are, and their bytes.
fn logs(folder: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "log"));
    logs.filter_map(|file| file.metadata().ok()).fold((0, 0), |(files, bytes), log| (files + 1, bytes + log.len()))
}
