//! The sink: a batch is some lines and one sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Record, Value};
use parking_lot::Mutex;

use super::config::{Format, Parameters};
use super::parquet::Columns;
use super::writer::{Rotation, Writer};
use crate::connector::{Failure, Sink};
use crate::document::{Document, anything};
use crate::kind::{PARAMETERS, SettingsError};

/// After how long a Parquet file ends where nothing else is said.
const PARQUET_ROTATE_SECS: u64 = 3600;

pub(super) struct FileSink {
    folder: PathBuf,
    name: String,
    rotation: Rotation,
    line: Document,
    /// Of Parquet files.
    columns: Option<Columns>,
    writer: Option<Arc<Mutex<Writer>>>,
}

impl FileSink {
    pub(super) fn new(folder: PathBuf, parameters: &Parameters) -> Result<FileSink, Vec<SettingsError>> {
        let wrong = |key: &str, problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.{key}"), problem: problem.to_owned() }];
        if parameters.name.is_empty() || parameters.name.contains('/') || parameters.name.starts_with('.') {
            return Err(wrong("name", "must be the name of a file, without a folder"));
        }
        let columns = match parameters.format {
            Format::Parquet => Some(Columns::new(&parameters.columns)?),
            Format::Ndjson if !parameters.columns.is_empty() => {
                return Err(wrong("columns", "only Parquet has columns; set format = \"parquet\""));
            }
            Format::Ndjson => None,
        };
        let secs = parameters.rotate_secs.unwrap_or(if columns.is_some() { PARQUET_ROTATE_SECS } else { 0 });
        let age = (secs > 0).then(|| Duration::from_secs(secs));
        Ok(FileSink {
            folder,
            name: parameters.name.clone(),
            rotation: Rotation { bytes: parameters.rotate_bytes.max(1), age, files_max: parameters.files_max },
            line: Document::parse("line", &parameters.line)?,
            columns,
            writer: None,
        })
    }

    /// The line of a record.
    fn line(&self, record: &Record) -> Result<String, Failure> {
        let filled = self.line.fill(record, &anything).map_err(Failure::Reject)?;
        let Value::Map(fields) = filled else { return Err(Failure::Reject("file: a line must be a JSON object".into())) };
        let mut line = Map::new();
        line.push_new("hookline_id", Value::text(&record.hookline_id));
        fields.iter().for_each(|(name, value)| line.insert(name, value.clone()));
        line.insert("hookline_id", Value::text(&record.hookline_id));
        let line = Value::Map(line).to_json();
        if let Some(columns) = &self.columns {
            columns.check(&line).map_err(Failure::Reject)?;
        }
        Ok(format!("{line}\n"))
    }
}

/// Runs what may block beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Reconnect(format!("file: {error}"))),
        Err(error) => Err(Failure::Reconnect(format!("file: {error}"))),
    }
}

impl Sink for FileSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            self.writer = None;
            let (folder, name, rotation, columns) = (self.folder.clone(), self.name.clone(), self.rotation, self.columns.clone());
            let writer = blocking(move || Writer::open(&folder, &name, rotation, columns)).await?;
            self.writer = Some(Arc::new(Mutex::new(writer)));
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let writer = self.writer.clone().ok_or_else(|| Failure::Reconnect("file: not open".into()))?;
            let mut lines = Vec::with_capacity(records.len());
            for record in records {
                lines.push((record.hookline_id.clone(), self.line(record)?));
            }
            blocking(move || {
                let mut writer = writer.lock();
                let new = writer.missing(lines);
                if new.is_empty() {
                    return Ok(());
                }
                let lines: String = new.iter().map(|(_, line)| line.as_str()).collect();
                writer.write(lines.as_bytes())
            })
            .await
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            match self.writer.clone() {
                // A file that is due ends also while nothing comes.
                Some(writer) => blocking(move || writer.lock().rotate_if_due()).await,
                None => Ok(()),
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.writer = None })
    }
}
