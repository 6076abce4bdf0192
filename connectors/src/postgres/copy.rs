//! COPY: into the table itself, where the statement says no more than that.
//!
//! Otherwise a batch goes into a table of the session, and from there with one statement to where it belongs, in one transaction. That table has a column for each placeholder, and the row of VALUES becomes a SELECT from it: whatever the statement says beside
//! that, ON CONFLICT above all, holds as it does without COPY.

use std::pin::pin;

use bytes::Bytes;
use hookline_schemas::Record;
use tokio_postgres::CopyInSink;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::client::{Session, classify};
use super::request::{Parameter, is_binary};
use crate::connector::Failure;
use crate::statement::Statement;

/// The table of the session.
const TABLE: &str = "pg_temp.hookline_copy";

/// What a session has been prepared for.
pub(super) struct Copy {
    types: Vec<Type>,
    copy: tokio_postgres::Statement,
    /// From the table of the session, if it is needed.
    insert: Option<tokio_postgres::Statement>,
}

impl Copy {
    /// Asks for the types that the statement wants, and makes the table of the session where one is needed.
    pub(super) async fn prepare(session: &mut Session, statement: &Statement) -> Result<Copy, Failure> {
        let (client, prepared) = session.parts();
        let failed = |error: tokio_postgres::Error| classify(&error);
        // The statement may have been prepared for a table that is another by now.
        prepared.clear();
        let types = prepared.get_or_prepare(client, &statement.sql).await?.params().to_vec();
        if let Some(target) = statement.target().filter(|_| types.iter().all(is_binary)) {
            let copy = client.prepare(&format!("COPY {target} FROM STDIN (FORMAT BINARY)")).await.map_err(failed)?;
            return Ok(Copy { types, copy, insert: None });
        }
        let columns: Vec<String> = types.iter().enumerate().map(|(place, ty)| format!("{} {}", column(place), stored(ty))).collect();
        let table = format!("DROP TABLE IF EXISTS {TABLE}; CREATE TEMP TABLE hookline_copy ({}) ON COMMIT DELETE ROWS", columns.join(", "));
        client.batch_execute(&table).await.map_err(failed)?;
        let Some(insert) = statement.selecting(TABLE, |place| read(place, &types)) else {
            return Err(Failure::Reject("postgres: the statement has no row of VALUES".into()));
        };
        Ok(Copy {
            copy: client.prepare(&format!("COPY {TABLE} FROM STDIN (FORMAT BINARY)")).await.map_err(failed)?,
            insert: Some(client.prepare(&insert).await.map_err(failed)?),
            types,
        })
    }

    /// Writes a batch.
    pub(super) async fn write(&self, session: &mut Session, statement: &Statement, records: &[Record]) -> Result<(), Failure> {
        let failed = |error: tokio_postgres::Error| classify(&error);
        let Some(insert) = &self.insert else {
            // A COPY is a transaction by itself.
            let sink = session.parts().0.copy_in(&self.copy).await.map_err(failed)?;
            return self.fill(sink, statement, records).await;
        };
        let (transaction, _) = session.transaction().await?;
        self.fill(transaction.copy_in(&self.copy).await.map_err(failed)?, statement, records).await?;
        transaction.execute(insert, &[]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn fill(&self, sink: CopyInSink<Bytes>, statement: &Statement, records: &[Record]) -> Result<(), Failure> {
        let failed = |error: tokio_postgres::Error| classify(&error);
        let mut rows = pin!(BinaryCopyInWriter::new(sink, &self.types));
        for record in records {
            let values: Vec<Parameter> = statement.bind(record).into_iter().map(Parameter).collect();
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            rows.as_mut().write(&values).await.map_err(failed)?;
        }
        rows.finish().await.map(drop).map_err(failed)
    }
}

fn column(place: usize) -> String {
    format!("p{}", place + 1)
}

fn name(ty: &Type) -> String {
    format!("\"{}\".\"{}\"", ty.schema().replace('"', "\"\""), ty.name().replace('"', "\"\""))
}

/// The type of a column: what has no binary form here waits as text.
fn stored(ty: &Type) -> String {
    if is_binary(ty) && *ty != Type::UNKNOWN { name(ty) } else { "text".to_owned() }
}

/// A column, as the type that the statement wants.
fn read(place: usize, types: &[Type]) -> String {
    match types.get(place) {
        Some(ty) if !is_binary(ty) => format!("{}::{}", column(place), name(ty)),
        _ => column(place),
    }
}
