//! The file of an export: a gzip'd tar of `hookline-export/manifest.json`, `hookline.toml`, and lists with a JSON object in each line, such as
//! `users-1.jsonl`. Reading trusts nothing: everything has a bound, nothing is unpacked, and what is not known is refused.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::{Entry, Part};

/// The form that this code writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// What the manifest calls the product.
const PRODUCT: &str = "hookline";
/// The folder in the archive.
const FOLDER: &str = "hookline-export/";
const MANIFEST: &str = "manifest.json";
const CONFIGURATION: &str = "hookline.toml";
/// Bytes of lines in one file of the archive, but for the last line.
const FILE_BYTES: usize = 4 << 20;
/// Bytes of everything in an archive, files in it, and bytes of the single ones: what is more is no export, but an attack on memory and processor.
const UNPACKED_MAX: u64 = 16 << 30;
const FILES_MAX: usize = 1 << 16;
const MANIFEST_MAX: u64 = 64 << 10;
const CONFIGURATION_MAX: u64 = 16 << 20;
/// Bytes of a line: the largest payload that MQTT has, in base64, and what stands around it.
const LINE_MAX: u64 = 384 << 20;

/// What an export is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    product: String,
    format: u32,
    /// The version of Hookline.
    pub(crate) version: String,
    pub(crate) node: String,
    pub(crate) created_at: String,
}

/// Why a file is no export that can be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused(format!("it is no whole archive: {error}"))
    }
}

fn refused<T>(problem: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(problem.into()))
}

impl Manifest {
    pub(crate) fn new(node: &str) -> Manifest {
        Manifest {
            product: PRODUCT.into(),
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            node: node.into(),
            created_at: format!("{:.3}", jiff::Timestamp::now()),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Manifest, Refused> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| Refused(format!("{MANIFEST}: {error}")))?;
        if manifest.product != PRODUCT {
            return refused(format!("it is an export of \"{}\", not of {PRODUCT}", manifest.product.escape_debug()));
        }
        if manifest.format > FORMAT {
            let (found, version) = (manifest.format, manifest.version.escape_debug());
            return refused(format!(
                "it has format {found}, of Hookline {version}, and this one reads formats up to {FORMAT}; use a newer one"
            ));
        }
        Ok(manifest)
    }
}

/// Writes an export.
pub(crate) struct Writer {
    tar: tar::Builder<GzEncoder<File>>,
    /// Lines that wait for their file, and what they are of.
    lines: Vec<u8>,
    part: Part,
    files: usize,
}

impl Writer {
    pub(crate) fn new(file: File, manifest: &Manifest) -> io::Result<Writer> {
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        let mut writer = Writer { tar, lines: Vec::new(), part: Part::Configuration, files: 0 };
        writer.append(MANIFEST, &serde_json::to_vec_pretty(manifest)?)?;
        Ok(writer)
    }

    pub(crate) fn configuration(&mut self, text: &str) -> io::Result<()> {
        self.append(CONFIGURATION, text.as_bytes())
    }

    /// An entry of a list. Those of one part come one behind the other.
    pub(crate) fn entry(&mut self, part: Part, entry: &impl Serialize) -> io::Result<()> {
        if self.part != part || self.lines.len() >= FILE_BYTES {
            self.flush()?;
            self.part = part;
        }
        serde_json::to_writer(&mut self.lines, entry)?;
        self.lines.push(b'\n');
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.tar.into_inner()?.finish()?.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.files += 1;
        let (name, lines) = (format!("{}-{}.jsonl", self.part.name(), self.files), std::mem::take(&mut self.lines));
        self.append(&name, &lines)
    }

    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0));
        self.tar.append_data(&mut header, format!("{FOLDER}{name}"), content)
    }
}

/// A reader that ends with an error where there is too much.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left =
            self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(format!("it unpacks to more than {UNPACKED_MAX} bytes")))?;
        Ok(read)
    }
}

/// Reads an export from its beginning to its end, and tells of each thing in it. Whoever hears of them is to do nothing that cannot be undone before
/// the end was reached: it may be broken there.
pub(crate) fn read(file: &File, mut visit: impl FnMut(Entry) -> Result<(), Refused>) -> Result<Manifest, Refused> {
    let mut file = file;
    file.rewind()?;
    let mut archive = tar::Archive::new(Bounded { inner: GzDecoder::new(BufReader::new(file)), left: UNPACKED_MAX });
    let (mut manifest, mut has_configuration) = (None, false);
    // Raw: the reader of the archive takes long names and such into memory without a bound.
    for (number, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let shown = path.escape_debug().to_string();
        if entry.header().entry_type() != EntryType::Regular {
            return refused(format!("\"{shown}\" is no plain file; an export has nothing else in it"));
        }
        let Some(name) = path.strip_prefix(FOLDER).filter(|_| number < FILES_MAX) else {
            return refused(format!("\"{shown}\" does not belong into an export of Hookline"));
        };
        let size = entry.size();
        if manifest.is_none() {
            if name != MANIFEST || size > MANIFEST_MAX {
                return refused(format!("it does not begin with {FOLDER}{MANIFEST}, so it is no export of Hookline"));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            manifest = Some(Manifest::parse(&bytes)?);
        } else if name == CONFIGURATION && !has_configuration {
            if size > CONFIGURATION_MAX {
                return refused(format!("{CONFIGURATION}: has more than {CONFIGURATION_MAX} bytes"));
            }
            has_configuration = true;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            let text = String::from_utf8(bytes).map_err(|_| Refused(format!("{CONFIGURATION}: is no text")))?;
            visit(Entry::Configuration(text))?;
        } else if let Some(part) = Part::of_file(name) {
            read_lines(part, name, entry, &mut visit)?;
        } else {
            return refused(format!("\"{shown}\" does not belong into an export of Hookline, or is there twice"));
        }
    }
    // To the very end, where the sum of everything stands.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    manifest.ok_or_else(|| Refused("it is empty".into()))
}

fn read_lines(part: Part, name: &str, file: impl Read, visit: &mut impl FnMut(Entry) -> Result<(), Refused>) -> Result<(), Refused> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        let at = |problem: String| Refused(format!("{name}: line {number}: {problem}"));
        line.clear();
        if (&mut file).take(LINE_MAX + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 > LINE_MAX {
            return Err(at(format!("has more than {LINE_MAX} bytes")));
        }
        visit(Entry::parse(part, &line).map_err(at)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hookline_schemas::{Message, MessageId};

    use super::super::{Retained, User};
    use super::*;

    /// An archive of such files: name, type, content.
    fn archive(files: &[(&str, EntryType, &[u8])]) -> File {
        let mut tar = tar::Builder::new(GzEncoder::new(tempfile::tempfile().expect("a file"), Compression::fast()));
        for (name, kind, content) in files {
            let mut header = Header::new_gnu();
            // Whatever the name is: an attacker does not ask.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, *content).expect("written");
        }
        tar.into_inner().expect("written").finish().expect("written")
    }

    fn manifest() -> Vec<u8> {
        serde_json::to_vec(&Manifest::new("n")).expect("plain JSON")
    }

    fn refusal(files: &[(&str, EntryType, &[u8])]) -> String {
        read(&archive(files), |_| Ok(())).expect_err("is refused").0
    }

    #[test]
    fn what_is_written_comes_back() {
        let file = tempfile::tempfile().expect("a file");
        let mut writer = Writer::new(file.try_clone().expect("open"), &Manifest::new("n")).expect("written");
        writer.configuration("# ours\n").expect("written");
        let user = |n: usize| User { user_id: format!("u{n}"), password_hash: "$7$".into(), is_superuser: n == 0 };
        (0..3).for_each(|n| writer.entry(Part::Users, &user(n)).expect("written"));
        let mut message = Message { received_at_ms: 7, id: MessageId(9), ..Message::internal("a/ä", &"x".repeat(FILE_BYTES)) };
        message.properties.push_user("a", "b");
        for _ in 0..2 {
            writer.entry(Part::Retained, &Retained::from(&message)).expect("written");
        }
        writer.finish().expect("written");
        let (mut users, mut texts, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        let read = read(&file, |entry| {
            match entry {
                Entry::Configuration(text) => texts.push(text),
                Entry::User(user) => users.push(user),
                Entry::Retained(message) => messages.push(message),
                other => panic!("{other:?}"),
            }
            Ok(())
        });
        assert_eq!(read.expect("is whole").node, "n");
        assert_eq!((users, texts), ((0..3).map(user).collect(), vec!["# ours\n".to_owned()]));
        let back = &messages[1];
        assert!(messages.len() == 2 && back.topic == message.topic && back.payload == message.payload && back.retain);
        assert_eq!((back.id, back.received_at_ms, &back.properties), (message.id, 7, &message.properties));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let (ours, plain) = (manifest(), EntryType::Regular);
        let first = ("hookline-export/manifest.json", plain, &*ours);
        for (files, problem) in [
            (vec![], "it is empty"),
            (vec![("cluster.hocon", plain, &b"{}"[..])], "does not belong"),
            (vec![("hookline-export/hookline.toml", plain, b"")], "does not begin with"),
            (vec![("hookline-export/manifest.json", plain, b"{")], "manifest.json"),
            (vec![first, first], "twice"),
            (vec![first, ("hookline-export/hookline.toml", plain, b""), ("hookline-export/hookline.toml", plain, b"")], "twice"),
            (vec![first, ("../etc/passwd", plain, b"")], "does not belong"),
            (vec![first, ("hookline-export/../x", plain, b"")], "does not belong"),
            (vec![first, ("/hookline-export/users-1.jsonl", plain, b"")], "does not belong"),
            (vec![first, ("hookline-export/users-1.jsonl", EntryType::Symlink, b"")], "no plain file"),
            (vec![first, ("hookline-export/users-1.jsonl", EntryType::Link, b"")], "no plain file"),
            (vec![first, ("hookline-export/users-1.jsonl", EntryType::GNULongName, b"x")], "no plain file"),
            (vec![first, ("hookline-export/users-1.jsonl", plain, b"{\"user_id\": \"u\"}\n")], "users-1.jsonl: line 1: missing field"),
            (vec![first, ("hookline-export/users-1.jsonl", plain, br#"{"user_id":"u","password_hash":"open"}"#)], "no hash"),
            (vec![first, ("hookline-export/bans-1.jsonl", plain, br#"{"as":"shoe","who":"u","at_ms":1,"until_ms":null}"#)], "shoe"),
            (vec![first, ("hookline-export/permissions-1.jsonl", plain, br#"{"kind":"all","name":null,"rules":[{}]}"#)], "line 1"),
            (vec![first, ("hookline-export/retained-x.jsonl", plain, b"")], "does not belong"),
            (vec![first, ("hookline-export/hookline.toml", plain, &[0xff])], "no text"),
        ] {
            let told = refusal(&files);
            assert!(told.contains(problem), "{problem}: {told}");
        }
        let of = |product: &str, format: u32| {
            let manifest = Manifest { product: product.into(), format, ..Manifest::new("n") };
            refusal(&[("hookline-export/manifest.json", plain, &serde_json::to_vec(&manifest).expect("plain JSON"))])
        };
        assert!(of("emqx", 1).contains("emqx") && of(PRODUCT, FORMAT + 1).contains("use a newer one"));
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_refused() {
        let mut file = archive(&[("hookline-export/manifest.json", EntryType::Regular, &manifest())]);
        let mut whole = Vec::new();
        file.rewind().expect("at its beginning");
        file.read_to_end(&mut whole).expect("read");
        let refused = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(bytes).expect("written");
            read(&file, |_| Ok(())).is_err()
        };
        assert!(!refused(&whole));
        for length in 0..whole.len() {
            assert!(refused(&whole[..length]), "{length} of {} bytes", whole.len());
        }
        let sum = whole.len() - 6;
        whole[sum] ^= 1;
        assert!(refused(&whole), "another sum");
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let mut bomb = Bounded { inner: io::repeat(0), left: 1 << 20 };
        let error = io::copy(&mut bomb, &mut io::sink()).expect_err("has no end");
        assert!(error.to_string().contains("more than"), "{error}");
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        let ours = manifest();
        let first = ("hookline-export/manifest.json", EntryType::Regular, &*ours);
        assert!(refusal(&[first, ("hookline-export/users-1.jsonl", EntryType::Regular, long.as_bytes())]).contains("line 1"));
        let large = vec![b'x'; MANIFEST_MAX as usize + 1];
        assert!(refusal(&[("hookline-export/manifest.json", EntryType::Regular, &large)]).contains("does not begin"));
    }
}
