//! One sink made of several: a column of a record says which of them takes it. Records of one key keep their order, across all of them.

use std::collections::{BTreeMap, HashMap};

use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Record, Value};

use crate::connector::{Failure, Sink};

/// The column that names the case.
pub const CASE: &str = "case";
/// The column by which records keep their order.
pub const KEY: &str = "key";

/// Sinks by the names of their cases.
pub struct Cases {
    sinks: Vec<(String, Box<dyn Sink>)>,
}

/// Which sink, and the step in which it takes a record.
type Place = (usize, usize);

impl Cases {
    /// Puts sinks together.
    pub fn new(sinks: Vec<(String, Box<dyn Sink>)>) -> Cases {
        Cases { sinks }
    }

    /// The records of each sink, in steps that are done one after the other: what has the same key comes in a later step than what was before
    /// it, and no sink goes back behind what it has had. So a batch makes few calls, however its records alternate.
    fn steps(&self, records: &[Record]) -> Result<BTreeMap<Place, Vec<Record>>, Failure> {
        let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut by_sink = vec![0; self.sinks.len()];
        let mut steps: BTreeMap<Place, Vec<Record>> = BTreeMap::new();
        for record in records {
            let case = record.row.path([CASE]).as_text().unwrap_or_default();
            let sink = self.sinks.iter().position(|(name, _)| *name == case);
            let sink = sink.ok_or_else(|| Failure::Reject(format!("nothing is written for the case \"{case}\"")))?;
            let key = record.row.path([KEY]).as_bytes().unwrap_or_default();
            let behind = by_key.get(key).map_or(0, |step| step + 1);
            let step = behind.max(by_sink[sink]);
            by_key.insert(key.to_vec(), step);
            by_sink[sink] = step;
            steps.entry((step, sink)).or_default().push(record.clone());
        }
        Ok(steps)
    }
}

impl Sink for Cases {
    fn records_max(&self) -> usize {
        self.sinks.iter().map(|(_, sink)| sink.records_max()).min().unwrap_or(usize::MAX)
    }

    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            for (_, sink) in &mut self.sinks {
                sink.connect().await?;
            }
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            for ((_, sink), records) in self.steps(records)? {
                self.sinks[sink].1.deliver(&records).await?;
            }
            Ok(())
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            for (_, sink) in &mut self.sinks {
                sink.check().await?;
            }
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for (_, sink) in &mut self.sinks {
                sink.close().await;
            }
        })
    }
}

/// The columns that say where a record goes, for a row.
pub fn columns(case: &'static str, key: Value) -> [(&'static str, Value); 2] {
    [(CASE, Value::text(case)), (KEY, key)]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hookline_schemas::Map;

    use super::*;

    type Called = Vec<(&'static str, Vec<u64>)>;
    type Calls = Arc<Mutex<Called>>;

    struct Noting(&'static str, Calls);

    impl Sink for Noting {
        fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async { Ok(()) })
        }

        fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
            self.1.lock().expect("not poisoned").push((self.0, records.iter().map(|record| record.sequence).collect()));
            Box::pin(async { Ok(()) })
        }

        fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async { Ok(()) })
        }

        fn close(&mut self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    fn record(sequence: u64, case: &'static str, key: &str) -> Record {
        let mut row = Map::new();
        columns(case, Value::text(key)).into_iter().for_each(|(name, value)| row.insert(name, value));
        Record { sequence, hookline_id: String::new(), bytes: 0, row: Value::Map(row), trace: None }
    }

    fn calls(records: &[Record]) -> (Called, Result<(), Failure>) {
        let calls = Calls::default();
        let sinks = ["put", "ack"].map(|name| (name.to_owned(), Box::new(Noting(name, Arc::clone(&calls))) as Box<dyn Sink>));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let result = runtime.block_on(Cases::new(sinks.into()).deliver(records));
        let calls = calls.lock().expect("not poisoned").clone();
        (calls, result)
    }

    #[test]
    fn what_alternates_goes_together_and_keys_keep_their_order() {
        let alternating = [record(1, "put", "a"), record(2, "ack", "a"), record(3, "put", "b"), record(4, "ack", "b")];
        assert_eq!(calls(&alternating), (vec![("put", vec![1, 3]), ("ack", vec![2, 4])], Ok(())));
        // The same key twice, and no sink goes back.
        let again = [record(1, "put", "a"), record(2, "put", "a"), record(3, "ack", "b"), record(4, "put", "c"), record(5, "ack", "a")];
        assert_eq!(calls(&again), (vec![("put", vec![1]), ("ack", vec![3]), ("put", vec![2, 4]), ("ack", vec![5])], Ok(())));
    }

    #[test]
    fn a_record_of_another_case_is_refused() {
        let (called, result) = calls(&[record(1, "other", "a")]);
        assert!(called.is_empty() && matches!(result, Err(Failure::Reject(_))), "{called:?} {result:?}");
    }
}
