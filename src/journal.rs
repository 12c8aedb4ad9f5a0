//! What a piece of work did, gathered until its record is written: the models it asked, the tools it called. One belongs to the
//! work on a report, one to the making of an answer, one to each request; whoever asks or calls notes it without being handed a
//! journal. What is written where is left to `db::audit`.

use crate::clock;
use crate::domain::{Run, sorted};
use crate::evidence::redact::Redactor;
use crate::llm::{Completion, ModelError, Request};
use crate::metrics::metrics;
use crate::telemetry::WORK;
use crate::telemetry::trace::{self, KeyValue, Span, SpanKind};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::Instrument as _;
use uuid::Uuid;

/// Longest arguments of a call that a row shows, in bytes; the whole has a digest.
const MAX_ARGUMENTS: usize = 2_000;
/// Longest reason of a failure, in bytes.
const MAX_REASON: usize = 500;
/// Most notes that one piece of work gathers before they are written; what comes then is counted.
const MAX_NOTES: usize = 10_000;
/// Stands in the place of what is visible to one person alone.
const WITHHELD: &str = "(visible to one person alone)";

tokio::task_local! {
    static CURRENT: Arc<Journal>;
}

/// Something that was done, as it goes on record.
#[derive(Debug, Clone)]
pub struct Note {
    /// When it began.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// What: `model.call`, `tool.call`, `run`, ….
    pub action: String,
    /// Kind and id or name of what it was done to.
    pub object: (String, String),
    /// `done`, `failed`, `refused` or `stopped`.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The request it came with, or the report or turn it was done for.
    pub trace: String,
    /// The run that did it.
    pub run: Option<Uuid>,
    /// In words.
    pub detail: String,
    /// Figures and hashes.
    pub data: Value,
}

impl Note {
    /// Something done now, by and for whom the current work is done.
    #[must_use]
    pub fn new(action: &str, object: (&str, &str), outcome: &str) -> Self {
        let own = |text: &str| text.to_owned();
        let current = current();
        Self {
            at: clock::now(),
            actor: current.as_ref().map_or_else(|| own("regreen"), |journal| journal.actor.clone()),
            action: own(action),
            object: (own(object.0), own(object.1)),
            outcome: own(outcome),
            duration_ms: None,
            trace: current.map(|journal| journal.trace.clone()).unwrap_or_default(),
            run: None,
            detail: String::new(),
            data: json!({}),
        }
    }

    /// With words.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// With figures.
    #[must_use]
    pub fn data(self, data: Value) -> Self {
        Self { data, ..self }
    }

    /// Which took so long.
    #[must_use]
    pub fn took(self, time: Duration) -> Self {
        Self { duration_ms: Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)), ..self }
    }
}

/// The notes of one piece of work.
#[derive(Debug)]
pub struct Journal {
    trace: String,
    actor: String,
    withholds: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    pending: Vec<Note>,
    written: usize,
    left_out: usize,
}

impl Journal {
    /// Of work that `actor` does, found by `trace`.
    #[must_use]
    pub fn new(actor: &str, trace: &str) -> Arc<Self> {
        let (trace, actor) = (trace.to_owned(), actor.to_owned());
        Arc::new(Self { trace, actor, withholds: AtomicBool::new(false), notes: Mutex::default() })
    }

    /// Does work whose notes go here; what it logs is found by the same name.
    pub async fn of<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        let trace_id = trace::trace_id();
        let logged = tracing::error_span!(target: WORK, "work", trace = self.trace, trace_id);
        CURRENT.scope(Arc::clone(self), work).instrument(logged).await
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, note: Note) {
        let mut notes = self.lock();
        if notes.pending.len() < MAX_NOTES {
            notes.pending.push(note);
        } else {
            notes.left_out += 1;
        }
    }

    /// What is not written yet.
    #[must_use]
    pub fn pending(&self) -> Vec<Note> {
        let notes = self.lock();
        let mut pending = notes.pending.clone();
        if notes.left_out > 0 {
            let detail = format!("{} more calls were made than are listed here", notes.left_out);
            pending.push(Note::new("journal.full", ("work", &self.trace), "done").detail(detail));
        }
        pending
    }

    /// The first notes were written.
    pub fn forget(&self, count: usize) {
        let mut notes = self.lock();
        let count = count.min(notes.pending.len());
        notes.pending.drain(..count);
        notes.written += count;
        notes.left_out = 0;
    }
}

/// The journal of the work that is done here.
#[must_use]
pub fn current() -> Option<Arc<Journal>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Notes something in the journal of the work that is done here, if it has one.
pub fn note(note: Note) {
    if let Some(journal) = current() {
        journal.add(note);
    }
}

/// From now on the work that is done here knows what is visible to one person alone: of its calls it is noted that they were
/// made, how they ended, and hashes, but neither arguments nor what a server said.
pub fn withhold() {
    if let Some(journal) = current() {
        journal.withholds.store(true, Ordering::SeqCst);
    }
}

fn withholds() -> bool {
    current().is_some_and(|journal| journal.withholds.load(Ordering::SeqCst))
}

/// How many notes there were so far: what comes after belongs to the run that begins.
#[must_use]
pub fn mark() -> usize {
    current().map_or(0, |journal| {
        let notes = journal.lock();
        notes.written + notes.pending.len()
    })
}

/// Notes a run that ended, and that what was noted since `mark` was done by it.
pub fn ran(mark: usize, run: &Run, object: (&str, &str)) {
    metrics().run(run);
    let Some(journal) = current() else { return };
    {
        let mut notes = journal.lock();
        let from = mark.saturating_sub(notes.written).min(notes.pending.len());
        for note in notes.pending[from..].iter_mut().filter(|note| note.run.is_none()) {
            note.run = Some(run.id);
        }
    }
    let outcome = match run.stop_reason.as_str() {
        "submitted" | "answered" => "done",
        "cancelled" => "stopped",
        _ => "failed",
    };
    let calls = run.tool_calls.len();
    let data = json!({
        "analyst": run.analyst, "stop": run.stop_reason, "turns": run.turns, "tool_calls": calls,
        "input_tokens": run.usage.input_tokens, "output_tokens": run.usage.output_tokens, "cost": run.cost,
    });
    let detail = format!("{}: {}, {} turns, {calls} tool calls", run.analyst, run.stop_reason, run.turns);
    let detail =
        run.detail.as_ref().map_or(detail.clone(), |why| format!("{detail}; {}", cut(why, MAX_REASON)));
    let mut ran = Note::new("run", object, outcome).detail(detail).data(data);
    (ran.at, ran.duration_ms, ran.run) = (run.started_at, Some(run.duration_ms), Some(run.id));
    journal.add(ran);
}

/// Something that was begun and goes on record with its end; as `stopped` when nobody waits for its end any more.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    journal: Option<Arc<Journal>>,
    note: Option<Note>,
    started: Instant,
    counted: Option<Counted>,
    span: Span,
}

/// What is counted, whether or not it goes on record: the name of the model or of the server.
#[derive(Debug)]
enum Counted {
    Model(String),
    Call(String),
}

impl Begun {
    fn new(counted: Counted, span: Span, note: impl FnOnce() -> Note) -> Self {
        let journal = current();
        // Without a journal there is nothing to hash for.
        let note = journal.as_ref().map(|_| note());
        Self { journal, note, started: Instant::now(), counted: Some(counted), span }
    }

    /// Does what was begun, which traces what it does as part of it.
    pub fn of<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        self.span.of(work)
    }

    fn count(&mut self, outcome: &'static str) {
        if outcome != "done" && self.counted.is_some() {
            self.span.fail(outcome);
        }
        let took = self.started.elapsed();
        match self.counted.take() {
            Some(Counted::Model(model)) => metrics().model_request(&model, outcome, took),
            Some(Counted::Call(server)) => metrics().tool_call(&server, outcome, took),
            None => {}
        }
    }

    fn end(mut self, outcome: &'static str, detail: String, facts: impl FnOnce() -> Value) {
        self.count(outcome);
        if let (Some(journal), Some(mut note)) = (&self.journal, self.note.take()) {
            outcome.clone_into(&mut note.outcome);
            note.detail = detail;
            if let (Value::Object(known), Value::Object(more)) = (&mut note.data, facts()) {
                known.extend(more);
            }
            journal.add(note.took(self.started.elapsed()));
        }
    }

    /// A model answered, or why it did not: hash of the answer, tokens.
    pub fn answered(self, answer: &Result<Completion, ModelError>) {
        match answer {
            Ok(Completion { text, tool_calls, usage, truncated }) => {
                self.span.used(*usage);
                let ended = match (truncated, tool_calls.is_empty()) {
                    (true, _) => "length",
                    (false, false) => "tool_calls",
                    (false, true) => "stop",
                };
                self.span.set("gen_ai.response.finish_reasons", trace::list_of(ended));
                let called: Vec<&str> = tool_calls.iter().map(|call| call.name.as_str()).collect();
                let detail =
                    if called.is_empty() { "answered in text".to_owned() } else { called.join(", ") };
                let detail = if *truncated { format!("{detail} (cut off)") } else { detail };
                self.end("done", cut(&detail, MAX_REASON), || {
                    json!({
                        "response": hash(json!([text, tool_calls]).to_string()),
                        "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
                    })
                });
            }
            Err(error) => self.end("failed", cut(&error.to_string(), MAX_REASON), || json!({})),
        }
    }

    /// A tool returned this, or why it did not.
    pub fn returned(self, result: Result<&str, &str>) {
        match result {
            Ok(text) => self.end(
                "done",
                String::new(),
                || json!({ "result_hash": hash(text), "result_bytes": text.len() }),
            ),
            Err(_) if withholds() => self.end("failed", WITHHELD.to_owned(), || json!({})),
            Err(reason) => self.end("failed", cut(reason, MAX_REASON), || json!({})),
        }
    }

    /// It was not carried out because it is not allowed, and why.
    pub fn refused(self, reason: &str) {
        self.end("refused", cut(reason, MAX_REASON), || json!({}));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.count("stopped");
        if let (Some(journal), Some(note)) = (&self.journal, self.note.take()) {
            journal.add(note.detail("nobody waited for its end").took(self.started.elapsed()));
        }
    }
}

/// A model is asked.
pub fn asking(model: &str, request: &Request) -> Begun {
    let span = Span::begin(
        format!("chat {model}"),
        SpanKind::Client,
        vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            trace::provider(),
            KeyValue::new("gen_ai.request.model", model.to_owned()),
        ],
    );
    Begun::new(Counted::Model(model.to_owned()), span, || {
        Note::new("model.call", ("model", model), "stopped").data(json!({ "request": request_hash(request) }))
    })
}

/// A tool of an MCP server is called, or would be if it were allowed: [`Begun::refused`]. The arguments go on record without
/// their secrets.
pub fn calling(server: &str, tool: &str, arguments: &Value) -> Begun {
    let span = Span::begin(
        format!("tools/call {tool}"),
        SpanKind::Client,
        vec![
            KeyValue::new("mcp.method.name", "tools/call"),
            KeyValue::new("gen_ai.tool.name", tool.to_owned()),
            KeyValue::new("regreen.mcp.server", server.to_owned()),
        ],
    );
    Begun::new(Counted::Call(server.to_owned()), span, || {
        let arguments = Redactor::new().redact(&sorted(arguments.clone()).to_string());
        let shown = if withholds() { WITHHELD.to_owned() } else { cut(&arguments, MAX_ARGUMENTS) };
        let data = json!({
            "server": server, "tool": tool, "arguments": shown, "arguments_hash": hash(&arguments),
        });
        Note::new("tool.call", ("tool", &format!("{server} {tool}")), "stopped").data(data)
    })
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hash(text: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(text.as_ref()))
}

/// Over all that a model is asked: messages, tools and the one it has to call.
#[must_use]
pub fn request_hash(request: &Request) -> String {
    let tools: &[_] = &request.tools;
    let asked = serde_json::to_vec(&(&request.messages, tools, &request.choice.only()));
    hash(asked.unwrap_or_default())
}

fn cut(text: &str, bytes: usize) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(bytes);
    if end == text.len() {
        text.to_owned()
    } else {
        format!("{}… ({} bytes left out)", &text[..end], text.len() - end)
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::domain::Usage;

    fn run(id: Uuid) -> Run {
        Run {
            id,
            analyst: "m".into(),
            stop_reason: "wall_time".into(),
            detail: None,
            turns: 1,
            usage: Usage::default(),
            cost: None,
            claims: 0,
            claims_verified: 0,
            tool_calls: Vec::new(),
            started_at: DateTime::UNIX_EPOCH,
            duration_ms: 5,
        }
    }

    #[tokio::test]
    async fn a_call_is_noted_however_it_ends_and_without_its_secrets() {
        let secret = ["hunter2", "hunter2"].concat();
        let arguments = json!({"password": secret, "name": "x".repeat(3_000)});
        let journal = Journal::new("alice", "request-1");
        journal
            .of(async {
                calling("lab", "restart", &arguments).refused("no rule allows it");
                drop(calling("lab", "look", &json!({})));
                calling("lab", "look", &json!({"b": 1, "a": 2})).returned(Ok("seen"));
                calling("lab", "look", &json!({"a": 2, "b": 1})).returned(Err("away"));
                asking("m", &Request::default()).answered(&Ok(Completion::default()));
            })
            .await;
        let notes = journal.pending();
        let outcomes: Vec<&str> = notes.iter().map(|note| note.outcome.as_str()).collect();
        assert_eq!(outcomes, ["refused", "stopped", "done", "failed", "done"]);
        assert!(notes.iter().all(|note| note.actor == "alice" && note.trace == "request-1"));
        assert_eq!(notes[0].detail, "no rule allows it");
        let shown = notes[0].data["arguments"].as_str().unwrap();
        assert!(
            !shown.contains(&secret) && shown.ends_with("bytes left out)") && shown.len() < 2_100,
            "{shown}"
        );
        assert_eq!(notes[2].data["result_hash"], hash("seen"));
        assert_eq!(notes[2].data["arguments_hash"], notes[3].data["arguments_hash"], "whatever the order");
        // Without a journal nothing is noted, and nothing breaks.
        calling("lab", "look", &json!({})).returned(Ok("seen"));
        assert_eq!(journal.pending().len(), 5);
    }

    #[tokio::test]
    async fn a_run_owns_what_was_noted_since_it_began() {
        let (journal, id) = (Journal::new("regreen", "r"), Uuid::now_v7());
        journal
            .of(async {
                calling("lab", "look", &json!({})).returned(Ok("before"));
                journal.forget(1);
                calling("lab", "look", &json!({})).returned(Ok("before, too"));
                let mark = mark();
                calling("lab", "look", &json!({})).returned(Ok("by the run"));
                ran(mark, &run(id), ("report", "r"));
            })
            .await;
        let notes = journal.pending();
        let runs: Vec<Option<Uuid>> = notes.iter().map(|note| note.run).collect();
        assert_eq!(runs, [None, Some(id), Some(id)]);
        assert_eq!((notes[2].action.as_str(), notes[2].outcome.as_str()), ("run", "failed"));
    }
}
