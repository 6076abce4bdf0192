//! W3C trace context: what a message, its records and the systems behind them hand on, so that spans find each other.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// The name of the context in user properties and headers.
pub const TRACEPARENT: &str = "traceparent";
/// The name of what vendors add to it.
pub const TRACESTATE: &str = "tracestate";

/// The flag that says that spans are recorded.
const SAMPLED: u8 = 1;
/// What a list of vendors may take at the most, bytes: the specification's bound. A longer one is left out.
const STATE_BYTES_MAX: usize = 512;

/// A span, as its children and other systems need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// The span above it, where there is one.
    pub parent: Option<[u8; 8]>,
    /// Whether its spans are recorded.
    pub sampled: bool,
    /// What vendors add, as it came.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// The first span of a new trace, which is recorded.
    pub fn root() -> TraceContext {
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&random());
        trace_id[8..].copy_from_slice(&random());
        TraceContext { trace_id, span_id: random(), parent: None, sampled: true, state: None }
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(&self) -> TraceContext {
        TraceContext { span_id: random(), parent: Some(self.span_id), ..self.clone() }
    }

    /// Reads what somebody else has handed on; `None`: it is no context.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<TraceContext> {
        let mut parts = traceparent.trim().split('-');
        let version = hex::<1>(parts.next()?)?;
        let (trace_id, span_id, flags) = (hex::<16>(parts.next()?)?, hex::<8>(parts.next()?)?, hex::<1>(parts.next()?)?);
        // Later versions may have more parts; 255 is none.
        let is_whole = version != [0xff] && (version != [0] || parts.next().is_none());
        let is_valid = is_whole && trace_id != [0; 16] && span_id != [0; 8];
        let state = tracestate.map(str::trim).filter(|state| !state.is_empty() && state.len() <= STATE_BYTES_MAX);
        // What goes into headers of others has no control characters.
        let state = state.filter(|state| state.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let sampled = flags[0] & SAMPLED != 0;
        is_valid.then(|| TraceContext { trace_id, span_id, parent: None, sampled, state: state.map(Into::into) })
    }

    /// What is handed on, as a header says it.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }

    /// Both headers, by name; the second one only where there is something to say.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_deref().map(|state| (TRACESTATE, state.to_owned()));
        std::iter::once((TRACEPARENT, self.traceparent())).chain(state)
    }

    /// Appends the form in which a record carries it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.sampled));
        out.extend_from_slice(&self.trace_id);
        out.extend_from_slice(&self.span_id);
        let state = self.state.as_deref().unwrap_or_default();
        // It is not longer than `STATE_BYTES_MAX`.
        out.extend_from_slice(&(state.len() as u16).to_le_bytes());
        out.extend_from_slice(state.as_bytes());
    }

    /// Reads it back; with it, how many bytes it takes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(TraceContext, usize)> {
        let (flags, rest) = bytes.split_first()?;
        let (trace_id, rest) = rest.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let state = std::str::from_utf8(rest.get(..length)?).ok()?;
        let state = (!state.is_empty()).then(|| state.into());
        let context = TraceContext { trace_id: *trace_id, span_id: *span_id, parent: None, sampled: *flags != 0, state };
        Some((context, 1 + 16 + 8 + 2 + length))
    }
}

/// Whether a name is one under which contexts are handed on.
pub fn is_trace_header(name: &str) -> bool {
    name.eq_ignore_ascii_case(TRACEPARENT) || name.eq_ignore_ascii_case(TRACESTATE)
}

/// An event that is traced: its own span, and what was done below it.
#[derive(Debug)]
pub struct Trace {
    pub context: TraceContext,
    /// When it began, nanoseconds since the Unix epoch.
    pub began_ns: u64,
    /// Rules that have selected the event, or failed.
    pub rules: Vec<RuleSpan>,
    /// The time now, nanoseconds since the Unix epoch.
    now_ns: fn() -> u64,
    /// The rule that is at work, and when it began.
    at_work: Option<(TraceContext, u64)>,
}

/// What one rule has made of a traced event.
#[derive(Debug)]
pub struct RuleSpan {
    pub rule: Arc<str>,
    pub context: TraceContext,
    pub began_ns: u64,
    pub ended_ns: u64,
    pub result: RuleResult,
}

/// What came of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleResult {
    /// WHERE did not hold, or FOREACH had no item.
    NoResult,
    /// It has given so many rows.
    Rows(usize),
    /// Its window has the event; rows come later, without a trace.
    Window,
    /// It could not be computed.
    Failed(String),
}

impl Trace {
    /// An event begins whose span is known.
    pub fn begin(context: TraceContext, now_ns: fn() -> u64) -> Trace {
        Trace { context, began_ns: now_ns(), rules: Vec::new(), now_ns, at_work: None }
    }

    /// The span that is open: the rule's, or the event's.
    pub fn current(&self) -> &TraceContext {
        self.at_work.as_ref().map_or(&self.context, |(context, _)| context)
    }

    /// A rule begins.
    pub fn enter_rule(&mut self) {
        self.at_work = Some((self.context.child(), (self.now_ns)()));
    }

    /// It has ended.
    pub fn leave_rule(&mut self, rule: &Arc<str>, result: RuleResult) {
        let Some((context, began_ns)) = self.at_work.take() else { return };
        if result != RuleResult::NoResult {
            self.rules.push(RuleSpan { rule: Arc::clone(rule), context, began_ns, ended_ns: (self.now_ns)(), result });
        }
    }
}

/// Eight bytes that nobody can foretell, never all zero.
fn random() -> [u8; 8] {
    thread_local! {
        static STATE: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
    }
    STATE.with(|(state, counter)| {
        counter.set(counter.get().wrapping_add(1));
        state.hash_one(counter.get()).max(1).to_be_bytes()
    })
}

/// The digits of a text, in small letters as the specification wants them.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_comes_back_as_it_was() {
        let context = TraceContext::parse(PARENT, Some(" a=1,b=2 ")).expect("a context");
        assert_eq!((context.traceparent().as_str(), context.state.as_deref(), context.sampled), (PARENT, Some("a=1,b=2"), true));
        let mut bytes = Vec::new();
        context.encode(&mut bytes);
        assert_eq!(TraceContext::decode(&bytes), Some((context.clone(), bytes.len())));
        assert!((0..bytes.len()).all(|end| TraceContext::decode(&bytes[..end]).is_none()));
        let child = context.child();
        assert_eq!((child.trace_id, child.parent, &child.state), (context.trace_id, Some(context.span_id), &context.state));
        assert_ne!(child.span_id, context.span_id);
    }

    #[test]
    fn what_is_no_context_is_none() {
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        ] {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
        let later = TraceContext::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02-more", None).expect("a later version");
        assert!(!later.sampled && later.traceparent().ends_with("-00"));
        let state = |text: &str| TraceContext::parse(PARENT, Some(text)).expect("a context").state;
        assert_eq!((state("a=\r\nb"), state(&"x".repeat(513))), (None, None));
    }

    #[test]
    fn identifiers_differ() {
        let ids: std::collections::HashSet<[u8; 8]> = (0..10_000).map(|_| TraceContext::root().span_id).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
