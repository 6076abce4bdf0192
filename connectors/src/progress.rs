//! How far a sink has come that writes records one after the other: what is confirmed is not written again when the rest
//! of a batch fails, and a record that was refused is not tried again while the delivery looks for it.

use hookline_schemas::Record;

use crate::connector::Failure;

/// The progress of one sink. Numbers of records only rise, so it stays true over any number of calls and connections.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Everything up to this record is confirmed, or was refused before.
    done: Option<u64>,
    refused: Option<(u64, String)>,
}

impl Progress {
    /// What is left of a batch. The refusal where the next record is the one that was refused.
    pub(crate) fn rest<'a>(&self, records: &'a [Record]) -> Result<&'a [Record], Failure> {
        let first = records.iter().position(|record| self.done.is_none_or(|done| record.sequence > done)).unwrap_or(records.len());
        let rest = &records[first..];
        match (rest.first(), &self.refused) {
            (Some(next), Some((refused, error))) if next.sequence == *refused => Err(Failure::Reject(error.clone())),
            _ => Ok(rest),
        }
    }

    /// These are confirmed, and so is what came before them.
    pub(crate) fn confirm(&mut self, records: &[Record]) {
        if let Some(last) = records.last() {
            self.done = Some(last.sequence);
        }
    }

    /// This one, which was sent alone, will never be taken.
    pub(crate) fn refuse(&mut self, record: &Record, error: String) -> Failure {
        self.refused = Some((record.sequence, error.clone()));
        Failure::Reject(error)
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::Value;

    use super::*;

    #[test]
    fn the_rest_begins_behind_what_is_confirmed_and_ends_at_what_was_refused() {
        let record = |sequence| Record { sequence, hookline_id: String::new(), bytes: 0, row: Value::Null, trace: None };
        let records: Vec<Record> = (0..4).map(record).collect();
        let mut progress = Progress::default();
        assert_eq!(progress.rest(&records).map(<[Record]>::len), Ok(4));
        progress.confirm(&records[..2]);
        assert_eq!(progress.rest(&records).map(|rest| rest[0].sequence), Ok(2));
        let refusal = progress.refuse(&records[2], "too hot".into());
        // The delivery halves the batch until the one record is alone.
        assert_eq!(progress.rest(&records).map(<[Record]>::len), Err(refusal.clone()));
        assert_eq!(progress.rest(&records[..2]).map(<[Record]>::len), Ok(0));
        assert_eq!(progress.rest(&records[2..3]).map(<[Record]>::len), Err(refusal));
        assert_eq!(progress.rest(&records[3..]).map(<[Record]>::len), Ok(1));
    }
}
