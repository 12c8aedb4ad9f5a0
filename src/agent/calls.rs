//! Executes the tool calls of one turn. Returns exactly one answer per call, in order, in every case.

use super::egress_guard::{ArgumentScan, EgressGuard, NOT_SENT, scan_arguments};
use super::event::{Event, Watcher};
use super::schemas::Schemas;
use super::tool::{Tool, ToolAnswer};
use super::workspace::Workspace;
use crate::blocking::BlockingError;
use crate::domain::{Access, RunLimits, ToolCall, ToolCallRecord, cut, sorted};
use crate::evidence::clean::Cleaned;
use crate::evidence::excerpt::{self, Log};
use crate::evidence::tokens;
use crate::evidence::untrusted::leak;
use crate::telemetry::trace::{KeyValue, Span, SpanKind};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Maximum length of recorded arguments in bytes.
const MAX_RECORDED_ARGUMENTS: usize = 4_000;
/// Maximum length of accepted arguments in bytes.
const MAX_ARGUMENTS: usize = 256 << 10;

/// The answer to a call.
pub(super) struct Answered {
    /// Text for the model.
    pub(super) text: String,
    /// Record of the call.
    pub(super) record: ToolCallRecord,
    /// Arguments of the finishing tool, if this call ended the run.
    pub(super) finish: Option<Value>,
    /// Result of the run if no better one follows.
    pub(super) draft: Option<Value>,
}

/// State shared by the calls of a run.
pub(super) struct Calls<'a> {
    pub(super) tools: &'a [Arc<dyn Tool>],
    pub(super) budget: RunLimits,
    pub(super) workspace: &'a Workspace,
    pub(super) watcher: Option<&'a Watcher>,
    /// Keys of the calls already answered.
    pub(super) seen: HashSet<String>,
    /// Tracks content sent in arguments.
    pub(super) told: EgressGuard,
}

/// A single call outside of a run's turns, such as an approved one. It is executed, stored and reported like a call in the
/// loop.
pub struct Single<'a> {
    /// The tool.
    pub tool: Arc<dyn Tool>,
    /// The call; events identify it by its id.
    pub call: ToolCall,
    /// Limits of the call.
    pub budget: RunLimits,
    /// Stores the result.
    pub workspace: &'a Workspace,
    /// Receives the events.
    pub watcher: &'a Watcher,
}

impl Single<'_> {
    /// Executes the call as part of turn 0.
    pub async fn make(self, cancel: &CancellationToken) -> ToolCallRecord {
        let Self { tool, call, budget, workspace, watcher } = self;
        let tools = [tool];
        let (seen, told) = (HashSet::new(), EgressGuard::default());
        let calls = Calls { tools: &tools, budget, workspace, watcher: Some(watcher), seen, told };
        let offered = [call.name.as_str()];
        let answer = Box::pin(calls.one(&call, 0, &offered, cancel));
        calls.watched(call.id.clone(), &call, answer).await.record
    }
}

impl Calls<'_> {
    /// Answers all calls of a turn. Read-only calls run concurrently; if one call changes something, all calls run one after
    /// the other in the model's order.
    pub(super) async fn answer(
        &mut self,
        calls: &[ToolCall],
        turn: u32,
        offered: &[&str],
        cancel: &CancellationToken,
    ) -> Vec<Answered> {
        let mut first: HashMap<String, usize> = HashMap::new();
        let mut jobs = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            let key = key(call);
            let repeat = self.seen.contains(&key);
            let twin = *first.entry(key.clone()).or_insert(index);
            jobs.push((call, key, repeat, twin != index));
        }
        let this = &*self;
        let mut run: Vec<BoxFuture<'_, Answered>> = Vec::new();
        for (index, (call, _, repeat, is_twin)) in jobs.iter().enumerate() {
            let call: &ToolCall = call;
            let answer: BoxFuture<'_, Answered> = if *repeat {
                Box::pin(std::future::ready(this.repeated(call, turn)))
            } else if *is_twin {
                let problem = "the same call stands above in this turn; see its result".to_owned();
                Box::pin(std::future::ready(this.refused(call, turn, problem)))
            } else {
                Box::pin(this.one(call, turn, offered, cancel))
            };
            run.push(Box::pin(this.watched(format!("{turn}.{}", index + 1), call, answer)));
        }
        let writes = |tool: &Arc<dyn Tool>| {
            tool.spec().access != Access::Read && calls.iter().any(|call| call.name == tool.spec().name)
        };
        let at_once = if self.tools.iter().any(writes) { 1 } else { self.budget.parallel_calls.max(1) };
        let answers: Vec<Answered> = futures::stream::iter(run).buffered(at_once).collect().await;
        for ((_, key, repeat, is_twin), answer) in jobs.into_iter().zip(&answers) {
            if !repeat && !is_twin && !answer.record.failed {
                self.seen.insert(key);
            }
        }
        answers
    }

    /// Reports the start and the end of a call to the watcher.
    async fn watched(&self, id: String, call: &ToolCall, answer: BoxFuture<'_, Answered>) -> Answered {
        let arguments = self.recorded(call).await;
        let with = |answered: Answered| {
            let record = ToolCallRecord { arguments: arguments.clone(), ..answered.record };
            Answered { record, ..answered }
        };
        let Some(watcher) = self.watcher else {
            return with(answer.await);
        };
        watcher(Event::ToolStarted {
            call: id.clone(),
            name: call.name.clone(),
            arguments: arguments.clone(),
        });
        let answered = with(answer.await);
        let ToolCallRecord { name, result, failed, duration_ms, .. } = answered.record.clone();
        watcher(Event::ToolFinished { call: id, name, failed, duration_ms, result });
        answered
    }

    async fn one(
        &self,
        call: &ToolCall,
        turn: u32,
        offered: &[&str],
        cancel: &CancellationToken,
    ) -> Answered {
        let tool = self.tools.iter().find(|tool| tool.spec().name == call.name);
        let Some(tool) = tool.filter(|tool| offered.contains(&tool.spec().name.as_str())) else {
            let problem = format!("there is no tool `{}`; the tools are: {}", call.name, offered.join(", "));
            return self.refused(call, turn, problem);
        };
        let (arguments, held) = match self.read(call, tool.as_ref()).await {
            Ok(read) => read,
            Err(problem) => return self.refused(call, turn, problem),
        };
        if let Some(held) = held
            && let Err(problem) = self.told.check(tool.spec(), held)
        {
            tracing::warn!(tool = call.name, "a call of the model was refused: {problem}");
            return self.answered(call, turn, format!("{NOT_SENT}{problem}"), true);
        }
        let started = Instant::now();
        let answer = self.call(tool.as_ref(), arguments, cancel).await;
        let mut answered = match answer {
            ToolAnswer::Finish(value) => {
                Answered { finish: Some(value), ..self.answered(call, turn, "accepted".to_owned(), false) }
            }
            ToolAnswer::Ok(text) => match self.shown(tool.as_ref(), call, text).await {
                Ok(text) => self.answered(call, turn, text, false),
                Err(error) => self.not_shown(call, turn, error),
            },
            ToolAnswer::Note(text) => self.answered(call, turn, text, false),
            ToolAnswer::Revise(value, text) => {
                let text = self.workspace.redact(&text).await;
                Answered { draft: Some(value), ..self.answered(call, turn, format!("not yet: {text}"), true) }
            }
            ToolAnswer::Failed(text) => match self.workspace.cleaned(text).await {
                Ok(Cleaned { text, .. }) => {
                    let text = self.workspace.fenced(&cut(&text, self.budget.result_tokens * 2));
                    self.answered(call, turn, format!("failed: {text}"), true)
                }
                Err(error) => self.not_shown(call, turn, error),
            },
        };
        answered.record.duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        answered
    }

    /// Parses and validates the arguments. If the tool sends them to others, also scans them for secrets and copied evidence.
    /// Runs on the blocking pool, because a server's schema may contain regular expressions and the scan searches all evidence.
    async fn read(&self, call: &ToolCall, tool: &dyn Tool) -> Result<(Value, Option<ArgumentScan>), String> {
        if call.arguments.len() > MAX_ARGUMENTS {
            let length = call.arguments.len();
            return Err(format!(
                "the arguments have {length} bytes, and {MAX_ARGUMENTS} is the most; send less at once"
            ));
        }
        let (call, schema) = (call.clone(), Arc::clone(&tool.spec().input_schema));
        let pieces = tool.tells_others().then(|| self.workspace.pieces());
        let schemas = self.workspace.schemas().clone();
        let read = self.workspace.work(move |deadline| {
            Ok(match arguments(&call, &schema, &schemas) {
                Ok(arguments) => {
                    let held =
                        pieces.map(|pieces| scan_arguments(&arguments, &pieces, deadline)).transpose()?;
                    Ok((arguments, held))
                }
                Err(problem) => Err(problem),
            })
        });
        read.await
            .unwrap_or_else(|error| Err(format!("the arguments could not be checked: {error}; try again")))
    }

    async fn call(&self, tool: &dyn Tool, arguments: Value, cancel: &CancellationToken) -> ToolAnswer {
        let (own, name) = (cancel.child_token(), tool.spec().name.clone());
        let named = |key, value| KeyValue::new(key, value);
        let attributes = vec![
            named("gen_ai.operation.name", "execute_tool".to_owned()),
            named("gen_ai.tool.name", name.clone()),
        ];
        let span = Span::begin(format!("execute_tool {name}"), SpanKind::Internal, attributes);
        let answer = self.wait(span.of(tool.call(arguments, own.clone())), &own, cancel).await;
        if matches!(answer, ToolAnswer::Failed(_)) {
            span.fail("failed");
        }
        answer
    }

    /// Waits for the answer until the time limit or a cancellation.
    async fn wait(
        &self,
        answer: impl Future<Output = ToolAnswer>,
        own: &CancellationToken,
        cancel: &CancellationToken,
    ) -> ToolAnswer {
        tokio::select! {
            answer = answer => answer,
            () = tokio::time::sleep(self.budget.tool_call) => {
                own.cancel();
                ToolAnswer::Failed(format!(
                    "no answer within {}; try another tool, or conclude from the evidence there is",
                    humantime::format_duration(self.budget.tool_call)
                ))
            }
            () = cancel.cancelled() => ToolAnswer::Failed("the run was cancelled".to_owned()),
        }
    }

    /// Returns the result as shown to the model: in full if it is short, otherwise an excerpt of the stored result.
    async fn shown(&self, tool: &dyn Tool, call: &ToolCall, text: String) -> Result<String, BlockingError> {
        let limit = self.budget.result_tokens;
        if tool.reads_evidence() {
            let text = self.workspace.redact(&text).await;
            return Ok(self.workspace.fenced(&self.within_context(text)));
        }
        let Cleaned { text, red } = self.workspace.cleaned(text).await?;
        if tokens::estimate(&text) <= limit && !self.workspace.keeps_results() {
            return Ok(self.workspace.fenced(&text));
        }
        let piece = self.workspace.add(format!("result of {}", call.name), text, red);
        if tool.is_knowledge() {
            self.workspace.mark_known(&piece.label);
        }
        let sent = sentences(&call.arguments);
        if !sent.is_empty() {
            self.workspace.note_sent(&piece.label, sent);
        }
        let kept = Arc::clone(&piece);
        let excerpt = self.workspace.work(move |deadline| {
            let log = Log { text: &kept.text, red: &kept.red, good: None };
            excerpt::excerpt_within(&log, limit, deadline)
        });
        let excerpt = excerpt.await?;
        let whole = excerpt.lines.len() >= excerpt.total_lines as usize;
        let (what, more) = if whole {
            ("All of it", "")
        } else {
            ("An excerpt", "; read_evidence and search_evidence show the rest")
        };
        let mut shown = String::new();
        let _ = writeln!(
            shown,
            "[{}] result of {}, {} lines, kept whole. {what} with line numbers{more}:",
            piece.label, call.name, excerpt.total_lines
        );
        shown.push_str(&self.workspace.fenced(&excerpt.numbered()));
        Ok(shown)
    }

    /// Truncates a result to the lines that fit into half of the context.
    fn within_context(&self, mut text: String) -> String {
        let most = self.budget.context_tokens / 2;
        if text.len() > most {
            let end = text.floor_char_boundary(most);
            text.truncate(text[..end].rfind('\n').unwrap_or(end));
            text.push_str("\n… more than there is room for: ask for fewer lines …");
        }
        text
    }

    /// Answer for a result that could not be cleaned and redacted in time; the result is discarded.
    fn not_shown(&self, call: &ToolCall, turn: u32, error: BlockingError) -> Answered {
        let problem = format!("the result could not be cleaned and redacted: {error}; ask for less at once");
        self.refused(call, turn, problem)
    }

    /// Whether all calls were answered before.
    pub(super) fn all_repeated(&self, calls: &[ToolCall]) -> bool {
        calls.iter().all(|call| self.seen.contains(&key(call)))
    }

    fn repeated(&self, call: &ToolCall, turn: u32) -> Answered {
        let text = "You made this very call before: its result stands above. Conclude from what there is, or ask for something else.";
        self.answered(call, turn, text.to_owned(), false)
    }

    fn refused(&self, call: &ToolCall, turn: u32, problem: String) -> Answered {
        self.answered(call, turn, format!("failed: {problem}"), true)
    }

    /// Returns the redacted arguments for the record.
    async fn recorded(&self, call: &ToolCall) -> String {
        const LEFT_OUT: &str = "(left out: they hold what looks like an encoded secret)";
        if call.arguments.len() > MAX_ARGUMENTS {
            return format!("(left out: {} bytes)", call.arguments.len());
        }
        let arguments = call.arguments.clone();
        let recorded = self.workspace.redacting(move |redactor, deadline| {
            let arguments = redactor.redact_within(&arguments, deadline)?;
            let holds_secret = leak::holds_secret(&arguments);
            Ok(if holds_secret { LEFT_OUT.to_owned() } else { cut(&arguments, MAX_RECORDED_ARGUMENTS) })
        });
        recorded.await.unwrap_or_else(|error| format!("(left out: they could not be redacted, {error})"))
    }

    /// Creates an answer; the arguments are added to the record later.
    fn answered(&self, call: &ToolCall, turn: u32, text: String, failed: bool) -> Answered {
        let record = ToolCallRecord {
            turn,
            name: call.name.clone(),
            arguments: String::new(),
            result: text.clone(),
            failed,
            duration_ms: 0,
        };
        Answered { text, record, finish: None, draft: None }
    }
}

/// Returns the texts within arguments that have at least three words, in lower case.
fn sentences(arguments: &str) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if text.split_whitespace().count() >= 3 => found.push(text.to_lowercase()),
            Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
            Value::Object(map) => map.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str(arguments) {
        collect(&value, &mut found);
    }
    found
}

/// Returns a key of tool and arguments with sorted object keys, so that formatting does not matter.
fn key(call: &ToolCall) -> String {
    if call.arguments.len() > MAX_ARGUMENTS {
        return format!("{} {}", call.name, call.arguments);
    }
    let arguments = serde_json::from_str::<Value>(&call.arguments)
        .map_or_else(|_| call.arguments.clone(), |value| sorted(value).to_string());
    format!("{} {arguments}", call.name)
}

/// Parses the arguments and validates them against the schema. The error is a message for the model.
fn arguments(call: &ToolCall, schema: &Value, schemas: &Schemas) -> Result<Value, String> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!("the arguments are not valid JSON ({error}); send one JSON object that fits {schema}")
    })?;
    if !value.is_object() {
        return Err(format!("the arguments have to be one JSON object that fits {schema}"));
    }
    // A schema that does not compile is an error of the server, so the server has to validate the arguments.
    let Some(validator) = schemas.validator(schema) else {
        return Ok(value);
    };
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .take(5)
        .map(|error| format!("at `{}`: {error}", error.instance_path()))
        .collect();
    if problems.is_empty() {
        return Ok(value);
    }
    Err(format!("the arguments do not fit the tool: {}; the schema is {schema}", problems.join("; ")))
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_of_servers_do_no_harm() {
        let call =
            |arguments: &str| ToolCall { id: "1".into(), name: "t".into(), arguments: arguments.into() };
        let loops = [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ];
        let schemas = Schemas::default();
        for schema in &loops {
            let _ = arguments(&call(r#"{"a": 1}"#), schema, &schemas);
        }
        let slow = json!({"properties": {"a": {"pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}}});
        let _ = arguments(&call(&json!({"a": "a".repeat(5_000)}).to_string()), &slow, &schemas);
        let away = json!({"$ref": "http://127.0.0.1:9/schema.json"});
        assert!(arguments(&call("{}"), &away, &schemas).is_ok(), "nothing is fetched; the server judges");
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(arguments(&call(&deep), &json!({}), &schemas).is_err());
    }
}
