//! The socket that commands reach a running broker by: in its data folder, for its own user only.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket};

use crate::control;

/// Commands that may wait to be accepted.
const BACKLOG: u32 = 64;

/// The file of the socket. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, socket = %self.0.display(), "cannot remove the socket for commands");
        }
    }
}

/// Listens in the data folder. Whoever calls it holds the store's lock: a socket that is there belongs to a broker that is gone.
pub(super) fn listen(data_dir: &Path) -> Result<(UnixListener, SocketFile), String> {
    let path = control::socket(data_dir);
    if let Some(problem) = control::too_long(&path) {
        return Err(problem);
    }
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(&path).map_err(|error| format!("the one of an earlier start cannot be removed: {error}"))?;
        }
        Ok(_) => return Err("something else has its name; move that away".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
    }
    let bound = UnixSocket::new_stream().and_then(|socket| socket.bind(&path).map(|()| socket));
    let socket = bound.map_err(|error| error.to_string())?;
    let file = SocketFile(path);
    // Nobody can connect before it listens: at no moment is it open to others.
    let restricted = std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o600));
    let listener = restricted.and_then(|()| socket.listen(BACKLOG)).map_err(|error| error.to_string())?;
    Ok((listener, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_dead_broker_is_replaced_and_another_file_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = control::socket(folder.path());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        let (_listener, file) = listen(folder.path()).expect("replaces it");
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
        std::fs::write(&path, "mine").expect("written");
        assert!(listen(folder.path()).expect_err("it is no socket").contains("something else"));
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "mine");
        let deep = folder.path().join("x".repeat(120));
        assert!(listen(&deep).expect_err("too long").contains("shorter path"));
    }
}
