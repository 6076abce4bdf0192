//! Parquet: lines of JSON, which have waited until their file was full, become columns.
//!
//! The file of lines says in its first line which columns there will be, so a change of the settings changes nothing of what waits already.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::kind::{PARAMETERS, SettingsError};

/// Rows of a row group, and bytes of text in one.
const GROUP_ROWS_MAX: usize = 100_000;
const GROUP_BYTES_MAX: usize = 64 << 20;
/// The column that is always there.
const ID: &str = "hookline_id";
/// The column of the whole line, where no others are named.
const WHOLE: &str = "row";

/// A column of a Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Column {
    /// Its name, which is also that of the value in the line.
    pub(crate) name: String,
    /// Its type. What is missing is null; a record whose value does not fit becomes a dead letter.
    #[serde(rename = "type")]
    pub(crate) ty: ColumnType,
}

/// Types of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ColumnType {
    /// Text; other values in their JSON form.
    String,
    /// 64 bits, signed.
    Int,
    /// 64 bits.
    Float,
    Boolean,
    /// Milliseconds since the Unix epoch, or a text by RFC 3339; milliseconds in UTC in the file.
    Timestamp,
    /// JSON, as text.
    Json,
}

/// The columns of a file; none means one with the whole line. It is the first line of the lines that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Columns {
    columns: Vec<Column>,
}

/// A value of a column.
enum Cell {
    Text(String),
    Number(i64),
    Float(f64),
    Boolean(bool),
}

impl Columns {
    pub(super) fn new(columns: &[Column]) -> Result<Columns, Vec<SettingsError>> {
        let wrong = |(place, column): (usize, &Column)| {
            let is_double = columns[..place].iter().any(|other| other.name == column.name);
            let problem = match column.name.as_str() {
                "" => "must not be empty".to_owned(),
                ID => format!("{ID} is always there; leave it out"),
                name if is_double => format!("there are two \"{name}\""),
                _ => return None,
            };
            Some(SettingsError { path: format!("{PARAMETERS}.columns[{place}].name"), problem })
        };
        let errors: Vec<SettingsError> = columns.iter().enumerate().filter_map(wrong).collect();
        if errors.is_empty() { Ok(Columns { columns: columns.to_vec() }) } else { Err(errors) }
    }

    /// The first line of the lines that wait.
    pub(super) fn header(&self) -> String {
        format!("{}\n", serde_json::json!(self))
    }

    /// Whether a line fits.
    pub(super) fn check(&self, line: &Json) -> Result<(), String> {
        for column in &self.columns {
            cell(column.ty, &line[&column.name]).map_err(|problem| format!("file: column \"{}\": {problem}", column.name))?;
        }
        Ok(())
    }

    fn schema(&self) -> Result<Type, ParquetError> {
        let mut fields = vec![Arc::new(field(ID, ColumnType::String, Repetition::REQUIRED)?)];
        if self.columns.is_empty() {
            fields.push(Arc::new(field(WHOLE, ColumnType::Json, Repetition::REQUIRED)?));
        }
        for Column { name, ty } in &self.columns {
            fields.push(Arc::new(field(name, *ty, Repetition::OPTIONAL)?));
        }
        Type::group_type_builder("record").with_fields(fields).build()
    }
}

fn field(name: &str, ty: ColumnType, repetition: Repetition) -> Result<Type, ParquetError> {
    let (physical, logical) = match ty {
        ColumnType::String => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
        ColumnType::Int => (Physical::INT64, None),
        ColumnType::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
        ColumnType::Float => (Physical::DOUBLE, None),
        ColumnType::Boolean => (Physical::BOOLEAN, None),
    };
    Type::primitive_type_builder(name, physical).with_repetition(repetition).with_logical_type(logical).build()
}

/// A value as the column wants it; `None` for null.
fn cell(ty: ColumnType, value: &Json) -> Result<Option<Cell>, String> {
    let text = value.as_str();
    let found = match ty {
        _ if value.is_null() => return Ok(None),
        ColumnType::String => Some(Cell::Text(text.map_or_else(|| value.to_string(), str::to_owned))),
        ColumnType::Json => Some(Cell::Text(value.to_string())),
        ColumnType::Int => {
            let whole = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15).map(|number| number as i64);
            value.as_i64().or(whole).or_else(|| text?.trim().parse().ok()).map(Cell::Number)
        }
        ColumnType::Float => value.as_f64().or_else(|| text?.trim().parse().ok()).map(Cell::Float),
        ColumnType::Boolean => value.as_bool().or_else(|| text?.trim().parse().ok()).map(Cell::Boolean),
        ColumnType::Timestamp => {
            let time = || text?.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
            value.as_i64().or_else(time).map(Cell::Number)
        }
    };
    found.map(Some).ok_or_else(|| format!("{value} is no {}", serde_json::json!(ty).as_str().unwrap_or_default()))
}

/// Makes a Parquet file of lines, and syncs it. It blocks.
pub(super) fn convert(lines: &Path, target: &Path) -> io::Result<()> {
    let failed = |error: ParquetError| io::Error::other(format!("{}: {error}", target.display()));
    let mut read = BufReader::new(File::open(lines)?).split(b'\n');
    let header = read.next().transpose()?.unwrap_or_default();
    let columns: Columns = serde_json::from_slice(&header).map_err(|error| io::Error::other(format!("{}: {error}", lines.display())))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_created_by("hookline".to_owned()).build();
    let schema = Arc::new(columns.schema().map_err(failed)?);
    let mut writer = SerializedFileWriter::new(File::create(target)?, schema, Arc::new(properties)).map_err(failed)?;
    let mut group = Group::default();
    for line in read {
        let line = line?;
        match serde_json::from_slice(&line) {
            Ok(row) => group.push(row, line.len()),
            Err(error) => tracing::error!(file = %lines.display(), %error, "a line is damaged; its record is lost"),
        }
        if group.is_full() {
            group.write(&columns, &mut writer).map_err(failed)?;
        }
    }
    group.write(&columns, &mut writer).map_err(failed)?;
    writer.into_inner().map_err(failed)?.sync_all()
}

/// Rows that become a row group.
#[derive(Default)]
struct Group {
    rows: Vec<Json>,
    bytes: usize,
}

impl Group {
    fn push(&mut self, row: Json, bytes: usize) {
        self.rows.push(row);
        self.bytes += bytes;
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= GROUP_ROWS_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    fn write(&mut self, columns: &Columns, writer: &mut SerializedFileWriter<File>) -> Result<(), ParquetError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut group = writer.next_row_group()?;
        let id = |row: &Json| row[ID].as_str().unwrap_or_default().into();
        let ids: Vec<ByteArray> = self.rows.iter().map(id).collect();
        fill(group.next_column()?, |column| column.typed::<ByteArrayType>().write_batch(&ids, None, None))?;
        if columns.columns.is_empty() {
            let whole: Vec<ByteArray> = self.rows.iter_mut().map(|row| without_id(row).as_str().into()).collect();
            fill(group.next_column()?, |column| column.typed::<ByteArrayType>().write_batch(&whole, None, None))?;
        }
        for Column { name, ty } in &columns.columns {
            // What was checked before it was written fits.
            let cells: Vec<Option<Cell>> = self.rows.iter().map(|row| cell(*ty, &row[name]).ok().flatten()).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| cell.is_some().into()).collect();
            fill(group.next_column()?, |column| write_cells(column, cells, &levels, *ty))?;
        }
        group.close()?;
        *self = Group::default();
        Ok(())
    }
}

/// The line as its template made it.
fn without_id(row: &mut Json) -> String {
    if let Json::Object(fields) = row {
        fields.shift_remove(ID);
    }
    row.to_string()
}

fn fill(
    column: Option<SerializedColumnWriter<'_>>,
    write: impl FnOnce(&mut SerializedColumnWriter<'_>) -> Result<usize, ParquetError>,
) -> Result<(), ParquetError> {
    let mut column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
    write(&mut column)?;
    column.close()
}

fn write_cells(
    column: &mut SerializedColumnWriter<'_>,
    cells: Vec<Option<Cell>>,
    levels: &[i16],
    ty: ColumnType,
) -> Result<usize, ParquetError> {
    let cells = cells.into_iter().flatten();
    match ty {
        ColumnType::String | ColumnType::Json => {
            let texts: Vec<ByteArray> =
                cells.filter_map(|cell| if let Cell::Text(text) = cell { Some(text.into_bytes().into()) } else { None }).collect();
            column.typed::<ByteArrayType>().write_batch(&texts, Some(levels), None)
        }
        ColumnType::Int | ColumnType::Timestamp => {
            let numbers: Vec<i64> = cells.filter_map(|cell| if let Cell::Number(number) = cell { Some(number) } else { None }).collect();
            column.typed::<Int64Type>().write_batch(&numbers, Some(levels), None)
        }
        ColumnType::Float => {
            let numbers: Vec<f64> = cells.filter_map(|cell| if let Cell::Float(number) = cell { Some(number) } else { None }).collect();
            column.typed::<DoubleType>().write_batch(&numbers, Some(levels), None)
        }
        ColumnType::Boolean => {
            let flags: Vec<bool> = cells.filter_map(|cell| if let Cell::Boolean(flag) = cell { Some(flag) } else { None }).collect();
            column.typed::<BoolType>().write_batch(&flags, Some(levels), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_columns_or_are_refused() {
        let fits = |ty, value: Json| cell(ty, &value).is_ok();
        for value in [serde_json::json!(1), serde_json::json!(1.0), serde_json::json!(" 1 "), Json::Null] {
            assert!(fits(ColumnType::Int, value.clone()) && fits(ColumnType::Float, value.clone()), "{value}");
        }
        assert!(!fits(ColumnType::Int, serde_json::json!(1.5)) && !fits(ColumnType::Int, serde_json::json!("x")));
        assert!(
            fits(ColumnType::Timestamp, serde_json::json!("2026-01-01T00:00:00Z"))
                && !fits(ColumnType::Timestamp, serde_json::json!("now"))
        );
        assert!(fits(ColumnType::Boolean, serde_json::json!("true")) && !fits(ColumnType::Boolean, serde_json::json!(1)));
        assert!(fits(ColumnType::String, serde_json::json!({"a": 1})) && fits(ColumnType::Json, serde_json::json!([1])));
        let column = |name: &str| Column { name: name.into(), ty: ColumnType::Int };
        assert!(Columns::new(&[column("a"), column("b")]).is_ok());
        for wrong in [vec![column("a"), column("a")], vec![column(ID)], vec![column("")]] {
            assert!(Columns::new(&wrong).is_err(), "{wrong:?}");
        }
    }
}
