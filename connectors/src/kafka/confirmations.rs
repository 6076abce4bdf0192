//! What the producer says of the records that it has taken: confirmed, or why not. It is told by a thread of the library, a whole request at a time, so
//! whoever waits is woken once for many.

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
