//! Asks what connected clients may do, beside the workers: anew now and then, and for what nobody has decided yet.

use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_schemas::Client;
use hookline_schemas::access::{AccessControl, Request, Rights};
use hookline_schemas::event::Access;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::mailbox::{Mail, Mailbox};
use crate::slab::Key;

/// Questions that wait. Where there are more, workers ask again later.
const WAITING_MAX: usize = 4096;
/// Questions under way at a time.
const CONCURRENT_MAX: usize = 64;

/// How often it is looked whether what decides has changed.
const LOOK: Duration = Duration::from_secs(1);

/// One question.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// The worker that has the connection.
    pub(crate) worker: u16,
    pub(crate) connection: Key,
    pub(crate) client: Arc<Client>,
    pub(crate) wanted: Wanted,
}

/// What is to be found out.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Everything anew; the client holds these subscriptions.
    Anew { rights: Option<Arc<dyn Rights>>, held: Vec<Asked> },
    /// What is in a packet that waits.
    Decisions { rights: Arc<dyn Rights>, requests: Vec<Asked> },
}

/// A request that waits for its decision.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) action: Access,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl Asked {
    pub(crate) fn new(request: &Request<'_>) -> Asked {
        Asked { action: request.action, topic: request.topic.to_owned(), qos: request.qos, retain: request.retain }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request { action: self.action, topic: &self.topic, qos: self.qos, retain: self.retain }
    }
}

/// What the worker hears at the end, whatever becomes of the question.
struct Answer {
    mailbox: Arc<Mailbox>,
    mail: Option<Mail>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(mail) = self.mail.take() {
            self.mailbox.post(mail);
        }
    }
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
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(joined) = under_way.join_next(), if !under_way.is_empty() => {
                if let Err(error) = joined {
                    tracing::error!(%error, "asking for permissions panicked");
                }
            }
            question = questions.recv(), if under_way.len() < CONCURRENT_MAX => {
                let Some(Renewal { worker, connection, client, wanted }) = question else { return };
                let (access, mailbox) = (Arc::clone(&access), Arc::clone(&mailboxes[usize::from(worker)]));
                under_way.spawn(async move {
                    match wanted {
                        Wanted::Anew { rights, held } => {
                            let old = rights.clone().map(|rights| Mail::Rights { connection, rights });
                            let mut answer = Answer { mailbox, mail: old };
                            let held = held.iter().map(Asked::request).collect();
                            if let Some(rights) = access.renew(&client, rights.as_ref(), held).await {
                                answer.mail = Some(Mail::Rights { connection, rights });
                            }
                        }
                        Wanted::Decisions { rights, requests } => {
                            let _answer = Answer { mailbox, mail: Some(Mail::Decided { connection, rights: Arc::clone(&rights) }) };
                            for asked in &requests {
                                access.ask(&client, &rights, asked.request()).await;
                            }
                        }
                    }
                });
            }
            _ = looks.tick() => {
                if access.look() {
                    mailboxes.iter().for_each(|mailbox| mailbox.post(Mail::RenewRights));
                }
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
