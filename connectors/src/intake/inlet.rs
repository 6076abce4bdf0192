//! The way into the broker: a session of a source, or of another part of this process.

use hookline_mqtt::{QoS, ReasonCode, topic};
use hookline_schemas::ports::Door;
use tokio::net::UnixStream;

use crate::connector::Failure;
use crate::mqtt::session::{Outgoing, Session};

/// A message for the broker.
pub type Message = Outgoing;

/// A session in the broker.
pub struct Inlet {
    session: Session,
    topic_levels_max: usize,
}

/// What the broker says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It has it: the promise holds. Success, or that nobody subscribes to it.
    Taken(ReasonCode),
    /// It will never take it.
    Rejected(ReasonCode),
}

impl Inlet {
    /// Goes in.
    ///
    /// # Errors
    /// The broker does not let it in.
    pub async fn open(door: &dyn Door, name: &str) -> Result<Inlet, Failure> {
        let failed = |error: std::io::Error| Failure::Reconnect(format!("the broker does not let the source in: {error}"));
        let stream = door.open(name).map_err(failed)?;
        let stream = UnixStream::from_std(stream).map_err(failed)?;
        let session = Session::let_in(Box::new(stream)).await?;
        Ok(Inlet { session, topic_levels_max: door.topic_levels_max() })
    }

    /// Whether another message may be sent before an answer.
    pub fn has_room(&self) -> bool {
        self.session.has_room()
    }

    /// Sends a message, at QoS 1 at least, so that it is answered. Answers come in the order of the messages. One that the broker would not take is
    /// rejected at once, and has no answer.
    ///
    /// # Errors
    /// It will never be taken, or the session has ended.
    pub async fn send(&mut self, mut message: Message) -> Result<(), Failure> {
        message.qos = message.qos.max(QoS::AtLeastOnce);
        if !topic::name_is_valid(&message.topic, self.topic_levels_max) {
            return Err(Failure::Reject(format!("\"{}\" has too many levels", message.topic)));
        }
        self.session.publish(&message).await.map(drop)
    }

    /// The answer to the oldest message without one. May be given up at any time.
    ///
    /// # Errors
    /// There is no room now, or the session has ended.
    pub async fn answer(&mut self) -> Result<Published, Failure> {
        let (_, reason) = self.session.acknowledged().await?;
        match reason {
            reason if !reason.is_error() => Ok(Published::Taken(reason)),
            // What has no room now has some later.
            ReasonCode::QuotaExceeded | ReasonCode::UnspecifiedError => {
                Err(Failure::Retry(format!("the broker has no room: {}", reason.name())))
            }
            reason => Ok(Published::Rejected(reason)),
        }
    }
}
