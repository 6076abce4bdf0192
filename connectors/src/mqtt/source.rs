//! Messages from another server: acknowledged there when the broker has acknowledged them here.

use std::collections::VecDeque;

use hookline_mqtt::packet::{AckKind, RetainHandling, SubscribeFilter, SubscriptionOptions};
use hookline_mqtt::{Properties, QoS, Version, topic};
use hookline_schemas::ports::{BoxFuture, Door};
use hookline_schemas::{Map, Template, Value};
use tokio::time::sleep_until;

use super::client::{FROM, Server};
use super::config::Intake;
use super::session::{Arrived, Incoming, Session};
use crate::connector::Failure;
use crate::intake::{Inlet, Message, Published, Report, Source};
use crate::kind::{PARAMETERS, SettingsError, template};

pub(super) struct MqttSource {
    server: Server,
    settings: Intake,
    qos: QoS,
    topic: Template,
    node: String,
}

impl MqttSource {
    pub(super) fn new(server: Server, settings: Intake, node: &str) -> Result<MqttSource, Vec<SettingsError>> {
        let wrong = |key: &str, problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.{key}"), problem: problem.to_owned() }];
        let is_filter = |filter: &String| {
            let inner = topic::Subscription::parse(filter).map_or(filter.as_str(), topic::Subscription::filter);
            topic::filter_is_valid(inner, usize::MAX)
        };
        if settings.topics.is_empty() || !settings.topics.iter().all(is_filter) {
            return Err(wrong("topics", "must be topic filters, one at least"));
        }
        let qos = QoS::from_bits(settings.qos).ok_or_else(|| wrong("qos", "must be 0, 1 or 2"))?;
        let topic = template("topic", &settings.topic)?;
        Ok(MqttSource { server, settings, qos, topic, node: node.to_owned() })
    }

    async fn take_in(&self, door: &dyn Door, report: &Report) -> Result<(), Failure> {
        let client_id = format!("{}-in-{}", self.server.prefix(), report.name());
        let mut inlet = Inlet::open(door, report.name()).await?;
        let mut remote = self.server.connect(&client_id, Some(self.settings.session_expiry_secs)).await?;
        let mut options = SubscriptionOptions { qos: self.qos, ..SubscriptionOptions::default() };
        if self.server.version() == Version::V5 {
            (options.retain_as_published, options.retain_handling) = (true, RetainHandling::SendIfNew);
        }
        let filters = self.settings.topics.iter().map(|filter| SubscribeFilter { filter: filter.clone(), options });
        remote.subscribe(filters.collect()).await?;
        report.is_well();
        // What waits for the broker's answer: how the server is to be told.
        let mut under_way: VecDeque<Option<(QoS, u16)>> = VecDeque::new();
        loop {
            let ping_at = remote.ping_at();
            tokio::select! {
                answer = inlet.answer(), if !under_way.is_empty() => {
                    match answer? {
                        Published::Taken(_) => report.published(),
                        Published::Rejected(reason) => report.rejected("a message of the other server", reason.name()),
                    }
                    if let Some(Some((qos, packet_id))) = under_way.pop_front() {
                        acknowledge(&mut remote, qos, packet_id).await?;
                    }
                }
                incoming = remote.next(), if inlet.has_room() => {
                    let Incoming::Message(arrived) = incoming? else { continue };
                    report.received();
                    let back = (arrived.qos > QoS::AtMostOnce).then_some((arrived.qos, arrived.packet_id));
                    match self.message(arrived) {
                        Ok(Some(message)) => match inlet.send(message).await {
                            Ok(()) => under_way.push_back(back),
                            Err(Failure::Reject(problem)) => {
                                report.rejected("a message of the other server", &problem);
                                acknowledge_back(&mut remote, back).await?;
                            }
                            Err(failure) => return Err(failure),
                        },
                        // It has come from here.
                        Ok(None) => acknowledge_back(&mut remote, back).await?,
                        Err(problem) => {
                            report.rejected("a message of the other server", &problem);
                            acknowledge_back(&mut remote, back).await?;
                        }
                    }
                }
                () = async { match ping_at { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => remote.ping(inlet.has_room()).await?,
            }
        }
    }

    /// The message for the broker; `None`: it has come from this node.
    fn message(&self, arrived: Arrived) -> Result<Option<Message>, String> {
        let is_ours = |(name, node): (&str, &str)| name == FROM && node == self.node;
        if arrived.properties.user().any(is_ours) {
            return Ok(None);
        }
        let mut row = Map::new();
        row.push_new("topic", Value::text(&arrived.topic));
        row.push_new("qos", Value::Int(arrived.qos as i64));
        row.push_new("retain", Value::Bool(arrived.retain));
        let topic = self.topic.render_text(&Value::Map(row));
        if !topic::name_is_valid(&topic, usize::MAX) || topic.starts_with('$') {
            return Err(format!("\"{topic}\" is no topic that can be published to"));
        }
        let mut properties = Properties::default();
        for (name, value) in arrived.properties.user() {
            properties.push_user(name, value);
        }
        let retain = arrived.retain && self.settings.retain;
        Ok(Some(Message { topic, payload: arrived.payload, qos: arrived.qos, retain, properties }))
    }
}

async fn acknowledge_back(remote: &mut Session, back: Option<(QoS, u16)>) -> Result<(), Failure> {
    match back {
        Some((qos, packet_id)) => acknowledge(remote, qos, packet_id).await,
        None => Ok(()),
    }
}

async fn acknowledge(remote: &mut Session, qos: QoS, packet_id: u16) -> Result<(), Failure> {
    let kind = if qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
    remote.answer(kind, packet_id).await
}

impl Source for MqttSource {
    fn run<'a>(&'a mut self, door: &'a dyn Door, report: &'a Report) -> BoxFuture<'a, Failure> {
        Box::pin(async move { self.take_in(door, report).await.err().unwrap_or_else(|| Failure::Reconnect("mqtt: the end".into())) })
    }
}
