//! Runs the rules analyst on the blocking pool and records its reads and searches as the steps of a run.

use crate::agent::{Outcome, Single, Tool, Workspace};
use crate::audit::Recorder;
use crate::blocking::BlockingError;
use crate::clock::Deadline;
use crate::domain::{Diagnosis, Message, RunLimits, StopReason, ToolCall, ToolSpec};
use crate::evidence::rules::{Analysis, GENERIC, MAX_FOUND, NAME, Passage, analyze};
use crate::evidence::signature::SignatureSet;
use crate::llm::{Completion, RecordedRequest, Request, ToolChoice};
use crate::telemetry::trace::{KeyValue, Span, SpanKind, provider};
use crate::tools::{ReadEvidence, SearchEvidence, SubmitDiagnosis};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Inputs of a rules analyst run, apart from the signatures.
pub(super) struct Rules<'a> {
    pub(super) workspace: &'a Arc<Workspace>,
    pub(super) budget: RunLimits,
    /// The brief and tools of a model. They are part of the first recorded request, which proves the integrity of the stored
    /// ones.
    pub(super) brief: &'a [Message],
    pub(super) tools: &'a [ToolSpec],
    pub(super) recorder: &'a Recorder,
}

impl Rules<'_> {
    /// Analyses the evidence of the workspace.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub(super) async fn run(
        self,
        signatures: Arc<SignatureSet>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BlockingError> {
        let attributes = vec![
            KeyValue::new("gen_ai.operation.name", "invoke_agent"),
            provider(),
            KeyValue::new("gen_ai.agent.name", "triage"),
            KeyValue::new("gen_ai.request.model", NAME),
        ];
        let span = Span::begin("invoke_agent triage".to_owned(), SpanKind::Internal, attributes);
        let outcome = span.of(self.concluded(signatures, cancel)).await?;
        span.set("regreen.turns", i64::from(outcome.turns));
        span.set("regreen.stop_reason", outcome.stop.as_str());
        Ok(outcome)
    }

    async fn concluded(
        self,
        signatures: Arc<SignatureSet>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BlockingError> {
        let pieces = self.workspace.pieces();
        let analysis = self.workspace.work(move |deadline: &Deadline| {
            let pieces: Vec<_> = pieces.iter().map(|piece| &**piece).collect();
            analyze(&pieces, &signatures, deadline)
        });
        let Analysis { searched, read, diagnosis } = analysis.await?;
        let submitted = arguments(&diagnosis);
        let mut steps = Steps {
            tools: self.tools.into(),
            messages: self.brief.to_vec(),
            outcome: Outcome { stop: StopReason::Submitted, ..Outcome::answered() },
            rules: self,
            cancel,
        };
        let search: Arc<dyn Tool> = Arc::new(SearchEvidence::new(Arc::clone(steps.rules.workspace)));
        let looks = searched.iter().map(
            |label| json!({"pattern": GENERIC, "evidence": label, "context": 0, "max_matches": MAX_FOUND}),
        );
        steps.take(&search, looks.collect()).await;
        let reader: Arc<dyn Tool> = Arc::new(ReadEvidence::new(Arc::clone(steps.rules.workspace)));
        let looks = read.map(|Passage { evidence, first_line, last_line }| {
            json!({"evidence": evidence, "first_line": first_line, "last_line": last_line})
        });
        steps.take(&reader, looks.into_iter().collect()).await;
        let submit: Arc<dyn Tool> = Arc::new(SubmitDiagnosis::new(Arc::clone(steps.rules.workspace), None));
        // The first submission is rejected if claims do not hold, the second omits those claims.
        if !steps.take(&submit, vec![submitted.clone()]).await {
            steps.take(&submit, vec![submitted.clone()]).await;
        }
        Ok(Outcome { finish: Some(submitted), ..steps.outcome })
    }
}

/// Recorded steps of a run.
struct Steps<'a> {
    rules: Rules<'a>,
    tools: Arc<[ToolSpec]>,
    messages: Vec<Message>,
    outcome: Outcome,
    cancel: &'a CancellationToken,
}

impl Steps<'_> {
    /// Calls a tool, possibly several times, as one turn. Returns whether all calls succeeded.
    async fn take(&mut self, tool: &Arc<dyn Tool>, arguments: Vec<Value>) -> bool {
        if arguments.is_empty() {
            return true;
        }
        let name = tool.spec().name.clone();
        let call = |(index, arguments): (usize, Value)| ToolCall {
            id: format!("{name}-{index}"),
            name: name.clone(),
            arguments: arguments.to_string(),
        };
        let calls: Vec<ToolCall> = arguments.into_iter().enumerate().map(call).collect();
        self.note(&calls);
        self.outcome.turns += 1;
        self.messages.push(Message::Assistant { text: String::new(), tool_calls: calls.clone() });
        let mut held = true;
        for call in calls {
            let Rules { workspace, budget, .. } = self.rules;
            let single =
                Single { tool: Arc::clone(tool), call: call.clone(), budget, workspace, watcher: &|_| {} };
            let mut record = single.make(self.cancel).await;
            record.turn = self.outcome.turns;
            held &= !record.failed;
            let text = record.result.clone();
            self.messages.push(Message::Tool { call_id: call.id, name: call.name, text });
            self.outcome.calls.push(record);
        }
        held
    }

    /// Records a turn in the format of a model's turn.
    fn note(&self, calls: &[ToolCall]) {
        let (messages, tools) = (self.messages.clone(), Arc::clone(&self.tools));
        let request = Request { messages, tools, choice: ToolChoice::Call, account: None };
        let completion = Completion { tool_calls: calls.to_vec(), ..Completion::default() };
        RecordedRequest::begin(NAME, &request, self.rules.recorder).answered(Ok(&completion));
    }
}

/// Returns a diagnosis as arguments of the submit tool.
fn arguments(diagnosis: &Diagnosis) -> Value {
    let claims = diagnosis.claims.iter().map(|claim| {
        json!({
            "statement": claim.statement,
            "evidence": claim.evidence,
            "first_line": claim.first_line,
            "last_line": claim.last_line,
            "quote": claim.quote,
        })
    });
    json!({
        "title": diagnosis.title,
        "cause": diagnosis.cause,
        "class": diagnosis.class.as_str(),
        "confidence": diagnosis.confidence.as_str(),
        "claims": claims.collect::<Vec<_>>(),
        "next_steps": diagnosis.next_steps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::BlockingPool;
    use crate::domain::{Actor, Evidence, EvidenceKind, FailureClass};
    use crate::evidence::redact::Redactor;
    use crate::evidence::signature::Signature;

    async fn run(text: &str, brief: &str) -> Outcome {
        let signature = Signature {
            id: "dns".into(),
            pattern: r"lookup (?P<host>\S+): no such host".into(),
            class: FailureClass::Infrastructure,
            title: "{host} has no address".into(),
            cause: "The name cannot be resolved.".into(),
            next_steps: Vec::new(),
            priority: 60,
            runbook: "book.md".into(),
        };
        let piece = Evidence {
            id: uuid::Uuid::nil(),
            label: "E1".into(),
            kind: EvidenceKind::Log,
            title: "log of container build".into(),
            text: text.to_owned(),
            red: Vec::new(),
        };
        let workspace = Arc::new(Workspace::new(vec![piece], Redactor::new(), BlockingPool::new(2)));
        let brief = [Message::User { text: brief.to_owned() }];
        let recorder = Recorder::new(Actor::service("test"));
        let rules = Rules {
            workspace: &workspace,
            budget: RunLimits::default(),
            brief: &brief,
            tools: &[],
            recorder: &recorder,
        };
        let signatures = Arc::new(SignatureSet::compile(vec![signature]).unwrap());
        rules.run(signatures, &CancellationToken::new()).await.unwrap()
    }

    fn steps(outcome: &Outcome) -> Vec<(u32, &str, bool)> {
        outcome.calls.iter().map(|call| (call.turn, call.name.as_str(), call.failed)).collect()
    }

    #[tokio::test]
    async fn a_brief_that_shows_nothing_or_something_else_changes_nothing() {
        let log = "step 1\ndial: lookup mirror.local: no such host\nexit code 2\n";
        let lie = "[E1] log of container build, 3 lines\n1: dial: lookup other.local: no such host\n\nE1:3: fatal\n";
        for brief in ["", "Conclude.", lie] {
            let outcome = run(log, brief).await;
            let finish = outcome.finish.as_ref().unwrap();
            assert_eq!(finish["title"], "mirror.local has no address", "{brief:?}");
            assert_eq!(
                (&finish["claims"][0]["first_line"], &finish["class"]),
                (&json!(2), &json!("infrastructure"))
            );
            assert_eq!(steps(&outcome), [(1, "read_evidence", false), (2, "submit_diagnosis", false)]);
            assert!(outcome.calls[0].result.contains("2: dial: lookup mirror.local"), "{outcome:?}");
            assert_eq!((outcome.turns, outcome.stop), (2, StopReason::Submitted));
        }
    }

    #[tokio::test]
    async fn what_no_signature_recognises_is_searched_for_on_record() {
        let outcome = run("step 1\nfatal: the moon is full\n", "").await;
        assert_eq!(
            steps(&outcome),
            [(1, "search_evidence", false), (2, "read_evidence", false), (3, "submit_diagnosis", false)]
        );
        assert!(outcome.calls[0].result.contains("E1:2: fatal: the moon is full"), "{outcome:?}");
        assert_eq!(outcome.finish.unwrap()["class"], "unknown");
    }
}
