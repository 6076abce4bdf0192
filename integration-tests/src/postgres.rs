//! PostgreSQL, read by an independent client.

use tokio_postgres::{NoTls, Row};

/// The server's address, as `integration-tests/services env` tells it.
pub fn url() -> String {
    std::env::var("HOOKLINE_TEST_POSTGRES")
        .expect("HOOKLINE_TEST_POSTGRES names no PostgreSQL; run: eval \"$(integration-tests/services env)\"")
}

/// Runs a query.
pub fn query(sql: &str) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url(), NoTls).await.expect("connects");
        let connection = tokio::spawn(connection);
        let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        drop(client);
        connection.await.expect("the connection ends").expect("in good order");
        rows
    })
}

/// Runs statements that give no rows.
pub fn execute(sql: &str) {
    for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
        query(statement);
    }
}
