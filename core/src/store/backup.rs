//! Backup, while the broker serves or while it does not, and restore, while it does not.
//!
//! A backup is a folder with the database in `store/` as in a data folder, and a note beside it of what it is. Tables are shared with the
//! store where both are on one disk, so that it takes little time and room; a copy on another disk is left to whoever makes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookline_schemas::config::Store as Settings;
use jiff::Timestamp;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, WriteBatch};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde::{Deserialize, Serialize};

use super::commit::{CHUNK_BLOCK, CHUNKS_PER_SEC};
use super::database::family;
use super::{Error, Store, keys};

/// The note in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Backup {
    /// The name of the node, as in every `hookline_id`.
    pub node: String,
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The version of the formats.
    pub format: u64,
    /// The version of Hookline.
    pub version: String,
}

/// A backup that was made.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackedUp {
    pub folder: String,
    /// What it holds, whether shared with the store or not.
    pub bytes: u64,
    #[serde(flatten)]
    pub backup: Backup,
}

/// A backup that was put in the place of the store.
#[derive(Debug)]
pub struct Restored {
    pub backup: Backup,
    /// Where the store is that was there before: a data folder by itself.
    pub before: Option<PathBuf>,
    /// The store, open.
    pub store: Arc<Store>,
}

/// The note's file.
const NOTE: &str = "backup.json";
/// The folder of the database, in a backup as in a data folder.
const STORE: &str = "store";
/// Beside it in a data folder: how far it was synced. It speaks of one database only.
const SYNCED: &str = "store.synced";
/// Where a backup is copied to before it takes the store's place.
const RESTORING: &str = "store.restoring";
/// What the folder is called that a replaced store goes to: this, and when.
const BEFORE: &str = "store.before-restore-";
/// Older backups count as that old: chunk numbers have 48 bits, and this is a small part of them.
const AGE_SECS_MAX: u64 = 366 * 24 * 3600;

impl Store {
    /// Makes a backup into a new folder. Everything that was acknowledged before the call is in it.
    ///
    /// # Errors
    /// The folder is there already, or it cannot be written; nothing is left of it then.
    pub fn backup(&self, folder: &Path) -> Result<BackedUp, Error> {
        fs::create_dir(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => folder_error(folder, "it exists already; name a folder that does not"),
            io::ErrorKind::NotFound => folder_error(folder, "the folder that it is to be in does not exist"),
            _ => folder_error(folder, error),
        })?;
        self.write_backup(folder).inspect_err(|_| drop(fs::remove_dir_all(folder)))
    }

    fn write_backup(&self, folder: &Path) -> Result<BackedUp, Error> {
        self.write_cursors()?;
        self.sync_or_die();
        let database = folder.join(STORE);
        {
            let db = self.db.get();
            let db: &DB = &db;
            let made = Checkpoint::new(db).and_then(|checkpoint| checkpoint.create_checkpoint(&database));
            made.map_err(|error| folder_error(folder, error))?;
        }
        let format = self.meta(keys::FORMAT)?.unwrap_or(keys::FORMAT_VERSION);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let backup = Backup { node: self.node.clone(), at: Timestamp::now(), format, version };
        // The note comes last: a folder without it is no backup.
        write_note(folder, &backup).map_err(|error| folder_error(folder, error))?;
        let bytes = files(&database).map_err(|error| folder_error(folder, error))?.iter().map(|(_, bytes)| bytes).sum();
        Ok(BackedUp { folder: folder.display().to_string(), bytes, backup })
    }

    /// Writes all cursors that have moved.
    fn write_cursors(&self) -> Result<(), Error> {
        // No commit may write an older cursor of the same queue behind it.
        let _writer = self.writer.lock();
        let mut write = WriteBatch::default();
        let cursors = self.add_cursors(&mut write, usize::MAX);
        self.db.write(write).inspect_err(|_| self.mark_all_dirty(&cursors))
    }

    /// Leaves out the next `count` chunk numbers.
    fn skip_chunks(&self, count: u64) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let next = writer.next_chunk + count;
        let mut write = WriteBatch::default();
        write.put_cf(family(&self.db.get(), keys::META), keys::CHUNK_LIMIT, (next + CHUNK_BLOCK).to_be_bytes());
        self.db.write(write)?;
        writer.next_chunk = next;
        writer.chunk_limit = next + CHUNK_BLOCK;
        Ok(())
    }
}

/// What a backup is, by its note.
///
/// # Errors
/// The folder is no backup, or one of a newer version.
fn read_backup(folder: &Path) -> Result<Backup, Error> {
    let note = fs::read(folder.join(NOTE)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => folder_error(folder, format!("it is no backup: it has no file {NOTE}")),
        _ => folder_error(folder, error),
    })?;
    let backup: Backup =
        serde_json::from_slice(&note).map_err(|error| folder_error(folder, format!("its file {NOTE} is damaged: {error}")))?;
    if backup.format > keys::FORMAT_VERSION {
        let (found, known) = (backup.format, keys::FORMAT_VERSION);
        let problem = format!("it is in format {found}, and this version of Hookline knows formats up to {known}; use a newer one");
        return Err(folder_error(folder, problem));
    }
    if !folder.join(STORE).join("CURRENT").exists() {
        return Err(folder_error(folder, format!("it is no whole backup: {STORE}/CURRENT is missing")));
    }
    Ok(backup)
}

/// Puts a backup in the place of the store in `data_dir`, and opens it. The store that is there is kept beside it.
///
/// # Errors
/// A broker runs there, the folder is no backup, or it cannot be copied: nothing is changed then. Or the copy cannot be opened.
pub fn restore_backup(data_dir: &Path, folder: &Path, node: &str, settings: &Settings) -> Result<Restored, Error> {
    let backup = read_backup(folder)?;
    fs::create_dir_all(data_dir).map_err(|error| folder_error(data_dir, error))?;
    let present = data_dir.join(STORE);
    let lock = lock(&present)?;
    let copy = data_dir.join(RESTORING);
    copy_database(&folder.join(STORE), &copy)
        .inspect_err(|_| drop(fs::remove_dir_all(&copy)))
        .map_err(|error| folder_error(folder, format!("it cannot be copied to {}: {error}; nothing was changed", copy.display())))?;
    let before = set_present_aside(data_dir).map_err(|error| folder_error(&present, format!("it cannot be moved aside: {error}")))?;
    let placed = fs::rename(&copy, &present).and_then(|()| File::open(data_dir)?.sync_all());
    placed.map_err(|error| folder_error(&copy, format!("the copy cannot take the place of {}: {error}", present.display())))?;
    drop(lock);
    let store = Store::open(data_dir, node, settings)?.store;
    // Whoever has served since the backup was made has used chunk numbers that it does not know of. A sink that has seen them
    // would take new records for repetitions.
    let age_secs = u64::try_from(Timestamp::now().as_second() - backup.at.as_second()).unwrap_or(0).clamp(1, AGE_SECS_MAX);
    store.skip_chunks(age_secs * CHUNKS_PER_SEC + 2 * CHUNK_BLOCK)?;
    Ok(Restored { backup, before, store })
}

/// Holds the lock that a broker would hold, so that none starts; `None`: there is no store to lock. Such a lock keeps out other
/// processes only: nobody in this one may have the store open.
fn lock(store: &Path) -> Result<Option<File>, Error> {
    let path = store.join("LOCK");
    if !path.exists() {
        return Ok(None);
    }
    let file = File::options().write(true).open(&path).map_err(|error| folder_error(store, error))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(_) => Err(folder_error(store, "a broker runs on it, or another command; end it first")),
    }
}

/// Moves the store that is there into a folder of its own; `None`: there is none.
fn set_present_aside(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    let (present, synced) = (data_dir.join(STORE), data_dir.join(SYNCED));
    let before = data_dir.join(format!("{BEFORE}{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")));
    if present.exists() {
        fs::create_dir(&before)?;
        fs::rename(&present, before.join(STORE))?;
    }
    match (synced.exists(), before.exists()) {
        (true, true) => fs::rename(&synced, before.join(SYNCED))?,
        (true, false) => fs::remove_file(&synced)?,
        (false, _) => {}
    }
    Ok(before.exists().then_some(before))
}

/// Copies a database that nobody has open.
fn copy_database(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        // Of a restore that did not come to its end.
        fs::remove_dir_all(to)?;
    }
    fs::create_dir(to)?;
    for (name, _) in files(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        // Tables are never changed, so both can share them.
        let is_table = Path::new(&name).extension().is_some_and(|ending| ending == "sst");
        if !is_table || fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

/// The files of a folder, with their bytes.
fn files(folder: &Path) -> io::Result<Vec<(std::ffi::OsString, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && entry.file_name() != "LOCK" {
            files.push((entry.file_name(), metadata.len()));
        }
    }
    Ok(files)
}

fn write_note(folder: &Path, backup: &Backup) -> io::Result<()> {
    let path = folder.join(NOTE);
    fs::write(&path, serde_json::to_string_pretty(backup)? + "\n")?;
    File::open(&path)?.sync_all()?;
    File::open(folder)?.sync_all()?;
    // That the folder itself is there is known by the one that it is in.
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn folder_error(folder: &Path, problem: impl ToString) -> Error {
    Error::Folder { folder: folder.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Position, QueueKind, QueueTarget};
    use super::*;

    fn open(folder: &Path) -> Arc<Store> {
        Store::open(folder, "n", &Settings { reserve_bytes: 0, ..Settings::default() }).expect("opens").store
    }

    /// Commits a record for queue 1; where it lies.
    fn commit(store: &Store) -> Position {
        let mut batch = Batch::default();
        let queue = store.queues().pop().unwrap_or_else(|| store.new_queue(&mut batch, QueueKind::Action, "a"));
        let record = batch.record(&[QueueTarget::plain(queue.id())], |out| out.extend_from_slice(b"row"));
        store.commit(&mut batch).expect("written").position(record)
    }

    #[test]
    fn a_backup_brings_the_state_of_its_moment_back_and_no_position_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
        fs::create_dir(&data).expect("made");
        let store = open(&data);
        let mut positions: Vec<Position> = (0..10).map(|_| commit(&store)).collect();
        let made = store.backup(&backup).expect("made");
        assert_eq!((made.backup.node.as_str(), made.backup.format), ("n", keys::FORMAT_VERSION));
        assert!(made.bytes > 0);
        assert!(store.backup(&backup).expect_err("is there").to_string().contains("exists already"));
        positions.extend((0..10).map(|_| commit(&store)));
        store.close();
        drop(store);
        let settings = Settings { reserve_bytes: 0, ..Settings::default() };
        let restored = restore_backup(&data, &backup, "n", &settings).expect("restored");
        let before = restored.before.expect("there was a store");
        let store = restored.store;
        let queue = store.queues().pop().expect("a queue");
        assert_eq!((queue.pending(), store.findings()), (10, super::super::Findings::default()));
        positions.push(commit(&store));
        store.close();
        drop((store, queue));
        let store = open(&data);
        positions.push(commit(&store));
        assert!(positions.is_sorted_by(|a, b| a < b), "every record has its own place: {positions:?}");
        store.close();
        let store = open(&before);
        assert_eq!(store.queues().pop().expect("a queue").pending(), 20, "what was there before is a data folder by itself");
        store.close();
    }

    #[test]
    fn a_new_store_in_the_place_of_another_repeats_no_position() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut positions = Vec::new();
        for _ in 0..3 {
            let store = open(folder.path());
            positions.extend((0..10).map(|_| commit(&store)));
            store.close();
            drop(store);
            fs::remove_dir_all(folder.path().join(STORE)).expect("removed");
        }
        assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    }

    #[test]
    fn what_is_no_backup_is_refused_and_nothing_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let refuse = |what: &str| {
            let refused = restore_backup(&data, folder.path(), "n", &Settings::default()).expect_err("no backup").to_string();
            assert!(refused.contains(what), "{refused}");
            assert!(!data.exists());
        };
        refuse("it has no file backup.json");
        fs::write(folder.path().join(NOTE), "{").expect("written");
        refuse("backup.json is damaged");
        let note = Backup { node: "n".into(), at: Timestamp::now(), format: keys::FORMAT_VERSION, version: String::new() };
        write_note(folder.path(), &note).expect("written");
        refuse("store/CURRENT is missing");
        write_note(folder.path(), &Backup { format: keys::FORMAT_VERSION + 1, ..note }).expect("written");
        refuse("use a newer one");
    }
}
