//! Exports: files that hold what an operator has set up, to be carried to another broker. What is in one, `entry` knows, and how it lies there, `archive`; the files lie in a folder of
//! the data folder, for the broker's user only, because there are secrets in them.

mod archive;
mod entry;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

pub(crate) use archive::{Manifest, Refused, Writer, read};
pub(crate) use entry::{Ban, Entry, Part, Paused, Permission, Person, Retained, User};

/// The folder in the data folder.
const FOLDER: &str = "exports";
/// Files at the most.
pub(crate) const FILES_MAX: usize = 50;
/// Bytes of a file that is brought here.
pub(crate) const FILE_BYTES_MAX: usize = 2 << 30;
/// Bytes of a name.
const NAME_MAX: usize = 128;
/// What names end with.
const ENDING: &str = ".tar.gz";

/// The folder of the exports.
#[derive(Debug)]
pub(crate) struct Exports {
    folder: PathBuf,
    /// Held while a file gets its name: no two get the same.
    naming: Mutex<()>,
    halves: AtomicU64,
}

/// A file in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) created: SystemTime,
}

/// A file that is not whole yet. It goes away unless it gets its name.
#[derive(Debug)]
pub(crate) struct Half {
    exports: Arc<Exports>,
    path: PathBuf,
    file: File,
}

/// Why a file did not get its name.
#[derive(Debug)]
pub(crate) enum Unnamed {
    Exists,
    /// There are [`FILES_MAX`] already.
    Full,
    File(io::Error),
}

impl Exports {
    pub(crate) fn open(data_dir: &Path) -> Exports {
        let exports = Exports { folder: folder(data_dir), naming: Mutex::default(), halves: AtomicU64::new(0) };
        exports.remove_halves();
        exports
    }

    /// All files, the newest first.
    pub(crate) fn all(&self) -> io::Result<Vec<Exported>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let known = entry.metadata()?;
            if known.is_file() && is_name(&name) {
                all.push(Exported { name, bytes: known.len(), created: known.modified()? });
            }
        }
        all.sort_unstable_by(|a, b| b.created.cmp(&a.created).then_with(|| b.name.cmp(&a.name)));
        Ok(all)
    }

    /// A file, open; `None`: there is none of that name.
    pub(crate) fn file(&self, name: &str) -> io::Result<Option<(File, Exported)>> {
        let Some(path) = self.path(name).filter(|path| path.symlink_metadata().is_ok_and(|known| known.is_file())) else { return Ok(None) };
        let file = File::open(path)?;
        let known = file.metadata()?;
        Ok(Some((file, Exported { name: name.to_owned(), bytes: known.len(), created: known.modified()? })))
    }

    /// Removes a file. `false`: there is none of that name.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        let Some(path) = self.path(name) else { return Ok(false) };
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A new file, without a name.
    pub(crate) fn half(self: &Arc<Exports>) -> io::Result<Half> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let path = self.folder.join(format!(".{}.new", self.halves.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Half { exports: Arc::clone(self), path, file })
    }

    /// Whether one more may come.
    pub(crate) fn has_room(&self) -> io::Result<bool> {
        Ok(self.all()?.len() < FILES_MAX)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        is_name(name).then(|| self.folder.join(name))
    }

    /// Removes what an end in the middle of a write has left.
    fn remove_halves(&self) {
        let found = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for half in found.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')) {
            if let Err(error) = fs::remove_file(half.path()) {
                tracing::warn!(%error, file = %half.path().display(), "the half of an export cannot be removed");
            }
        }
    }
}

impl Half {
    /// What is written to.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives it its name, when it is whole and on the disk. It blocks.
    pub(crate) fn name(self, name: &str) -> Result<Exported, Unnamed> {
        let put = |path: &Path| {
            self.file.sync_all()?;
            fs::rename(&self.path, path)?;
            File::open(&self.exports.folder)?.sync_all()?;
            let known = self.file.metadata()?;
            Ok(Exported { name: name.to_owned(), bytes: known.len(), created: known.modified()? })
        };
        let path = self.exports.path(name).ok_or_else(|| Unnamed::File(io::Error::other("that is no name of an export")))?;
        let _naming = self.exports.naming.lock();
        if path.symlink_metadata().is_ok() {
            return Err(Unnamed::Exists);
        }
        if !self.exports.has_room().map_err(Unnamed::File)? {
            return Err(Unnamed::Full);
        }
        put(&path).map_err(Unnamed::File)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // It has gone from there where it got its name.
        if let Err(error) =
            fs::remove_file(&self.path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            tracing::warn!(%error, file = %self.path.display(), "the half of an export cannot be removed");
        }
    }
}

/// Where the exports of a broker lie.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

/// Whether that is a name that an export can have: letters, digits, `.`, `_` and `-`, with the ending `.tar.gz`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    is_plain && name.len() <= NAME_MAX && !name.starts_with('.') && name.len() > ENDING.len() && name.ends_with(ENDING)
}

/// The name of an export that is made now.
pub(crate) fn new_name() -> String {
    format!("hookline-export-{}{ENDING}", jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S.%3f"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["a.tar.gz", "hookline-export-2026-11-28-08-30-12.123.tar.gz"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".tar.gz", "a.tar", "../a.tar.gz", "a/b.tar.gz", ".a.tar.gz", "a b.tar.gz", "ä.tar.gz"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name(&format!("{}.tar.gz", "a".repeat(NAME_MAX))) && is_name(&new_name()));
    }

    #[test]
    fn a_file_is_there_when_it_is_whole_and_only_for_its_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let exports = Arc::new(Exports::open(folder.path()));
        assert!(exports.all().expect("reads").is_empty());
        let half = exports.half().expect("made");
        half.file().expect("open").write_all(b"x").expect("written");
        assert!(exports.all().expect("reads").is_empty());
        let made = half.name("a.tar.gz").expect("named");
        assert_eq!(exports.all().expect("reads"), [made]);
        assert!(matches!(exports.half().expect("made").name("a.tar.gz"), Err(Unnamed::Exists)));
        let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode("exports"), mode("exports/a.tar.gz")), (0o700, 0o600));
        std::os::unix::fs::symlink("a.tar.gz", folder.path().join("exports/link.tar.gz")).expect("linked");
        assert!(exports.file("link.tar.gz").expect("looked").is_none() && exports.file("a.tar.gz").expect("looked").is_some());
        fs::write(folder.path().join("exports/.7.new"), "half").expect("written");
        let exports = Arc::new(Exports::open(folder.path()));
        assert!(exports.remove("a.tar.gz").expect("removed") && !exports.remove("a.tar.gz").expect("looked"));
        assert_eq!(fs::read_dir(folder.path().join("exports")).expect("reads").count(), 1, "but for the link");
        for n in 0..FILES_MAX {
            exports.half().expect("made").name(&format!("{n}.tar.gz")).expect("named");
        }
        assert!(matches!(exports.half().expect("made").name("more.tar.gz"), Err(Unnamed::Full)));
    }
}
