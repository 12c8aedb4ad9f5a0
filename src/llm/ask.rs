//! Asks a model as part of a piece of work: the request is traced, counted and put on the work's record, however it ends.

use super::{Completion, Listener, Model, ModelError, Request};
use crate::audit::{OpenEvent, Recorder};
use crate::domain::{AuditAction, AuditOutcome, hash};
use crate::metrics::metrics;
use crate::telemetry::trace::{self, KeyValue, Span, SpanKind};
use serde_json::{Value, json};
use std::sync::Arc;

/// Completes the history of a request. `listener` hears the text as it comes.
///
/// # Errors
/// Those of the model.
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

/// A request under way; stopped when it is dropped before its end.
pub struct RecordedRequest {
    event: OpenEvent,
    span: Arc<Span>,
}

impl RecordedRequest {
    /// A model is asked, or another analyst takes a turn like one.
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

    /// It answered, or why it did not.
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

/// Over all that a model is asked: messages, tools and the one it has to call.
#[must_use]
pub fn request_hash(request: &Request) -> String {
    let tools: &[_] = &request.tools;
    let asked = serde_json::to_vec(&(&request.messages, tools, &request.choice.only()));
    hash(asked.unwrap_or_default())
}
