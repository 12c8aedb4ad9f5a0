//! Trace spans. Attributes are configured names, ids and numbers, never text of a caller, a log or a model. Names
//! follow the OpenTelemetry semantic conventions, including those of generative AI for models and agents and those of
//! MCP for tools.

use crate::domain::{AuditOutcome, Usage};
use chrono::{DateTime, Utc};
use opentelemetry::global;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanBuilder, Status, TraceContextExt as _, Tracer as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::HashMap;
use std::pin::Pin;
use std::time::SystemTime;
use uuid::Uuid;

pub use opentelemetry::Context;
pub use opentelemetry::context::{FutureExt, WithContext};
pub use opentelemetry::trace::SpanKind;
use opentelemetry::{Array, StringValue};
pub use opentelemetry::{KeyValue, Value};

/// HTTP header and `_meta` key that carries the trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Returns the provider attribute; always `openai`, the protocol used.
#[must_use]
pub fn provider() -> KeyValue {
    KeyValue::new("gen_ai.provider.name", "openai")
}

/// Returns a list with one element.
#[must_use]
pub fn list_of(word: &'static str) -> Value {
    Value::Array(Array::String(vec![StringValue::from(word)]))
}

/// Conversation of the work in a context.
struct Conversation(Uuid);

/// A span; ends when dropped.
#[derive(Debug)]
#[must_use]
pub struct Span(Context);

impl Span {
    /// Starts a span under the current context.
    pub fn begin(name: String, kind: SpanKind, attributes: Vec<KeyValue>) -> Self {
        Self::begin_under(&Context::current(), name, kind, attributes)
    }

    /// Starts a span under another context.
    pub fn begin_under(
        parent: &Context,
        name: String,
        kind: SpanKind,
        mut attributes: Vec<KeyValue>,
    ) -> Self {
        if let Some(Conversation(id)) = parent.get() {
            attributes.push(KeyValue::new("gen_ai.conversation.id", id.to_string()));
        }
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        let span = global::tracer("regreen").build_with_context(builder, parent);
        Self(parent.with_span(span))
    }

    /// Starts a span of a conversation; nested spans belong to it too.
    pub fn in_conversation(name: &'static str, id: Uuid) -> Self {
        let parent = Context::current().with_value(Conversation(id));
        Self::begin_under(&parent, name.to_owned(), SpanKind::Internal, Vec::new())
    }

    /// Starts an internal span of a program step.
    pub fn step(name: &'static str) -> Self {
        Self::begin(name.to_owned(), SpanKind::Internal, Vec::new())
    }

    /// Runs work with this span as the parent of its spans.
    pub fn of<F: Future>(&self, work: F) -> WithContext<Pin<Box<F>>> {
        Box::pin(work).with_context(self.0.clone())
    }

    /// Sets an attribute that is known only later.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// Records token usage.
    pub fn used(&self, usage: Usage) {
        let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        self.set("gen_ai.usage.input_tokens", whole(usage.input_tokens));
        self.set("gen_ai.usage.cache_read.input_tokens", whole(usage.cached_tokens));
        self.set("gen_ai.usage.output_tokens", whole(usage.output_tokens));
    }

    /// Sets the outcome; anything but done is a failure.
    pub fn end(&self, outcome: AuditOutcome) {
        if outcome != AuditOutcome::Done {
            self.fail(outcome.into());
        }
    }

    /// Marks the span as failed, with a failure kind from a closed set.
    pub fn fail(&self, kind: &'static str) {
        self.set("error.type", kind);
        self.0.span().set_status(Status::error(kind));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Records a finished span, such as a wait that is known only at its end.
pub fn past(name: &'static str, from: DateTime<Utc>, until: DateTime<Utc>) {
    let builder = SpanBuilder::from_name(name).with_start_time(SystemTime::from(from));
    let parent = Context::current();
    let span = global::tracer("regreen").build_with_context(builder, &parent);
    parent.with_span(span).span().end_with_timestamp(until.into());
}

/// Parses the trace context of a caller's header or of stored work.
#[must_use]
pub fn parent(traceparent: Option<&str>) -> Context {
    let carried = traceparent.map(|told| (TRACEPARENT.to_owned(), told.to_owned()));
    TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &carried.into_iter().collect::<HashMap<_, _>>())
}

/// Returns the current context as W3C `traceparent`: `00-<trace>-<span>-<flags>`.
#[must_use]
pub fn traceparent() -> Option<String> {
    let mut carried = HashMap::new();
    TraceContextPropagator::new().inject_context(&Context::current(), &mut carried);
    carried.remove(TRACEPARENT)
}

/// Returns the current trace id, in hexadecimal.
#[must_use]
pub fn trace_id() -> Option<String> {
    let current = Context::current();
    let known = current.span().span_context().clone();
    known.is_valid().then(|| known.trace_id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[tokio::test]
    async fn a_trace_is_handed_on_and_what_is_none_is_dropped() {
        assert_eq!(traceparent(), None);
        let told = async { (traceparent(), trace_id()) };
        let (handed_on, id) = told.with_context(parent(Some(TOLD))).await;
        assert_eq!(handed_on.as_deref(), Some(TOLD));
        assert_eq!(id.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for wrong in ["", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-4bf9-00-01\n"] {
            assert_eq!(async { traceparent() }.with_context(parent(Some(wrong))).await, None, "{wrong}");
        }
    }
}
