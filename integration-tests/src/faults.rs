//! Power cuts and failing file calls: `faultfs/faultfs.c`, loaded into the broker's process below RocksDB.
//!
//! The layer sees the files in the broker's data folder; `faultfs.c` says what a cut leaves of them, and what it does not see.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use crate::broker::{self, Broker};
use crate::eventually;

/// How long a command may take: a cut rewrites all that was not synced.
const ANSWER: Duration = Duration::from_secs(60);

/// The layer below the brokers of one folder, one broker at a time.
#[derive(Debug)]
pub struct Faults {
    folder: PathBuf,
    names: Names,
    /// Of the broker that runs. Each start has a new one, so that no command reaches the wrong broker.
    control: PathBuf,
    starts: usize,
    answered: usize,
}

/// When a new, renamed or removed name is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// With the next sync of its folder.
    Strict,
    /// At once, as ext4 nearly has it.
    Keep,
}

/// A kind of file call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Write,
    Fsync,
    Open,
    Rename,
    Ftruncate,
    Fallocate,
    Read,
}

/// What a call fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    Io,
    NoSpace,
    ReadOnly,
    TooManyFiles,
}

/// Calls that are to fail.
#[derive(Debug, Clone)]
pub struct Fault {
    call: Call,
    pattern: String,
    problem: Problem,
    times: u32,
    after: u32,
    short: bool,
}

impl Faults {
    /// A layer for brokers whose data is in `folder/data`. Nothing runs yet.
    pub fn new(folder: &Path, names: Names) -> Faults {
        Faults { folder: folder.to_owned(), names, control: PathBuf::new(), starts: 0, answered: 0 }
    }

    /// Starts a broker with the layer below it, as [`Broker::start`] does.
    pub fn start(&mut self, config: &str) -> Broker {
        let file = self.folder.join("hookline.toml");
        std::fs::write(&file, config).expect("the configuration is written");
        let environment = self.environment();
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let broker = Broker::start_in(&self.folder, &["--config", file.to_str().expect("a path in UTF-8")], &environment);
        assert!(self.control.exists(), "the layer is not in the broker; it must be linked with glibc, and not statically");
        broker
    }

    /// For the command that starts the next broker. What is commanded from now on goes to that one.
    pub fn environment(&mut self) -> Vec<(&'static str, String)> {
        while self.starts == 0 || self.control.exists() {
            self.starts += 1;
            self.control = self.folder.join(format!("faults-{}", self.starts));
        }
        self.answered = 0;
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let names = match self.names {
            Names::Strict => "strict",
            Names::Keep => "keep",
        };
        vec![
            ("LD_PRELOAD", text(library())),
            ("HOOKLINE_FAULTFS_DIR", text(&self.folder.join("data"))),
            ("HOOKLINE_FAULTFS_CONTROL", text(&self.control)),
            ("HOOKLINE_FAULTFS_METADATA", names.to_owned()),
        ]
    }

    /// Cuts the power: the broker ends with 137, and of what it had not synced there is what `seed` leaves. How much that is, as text.
    pub fn cut(&mut self, seed: u64) -> String {
        self.command(&format!("cut {seed}"))
    }

    /// Cuts the power so that everything is lost that was not synced.
    pub fn cut_losing_all(&mut self, seed: u64) -> String {
        self.command(&format!("cut {seed} lose"))
    }

    /// Cuts the power when the broker ends by itself, as after a failed sync. It must call `exit`, and its status is kept.
    pub fn cut_at_exit(&mut self, seed: u64) {
        self.command(&format!("cut-at-exit {seed}"));
    }

    /// Lets calls fail.
    pub fn fail(&mut self, fault: &Fault) {
        self.command(&format!("fail {fault}"));
    }

    /// Delays calls on files that `pattern` matches.
    pub fn slow(&mut self, call: Call, pattern: &str, delay: Duration) {
        self.command(&format!("slow {call} {pattern} {}", delay.as_millis()));
    }

    /// No call fails or is delayed any more.
    pub fn clear(&mut self) {
        self.command("clear");
    }

    /// How many calls of this broker were made to fail.
    pub fn hits(&mut self) -> u64 {
        let status = self.command("status");
        let hits = status.strip_prefix("hits ").and_then(|rest| rest.split(' ').next()).and_then(|hits| hits.parse().ok());
        hits.unwrap_or_else(|| panic!("the layer tells its hits: {status}"))
    }

    /// Sends a command and waits until it is obeyed; what was answered.
    fn command(&mut self, line: &str) -> String {
        // Open for reading as well: without a reader, opening would wait for ever.
        let control = File::options().read(true).write(true).open(&self.control);
        let mut control = control.unwrap_or_else(|error| panic!("{}: {error}; start a broker first", self.control.display()));
        control.write_all(format!("{line}\n").as_bytes()).expect("the command is sent");
        let (replies, index) = (self.control.with_extension("reply"), self.answered);
        self.answered += 1;
        let answer = eventually(&format!("the layer obeys {line:?}"), ANSWER, || {
            let text = std::fs::read_to_string(&replies).ok()?;
            let (complete, _) = text.rsplit_once('\n')?;
            complete.lines().nth(index).map(str::to_owned)
        });
        let told = answer.strip_prefix("ok").unwrap_or_else(|| panic!("{line}: {answer}"));
        told.trim().to_owned()
    }
}

impl Fault {
    /// The next matching call fails, once. `pattern` is a part of the path below the data folder, or, with one of `*?[`, a pattern
    /// for all of it; `*` stands for slashes too.
    pub fn new(call: Call, pattern: &str, problem: Problem) -> Fault {
        assert!(!pattern.is_empty() && !pattern.contains(char::is_whitespace), "a pattern is one word: {pattern:?}");
        Fault { call, pattern: pattern.to_owned(), problem, times: 1, after: 0, short: false }
    }

    /// So many calls fail.
    #[must_use]
    pub fn times(self, times: u32) -> Fault {
        assert!(times > 0, "for calls that fail until they are cleared there is until_cleared");
        Fault { times, ..self }
    }

    /// All calls fail until [`Faults::clear`].
    #[must_use]
    pub fn until_cleared(self) -> Fault {
        Fault { times: 0, ..self }
    }

    /// So many matching calls pass first.
    #[must_use]
    pub fn after(self, after: u32) -> Fault {
        Fault { after, ..self }
    }

    /// Before each failure one write is done by half.
    #[must_use]
    pub fn short(self) -> Fault {
        Fault { short: true, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Io => "EIO",
            Problem::NoSpace => "ENOSPC",
            Problem::ReadOnly => "EROFS",
            Problem::TooManyFiles => "EMFILE",
        };
        let short = if self.short { " short" } else { "" };
        write!(f, "{} {} {problem} {} {}{short}", self.call, self.pattern, self.times, self.after)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::Write => "write",
            Call::Fsync => "fsync",
            Call::Open => "open",
            Call::Rename => "rename",
            Call::Ftruncate => "ftruncate",
            Call::Fallocate => "fallocate",
            Call::Read => "read",
        })
    }
}

/// Runs the layer's own test; what it printed.
pub fn self_test() -> Output {
    let program = broker::binary().with_file_name(format!("faultfs-selftest-{}", std::process::id()));
    compile("selftest.c", &[], &program);
    let output = Command::new(&program).arg(library()).output().expect("the self-test runs");
    std::fs::remove_file(&program).expect("the self-test is removed");
    output
}

/// The layer as a library, compiled once in each test process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = broker::binary().with_file_name("faultfs.so");
        // Another process may just be using the old one.
        let fresh = library.with_extension(format!("{}.so", std::process::id()));
        compile("faultfs.c", &["-shared", "-fPIC"], &fresh);
        std::fs::rename(&fresh, &library).expect("the layer is put into its place");
        library
    })
}

fn compile(source: &str, arguments: &[&str], to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/faultfs").join(source);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c11", "-O2", "-Wall", "-Wextra"]).args(arguments).arg("-o").arg(to).arg(&source).arg("-lpthread");
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}; install a C compiler", compiler.display()));
    assert!(output.status.success(), "{} is not compiled: {}", source.display(), String::from_utf8_lossy(&output.stderr));
}
