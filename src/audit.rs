//! Collects the audit events of one unit of work until they are written with its rows. A report, an answer or a request
//! that calls tools has one recorder each. Callers report events of models, tools and spans; `db::audit` writes the
//! rows.

use crate::clock;
use crate::domain::{Actor, AuditAction, AuditEvent, AuditOutcome, Run, StopReason, cut};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of buffered events per unit of work; further ones are only counted.
const MAX_EVENTS: usize = 10_000;
/// Maximum length of a failure reason, in bytes.
const MAX_REASON: usize = 500;

/// Events of one unit of work. Clones share them.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    actor: Actor,
    withholds: AtomicBool,
    events: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    pending: Vec<AuditEvent>,
    written: usize,
    left_out: usize,
}

impl Recorder {
    /// Creates a recorder for the work of an actor.
    #[must_use]
    pub fn new(actor: Actor) -> Self {
        Self(Arc::new(Shared { actor, withholds: AtomicBool::new(false), events: Mutex::default() }))
    }

    /// Returns the actor.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// Creates an event of this work at the current time.
    #[must_use]
    pub fn event(&self, action: AuditAction) -> AuditEvent {
        AuditEvent::new(&self.0.actor, action, clock::now())
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buffers an event.
    pub fn record(&self, event: AuditEvent) {
        let mut events = self.lock();
        if events.pending.len() < MAX_EVENTS {
            events.pending.push(event);
        } else {
            events.left_out += 1;
        }
    }

    /// Opens an event that is buffered when it ends, or as stopped when the [`OpenEvent`] is dropped. `ended` receives
    /// the outcome and the duration.
    pub fn open(
        &self,
        event: AuditEvent,
        ended: impl FnOnce(AuditOutcome, Duration) + Send + 'static,
    ) -> OpenEvent {
        let open = Some(Open { event, ended: Box::new(ended) });
        OpenEvent { recorder: self.clone(), open, started: Instant::now() }
    }

    /// Returns the unwritten events.
    #[must_use]
    pub fn pending(&self) -> Vec<AuditEvent> {
        let events = self.lock();
        let mut pending = events.pending.clone();
        if events.left_out > 0 {
            let detail = format!("{} more calls were made than are listed here", events.left_out);
            let full = self.event(AuditAction::RecordFull).on("work", &self.0.actor.trace);
            pending.push(full.detail(detail));
        }
        pending
    }

    /// Removes the first `count` events after they were written.
    pub fn written(&self, count: usize) {
        let mut events = self.lock();
        let count = count.min(events.pending.len());
        events.pending.drain(..count);
        events.written += count;
        events.left_out = 0;
    }

    /// Marks the work as knowing content that is visible to one person only. Its calls are recorded with their outcome
    /// and hashes, without arguments and server responses.
    pub fn withhold(&self) {
        self.0.withholds.store(true, Ordering::SeqCst);
    }

    /// Returns whether arguments and server responses are omitted.
    #[must_use]
    pub fn withholds(&self) -> bool {
        self.0.withholds.load(Ordering::SeqCst)
    }

    /// Returns the number of events so far; later events belong to the run that starts now.
    #[must_use]
    pub fn mark(&self) -> usize {
        let events = self.lock();
        events.written + events.pending.len()
    }

    /// Records a finished run and assigns the events since `mark` to it. `object` is the id of the report or
    /// conversation.
    pub fn ran(&self, mark: usize, run: &Run, kind: &'static str, object: &str) {
        {
            let mut events = self.lock();
            let from = mark.saturating_sub(events.written).min(events.pending.len());
            for event in events.pending[from..].iter_mut().filter(|event| event.run.is_none()) {
                event.run = Some(run.id);
            }
        }
        let outcome = match run.stop_reason {
            StopReason::Submitted | StopReason::Answered => AuditOutcome::Done,
            StopReason::Cancelled => AuditOutcome::Stopped,
            _ => AuditOutcome::Failed,
        };
        let calls = run.tool_calls.len();
        let data = json!({
            "analyst": run.analyst, "stop": run.stop_reason, "turns": run.turns, "tool_calls": calls,
            "input_tokens": run.usage.input_tokens, "output_tokens": run.usage.output_tokens, "cost": run.cost,
        });
        let stop = run.stop_reason.as_str();
        let mut detail = format!("{}: {stop}, {} turns, {calls} tool calls", run.analyst, run.turns);
        if let Some(why) = &run.detail {
            detail = format!("{detail}; {}", cut(why, MAX_REASON));
        }
        let mut event = self.event(AuditAction::Run).on(kind, object).outcome(outcome);
        (event.at, event.duration_ms, event.run) = (run.started_at, Some(run.duration_ms), Some(run.id));
        self.record(event.detail(detail).data(data));
    }
}

type Ended = dyn FnOnce(AuditOutcome, Duration) + Send;

/// An event that is recorded when it ends, or as stopped when it is dropped.
#[must_use]
pub struct OpenEvent {
    recorder: Recorder,
    open: Option<Open>,
    started: Instant,
}

/// The event and the callback for its end.
struct Open {
    event: AuditEvent,
    ended: Box<Ended>,
}

impl OpenEvent {
    /// Ends the event with additional data.
    pub fn end(mut self, outcome: AuditOutcome, detail: &str, facts: Value) {
        self.close(outcome, cut(detail, MAX_REASON), facts);
    }

    fn close(&mut self, outcome: AuditOutcome, detail: String, facts: Value) {
        let Some(Open { mut event, ended }) = self.open.take() else { return };
        let took = self.started.elapsed();
        ended(outcome, took);
        if let (Value::Object(known), Value::Object(more)) = (&mut event.data, facts) {
            known.extend(more);
        }
        self.recorder.record(event.outcome(outcome).detail(detail).took(took));
    }
}

impl Drop for OpenEvent {
    fn drop(&mut self) {
        self.close(AuditOutcome::Stopped, "nobody waited for its end".to_owned(), json!({}));
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::domain::Usage;
    use chrono::DateTime;
    use uuid::Uuid;

    fn run(id: Uuid) -> Run {
        Run {
            id,
            analyst: "m".into(),
            stop_reason: StopReason::WallTime,
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

    #[test]
    fn what_was_begun_is_recorded_however_it_ends() {
        let recorder = Recorder::new(Actor::new("alice", "request-1"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let open = |name: &str| {
            let told = Arc::clone(&told);
            let event = recorder.event(AuditAction::ToolCall).on("tool", name).data(json!({"given": name}));
            recorder.open(event, move |outcome, _| told.lock().unwrap().push(outcome))
        };
        open("one").end(AuditOutcome::Refused, "no rule allows it", json!({}));
        drop(open("two"));
        open("three").end(AuditOutcome::Done, "", json!({"bytes": 3}));
        let events = recorder.pending();
        let outcomes: Vec<AuditOutcome> = events.iter().map(|event| event.outcome).collect();
        assert_eq!(outcomes, [AuditOutcome::Refused, AuditOutcome::Stopped, AuditOutcome::Done]);
        assert_eq!(*told.lock().unwrap(), outcomes, "each is told once");
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|event| event.actor == Actor::new("alice", "request-1")));
        assert_eq!(events[0].detail, "no rule allows it");
        assert_eq!(events[2].data, json!({"given": "three", "bytes": 3}));
    }

    #[test]
    fn a_run_owns_what_was_recorded_since_it_began() {
        let (recorder, id) = (Recorder::new(Actor::service("r")), Uuid::now_v7());
        let call = || recorder.record(recorder.event(AuditAction::ToolCall).on("tool", "lab look"));
        call();
        recorder.written(1);
        call();
        let mark = recorder.mark();
        call();
        recorder.ran(mark, &run(id), "report", "r");
        let events = recorder.pending();
        let runs: Vec<Option<Uuid>> = events.iter().map(|event| event.run).collect();
        assert_eq!(runs, [None, Some(id), Some(id)]);
        assert_eq!((events[2].action, events[2].outcome), (AuditAction::Run, AuditOutcome::Failed));
    }
}
