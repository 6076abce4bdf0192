//! The servers that `integration-tests/services` has started: stopped and started again in the middle of a test.

use std::env::var;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A test that stops a server waits for the others of its program, and they for it.
static SERVERS: RwLock<()> = RwLock::new(());

/// While it is held, no test of this program stops a server.
pub fn stay() -> RwLockReadGuard<'static, ()> {
    SERVERS.read().unwrap_or_else(PoisonError::into_inner)
}

/// While it is held, no other test of this program needs a server: it may be stopped.
pub fn may_stop() -> RwLockWriteGuard<'static, ()> {
    SERVERS.write().unwrap_or_else(PoisonError::into_inner)
}

/// Stops or starts a server, where it is one that the tests may stop. `false`: it is somebody's own.
pub fn service(command: &str, name: &str) -> bool {
    let Ok(script) = var("HOOKLINE_TEST_SERVICES") else { return false };
    if !is_ours(name.strip_suffix("_master").unwrap_or(name)) {
        return false;
    }
    let status = Command::new(script).args([command, name]).status().expect("the script runs");
    assert!(status.success(), "services {command} {name}");
    true
}

/// The authority that a server's certificate comes from, as a file. `None`: it is somebody's own, and need not speak TLS.
pub fn authority(name: &str) -> Option<String> {
    var("HOOKLINE_TEST_CA").ok().filter(|_| is_ours(name))
}

fn is_ours(name: &str) -> bool {
    var("HOOKLINE_TEST_STARTED").is_ok_and(|started| started.split(' ').any(|other| other == name))
}
