//! Room on the disk: a reserve that is given up when the disk is full, so that what waits can still be worked off, and the bounds
//! at which the store takes nothing new.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hookline_schemas::config::Store as Settings;

use super::{Error, Store};

/// What is known of the room on the disk.
#[derive(Debug)]
pub(super) struct Space {
    reserve: PathBuf,
    reserve_bytes: u64,
    free_bytes_min: u64,
    bytes_max: u64,
    full: AtomicBool,
    used_bytes: AtomicU64,
    /// As of the last look.
    free_bytes: AtomicU64,
}

/// The file that holds the reserve, beside the folder of the database.
const RESERVE_FILE: &str = "store.reserve";

impl Space {
    pub(super) fn new(data_dir: &Path, settings: &Settings) -> Space {
        Space {
            reserve: data_dir.join(RESERVE_FILE),
            reserve_bytes: settings.reserve_bytes,
            free_bytes_min: settings.free_bytes_min,
            bytes_max: if settings.bytes_max == 0 { u64::MAX } else { settings.bytes_max },
            full: AtomicBool::new(false),
            used_bytes: AtomicU64::new(0),
            free_bytes: AtomicU64::new(0),
        }
    }

    /// Whether nothing new may come in.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Gives the reserve up where the disk has less than it, so that the database can be opened and worked off.
    pub(super) fn make_room(&self, folder: &Path) {
        if free_bytes(folder).is_some_and(|free| free < self.reserve_bytes) && std::fs::remove_file(&self.reserve).is_ok() {
            tracing::warn!(bytes = self.reserve_bytes, "the disk is full: the reserve of the store is given up to work with");
        }
        self.full.store(true, Ordering::Relaxed);
    }

    /// Whether the folder takes a write, and syncs it.
    pub(super) fn probe(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join("probe");
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
            file.write_all(&[0x5A; 1 << 16])?;
            file.sync_all()
        };
        let result = write();
        drop(std::fs::remove_file(&path));
        result.map_err(|error| Error::Write(error.to_string()))
    }

    /// Looks how much room there is, and remembers whether anything new may come in.
    fn look(&self, folder: &Path, used_bytes: u64, keeps_reserve: bool) {
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        let free = free_bytes(folder).unwrap_or(u64::MAX);
        self.free_bytes.store(free, Ordering::Relaxed);
        let was = self.full.load(Ordering::Relaxed);
        // With some room between the two, so that it does not change at each look.
        let (free_min, used_max) = if was {
            (self.free_bytes_min.saturating_add(self.free_bytes_min / 8), self.bytes_max / 100 * 95)
        } else {
            (self.free_bytes_min, self.bytes_max)
        };
        let is = free < free_min || used_bytes > used_max;
        self.full.store(is, Ordering::Relaxed);
        if !is && keeps_reserve && !self.reserve.exists() && free > self.reserve_bytes.saturating_add(2 * self.free_bytes_min) {
            self.keep_reserve();
        }
    }

    fn keep_reserve(&self) {
        if self.reserve_bytes == 0 {
            return;
        }
        let made =
            OpenOptions::new().create(true).truncate(false).write(true).open(&self.reserve).map_err(|error| error.to_string()).and_then(
                |file| {
                    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.reserve_bytes)
                        .map_err(|error| error.to_string())
                },
            );
        if let Err(error) = made {
            drop(std::fs::remove_file(&self.reserve));
            tracing::warn!(error, "cannot keep a reserve on the disk of the store");
        }
    }
}

impl Store {
    /// Whether nothing new may be written: the disk is nearly full, the store is at its bound, or it takes no writes.
    pub(crate) fn is_full(&self) -> bool {
        self.space.is_full() || self.db.has_failed()
    }

    /// What the store takes on the disk, bytes, as of the last look.
    pub fn used_bytes(&self) -> u64 {
        self.space.used_bytes()
    }

    /// What an ordinary user can still write beside it, bytes, as of the last look; `u64::MAX` where that is not known.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.space.free_bytes.load(Ordering::Relaxed)
    }

    /// Looks how much room there is; whoever stays keeps a reserve.
    pub(super) fn look_at_space(&self, keeps_reserve: bool) {
        self.space.look(self.db.path(), self.db.disk_bytes(), keeps_reserve);
    }
}

/// What an ordinary user can still write there, bytes.
fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// Whether an error says that the disk is full.
pub(super) fn is_full_disk(error: &rocksdb::Error) -> bool {
    error.to_string().contains("No space left")
}
