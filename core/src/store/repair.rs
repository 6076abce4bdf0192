//! Opening a database that is damaged: what cannot be read is set aside and named, the rest serves.

use std::io;
use std::path::{Path, PathBuf};

use hookline_schemas::config::Store as Settings;
use rocksdb::{DB, ErrorKind};

use super::database::{Database, Recovery, options};
use super::space::{Space, is_full_disk};

/// What opening a store has found and done beside the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Folders beside the store that hold it as it was found, with why.
    pub set_aside: Vec<(PathBuf, String)>,
    /// Writes that were synced once and are not there any more.
    pub lost_writes: u64,
    /// Records of queues that are not there any more.
    pub lost_records: u64,
    /// Entries that make no sense, by family.
    pub damaged_entries: u64,
    /// The directories of chunks, and the count of retained messages, are to be made anew.
    pub(super) rebuild: bool,
}

/// What a folder of a damaged store is called: this, and when.
const SET_ASIDE: &str = "store.damaged-";
/// The file in it that says why.
const WHY: &str = "WHY.txt";

/// Opens the database, and mends it where it must. Errors are only those that damage is not the cause of.
pub(super) fn open(path: &Path, settings: &Settings, space: &Space, findings: &mut Findings) -> Result<Database, String> {
    let wish = wish(path);
    if let Ok(problem) = std::fs::read_to_string(&wish) {
        let mended = mend_by_tables(path, settings, problem.trim(), findings)?;
        std::fs::remove_file(&wish).map_err(|error| format!("{}: {error}", wish.display()))?;
        return Ok(mended);
    }
    // Without this file RocksDB takes the folder for empty, and would remove what is in it.
    if !path.join("CURRENT").exists() && has_tables_or_logs(path) {
        return mend(path, settings, "the file CURRENT is missing", findings);
    }
    let error = match Database::open(path, settings, Recovery::PointInTime) {
        Ok(database) => return Ok(database),
        Err(error) if is_full_disk(&error) => {
            space.make_room(path);
            match Database::open(path, settings, Recovery::PointInTime) {
                Ok(database) => return Ok(database),
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    if is_damage(&error) { mend(path, settings, error.as_ref(), findings) } else { Err(explain(&error)) }
}

/// Sets a damaged database aside, and opens what can be read of it; an empty one, where that is nothing.
pub(super) fn mend(path: &Path, settings: &Settings, problem: &str, findings: &mut Findings) -> Result<Database, String> {
    let aside = set_aside(path, problem).map_err(|error| {
        format!("it is damaged ({problem}), and cannot be set aside ({error}); make room on the disk, or move {} away", path.display())
    })?;
    tracing::error!(problem, kept = %aside.display(), "the store is damaged: a copy as it was found is kept, what can be read serves");
    let is_first = findings.set_aside.is_empty();
    findings.set_aside.push((aside, problem.to_owned()));
    findings.rebuild = true;
    // Behind damage in the log there may be more, and tables are as they were.
    if is_first
        && path.join("CURRENT").exists()
        && let Ok(database) = Database::open(path, settings, Recovery::SkipDamaged)
    {
        return Ok(database);
    }
    open_by_tables(path, settings)
}

/// As [`mend`], where tables are known to be damaged.
fn mend_by_tables(path: &Path, settings: &Settings, problem: &str, findings: &mut Findings) -> Result<Database, String> {
    let aside = set_aside(path, problem).map_err(|error| format!("it is damaged ({problem}), and cannot be set aside ({error})"))?;
    tracing::error!(problem, kept = %aside.display(), "the store is damaged: a copy as it was found is kept, what can be read serves");
    findings.set_aside.push((aside, problem.to_owned()));
    findings.rebuild = true;
    open_by_tables(path, settings)
}

/// Opens what the tables and logs themselves tell; an empty database, where that is nothing.
fn open_by_tables(path: &Path, settings: &Settings) -> Result<Database, String> {
    // Tables that cannot be read go into the folder "lost".
    let repaired = DB::repair(&options(settings), path);
    if let Err(error) = &repaired {
        tracing::error!(%error, "the store cannot be repaired");
    }
    for lost in names(&path.join("lost")) {
        tracing::error!(file = lost, folder = %path.join("lost").display(), "a file of the store cannot be read, and was set aside");
    }
    let error = match Database::open(path, settings, Recovery::SkipDamaged) {
        Ok(database) => return Ok(database),
        Err(error) => error,
    };
    tracing::error!(%error, "nothing of the store can be read: it begins empty");
    std::fs::remove_dir_all(path).and_then(|()| std::fs::create_dir_all(path)).map_err(|error| error.to_string())?;
    Database::open(path, settings, Recovery::PointInTime).map_err(|error| explain(&error))
}

/// The file beside the database that asks the next start to mend it, with why.
fn wish(path: &Path) -> PathBuf {
    path.with_file_name("store.to-be-mended")
}

/// Asks the next start to mend the database.
pub(super) fn ask_for_mending(path: &Path, problem: &str) {
    if let Err(error) = std::fs::write(wish(path), format!("{problem}\n")) {
        tracing::error!(%error, "the wish to mend the store cannot be written");
    }
}

/// Folders of damaged stores, with why each was set aside; oldest first.
pub fn set_aside_folders(data_dir: &Path) -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> =
        names(data_dir).into_iter().filter(|name| name.starts_with(SET_ASIDE)).map(|name| data_dir.join(name)).collect();
    folders.sort();
    let why = |folder: &PathBuf| std::fs::read_to_string(folder.join(WHY)).unwrap_or_default().trim().to_owned();
    folders.into_iter().map(|folder| (folder.clone(), why(&folder))).collect()
}

fn set_aside(path: &Path, problem: &str) -> io::Result<PathBuf> {
    let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let aside = path.with_file_name(format!("{SET_ASIDE}{at}"));
    std::fs::create_dir_all(&aside)?;
    for name in names(path) {
        let (from, to) = (path.join(&name), aside.join(&name));
        if !from.is_file() {
            continue;
        }
        // Tables are never changed, so the copy can share them. Logs are reused.
        let is_table = name.ends_with(".sst");
        if !is_table || std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to)?;
        }
    }
    std::fs::write(aside.join(WHY), format!("{problem}\n"))?;
    Ok(aside)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn has_tables_or_logs(path: &Path) -> bool {
    names(path).iter().any(|name| [".sst", ".log"].iter().any(|ending| name.ends_with(ending)))
}

/// Whether the files are not what they should be, or not there.
fn is_damage(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    let is_missing = text.contains("No such file") && !text.contains("LOCK");
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotFound) || is_missing || text.contains("does not exist")
}

/// What a failure to open means for whoever has to mend it.
fn explain(error: &rocksdb::Error) -> String {
    let text = error.to_string();
    if text.contains("lock") {
        return "another process is using it; stop that one, or choose another folder with --data".into();
    }
    text
}
