//! A note beside the database of how far it was synced: RocksDB drops what follows a damaged place of its log, and says nothing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The note. It is written after each sync and not synced itself: after a power cut it may be old, and is never ahead.
#[derive(Debug)]
pub(super) struct Synced {
    file: Option<File>,
}

/// The file, beside the folder of the database.
const FILE: &str = "store.synced";

impl Synced {
    /// Opens the note; what it says, where it says something.
    pub(super) fn open(data_dir: &Path) -> (Synced, Option<u64>) {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(data_dir.join(FILE));
        let file = file.inspect_err(|error| tracing::warn!(%error, "cannot keep a note of what is synced; losses may go unseen")).ok();
        let mut bytes = [0; 12];
        let read = file.as_ref().is_some_and(|file| file.read_exact_at(&mut bytes, 0).is_ok());
        let (number, sum) = (&bytes[..8], &bytes[8..]);
        let is_whole = read && sum == crc32c::crc32c(number).to_le_bytes();
        let noted = is_whole.then(|| u64::from_le_bytes(number.try_into().expect("eight bytes")));
        (Synced { file }, noted)
    }

    /// Everything up to this sequence number of the database is on the disk.
    pub(super) fn note(&self, sequence: u64) {
        let number = sequence.to_le_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32c::crc32c(&number).to_le_bytes());
        // Without it a loss may go unseen, and nothing else.
        let _written = self.file.as_ref().map(|file| file.write_all_at(&bytes, 0));
    }
}
