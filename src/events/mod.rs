//! Who watches: answers in the making, and who waits for something to happen in a stream of the log of events.

mod live;

pub use live::{AnswerStream, Live};

use crate::domain::Subject;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use uuid::Uuid;

/// Wakes whoever waits for an append to a stream, on whichever replica it is made.
#[derive(Debug, Default)]
pub struct StreamNotifier {
    streams: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    lists: watch::Sender<()>,
}

impl StreamNotifier {
    fn streams(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<()>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what was told on the channel.
    pub fn on_notify(&self, told: &str) {
        let Some((subject, id)) = told.split_once(' ') else { return };
        let (Ok(subject), Ok(id)) = (subject.parse::<Subject>(), id.parse()) else { return };
        if let Some(stream) = self.streams().get(&id) {
            stream.send_replace(());
        }
        // What is written in an answer changes no list.
        if subject != Subject::Turn {
            self.lists.send_replace(());
        }
    }

    /// Wakes everybody: what was told while nobody listened is not told again.
    pub fn wake_all(&self) {
        for stream in self.streams().values() {
            stream.send_replace(());
        }
        self.lists.send_replace(());
    }

    /// Waits for appends to a stream, from now on.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, stream: Uuid) -> Subscription {
        let mut streams = self.streams();
        let told = streams.entry(stream).or_default().subscribe();
        Subscription { notifier: Arc::clone(self), stream, told: Some(told) }
    }

    /// Waits for whatever changes a list of reports or incidents, from now on.
    #[must_use]
    pub fn subscribe_lists(&self) -> watch::Receiver<()> {
        self.lists.subscribe()
    }
}

/// Waits for appends to one stream.
#[derive(Debug)]
pub struct Subscription {
    notifier: Arc<StreamNotifier>,
    stream: Uuid,
    /// Until it is dropped.
    told: Option<watch::Receiver<()>>,
}

impl Subscription {
    /// Waits until something was appended since this was asked last.
    pub async fn wait(&mut self) {
        // The sender stays as long as somebody waits.
        if let Some(told) = &mut self.told {
            let _ = told.changed().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut streams = self.notifier.streams();
        // Under the lock: of two that leave at once, the second is the last.
        self.told = None;
        if streams.get(&self.stream).is_some_and(|stream| stream.receiver_count() == 0) {
            streams.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn who_waits_for_a_stream_is_woken_by_it_and_leaves_nothing() {
        let notifier = Arc::new(StreamNotifier::default());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (mut first, mut second) = (notifier.subscribe(one), notifier.subscribe(one));
        let mut lists = notifier.subscribe_lists();
        for told in
            [format!("report {other}"), format!("else {one}"), "report".to_owned(), format!("turn {other}")]
        {
            notifier.on_notify(&told);
        }
        assert_eq!(first.wait().now_or_never(), None);
        assert!(lists.has_changed().unwrap());
        lists.mark_unchanged();
        notifier.on_notify(&format!("turn {one}"));
        assert_eq!((first.wait().now_or_never(), second.wait().now_or_never()), (Some(()), Some(())));
        assert_eq!(first.wait().now_or_never(), None, "once");
        assert!(!lists.has_changed().unwrap());
        notifier.wake_all();
        assert_eq!(first.wait().now_or_never(), Some(()));
        assert!(lists.has_changed().unwrap());
        drop(first);
        assert_eq!(notifier.streams().len(), 1);
        drop(second);
        assert_eq!(notifier.streams().len(), 0);
    }
}
