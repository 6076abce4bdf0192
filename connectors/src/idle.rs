//! Sessions that are kept for the next question. How many work at a time is bounded by who asks.

use parking_lot::Mutex;

use crate::connector::Failure;

/// Sessions that are kept at the most.
const KEPT_MAX: usize = 64;

/// Something to be done with a session.
pub(crate) trait Task: Sync {
    type Session: Send;
    type Result: Send;

    /// Makes a session.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, Failure>> + Send;

    /// Does it.
    fn run(&self, session: &mut Self::Session) -> impl Future<Output = Result<Self::Result, Failure>> + Send;
}

/// Sessions that nobody uses now.
pub(crate) struct Idle<T>(Mutex<Vec<T>>);

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Idle(Mutex::new(Vec::new()))
    }
}

impl<T> Idle<T> {
    /// Does something with a session: one that is there, or a new one. What is given up in the middle, or ends with an error of the
    /// connection, ends its session. One that was kept may have died meanwhile: then a new one is tried.
    pub(crate) async fn run<K: Task<Session = T>>(&self, task: &K) -> Result<K::Result, Failure> {
        let kept = self.0.lock().pop();
        if let Some(mut session) = kept {
            match task.run(&mut session).await {
                Err(Failure::Reconnect(_)) => {}
                other => {
                    self.keep(session);
                    return other;
                }
            }
        }
        let mut session = task.connect().await?;
        let result = task.run(&mut session).await;
        if !matches!(result, Err(Failure::Reconnect(_))) {
            self.keep(session);
        }
        result
    }

    fn keep(&self, session: T) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT_MAX {
            kept.push(session);
        }
    }
}
