//! MongoDB, read by an independent client.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};

use crate::eventually;

/// How long the server may be away, because another test has stopped it.
const AWAY: Duration = Duration::from_secs(60);

/// The server's address with a database, as `integration-tests/services env` tells it.
pub fn url() -> String {
    std::env::var("HOOKLINE_TEST_MONGODB").expect("HOOKLINE_TEST_MONGODB names no MongoDB; run: eval \"$(integration-tests/services env)\"")
}

/// Runs a command in the database, such as `createIndexes`.
pub fn command(command: &Document) {
    eventually("the command is done", AWAY, || {
        block_on(async {
            let client = Client::with_uri_str(url()).await?;
            client.default_database().expect("the URL names a database").run_command(command.clone()).await
        })
    });
}

/// The documents of a collection, in the order in which they were added.
pub fn documents(collection: &str) -> Vec<Document> {
    eventually("the documents are read", AWAY, || {
        block_on(async {
            let client = Client::with_uri_str(url()).await?;
            let database = client.default_database().expect("the URL names a database");
            let mut cursor = database.collection::<Document>(collection).find(doc! {}).await?;
            let mut documents = Vec::new();
            while cursor.advance().await? {
                documents.push(cursor.deserialize_current()?);
            }
            Ok(documents)
        })
    })
}

/// `None`: the server is away, or was while it was asked.
fn block_on<T>(work: impl Future<Output = mongodb::error::Result<T>>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work).ok()
}
