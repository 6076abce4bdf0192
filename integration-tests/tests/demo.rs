//! `hookline demo` and `hookline top`, as a person runs them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookline_integration_tests::broker::{binary, run};
use hookline_integration_tests::eventually;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// One at a time: a demo looks which ports are free, and takes them a moment later.
static ALONE: Mutex<()> = Mutex::new(());

/// A demo that runs. It is killed where a test fails.
struct Demo {
    _alone: MutexGuard<'static, ()>,
    child: Child,
    output: std::path::PathBuf,
}

impl Demo {
    fn start(folder: &Path, arguments: &[&str]) -> Demo {
        // Where another test has failed, this one may run all the same.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let output = folder.join("output");
        let child = Command::new(binary())
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("made"))
            .stderr(File::create(folder.join("log")).expect("made"))
            .spawn()
            .expect("it starts");
        Demo { _alone: alone, child, output }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Ctrl-C.
    fn interrupt(&mut self) {
        let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        let status = eventually("the demo ends", LIMIT, || self.child.try_wait().expect("waited for"));
        assert!(status.success(), "{status}: {}", self.output());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

#[test]
fn the_demo_shows_traffic_drops_and_dead_letters_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Demo::start(folder.path(), &["--devices", "12"]);
    let told = eventually("it tells how to stop it", LIMIT, || Some(demo.output()).filter(|told| told.contains("Ctrl-C ends it")));
    let data = between(&told, "top --data ", "\n").expect("the folder is named").to_owned();
    let ask = |arguments: &[&str]| run(&[arguments, &["--data", &data]].concat());
    // The login that it has printed works.
    let address = between(&told, "http://", " ").expect("the address is named");
    let password = between(&told, "log in as admin with ", ";").expect("the password is named");
    let login = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", &format!("admin:{password}")])
        .arg(format!("http://{address}/api/v5/stats"))
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&login.stdout), "200");
    // Everything that it promises to show.
    let database = Path::new(&data).join("plant.db");
    let snapshot = eventually("drops and dead letters are there", LIMIT, || {
        let (code, out, error) = ask(&["top", "-o", "json"]);
        assert_eq!(code, Some(0), "{error}");
        let snapshot: Value = serde_json::from_str(&out).expect("JSON");
        let dropped =
            snapshot["drops"].as_array().is_some_and(|drops| drops.iter().any(|drop| drop["reason"] == "messages.dropped.no_subscribers"));
        let dead = snapshot["queues"]
            .as_array()
            .is_some_and(|queues| queues.iter().any(|queue| queue["name"] == "readings" && queue["dead_letters"].as_u64() > Some(0)));
        (dropped && dead && snapshot["received_rate"].as_f64() > Some(3.0) && snapshot["commit_latency_us"].as_f64() > Some(0.0))
            .then_some(snapshot)
    });
    assert!(snapshot["connections"].as_u64() >= Some(10) && snapshot["memory_bytes"].as_u64() > Some(0), "{snapshot}");
    assert!(snapshot["connectors"][0]["status"] == "connected", "{snapshot}");
    let rows = rusqlite::Connection::open(&database)
        .expect("opens")
        .query_row("SELECT count(DISTINCT device) FROM readings", [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.expect("a count"), 12);
    let (code, out, error) = ask(&["top"]);
    assert!(
        code == Some(0) && out.contains("connections") && out.contains("connector database (sqlite): connected"),
        "no terminal: {out}{error}"
    );
    demo.interrupt();
    assert!(!Path::new(&data).exists(), "the folder is gone");
}

#[test]
fn a_demo_with_a_folder_keeps_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    let mut demo = Demo::start(folder.path(), &["--devices", "3", "--data", data.to_str().expect("UTF-8")]);
    eventually("a reading is in the database", LIMIT, || {
        let file = rusqlite::Connection::open_with_flags(data.join("plant.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        file.query_row("SELECT count(*) FROM readings", [], |row| row.get(0)).ok().filter(|count: &i64| *count > 0)
    });
    demo.interrupt();
    assert!(demo.output().contains("is kept") && data.join("store").is_dir() && data.join("hookline.toml").exists(), "{}", demo.output());
}

/// `hookline top` in a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(data: &str) -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("UTF-8");
        let open = || File::options().read(true).write(true).open(&name).expect("opens");
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 140, ws_xpixel: 0, ws_ypixel: 0 };
        let before = open();
        rustix::termios::tcsetwinsize(&before, size).expect("sized");
        let child = Command::new(binary())
            .args(["top", "--data", data])
            .env("TERM", "xterm-256color")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("it starts");
        let master = File::from(master);
        let keyboard = master.try_clone().expect("cloned");
        let (told, screen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Held, so that what was written last can be read after its end.
            let _open = before;
            let mut master = master;
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                if told.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, seen: String::new() }
    }

    fn press(&mut self, key: &str) {
        self.keyboard.write_all(key.as_bytes()).expect("pressed");
    }

    /// Waits until something was written since the last [`Terminal::wait`].
    fn wait_keeping(&mut self, what: &str) {
        eventually(what, LIMIT, || {
            while let Ok(bytes) = self.screen.try_recv() {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            self.seen.contains(what).then_some(())
        });
    }

    fn wait(&mut self, what: &str) {
        self.wait_keeping(what);
        self.seen.clear();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A way out.
type Leave = fn(&mut Terminal);

/// What leaves the other screen of a terminal.
const LEFT: &str = "\u{1b}[?1049l";

#[test]
fn top_shows_live_figures_and_gives_the_terminal_back_on_every_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    let data = data.to_str().expect("UTF-8");
    let mut demo = Demo::start(folder.path(), &["--devices", "8", "--data", data]);
    eventually("the demo runs", LIMIT, || demo.output().contains("Ctrl-C ends it").then_some(()));
    let ways: [(&str, Leave); 4] = [
        ("q", |terminal| terminal.press("q")),
        ("Ctrl-C", |terminal| terminal.press("\u{3}")),
        ("SIGTERM", |terminal| drop(Command::new("kill").args(["-TERM", &terminal.child.id().to_string()]).status())),
        ("SIGHUP", |terminal| drop(Command::new("kill").args(["-HUP", &terminal.child.id().to_string()]).status())),
    ];
    for (way, leave) in ways {
        let mut terminal = Terminal::start(data);
        // The figures of the demo's traffic and its parts.
        for text in ["connections", "messages/s", "readings", "messages.dropped.no_subscribers", "database", "connected"] {
            terminal.wait_keeping(text);
        }
        terminal.seen.clear();
        terminal.press("s");
        terminal.wait("oldest");
        terminal.press("p");
        terminal.wait("PAUSED");
        terminal.press("p");
        leave(&mut terminal);
        terminal.wait(LEFT);
        let status = eventually(way, LIMIT, || terminal.child.try_wait().expect("waited for"));
        assert!(status.success(), "{way}: {status}");
    }
    // A broker that goes is told; the screen stays.
    let mut terminal = Terminal::start(data);
    terminal.wait_keeping("connections");
    demo.interrupt();
    terminal.wait("the broker went away");
    terminal.press("q");
    terminal.wait(LEFT);
    let (code, _, error) = run(&["top", "--data", data]);
    assert!(code != Some(0) && error.contains("no broker runs on"), "{error}");
}
