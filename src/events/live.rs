//! Answers in progress: events for any number of subscribers, stored for clients that reconnect.

use crate::db::{events, turns};
use crate::domain::{Event, StreamEvent};
use futures::Stream;
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Interval at which events are stored.
const KEEP_EVERY: Duration = Duration::from_millis(250);
/// Number of these intervals between two renewals of a lease.
const RENEW_EVERY: u32 = 60;

/// Event stream of an answer in progress.
#[derive(Debug)]
pub struct AnswerStream {
    /// The turn of the answer.
    pub turn: Uuid,
    /// Cancelled to stop the answer.
    pub stop: CancellationToken,
    /// Name of the user who receives the answer.
    owner: Arc<str>,
    is_own: AtomicBool,
    log: Mutex<Log>,
    length: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<StreamEvent>,
    kept: usize,
    readers: usize,
}

impl Log {
    fn ended(&self) -> bool {
        self.events.last().is_some_and(|last| last.event.ends())
    }
}

impl AnswerStream {
    fn new(turn: Uuid, owner: &str, stop: CancellationToken) -> Self {
        let (length, _) = watch::channel(0);
        Self {
            turn,
            stop,
            owner: owner.into(),
            is_own: AtomicBool::new(false),
            log: Mutex::default(),
            length,
        }
    }

    /// Makes all further events visible only to the recipient.
    pub fn make_private(&self) {
        self.is_own.store(true, Ordering::SeqCst);
    }

    /// Returns the only user who may read further events, or `None` if everybody may.
    #[must_use]
    pub fn visible_to(&self) -> Option<&str> {
        self.is_own.load(Ordering::SeqCst).then_some(&*self.owner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event to all subscribers.
    pub fn emit(&self, event: Event) {
        let visible_to = self.visible_to().map(|_| Arc::clone(&self.owner));
        let mut happened = StreamEvent::new(0, event, visible_to);
        let mut log = self.log();
        happened.id = i32::try_from(log.events.len() + 1).unwrap_or(i32::MAX);
        log.events.push(happened);
        let length = log.events.len();
        drop(log);
        self.length.send_replace(length);
    }

    /// Streams the events after this id until the end. Calls `abandoned` when the last subscriber leaves before the end.
    pub fn read(
        self: Arc<Self>,
        after: i32,
        abandoned: impl FnOnce(&Self) + Send + 'static,
    ) -> impl Stream<Item = StreamEvent> + Send {
        self.log().readers += 1;
        let length = self.length.subscribe();
        let reader = Listener { answer: self, abandoned: Some(abandoned) };
        let next = usize::try_from(after).unwrap_or(0);
        futures::stream::unfold(
            (reader, length, next, false),
            |(reader, mut length, next, over)| async move {
                if over {
                    return None;
                }
                loop {
                    length.borrow_and_update();
                    // Read both under one lock, so that no event is missed before the end.
                    let (event, ended) = {
                        let log = reader.answer.log();
                        (log.events.get(next).cloned(), log.ended())
                    };
                    if let Some(event) = event {
                        let over = event.event.ends();
                        return Some((event, (reader, length, next + 1, over)));
                    }
                    // A client that reconnects after the end already has the last event.
                    if ended {
                        return None;
                    }
                    // The sender belongs to the answer, which the listener keeps alive.
                    length.changed().await.ok()?;
                }
            },
        )
    }
}

struct Listener<F: FnOnce(&AnswerStream)> {
    answer: Arc<AnswerStream>,
    abandoned: Option<F>,
}

impl<F: FnOnce(&AnswerStream)> Drop for Listener<F> {
    fn drop(&mut self) {
        let mut log = self.answer.log();
        log.readers -= 1;
        let leaves_early = log.readers == 0 && !log.ended();
        drop(log);
        if let Some(abandoned) = self.abandoned.take().filter(|_| leaves_early) {
            abandoned(&self.answer);
        }
    }
}

/// Answers in progress in this process.
#[derive(Debug, Default)]
pub struct Live(Mutex<HashMap<Uuid, Arc<AnswerStream>>>);

impl Live {
    fn answers(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<AnswerStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an answer for a user. Cancelling `stop` also stops the answer.
    pub fn begin(&self, turn: Uuid, owner: &str, stop: &CancellationToken) -> Arc<AnswerStream> {
        let answer = Arc::new(AnswerStream::new(turn, owner, stop.child_token()));
        self.answers().insert(turn, Arc::clone(&answer));
        answer
    }

    /// Returns the answer of a turn, if it runs in this process.
    #[must_use]
    pub fn get(&self, turn: Uuid) -> Option<Arc<AnswerStream>> {
        self.answers().get(&turn).cloned()
    }

    /// Whether no answer is in progress.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers().is_empty()
    }

    /// Stores events and renews leases until `stop` is cancelled and every answer has ended.
    pub async fn keep(&self, pool: &PgPool, stop: &CancellationToken) {
        let mut round = 0_u32;
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            round = round.wrapping_add(1);
            if let Err(error) = self.keep_now(pool, round.is_multiple_of(RENEW_EVERY)).await {
                tracing::warn!(%error, "events of answers cannot be kept; tried again in a moment");
            }
            if stop.is_cancelled() && self.is_empty() {
                return;
            }
        }
    }

    async fn keep_now(&self, pool: &PgPool, renew: bool) -> sqlx::Result<()> {
        let all: Vec<Arc<AnswerStream>> = self.answers().values().cloned().collect();
        let mut fresh = Vec::new();
        let mut lengths = Vec::new();
        for answer in &all {
            let log = answer.log();
            lengths.push(log.events.len());
            fresh.extend(log.events[log.kept..].iter().map(|happened| (answer.turn, happened.clone())));
        }
        if !fresh.is_empty() {
            events::append(pool, &fresh).await?;
        }
        let running: Vec<Uuid> = all.iter().map(|answer| answer.turn).collect();
        if renew && !running.is_empty() {
            turns::renew(pool, &running).await?;
        }
        for (answer, length) in all.iter().zip(lengths) {
            let mut log = answer.log();
            log.kept = length;
            let over = log.events[..length].last().is_some_and(|last| last.event.ends());
            drop(log);
            if over {
                self.answers().remove(&answer.turn);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::domain::{ConversationMessage, Done, MessageRole, Principal, StopReason, Usage};
    use futures::StreamExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn begins() -> Event {
        Event::MessageStart { run: Uuid::nil(), turn: 1, model: "m".into() }
    }

    fn text(text: &str) -> Event {
        Event::TextDelta { text: text.into() }
    }

    fn done(message: Option<ConversationMessage>) -> Event {
        let (run, conversation_id) = (Uuid::nil(), Uuid::nil());
        let usage = Some(Usage { output_tokens: 5000, ..Usage::default() });
        let (stop_reason, approvals) = (StopReason::Answered, Vec::new());
        Event::Done(Box::new(Done {
            run,
            conversation_id,
            stop_reason,
            cut_off: false,
            message,
            approvals,
            usage,
            next_run: None,
        }))
    }

    #[tokio::test]
    async fn readers_get_everything_after_their_last_event_once() {
        let live = Live::default();
        let answer = live.begin(Uuid::now_v7(), "user", &CancellationToken::new());
        answer.emit(begins());
        let early = Arc::clone(&answer).read(0, |_| {});
        let late = Arc::clone(&answer).read(1, |_| {});
        answer.emit(text("a"));
        answer.emit(done(None));
        let kinds = |events: Vec<StreamEvent>| events.iter().map(|e| e.event.kind()).collect::<Vec<_>>();
        assert_eq!(kinds(early.collect().await), ["message.start", "text.delta", "done"]);
        assert_eq!(kinds(late.collect().await), ["text.delta", "done"]);
        // A client that already has the last event does not wait.
        assert_eq!(answer.read(3, |_| {}).collect::<Vec<_>>().await, []);
    }

    #[tokio::test]
    async fn only_the_last_reader_that_leaves_early_abandons() {
        let abandoned = Arc::new(AtomicUsize::new(0));
        let answer = Live::default().begin(Uuid::now_v7(), "user", &CancellationToken::new());
        let reader = || {
            let count = Arc::clone(&abandoned);
            Box::pin(Arc::clone(&answer).read(0, move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            }))
        };
        let (first, second) = (reader(), reader());
        drop(first);
        assert_eq!(abandoned.load(Ordering::SeqCst), 0);
        drop(second);
        assert_eq!(abandoned.load(Ordering::SeqCst), 1);
        let third = reader();
        answer.emit(done(None));
        drop(third);
        assert_eq!(abandoned.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_is_somebodys_own_is_told_to_nobody_else() {
        let answer = Live::default().begin(Uuid::now_v7(), "oidc:alice", &CancellationToken::new());
        answer.emit(text("I ask payroll."));
        answer.make_private();
        let (call, tool) = ("1.1".to_owned(), "payroll_look".to_owned());
        answer.emit(Event::ToolFinished { call, tool, failed: false, duration_ms: 1, result: "5000".into() });
        answer.emit(text("It is 5000."));
        answer.emit(Event::Used(Usage { output_tokens: 5000, ..Usage::default() }));
        let message = ConversationMessage {
            id: Uuid::nil(),
            position: 1,
            role: MessageRole::Assistant,
            author: "m".into(),
            text: "5000".into(),
            citations: Vec::new(),
            not_found: Vec::new(),
            run: None,
            visible_to: Some("oidc:alice".into()),
            speaker: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
        };
        answer.emit(done(Some(message)));
        let events = answer.log().events.clone();
        let told = |reader: &Principal| -> Vec<StreamEvent> {
            events.iter().cloned().filter_map(|event| event.redacted_for(reader)).collect()
        };
        let (alice, bob) = (told(&Principal::named("oidc:alice")), told(&Principal::named("oidc:bob")));
        assert_eq!(alice, events);
        let kinds: Vec<&str> = bob.iter().map(|happened| happened.event.kind()).collect();
        assert_eq!(kinds, ["text.delta", "tool.finished", "done"]);
        assert!(bob[1].data.contains("(visible to oidc:alice alone)"), "{bob:?}");
        assert!(bob.iter().all(|event| !event.data.contains("5000")) && bob[2].event.ends(), "{bob:?}");
        assert_eq!(told(&Principal::nobody()), bob);
    }
}
