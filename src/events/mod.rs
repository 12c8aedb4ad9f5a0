//! Live events: answers in progress, and subscriptions to streams of the event log.

mod live;

pub use live::{AnswerStream, Live};

use crate::domain::Subject;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use uuid::Uuid;

/// Wakes subscribers of a stream when any replica appends to it.
#[derive(Debug, Default)]
pub struct StreamNotifier {
    streams: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    lists: watch::Sender<()>,
}

impl StreamNotifier {
    fn streams(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<()>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles a payload from the notification channel.
    pub fn on_notify(&self, told: &str) {
        let Some((subject, id)) = told.split_once(' ') else { return };
        let (Ok(subject), Ok(id)) = (subject.parse::<Subject>(), id.parse()) else { return };
        if let Some(stream) = self.streams().get(&id) {
            stream.send_replace(());
        }
        // Events of an answer change no list.
        if subject != Subject::Turn {
            self.lists.send_replace(());
        }
    }

    /// Wakes all subscribers, since notifications sent while disconnected are not repeated.
    pub fn wake_all(&self) {
        for stream in self.streams().values() {
            stream.send_replace(());
        }
        self.lists.send_replace(());
    }

    /// Subscribes to appends to a stream from now on.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, stream: Uuid) -> Subscription {
        let mut streams = self.streams();
        let told = streams.entry(stream).or_default().subscribe();
        Subscription { notifier: Arc::clone(self), stream, told: Some(told) }
    }

    /// Subscribes to changes of the lists of reports and incidents from now on.
    #[must_use]
    pub fn subscribe_lists(&self) -> watch::Receiver<()> {
        self.lists.subscribe()
    }
}

/// Subscription to one stream.
#[derive(Debug)]
pub struct Subscription {
    notifier: Arc<StreamNotifier>,
    stream: Uuid,
    /// `None` once dropped.
    told: Option<watch::Receiver<()>>,
}

impl Subscription {
    /// Waits until something has been appended since the last call.
    pub async fn wait(&mut self) {
        // The sender exists as long as there are subscribers.
        if let Some(told) = &mut self.told {
            let _ = told.changed().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut streams = self.notifier.streams();
        // Under the lock, so that of two concurrent drops the second finds no receivers.
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
