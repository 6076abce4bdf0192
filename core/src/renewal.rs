//! Asks anew what connected clients may do, beside the workers.

use std::sync::Arc;

use hookline_schemas::Client;
use hookline_schemas::access::{AccessControl, Rights};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::mailbox::{Mail, Mailbox};
use crate::slab::Key;

/// Questions that wait. Where there are more, workers ask again later.
const WAITING_MAX: usize = 4096;
/// Questions under way at a time.
const CONCURRENT_MAX: usize = 64;

/// One question.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// The worker that has the connection.
    pub(crate) worker: u16,
    pub(crate) connection: Key,
    pub(crate) client: Arc<Client>,
    pub(crate) rights: Arc<dyn Rights>,
}

/// The workers' end, and what serves it.
pub(crate) fn channel() -> (mpsc::Sender<Renewal>, mpsc::Receiver<Renewal>) {
    mpsc::channel(WAITING_MAX)
}

/// Answers questions until the broker stops.
pub(crate) async fn run(
    access: Arc<dyn AccessControl>,
    mailboxes: Vec<Arc<Mailbox>>,
    mut questions: mpsc::Receiver<Renewal>,
    mut stop: watch::Receiver<bool>,
) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(joined) = under_way.join_next(), if !under_way.is_empty() => {
                if let Err(error) = joined {
                    tracing::error!(%error, "asking for permissions panicked");
                }
            }
            question = questions.recv(), if under_way.len() < CONCURRENT_MAX => {
                let Some(Renewal { worker, connection, client, rights }) = question else { return };
                let (access, mailbox) = (Arc::clone(&access), Arc::clone(&mailboxes[usize::from(worker)]));
                under_way.spawn(async move {
                    let rights = access.renew(&client, &rights).await.unwrap_or(rights);
                    mailbox.post(Mail::Rights { connection, rights });
                });
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
