//! The file itself: opened, mended, written, changed. It blocks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::Deserialize;

use super::parquet::{Columns, convert};

/// How much of what was written last is looked at for records that may come again: more than what is delivered between two
/// savings of a queue's front.
const TAIL_BYTES: u64 = 32 << 20;

/// What is read of a line.
#[derive(Deserialize)]
struct Line {
    hookline_id: String,
}

/// Where lines go.
pub(super) struct Writer {
    folder: PathBuf,
    /// The file that is written to.
    name: String,
    /// Where lines only wait to become Parquet files.
    parquet: Option<Parquet>,
    file: File,
    bytes: u64,
    began: Instant,
    rotate_bytes: u64,
    rotate_age: Option<Duration>,
    files_max: usize,
    /// The records that were there when it was opened and may come again. None of them does once a batch came without any.
    known: HashSet<String>,
}

/// What lines become.
struct Parquet {
    /// The name of the files, without their time.
    name: String,
    /// The first line of each file of lines.
    header: String,
}

/// When files are changed, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    pub(super) bytes: u64,
    pub(super) age: Option<Duration>,
    pub(super) files_max: usize,
}

impl Writer {
    /// Opens the file, takes a line away that has no end, and finishes what a crash has left.
    pub(super) fn open(folder: &Path, name: &str, rotation: Rotation, columns: Option<Columns>) -> io::Result<Writer> {
        fs::create_dir_all(folder)?;
        let parquet = columns.map(|columns| Parquet { name: name.to_owned(), header: columns.header() });
        let name = if parquet.is_some() { format!(".{name}.ndjson") } else { name.to_owned() };
        let mut file = File::options().read(true).append(true).create(true).open(folder.join(&name))?;
        // Two writers would not see what the other has written.
        file.try_lock().map_err(|_| io::Error::other("another writes to it; an action that writes a file has one worker"))?;
        let bytes = mend(&mut file)?;
        // What is found here counts as written: a crash may have left it in memory only.
        file.sync_data()?;
        File::open(folder)?.sync_all()?;
        let age = file.metadata()?.created().ok().and_then(|created| SystemTime::now().duration_since(created).ok()).unwrap_or_default();
        let began = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let Rotation { bytes: rotate_bytes, age: rotate_age, files_max } = rotation;
        let (folder, known) = (folder.to_owned(), HashSet::new());
        let mut writer = Writer { folder, name, parquet, file, bytes, began, rotate_bytes, rotate_age, files_max, known };
        writer.make_parquet()?;
        if writer.has_other_columns()? {
            writer.rotate()?;
        }
        let mut left = ids(&mut writer.file, TAIL_BYTES, &mut writer.known)?;
        for older in writer.done()?.iter().rev() {
            if left == 0 {
                break;
            }
            left = ids(&mut File::open(older)?, left, &mut writer.known)?;
        }
        Ok(writer)
    }

    /// What of a batch is not there yet. Batches come in order, and begin again before what is there.
    pub(super) fn missing(&mut self, mut batch: Vec<(String, String)>) -> Vec<(String, String)> {
        let records = batch.len();
        batch.retain(|(hookline_id, _)| !self.known.contains(hookline_id));
        if batch.len() == records {
            self.known = HashSet::new();
        }
        batch
    }

    /// Writes lines, and syncs them.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.rotate_if_due()?;
        if self.bytes == 0 {
            self.began = Instant::now();
            if let Some(parquet) = &self.parquet {
                self.file.write_all(parquet.header.as_bytes())?;
                self.bytes += parquet.header.len() as u64;
            }
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Begins a new file where the one at hand is large or old enough.
    pub(super) fn rotate_if_due(&mut self) -> io::Result<()> {
        let is_old = self.rotate_age.is_some_and(|age| self.began.elapsed() >= age);
        if self.bytes > 0 && (self.bytes >= self.rotate_bytes || is_old) { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let at = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ").to_string();
        let (stem, extension) = parts(&self.name);
        fs::rename(self.folder.join(&self.name), self.folder.join(format!("{stem}-{at}{extension}")))?;
        self.file = File::options().read(true).append(true).create(true).open(self.folder.join(&self.name))?;
        self.file.try_lock().map_err(|_| io::Error::other("another writes to it"))?;
        File::open(&self.folder)?.sync_all()?;
        (self.bytes, self.began) = (0, Instant::now());
        self.make_parquet()?;
        let name = self.parquet.as_ref().map_or(&self.name, |parquet| &parquet.name);
        let finished = finished(&self.folder, name)?;
        let surplus = if self.files_max == 0 { 0 } else { finished.len().saturating_sub(self.files_max) };
        for old in &finished[..surplus] {
            fs::remove_file(old)?;
            tracing::info!(file = %old.display(), "the oldest file is removed");
        }
        Ok(())
    }
}

impl Writer {
    /// Finished files of lines, oldest first.
    fn done(&self) -> io::Result<Vec<PathBuf>> {
        match &self.parquet {
            Some(parquet) => finished(&self.folder, &format!(".{}.done", parquet.name)),
            None => finished(&self.folder, &self.name),
        }
    }

    /// Whether the lines at hand were written for other columns than those of today.
    fn has_other_columns(&mut self) -> io::Result<bool> {
        let Some(parquet) = self.parquet.as_ref().filter(|_| self.bytes > 0) else { return Ok(false) };
        let mut first = String::new();
        self.file.seek(SeekFrom::Start(0))?;
        BufReader::new(&self.file).read_line(&mut first)?;
        Ok(first != parquet.header)
    }

    /// Makes Parquet files of finished lines. Of the lines so many are kept as are looked at for records that come again.
    fn make_parquet(&self) -> io::Result<()> {
        let Some(parquet) = &self.parquet else { return Ok(()) };
        let (stem, extension) = parts(&parquet.name);
        for lines in finished(&self.folder, &self.name)? {
            let time =
                lines.file_name().and_then(|name| name.to_str()?.strip_prefix(&format!(".{}-", parquet.name))?.strip_suffix(".ndjson"));
            let Some(time) = time else { continue };
            let target = self.folder.join(format!("{stem}-{time}{extension}"));
            // It may be there already: then a crash came before the lines got their other name.
            if !target.exists() {
                let part = self.folder.join(format!(".{stem}-{time}{extension}.part"));
                convert(&lines, &part)?;
                fs::rename(&part, &target)?;
                File::open(&self.folder)?.sync_all()?;
            }
            fs::rename(&lines, lines.with_extension("done"))?;
            File::open(&self.folder)?.sync_all()?;
        }
        let mut kept = 0;
        for lines in self.done()?.iter().rev() {
            if kept >= TAIL_BYTES {
                fs::remove_file(lines)?;
            } else {
                kept += fs::metadata(lines)?.len();
            }
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

/// Adds the identifiers in the last `bytes` of a file; how many of those bytes are left for the file before it.
fn ids(file: &mut File, bytes: u64, known: &mut HashSet<String>) -> io::Result<u64> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    for line in BufReader::new(file).split(b'\n') {
        // The first may be the end of one.
        if let Ok(Line { hookline_id }) = serde_json::from_slice(&line?) {
            known.insert(hookline_id);
        }
    }
    Ok(bytes.saturating_sub(length))
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
        let open = || Writer::open(folder.path(), "e.ndjson", ROTATION, None).expect("opens");
        let mut writer = open();
        assert!(Writer::open(folder.path(), "e.ndjson", ROTATION, None).is_err(), "one at a time");
        let has = |writer: &mut Writer, number: u64| writer.missing(vec![(format!("n:1:{number:016x}"), String::new())]).is_empty();
        writer.write(line(1).as_bytes()).expect("written");
        drop(writer);
        let mut file = File::options().append(true).open(folder.path().join("e.ndjson")).expect("opens");
        file.write_all(b"{\"hookline_id\":\"n:1:00").expect("written");
        drop(file);
        let mut writer = open();
        assert!(has(&mut writer, 1) && !has(&mut writer, 2));
        for number in 2..12 {
            writer.write(line(number).as_bytes()).expect("written");
        }
        assert_eq!(finished(folder.path(), "e.ndjson").expect("reads").len(), 2, "the oldest go");
        drop(writer);
        // Nothing is in the new file yet.
        File::options().write(true).open(folder.path().join("e.ndjson")).expect("opens").set_len(0).expect("cut");
        let files = finished(folder.path(), "e.ndjson").expect("reads");
        let ids = files.iter().flat_map(|file| {
            let text = fs::read_to_string(file).expect("reads");
            text.lines().map(|line| serde_json::from_str::<Line>(line).expect("JSON").hookline_id).collect::<Vec<_>>()
        });
        let batch: Vec<(String, String)> = ids.map(|id| (id, String::new())).collect();
        assert!(batch.len() > 2, "{batch:?}");
        let mut writer = open();
        for two in batch.chunks(2) {
            assert!(writer.missing(two.to_vec()).is_empty(), "all that is there is known, also behind a batch of which some is");
        }
        let new = ("n:1:ffffffffffffffff".to_owned(), String::new());
        assert_eq!(writer.missing(vec![batch[0].clone(), new.clone()]), vec![new.clone()]);
        assert!(writer.missing(vec![batch[1].clone()]).is_empty());
        assert_eq!(writer.missing(vec![new.clone()]), vec![new]);
        assert!(writer.known.is_empty(), "what came before does not come again");
    }
}
