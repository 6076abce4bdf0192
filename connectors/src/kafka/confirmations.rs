//! What the producer says of the records that it has taken: confirmed, or why not. It is told by a thread of the library, a whole request at a time, so
//! whoever waits is woken once for many.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::login::Context;

/// The context of a producer: what it asks for its login, and what becomes of its records.
pub(super) struct Confirmations {
    login: Context,
    told: Mutex<Told>,
    /// So many as were waited for have come, or a failure.
    enough: Notify,
}

#[derive(Default)]
struct Told {
    news: Vec<News>,
    /// How many somebody waits for.
    wanted: usize,
}

/// The number that a record was produced with, and what is wrong with it, if anything.
pub(super) type News = (usize, Option<KafkaError>);

impl Confirmations {
    pub(super) fn new(login: Context) -> Confirmations {
        Confirmations { login, told: Mutex::default(), enough: Notify::new() }
    }

    /// What has come since the last time; where that is nothing, waits until `wanted` have come, one has failed or time is up.
    pub(super) async fn next(&self, wanted: usize, patience: Duration) -> Vec<News> {
        {
            let mut told = self.told.lock();
            if !told.news.is_empty() {
                return std::mem::take(&mut told.news);
            }
            told.wanted = wanted;
        }
        let some = async {
            loop {
                self.enough.notified().await;
                // It may have been for somebody who has given up since.
                if !self.told.lock().news.is_empty() {
                    return;
                }
            }
        };
        // Also where time is up some may have come.
        drop(timeout(patience, some).await);
        let mut told = self.told.lock();
        told.wanted = 0;
        std::mem::take(&mut told.news)
    }
}

/// The records that a producer has, oldest first, and what it has told of each.
#[derive(Default)]
pub(super) struct UnderWay {
    records: VecDeque<Produced>,
    /// The number of the first; the others follow.
    first: usize,
}

struct Produced {
    sequence: u64,
    /// `None`: nothing was told yet.
    outcome: Option<Result<(), Box<KafkaError>>>,
}

/// What is known of the records up to one of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Confirmed,
    /// One of them has failed.
    Failed(KafkaError),
    /// None has failed so far, and of so many nothing was told.
    Open(usize),
}

impl UnderWay {
    /// The number to produce the next record with.
    pub(super) fn next_number(&self) -> usize {
        self.first.wrapping_add(self.records.len())
    }

    /// Adds the record that was produced with that number.
    pub(super) fn push(&mut self, sequence: u64) {
        self.records.push_back(Produced { sequence, outcome: None });
    }

    /// The sequence of the newest.
    pub(super) fn last(&self) -> Option<u64> {
        self.records.back().map(|record| record.sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn clear(&mut self) {
        self.first = self.next_number();
        self.records.clear();
    }

    /// Takes note of what the producer has told.
    pub(super) fn note(&mut self, news: Vec<News>) {
        for (number, error) in news {
            if let Some(record) = self.records.get_mut(number.wrapping_sub(self.first)) {
                record.outcome = Some(error.map_or(Ok(()), |error| Err(Box::new(error))));
            }
        }
    }

    /// What is known up to the record with that sequence. Those behind it have their own turn, also where one has failed already.
    pub(super) fn verdict(&self, end: u64) -> Verdict {
        let mut open = 0;
        for record in self.records.iter().take_while(|record| record.sequence <= end) {
            match &record.outcome {
                Some(Ok(())) => {}
                Some(Err(error)) => return Verdict::Failed((**error).clone()),
                None => open += 1,
            }
        }
        if open == 0 { Verdict::Confirmed } else { Verdict::Open(open) }
    }

    /// Forgets the records up to that sequence.
    pub(super) fn forget(&mut self, end: u64) {
        while self.records.front().is_some_and(|record| record.sequence <= end) {
            self.records.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let error = result.as_ref().err().map(|(error, _)| error.clone());
        let is_enough = {
            let mut told = self.told.lock();
            let has_failed = error.is_some();
            told.news.push((number, error));
            // Once.
            let is_enough = told.wanted > 0 && (has_failed || told.news.len() >= told.wanted);
            if is_enough {
                told.wanted = 0;
            }
            is_enough
        };
        if is_enough {
            self.enough.notify_one();
        }
    }
}

impl ClientContext for Confirmations {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = Context::ENABLE_REFRESH_OAUTH_TOKEN;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.login.generate_oauth_token(config)
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.login.error(error, reason);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    #[test]
    fn what_fails_behind_a_batch_is_told_in_its_own_turn() {
        let mut under_way = UnderWay::default();
        let numbers: Vec<usize> = [3, 4, 7, 8]
            .map(|sequence| {
                let number = under_way.next_number();
                under_way.push(sequence);
                number
            })
            .into();
        let failure = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        under_way.note(vec![(numbers[1], None), (numbers[2], Some(failure.clone()))]);
        assert_eq!(under_way.verdict(4), Verdict::Open(1));
        under_way.note(vec![(numbers[0], None)]);
        assert_eq!(under_way.verdict(4), Verdict::Confirmed);
        under_way.forget(4);
        assert_eq!((under_way.len(), under_way.last()), (2, Some(8)));
        assert_eq!(under_way.verdict(7), Verdict::Failed(failure.clone()), "at once: nothing more comes of it");
        under_way.clear();
        // What is told of records that were given up is nobody's.
        under_way.push(7);
        under_way.note(vec![(numbers[3], Some(failure))]);
        assert_eq!(under_way.verdict(7), Verdict::Open(1));
    }
}
