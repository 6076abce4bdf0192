//! Files that are read again when they change: users, permissions. A file that has become wrong changes nothing, and is told of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// A file that means a `T`.
pub(crate) struct Watched<T> {
    path: PathBuf,
    read: fn(&str) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    changed: Option<SystemTime>,
}

impl<T> Watched<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub(crate) fn open(path: &Path, read: fn(&str) -> Result<T, String>) -> Result<Watched<T>, String> {
        let changed = modified(path);
        let value = Arc::new(load(path, read)?);
        let state = Mutex::new(State { value, changed });
        Ok(Watched { path: path.to_owned(), read, state })
    }

    /// What the file meant when it was last looked at.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().value)
    }

    /// Looks at the file; whether it means something else now.
    pub(crate) fn look(&self) -> bool {
        let changed = modified(&self.path);
        if changed == self.state.lock().changed {
            return false;
        }
        let read = load(&self.path, self.read);
        let mut state = self.state.lock();
        state.changed = changed;
        match read {
            Ok(value) => {
                tracing::info!(file = %self.path.display(), "read again");
                state.value = Arc::new(value);
                true
            }
            Err(problem) => {
                tracing::error!(file = %self.path.display(), problem, "the file has become wrong; what it said before holds");
                false
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn load<T>(path: &Path, read: fn(&str) -> Result<T, String>) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    read(&text).map_err(|problem| format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_counts_and_a_wrong_one_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let read = |text: &str| text.trim().parse::<u32>().map_err(|error| error.to_string());
        assert!(Watched::open(&path, read).is_err(), "no file");
        std::fs::write(&path, "1").expect("written");
        let watched = Watched::open(&path, read).expect("read");
        let set = |text: &str, secs: u64| {
            std::fs::write(&path, text).expect("written");
            let file = std::fs::File::options().append(true).open(&path).expect("opened");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).expect("set");
            (watched.look(), *watched.get())
        };
        assert_eq!(set("2", 1000), (true, 2));
        assert_eq!(set("nonsense", 2000), (false, 2), "what it said before holds");
        assert_eq!(set("3", 3000), (true, 3));
        assert!(!watched.look(), "nothing has changed");
    }
}
