//! The recorder: what one piece of work did, gathered until it is written with the rows it belongs to. One belongs to the work on a
//! report, one to the making of an answer, one to a request that calls tools. Models, tools and spans are left to whoever reports what
//! they did; the rows to `db::audit`.

use crate::clock;
use crate::domain::{Actor, AuditAction, AuditEvent, AuditOutcome, Run, StopReason, cut};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most events that one piece of work gathers before they are written; what comes then is counted.
const MAX_EVENTS: usize = 10_000;
/// Longest reason of a failure, in bytes.
const MAX_REASON: usize = 500;

/// The events of one piece of work. Clones share them.
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
    /// Of work that somebody does.
    #[must_use]
    pub fn new(actor: Actor) -> Self {
        Self(Arc::new(Shared { actor, withholds: AtomicBool::new(false), events: Mutex::default() }))
    }

    /// Who does the work.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// Something done now, in this work.
    #[must_use]
    pub fn event(&self, action: AuditAction) -> AuditEvent {
        AuditEvent::new(&self.0.actor, action, clock::now())
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an event until it is written.
    pub fn record(&self, event: AuditEvent) {
        let mut events = self.lock();
        if events.pending.len() < MAX_EVENTS {
            events.pending.push(event);
        } else {
            events.left_out += 1;
        }
    }

    /// Keeps an event with its end, or as stopped when the [`OpenEvent`] is dropped before. `ended` is told how, and after how long.
    pub fn open(
        &self,
        event: AuditEvent,
        ended: impl FnOnce(AuditOutcome, Duration) + Send + 'static,
    ) -> OpenEvent {
        let open = Some(Open { event, ended: Box::new(ended) });
        OpenEvent { recorder: self.clone(), open, started: Instant::now() }
    }

    /// What is not written yet.
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

    /// The first events were written.
    pub fn written(&self, count: usize) {
        let mut events = self.lock();
        let count = count.min(events.pending.len());
        events.pending.drain(..count);
        events.written += count;
        events.left_out = 0;
    }

    /// From now on this work knows what is visible to one person alone: of its calls it is recorded that they were made, how they
    /// ended, and hashes, but neither arguments nor what a server said.
    pub fn withhold(&self) {
        self.0.withholds.store(true, Ordering::SeqCst);
    }

    /// Whether arguments and what servers say are left out.
    #[must_use]
    pub fn withholds(&self) -> bool {
        self.0.withholds.load(Ordering::SeqCst)
    }

    /// How many events there were so far: what comes after belongs to the run that begins.
    #[must_use]
    pub fn mark(&self) -> usize {
        let events = self.lock();
        events.written + events.pending.len()
    }

    /// Records a run that ended, and that what was recorded since `mark` was done by it. `object` is the id of what it worked on.
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

/// Something that was begun and goes on record with its end; as stopped when nobody waits for its end any more.
#[must_use]
pub struct OpenEvent {
    recorder: Recorder,
    open: Option<Open>,
    started: Instant,
}

/// What goes on record, and who is told of its end.
struct Open {
    event: AuditEvent,
    ended: Box<Ended>,
}

impl OpenEvent {
    /// It ended, with further figures.
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
