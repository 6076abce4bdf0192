//! Messages to another server: each record is confirmed by its acknowledgement.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use hookline_mqtt::{Properties, PropertyValue, QoS, ReasonCode, Version, topic};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::trace::is_trace_header;
use hookline_schemas::{Record, Template, Value};

use super::client::{FROM, Server};
use super::config::Parameters;
use super::session::{Outgoing, Session};
use crate::connector::{Failure, Sink};
use crate::kind::{SettingsError, template};

/// Tells sinks of this process apart: two clients of one identifier would throw each other out.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

pub(super) struct MqttSink {
    server: Server,
    request: Request,
    client_id: String,
    session: Option<Session>,
    /// Records of the batch at hand that are confirmed, or refused for good.
    done: BTreeSet<u64>,
    refused: Option<(u64, String)>,
}

/// The templates of an action.
pub(super) struct Request {
    topic: Template,
    payload: Template,
    qos: Template,
    retain: Template,
    user_properties: Template,
}

impl Request {
    pub(super) fn new(parameters: &Parameters) -> Result<Request, Vec<SettingsError>> {
        Ok(Request {
            topic: template("topic", &parameters.topic)?,
            payload: template("payload", &parameters.payload)?,
            qos: template("qos", &parameters.qos)?,
            retain: template("retain", &parameters.retain)?,
            user_properties: template("user_properties", &parameters.user_properties)?,
        })
    }

    fn message(&self, record: &Record, version: Version) -> Result<Outgoing, String> {
        let topic = self.topic.render_text(&record.row);
        if !topic::name_is_valid(&topic, usize::MAX) {
            return Err(format!("mqtt: \"{topic}\" is no topic"));
        }
        let qos = self.qos.render_text(&record.row);
        let qos = qos.parse().ok().and_then(QoS::from_bits).ok_or_else(|| format!("mqtt: \"{qos}\" is no QoS"))?;
        let mut properties = Properties::default();
        if version == Version::V5 {
            if let Some(Value::Map(map)) = self.user_properties.value(&record.row) {
                map.iter().for_each(|(name, value)| push(&mut properties, name, value));
            }
            if let Some(trace) = &record.trace {
                properties.retain(|property| !matches!(&property.value, PropertyValue::Pair(name, _) if is_trace_header(name)));
                trace.headers().for_each(|(name, value)| properties.push_user(name, &value));
            }
            // The node is the first part of a record's identifier.
            let node = record.hookline_id.split(':').next().unwrap_or_default();
            push(&mut properties, FROM, &Value::text(node));
        }
        Ok(Outgoing {
            topic,
            payload: self.payload.render(&record.row).to_vec(),
            qos,
            retain: self.retain.render_text(&record.row) == "true",
            properties,
        })
    }
}

fn push(properties: &mut Properties, name: &str, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| push(properties, name, item)),
        Value::Undefined | Value::Null => {}
        other => properties.push_user(name, &other.to_string()),
    }
}

impl MqttSink {
    pub(super) fn new(server: Server, request: Request) -> MqttSink {
        let client_id = format!("{}-out-{}-{}", server.prefix(), std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        MqttSink { server, request, client_id, session: None, done: BTreeSet::new(), refused: None }
    }

    async fn deliver_all(&mut self, records: &[Record]) -> Result<(), Failure> {
        if let [record] = records
            && let Some((refused, error)) = &self.refused
            && *refused == record.sequence
        {
            return Err(Failure::Reject(error.clone()));
        }
        let first = records.first().map_or(0, |record| record.sequence);
        self.done = self.done.split_off(&first);
        let mut session = self.session.take().ok_or_else(not_connected)?;
        let mut under_way = VecDeque::new();
        let mut refusal = None;
        for record in records {
            if self.done.contains(&record.sequence) {
                continue;
            }
            let message = match self.request.message(record, self.server.version()) {
                Ok(message) => message,
                Err(problem) => {
                    refusal.get_or_insert((record.sequence, problem));
                    // What follows must not overtake it.
                    break;
                }
            };
            while message.qos > QoS::AtMostOnce && !session.has_room() {
                self.confirm(&mut session, &mut under_way, &mut refusal).await?;
            }
            match session.publish(&message).await {
                Ok(0) => drop(self.done.insert(record.sequence)),
                Ok(packet_id) => under_way.push_back((packet_id, record.sequence)),
                Err(Failure::Reject(problem)) => {
                    refusal.get_or_insert((record.sequence, problem));
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        while !under_way.is_empty() {
            self.confirm(&mut session, &mut under_way, &mut refusal).await?;
        }
        // What was given up on the way here has dropped the session: it cannot be in doubt.
        self.session = Some(session);
        match refusal {
            None => Ok(()),
            Some((sequence, error)) => {
                self.refused = Some((sequence, error.clone()));
                Err(Failure::Reject(error))
            }
        }
    }

    async fn confirm(
        &mut self,
        session: &mut Session,
        under_way: &mut VecDeque<(u16, u64)>,
        refusal: &mut Option<(u64, String)>,
    ) -> Result<(), Failure> {
        let (packet_id, reason) = session.acknowledged().await?;
        let Some(place) = under_way.iter().position(|(other, _)| *other == packet_id) else { return Ok(()) };
        let Some((_, sequence)) = under_way.remove(place) else { return Ok(()) };
        match reason {
            reason if !reason.is_error() => drop(self.done.insert(sequence)),
            ReasonCode::QuotaExceeded
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized => {
                return Err(Failure::Reconnect(format!("mqtt: the server does not take a message: {}", reason.name())));
            }
            reason => drop(refusal.get_or_insert((sequence, format!("mqtt: the server refuses the message: {}", reason.name())))),
        }
        Ok(())
    }
}

fn not_connected() -> Failure {
    Failure::Reconnect("mqtt: not connected".into())
}

impl Sink for MqttSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            self.session = None;
            self.session = Some(self.server.connect(&self.client_id, None).await?);
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.deliver_all(records))
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let mut session = self.session.take().ok_or_else(not_connected)?;
            session.ping(false).await?;
            session.next().await?;
            self.session = Some(session);
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(session) = self.session.take() {
                session.disconnect().await;
            }
        })
    }
}
