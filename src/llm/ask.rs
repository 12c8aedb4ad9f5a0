//! Sends a request to a model with tracing, metrics and an audit event, regardless of the result.

use super::{Completion, Listener, Model, ModelError, Request};
use crate::audit::{OpenEvent, Recorder};
use crate::domain::{AuditAction, AuditOutcome, hash};
use crate::metrics::metrics;
use crate::telemetry::trace::{self, KeyValue, Span, SpanKind};
use serde_json::{Value, json};
use std::sync::Arc;

/// Completes the history of a request. `listener` receives the text as it arrives.
///
/// # Errors
/// See [`ModelError`].
pub async fn ask(
    model: &dyn Model,
    request: &Request,
    recorder: &Recorder,
    listener: Option<&Listener<'_>>,
) -> Result<Completion, ModelError> {
    let asked = RecordedRequest::begin(model.name(), request, recorder);
    let answer = match listener {
        None => asked.span.of(model.complete(request)).await,
        Some(listener) => asked.span.of(model.complete_streaming(request, listener)).await,
    };
    asked.answered(answer.as_ref());
    answer
}

/// A request in progress; recorded as stopped if dropped before its end.
pub struct RecordedRequest {
    event: OpenEvent,
    span: Arc<Span>,
}

impl RecordedRequest {
    /// Starts recording a request to a model, or a similar turn of another analyst.
    pub fn begin(name: &str, request: &Request, recorder: &Recorder) -> Self {
        let attributes = vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            trace::provider(),
            KeyValue::new("gen_ai.request.model", name.to_owned()),
        ];
        let span = Arc::new(Span::begin(format!("chat {name}"), SpanKind::Client, attributes));
        let event = recorder.event(AuditAction::ModelCall).on("model", name);
        let event = event.data(json!({ "request": request_hash(request) }));
        let (ended, name) = (Arc::clone(&span), name.to_owned());
        let event = recorder.open(event, move |outcome, took| {
            ended.end(outcome);
            metrics().model_request(&name, outcome.into(), took);
        });
        Self { event, span }
    }

    /// Records the completion or the error.
    pub fn answered(self, answer: Result<&Completion, &ModelError>) {
        match answer {
            Ok(completion) => {
                self.span.used(completion.usage);
                let reason = trace::list_of(finish_reason(completion));
                self.span.set("gen_ai.response.finish_reasons", reason);
                self.event.end(AuditOutcome::Done, &described(completion), facts(completion));
            }
            Err(error) => self.event.end(AuditOutcome::Failed, &error.to_string(), json!({})),
        }
    }
}

fn finish_reason(completion: &Completion) -> &'static str {
    match (completion.truncated, completion.tool_calls.is_empty()) {
        (true, _) => "length",
        (false, false) => "tool_calls",
        (false, true) => "stop",
    }
}

fn described(completion: &Completion) -> String {
    let called: Vec<&str> = completion.tool_calls.iter().map(|call| call.name.as_str()).collect();
    let words = if called.is_empty() { "answered in text".to_owned() } else { called.join(", ") };
    if completion.truncated { format!("{words} (cut off)") } else { words }
}

fn facts(Completion { text, tool_calls, usage, .. }: &Completion) -> Value {
    json!({
        "response": hash(json!([text, tool_calls]).to_string()),
        "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
    })
}

/// Hash of everything sent to a model: messages, tools and the required tool.
#[must_use]
pub fn request_hash(request: &Request) -> String {
    let tools: &[_] = &request.tools;
    let asked = serde_json::to_vec(&(&request.messages, tools, &request.choice.only()));
    hash(asked.unwrap_or_default())
}
