//! Audit record of a tool call: traced, counted, with redacted arguments, whatever the outcome.

use crate::audit::{OpenEvent, Recorder};
use crate::domain::{AuditAction, AuditOutcome, cut, hash, sorted};
use crate::evidence::redact::Redactor;
use crate::metrics::metrics;
use crate::telemetry::trace::{KeyValue, Span, SpanKind};
use serde_json::{Value, json};
use std::sync::Arc;

/// Maximum length of the arguments in a record, in bytes; a hash covers all of them.
const MAX_ARGUMENTS: usize = 2_000;
/// Replaces content that only one person may see.
const WITHHELD: &str = "(visible to one person alone)";

/// A call in progress; recorded as stopped if it is dropped before its end.
pub(super) struct RecordedCall {
    event: OpenEvent,
    span: Arc<Span>,
    recorder: Recorder,
}

impl RecordedCall {
    /// Starts the record of a call, made or denied.
    pub(super) fn begin(recorder: &Recorder, server: &str, tool: &str, arguments: &Value) -> Self {
        let attributes = vec![
            KeyValue::new("mcp.method.name", "tools/call"),
            KeyValue::new("gen_ai.tool.name", tool.to_owned()),
            KeyValue::new("regreen.mcp.server", server.to_owned()),
        ];
        let span = Arc::new(Span::begin(format!("tools/call {tool}"), SpanKind::Client, attributes));
        let arguments = Redactor::new().redact(&sorted(arguments.clone()).to_string());
        let shown = if recorder.withholds() { WITHHELD.to_owned() } else { cut(&arguments, MAX_ARGUMENTS) };
        let data = json!({
            "server": server, "tool": tool, "arguments": shown, "arguments_hash": hash(&arguments),
        });
        let event = recorder.event(AuditAction::ToolCall).on("tool", format!("{server} {tool}")).data(data);
        let (ended, server) = (Arc::clone(&span), server.to_owned());
        let event = recorder.open(event, move |outcome, took| {
            ended.end(outcome);
            metrics().tool_call(&server, outcome.into(), took);
        });
        Self { event, span, recorder: recorder.clone() }
    }

    /// Runs the call within its span.
    pub(super) fn of<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        self.span.of(work)
    }

    /// Ends the record with the result or the reason of the failure.
    pub(super) fn returned(self, result: Result<&str, &str>) {
        match result {
            Ok(text) => {
                let facts = json!({ "result_hash": hash(text), "result_bytes": text.len() });
                self.event.end(AuditOutcome::Done, "", facts);
            }
            Err(_) if self.recorder.withholds() => {
                self.event.end(AuditOutcome::Failed, WITHHELD, json!({}));
            }
            Err(reason) => self.event.end(AuditOutcome::Failed, reason, json!({})),
        }
    }

    /// Ends the record of a call that was denied, with the reason.
    pub(super) fn refused(self, reason: &str) {
        self.event.end(AuditOutcome::Refused, reason, json!({}));
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::domain::Actor;

    #[test]
    fn a_call_is_recorded_however_it_ends_and_without_its_secrets() {
        let secret = ["hunter2", "hunter2"].concat();
        let arguments = json!({"password": secret, "name": "x".repeat(3_000)});
        let recorder = Recorder::new(Actor::new("alice", "request-1"));
        let look = |arguments: Value| RecordedCall::begin(&recorder, "lab", "look", &arguments);
        look(arguments).refused("no rule allows it");
        drop(look(json!({})));
        look(json!({"b": 1, "a": 2})).returned(Ok("seen"));
        look(json!({"a": 2, "b": 1})).returned(Err("away"));
        let events = recorder.pending();
        let outcomes: Vec<AuditOutcome> = events.iter().map(|event| event.outcome).collect();
        use AuditOutcome::{Done, Failed, Refused, Stopped};
        assert_eq!(outcomes, [Refused, Stopped, Done, Failed]);
        assert_eq!(events[0].detail, "no rule allows it");
        let shown = events[0].data["arguments"].as_str().unwrap();
        assert!(
            !shown.contains(&secret) && shown.ends_with("bytes left out)") && shown.len() < 2_100,
            "{shown}"
        );
        assert_eq!(events[2].data["result_hash"], hash("seen"));
        assert_eq!(events[2].data["arguments_hash"], events[3].data["arguments_hash"], "whatever the order");
        recorder.withhold();
        look(json!({"name": "ann"})).returned(Err("no such person: ann"));
        let last = recorder.pending().pop().unwrap();
        assert!(!format!("{last:?}").contains("ann"), "{last:?}");
    }
}
