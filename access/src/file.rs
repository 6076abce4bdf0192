//! Files that are read again when they change: users, permissions. A file that has become wrong changes nothing, and is told of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A file that means a `T`.
pub(crate) struct Watched<T> {
    path: PathBuf,
    read: fn(&str) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    changed: Option<SystemTime>,
    looked: std::time::Instant,
}

impl<T> Watched<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub(crate) fn open(path: &Path, read: fn(&str) -> Result<T, String>) -> Result<Watched<T>, String> {
        let changed = modified(path);
        let value = Arc::new(load(path, read)?);
        let state = Mutex::new(State { value, changed, looked: std::time::Instant::now() });
        Ok(Watched { path: path.to_owned(), read, state })
    }

    /// What the file means now.
    pub(crate) fn get(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK {
            state.looked = std::time::Instant::now();
            let changed = modified(&self.path);
            if changed != state.changed {
                state.changed = changed;
                match load(&self.path, self.read) {
                    Ok(value) => {
                        tracing::info!(file = %self.path.display(), "read again");
                        state.value = Arc::new(value);
                    }
                    Err(problem) => {
                        tracing::error!(file = %self.path.display(), problem, "the file has become wrong; what it said before holds")
                    }
                }
            }
        }
        Arc::clone(&state.value)
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
            watched.state.lock().looked -= LOOK;
            *watched.get()
        };
        assert_eq!(set("2", 1000), 2);
        assert_eq!(set("nonsense", 2000), 2, "what it said before holds");
        assert_eq!(set("3", 3000), 3);
    }
}
