//! Spans: of publishes, of the rules that select them, and of deliveries.

use std::cell::RefCell;
use std::sync::Arc;

use hookline_schemas::event::About;
use hookline_schemas::event::{DropReason, Event, HookPoint, HookSet};
use hookline_schemas::ports::{DeliveryTracer, Hook, Outcome, Settled, SettledAs};
use hookline_schemas::trace::{RuleResult, RuleSpan, TRACEPARENT, TRACESTATE, Trace};
use hookline_schemas::{Message, MessageId, Record, TraceContext};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::attribute::{attribute, scope};
use super::target::Target;
use super::{Shared, now_ns};

/// Flags of a span: it is sampled, and whether its parent is somebody else's is known.
const SAMPLED: u32 = 0x101;
/// Its parent is somebody else's.
const REMOTE_PARENT: u32 = 0x200;

thread_local! {
    /// The message that this thread has traced last: what is dropped of it is told with it.
    static LAST: RefCell<Option<(MessageId, TraceContext)>> = const { RefCell::new(None) };
}

/// Begins traces: told before the hooks whose work belongs to them.
#[derive(Debug)]
pub(super) struct Begin(pub(super) Arc<Shared>);

/// Ends traces: told last.
#[derive(Debug)]
pub(super) struct End(pub(super) Arc<Shared>);

impl Shared {
    fn traces(&self) -> bool {
        self.target.load().as_ref().is_some_and(|target| target.traces)
    }
}

impl Hook for Begin {
    fn points(&self) -> HookSet {
        if self.0.traces() { HookSet::EMPTY.with(HookPoint::MessagePublish) } else { HookSet::EMPTY }
    }

    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        let target = self.0.target.load();
        let (Some(target), Some(message)) = (&*target, event.message()) else { return };
        if let Some(context) = context(target, message) {
            outcome.begin_trace(Box::new(Trace::begin(context, now_ns)));
        }
    }
}

/// The span of a message; `None`: it is not traced.
fn context(target: &Target, message: &Message) -> Option<TraceContext> {
    if let Some(trace) = &message.trace {
        return Some(trace.child());
    }
    if target.trust_publishers && !message.properties.is_empty() {
        let said = |name: &str| message.properties.user().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        if let Some(parent) = said(TRACEPARENT).and_then(|parent| TraceContext::parse(parent, said(TRACESTATE))) {
            return parent.sampled.then(|| parent.child());
        }
    }
    // Without a ratio nothing is drawn.
    let root = (target.sample_ratio > 0.0).then(TraceContext::root)?;
    is_chosen(&root.trace_id, target.sample_ratio).then_some(root)
}

/// By the identifier of the trace, as OpenTelemetry's own sampler (`TraceIdRatioBased`) does it.
fn is_chosen(trace_id: &[u8; 16], ratio: f64) -> bool {
    let (_, low) = trace_id.split_last_chunk::<8>().expect("there are sixteen");
    let number = u64::from_be_bytes(*low) >> 1;
    ratio >= 1.0 || number < (ratio * (1u64 << 63) as f64) as u64
}

impl Hook for End {
    fn points(&self) -> HookSet {
        if self.0.traces() { [HookPoint::MessagePublish, HookPoint::MessageDropped].into_iter().collect() } else { HookSet::EMPTY }
    }

    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        match event.about {
            About::Dropped { message, reason } => self.dropped(message, reason),
            About::Message(message) => {
                let Some(trace) = outcome.end_trace() else { return };
                let Trace { context, began_ns, rules, .. } = *trace;
                rules.into_iter().for_each(|rule| self.0.spans.push(rule_span(rule)));
                let mut span = span(&context, "publish".into(), SpanKind::Server, (began_ns, now_ns()), publish_attributes(message));
                if message.trace.is_none() && context.parent.is_some() {
                    span.flags |= REMOTE_PARENT;
                }
                if let Some(reason) = outcome.refused() {
                    span.status = Some(failed(reason.name()));
                }
                self.0.spans.push(span);
                LAST.set(Some((message.id, context)));
            }
            _ => {}
        }
    }
}

impl End {
    /// What becomes of the message behind the hooks is a span of its own, because that of the publish has ended. Nobody subscribes is no failure.
    fn dropped(&self, message: &Message, reason: DropReason) {
        if reason == DropReason::NoSubscribers {
            return;
        }
        LAST.with_borrow(|last| {
            if let Some((_, context)) = last.as_ref().filter(|(id, _)| *id == message.id) {
                let (now, attributes) = (now_ns(), vec![attribute("hookline.drop.reason", reason.name())]);
                let mut span = span(&context.child(), "drop".into(), SpanKind::Internal, (now, now), attributes);
                span.status = Some(failed(reason.name()));
                self.0.spans.push(span);
            }
        });
    }
}

fn publish_attributes(message: &Message) -> Vec<KeyValue> {
    vec![
        attribute("messaging.system", "mqtt"),
        attribute("messaging.operation.name", "publish"),
        attribute("messaging.destination.name", &*message.topic),
        attribute("messaging.client.id", &*message.from.client_id),
        attribute("messaging.message.id", &*message.id.to_string()),
        attribute("messaging.message.body.size", message.payload.len()),
        attribute("client.address", &*message.from.peer.ip().to_canonical().to_string()),
        attribute("hookline.qos", i64::from(message.qos as u8)),
        attribute("hookline.retain", message.retain),
    ]
}

fn rule_span(rule: RuleSpan) -> Span {
    let RuleSpan { rule, context, began_ns, ended_ns, result } = rule;
    let mut attributes = vec![attribute("hookline.rule", &*rule)];
    let status = match result {
        RuleResult::Rows(rows) => {
            attributes.extend([attribute("hookline.rule.result", "passed"), attribute("hookline.rule.rows", rows)]);
            None
        }
        RuleResult::Window => {
            attributes.push(attribute("hookline.rule.result", "window"));
            None
        }
        RuleResult::NoResult => None,
        RuleResult::Failed(problem) => {
            attributes.push(attribute("hookline.rule.result", "failed"));
            Some(failed(&problem))
        }
    };
    let span = span(&context, format!("rule {rule}"), SpanKind::Internal, (began_ns, ended_ns), attributes);
    Span { status, ..span }
}

/// Tells of the deliveries of an action.
#[derive(Debug)]
pub(super) struct OfAction {
    shared: Arc<Shared>,
    name: String,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
}

impl OfAction {
    pub(super) fn new(shared: Arc<Shared>, action: &str, connector: &str, kind: &str) -> OfAction {
        let mut attributes = vec![
            attribute("hookline.action", action),
            attribute("hookline.connector", connector),
            attribute("hookline.connector.type", kind),
        ];
        // Of the others the semantic conventions for messages do not tell.
        let is_messaging = matches!(kind, "kafka" | "mqtt");
        attributes.extend(is_messaging.then(|| attribute("messaging.system", kind)));
        let kind = if is_messaging { SpanKind::Producer } else { SpanKind::Client };
        OfAction { shared, name: format!("deliver {action}"), kind, attributes }
    }
}

impl DeliveryTracer for OfAction {
    fn begin(&self, context: &TraceContext) -> Option<TraceContext> {
        self.shared.traces().then(|| context.child())
    }

    fn settled(&self, record: &Record, context: &TraceContext, delivery: &Settled<'_>) {
        let (outcome, status) = match delivery.outcome {
            SettledAs::Delivered => ("delivered", None),
            SettledAs::DeadLettered(problem) => ("dead_lettered", Some(failed(problem))),
            SettledAs::HandedOver(problem) => ("handed_over", Some(failed(problem))),
        };
        let mut attributes = self.attributes.clone();
        attributes.extend([
            attribute("hookline.id", record.hookline_id.as_str()),
            attribute("hookline.delivery.outcome", outcome),
            attribute("hookline.delivery.attempts", i64::from(delivery.attempts)),
            attribute("messaging.batch.message_count", delivery.batch),
        ]);
        let span = span(context, self.name.clone(), self.kind, (delivery.began_ns, now_ns()), attributes);
        self.shared.spans.push(Span { status, ..span });
    }
}

fn span(context: &TraceContext, name: String, kind: SpanKind, (began_ns, ended_ns): (u64, u64), attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: context.parent.map(Vec::from).unwrap_or_default(),
        flags: SAMPLED,
        name,
        kind: kind.into(),
        start_time_unix_nano: began_ns,
        end_time_unix_nano: ended_ns.max(began_ns),
        attributes,
        ..Span::default()
    }
}

fn failed(problem: &str) -> Status {
    Status { message: problem.chars().take(200).collect(), code: StatusCode::Error.into() }
}

/// A batch, as the collector takes it.
pub(super) fn request(resource: Resource, spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_decides_by_the_identifier() {
        let chosen = |ratio: f64| (0..10_000).filter(|_| is_chosen(&TraceContext::root().trace_id, ratio)).count();
        assert_eq!((chosen(0.0), chosen(1.0)), (0, 10_000));
        assert!((2_000..3_000).contains(&chosen(0.25)));
        assert!(is_chosen(&[0; 16], 0.01) && !is_chosen(&[0xff; 16], 0.99));
    }
}
