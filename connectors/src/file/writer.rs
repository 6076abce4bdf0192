//! The file itself: opened, mended, written, changed. It blocks.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// How much of a file's end is looked at for its last line.
const TAIL_BYTES: u64 = 4 << 20;

/// Where lines go.
pub(super) struct Writer {
    folder: PathBuf,
    name: String,
    file: File,
    bytes: u64,
    began: Instant,
    rotate_bytes: u64,
    rotate_age: Option<Duration>,
    files_max: usize,
    /// The identifier of the last record that is there.
    last: Option<String>,
}

/// When files are changed, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    pub(super) bytes: u64,
    pub(super) age: Option<Duration>,
    pub(super) files_max: usize,
}

impl Writer {
    /// Opens the file, and takes a line away that has no end.
    pub(super) fn open(folder: &Path, name: &str, rotation: Rotation) -> io::Result<Writer> {
        fs::create_dir_all(folder)?;
        let mut file = File::options().read(true).append(true).create(true).open(folder.join(name))?;
        // Two writers would not see what the other has written.
        file.try_lock().map_err(|_| io::Error::other("another writes to it; an action that writes a file has one worker"))?;
        let bytes = mend(&mut file)?;
        let last = match last_id(&mut file)? {
            Some(last) => Some(last),
            None => match finished(folder, name)?.last() {
                Some(newest) => last_id(&mut File::open(newest)?)?,
                None => None,
            },
        };
        let age = file.metadata()?.created().ok().and_then(|created| SystemTime::now().duration_since(created).ok()).unwrap_or_default();
        let began = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let Rotation { bytes: rotate_bytes, age: rotate_age, files_max } = rotation;
        Ok(Writer { folder: folder.to_owned(), name: name.to_owned(), file, bytes, began, rotate_bytes, rotate_age, files_max, last })
    }

    /// Whether a record is there already.
    pub(super) fn has(&self, hookline_id: &str) -> bool {
        // Of another queue or node, they cannot be compared.
        let queue = |id: &str| id.rsplit_once(':').map(|(queue, _)| queue.to_owned());
        self.last.as_ref().is_some_and(|last| queue(last) == queue(hookline_id) && hookline_id <= last.as_str())
    }

    /// Writes lines whose last one is of that record, and syncs them.
    pub(super) fn write(&mut self, lines: &[u8], last: &str) -> io::Result<()> {
        let is_old = self.rotate_age.is_some_and(|age| self.began.elapsed() >= age);
        if self.bytes > 0 && (self.bytes >= self.rotate_bytes || is_old) {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        self.last = Some(last.to_owned());
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let at = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ").to_string();
        let (stem, extension) = parts(&self.name);
        fs::rename(self.folder.join(&self.name), self.folder.join(format!("{stem}-{at}{extension}")))?;
        self.file = File::options().read(true).append(true).create(true).open(self.folder.join(&self.name))?;
        self.file.try_lock().map_err(|_| io::Error::other("another writes to it"))?;
        File::open(&self.folder)?.sync_all()?;
        (self.bytes, self.began) = (0, Instant::now());
        let finished = finished(&self.folder, &self.name)?;
        let surplus = if self.files_max == 0 { 0 } else { finished.len().saturating_sub(self.files_max) };
        for old in &finished[..surplus] {
            fs::remove_file(old)?;
            tracing::info!(file = %old.display(), "the oldest file is removed");
        }
        Ok(())
    }
}

/// What stands before the last dot, and the rest.
fn parts(name: &str) -> (&str, &str) {
    name.rfind('.').filter(|place| *place > 0).map_or((name, ""), |place| name.split_at(place))
}

/// The finished files, oldest first.
fn finished(folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = parts(name);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_one = path.file_name().and_then(|other| other.to_str()).is_some_and(|other| {
            let time = other.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.strip_suffix(extension));
            time.is_some_and(|time| time.ends_with('Z') && time.starts_with(|first: char| first.is_ascii_digit()))
        });
        if is_one {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Cuts off what stands behind the last line's end; the length that is left.
fn mend(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let bytes = &mut block[..(end - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(bytes)?;
        if let Some(place) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = from + place as u64 + 1;
            break;
        }
        end = from;
    }
    if end < length {
        tracing::warn!(bytes = length - end, "a line that a crash has cut is taken away; its record comes again");
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(end)
}

/// The identifier in the last line.
fn last_id(file: &mut File) -> io::Result<Option<String>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let last = BufReader::new(file).split(b'\n').filter_map(Result::ok).last();
    let line: Option<serde_json::Value> = last.and_then(|line| serde_json::from_slice(&line).ok());
    Ok(line.and_then(|line| line["hookline_id"].as_str().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: Rotation = Rotation { bytes: 100, age: None, files_max: 2 };

    fn line(number: u64) -> String {
        format!("{{\"hookline_id\":\"n:1:{number:016x}\",\"n\":{number}}}\n")
    }

    #[test]
    fn cut_lines_are_mended_and_what_is_there_is_known_also_over_a_change_of_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Writer::open(folder.path(), "e.ndjson", ROTATION).expect("opens");
        let mut writer = open();
        assert!(Writer::open(folder.path(), "e.ndjson", ROTATION).is_err(), "one at a time");
        writer.write(line(1).as_bytes(), "n:1:0000000000000001").expect("written");
        drop(writer);
        let mut file = File::options().append(true).open(folder.path().join("e.ndjson")).expect("opens");
        file.write_all(b"{\"hookline_id\":\"n:1:00").expect("written");
        drop(file);
        let mut writer = open();
        assert!(writer.has("n:1:0000000000000001") && !writer.has("n:1:0000000000000002") && !writer.has("n:2:0000000000000000"));
        for number in 2..12 {
            writer.write(line(number).as_bytes(), &format!("n:1:{number:016x}")).expect("written");
        }
        assert_eq!(finished(folder.path(), "e.ndjson").expect("reads").len(), 2, "the oldest go");
        drop(writer);
        // Nothing is in the new file yet.
        File::options().write(true).open(folder.path().join("e.ndjson")).expect("opens").set_len(0).expect("cut");
        let newest = finished(folder.path(), "e.ndjson").expect("reads").pop().expect("one");
        let last: serde_json::Value =
            serde_json::from_str(fs::read_to_string(newest).expect("reads").lines().last().expect("a line")).expect("JSON");
        assert!(open().has(last["hookline_id"].as_str().expect("a text")));
    }
}
