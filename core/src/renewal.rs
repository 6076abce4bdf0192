//! Asks what connected clients may do, beside the workers: anew now and then, and for what nobody has decided yet.

use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_schemas::Client;
use hookline_schemas::access::{AccessControl, Request, Rights};
use hookline_schemas::event::Access;
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
    /// What is to be decided; `None`: everything, anew.
    pub(crate) request: Option<Asked>,
}

/// A request that waits for its decision.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) action: Access,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
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
                let Some(Renewal { worker, connection, client, rights, request }) = question else { return };
                let (access, mailbox) = (Arc::clone(&access), Arc::clone(&mailboxes[usize::from(worker)]));
                under_way.spawn(async move {
                    let Some(Asked { action, topic, qos, retain }) = request else {
                        let rights = access.renew(&client, &rights).await.unwrap_or(rights);
                        return mailbox.post(Mail::Rights { connection, rights });
                    };
                    access.ask(&client, &rights, Request { action, topic: &topic, qos, retain }).await;
                    mailbox.post(Mail::Decided { connection });
                });
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
