//! An answer in the making, told in pieces of a page: tool cards as they begin and end, the text as it grows, the whole at
//! the end.

use super::page::{made_of_the_same, render, value};
use super::{chat, markdown};
use crate::app::App;
use crate::clock;
use crate::db::approvals;
use crate::domain::Caller;
use crate::http::caller::seen_by_the_same;
use crate::live::Happened;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use minijinja::context;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long text gathers before it is told: nobody reads faster, and each telling renders the whole text.
const GATHER: Duration = Duration::from_millis(80);

struct Teller {
    app: Arc<App>,
    /// Who reads.
    caller: Caller,
    /// The run and its conversation.
    turn: (Uuid, Uuid),
    events: BoxStream<'static, Happened>,
    /// Id of the last event that the reader has.
    seen: i32,
    said: String,
    /// Text that was not told yet: its last event, and when it is told.
    untold: Option<(i32, Instant)>,
    over: bool,
}

/// The pieces of a run's answer, each with the id of the event it ends with.
pub(super) fn pieces(
    (app, caller): (Arc<App>, Caller),
    turn: (Uuid, Uuid),
    events: BoxStream<'static, Happened>,
    seen: i32,
) -> impl Stream<Item = (i32, String)> + Send {
    let teller = Teller { app, caller, turn, events, seen, said: String::new(), untold: None, over: false };
    let pieces = |mut teller: Teller| async { teller.next().await.map(|piece| (piece, teller)) };
    made_of_the_same(seen_by_the_same(futures::stream::unfold(teller, pieces)))
}

impl Teller {
    async fn next(&mut self) -> Option<(i32, String)> {
        loop {
            if self.over {
                return None;
            }
            let event = match self.untold {
                None => self.events.next().await,
                Some((id, at)) => tokio::select! {
                    biased;
                    event = self.events.next() => event,
                    () = tokio::time::sleep_until(at) => return Some((id, self.text())),
                },
            };
            let Some(event) = event else {
                self.over = true;
                return None;
            };
            if let Some(piece) = self.hear(&event).await {
                return Some((event.id, piece));
            }
            // Text that comes without a pause is told too.
            if let Some((id, _)) = self.untold.filter(|(_, at)| *at <= Instant::now()) {
                return Some((id, self.text()));
            }
        }
    }

    /// What an event changes; `None` when nothing is to be told yet.
    async fn hear(&mut self, event: &Happened) -> Option<String> {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let fresh = event.id > self.seen;
        match &*event.name {
            "message.start" => {
                self.said.clear();
                self.gather(event.id);
                None
            }
            "text.delta" => {
                self.said.push_str(data["text"].as_str().unwrap_or_default());
                self.gather(event.id);
                None
            }
            "tool.started" | "tool.finished" if fresh => {
                let begins = &*event.name == "tool.started";
                // What was said before is told before: whoever comes back after this event has missed nothing.
                let said = if self.untold.is_some() { self.text() } else { String::new() };
                let step = render("step.html", context! { call => value(&data), begins }).ok()?;
                Some(said + &step)
            }
            "approval.required" if fresh => {
                let id = data["approval"].as_str()?.parse().ok()?;
                let asked = approvals::get(&self.app.pool, id, clock::now()).await.ok()??;
                render(
                    "asked.html",
                    context! { call => super::approvals::card(&self.app, asked, &self.caller) },
                )
                .ok()
            }
            "done" | "failed" => {
                self.over = true;
                self.untold = None;
                let why = (&*event.name == "failed").then(|| data["detail"].as_str().unwrap_or_default());
                chat::ended((&self.app, &self.caller), self.turn, why).await.ok()
            }
            _ => None,
        }
    }

    fn gather(&mut self, id: i32) {
        if id > self.seen {
            let at = self.untold.map_or_else(|| Instant::now() + GATHER, |(_, at)| at);
            self.untold = Some((id, at));
        }
    }

    fn text(&mut self) -> String {
        self.untold = None;
        let text = markdown::html(&self.said, &[], &self.app.config.privacy.links);
        format!("<hx-partial hx-target=\"#saying\" hx-swap=\"innerMorph\">{text}</hx-partial>")
    }
}
