//! MySQL or MariaDB, asked by its own command-line client.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::eventually;

/// How long a server that was started again may take.
const BACK: Duration = Duration::from_secs(60);

/// The server's address, as `integration-tests/services env` tells it.
pub fn url() -> String {
    std::env::var("HOOKLINE_TEST_MYSQL").expect("HOOKLINE_TEST_MYSQL names no MySQL; run: eval \"$(integration-tests/services env)\"")
}

/// Runs statements that one client reads, one after the other.
pub fn feed(sql: &str) {
    let mut client = client();
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the client of MariaDB runs");
    child.stdin.take().expect("it has one").write_all(sql.as_bytes()).expect("written");
    assert!(child.wait().expect("it ends").success());
}

/// The command-line client, without statements.
fn client() -> Command {
    let url = url();
    let address = url.strip_prefix("mysql://").expect("a URL of MySQL");
    let (login, place) = address.split_once('@').expect("user:password@host:port/database");
    let ((user, password), (server, database)) =
        login.split_once(':').zip(place.split_once('/')).expect("user:password@host:port/database");
    let (host, port) = server.split_once(':').unwrap_or((server, "3306"));
    let mut command = Command::new("mariadb");
    command
        .args(["--no-defaults", "--protocol=tcp", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"])
        .args(["-h", host, "-P", port, "-u", user, "-D", database])
        .env("MYSQL_PWD", password);
    command
}

/// Runs statements; the rows of the queries among them, as texts. The session is in UTC.
pub fn query(sql: &str) -> Vec<Vec<String>> {
    let sql = format!("SET time_zone = '+00:00'; {sql}");
    eventually("mysql answers", BACK, || {
        let output = client().args(["-e", &sql]).output().expect("the client of MariaDB runs");
        let told = String::from_utf8_lossy(&output.stderr);
        // 2002, 2003, 2006, 2013: it is away.
        let is_back = !told.contains("ERROR 20");
        assert!(output.status.success() || !is_back, "{sql}: {told}");
        let text = String::from_utf8_lossy(&output.stdout);
        is_back.then(|| text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    })
}

/// The one value that a query gives.
pub fn value(sql: &str) -> String {
    query(sql).first().and_then(|row| row.first()).cloned().unwrap_or_default()
}
