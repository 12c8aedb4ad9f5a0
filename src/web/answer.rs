//! An answer in progress, sent as HTML fragments: tool cards when calls start and end, the text as it grows, and the final
//! messages.

use super::error::PageError;
use super::page::PageContext;
use super::value::value;
use super::{chat, markdown};
use crate::api::{self, known_id, missing};
use crate::clock;
use crate::db::approvals;
use crate::db::turns::{self, Turn};
use crate::domain::{Caller, Event, Principal, StreamEvent};
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::{self, KeepAlive, Sse};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use minijinja::context;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::Instant;

/// Interval between two text updates: nobody reads faster, and each update renders the whole text.
const GATHER: Duration = Duration::from_millis(80);

struct AnswerPage {
    page: PageContext,
    /// Reader of the page.
    caller: Caller,
    turn: Turn,
    events: BoxStream<'static, StreamEvent>,
    /// Id of the last event that the reader received.
    seen: i32,
    said: String,
    /// Text that was not sent yet: id of its last event, and time when it is sent.
    untold: Option<(i32, Instant)>,
    over: bool,
}

/// Streams the fragments of an answer; after a lost connection, the missed ones.
pub(super) async fn live(
    page: PageContext,
    caller: Caller,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let run = known_id(&run)?;
    let turn = turns::get(&page.app.pool, run).await?.ok_or_else(|| missing("run"))?;
    // Texts grow from the beginning, so all events are read; fragments that were already received are not sent again.
    let events = api::chat::read(&page.app, run, 0, Principal::from(&caller));
    let seen = api::chat::last_event(&headers);
    let pieces = pieces(page, caller, turn, events, seen);
    let events =
        pieces.map(|(id, html)| Ok::<_, Infallible>(sse::Event::default().id(id.to_string()).data(html)));
    Ok(api::chat::unbuffered(Sse::new(events).keep_alive(KeepAlive::default())))
}

/// Returns the fragments of an answer, each with the id of its last event.
fn pieces(
    page: PageContext,
    caller: Caller,
    turn: Turn,
    events: BoxStream<'static, StreamEvent>,
    seen: i32,
) -> impl Stream<Item = (i32, String)> + Send {
    let teller =
        AnswerPage { page, caller, turn, events, seen, said: String::new(), untold: None, over: false };
    let pieces = |mut teller: AnswerPage| async { teller.next().await.map(|piece| (piece, teller)) };
    futures::stream::unfold(teller, pieces)
}

impl AnswerPage {
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
            // Text that arrives without a pause is sent as well.
            if let Some((id, _)) = self.untold.filter(|(_, at)| *at <= Instant::now()) {
                return Some((id, self.text()));
            }
        }
    }

    /// Returns the fragment for an event; `None` if nothing has to be sent yet.
    async fn hear(&mut self, event: &StreamEvent) -> Option<String> {
        let fresh = event.id > self.seen;
        match &*event.event {
            Event::MessageStart { .. } => {
                self.said.clear();
                self.gather(event.id);
                None
            }
            Event::TextDelta { text } => {
                self.said.push_str(text);
                self.gather(event.id);
                None
            }
            Event::ToolStarted { .. } | Event::ToolFinished { .. } if fresh => {
                let begins = matches!(&*event.event, Event::ToolStarted { .. });
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                // Send earlier text first: a reader that reconnects after this event has missed nothing.
                let said = if self.untold.is_some() { self.text() } else { String::new() };
                let step = self.page.render("step.html", context! { call => value(&data), begins }).ok()?;
                Some(said + &step)
            }
            Event::ApprovalRequired { approval, .. } if fresh => {
                let asked = approvals::get(&self.page.app.pool, *approval, clock::now()).await.ok()??;
                let call = super::approvals::card(&self.page.app, asked, &self.caller);
                self.page.render("asked.html", context! { call }).ok()
            }
            Event::Done(_) | Event::Failed { .. } => {
                self.over = true;
                self.untold = None;
                let why = match &*event.event {
                    Event::Failed { detail, .. } => Some(detail.as_str()),
                    _ => None,
                };
                chat::ended(&self.page, &self.caller, &self.turn, why).await.ok()
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
        let text = markdown::html(&self.said, &[], &self.page.app.config.privacy.links);
        format!("<hx-partial hx-target=\"#saying\" hx-swap=\"innerMorph\">{text}</hx-partial>")
    }
}
