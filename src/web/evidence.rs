//! Log viewer: shows stored evidence a window of lines at a time and marks citations and the lines given to the analyst.
//! Scripts load the windows while scrolling; without scripts the page has links.

use super::error::{PageError, ScriptError};
use super::extract::{PageQuery, some};
use super::logs::{LIMIT, RankedEvidence, overloaded};
use super::page::PageContext;
use super::value::value;
use crate::api::{kept_text, known_id, missing, withheld};
use crate::clock::{Deadline, DeadlinePassed};
use crate::db::evidence::{self, Owner};
use crate::domain::{Caller, Principal};
use crate::evidence::pattern::{self, Case};
use axum::Json;
use axum::extract::Path;
use axum::response::Html;
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Number of lines in a window, and number of lines shown before the requested one.
const WINDOW: usize = 500;
const BEFORE: usize = 20;
/// Maximum number of lines in a response to a script.
const MAX_LINES: usize = 2_000;
/// Maximum number of characters shown of a line; the raw text has all of them.
const MAX_LINE: usize = 2_000;
/// Maximum number of search hits on a page, and in a response to a script.
const LISTED: usize = 200;
const TOLD: usize = 10_000;
/// Maximum number of lines marked red.
const MAX_RED: usize = 10_000;

/// Query of the log viewer.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct EvidenceQuery {
    /// First line of the window.
    from: Option<usize>,
    /// Cited lines, such as `10-12`.
    #[serde(default)]
    lines: String,
    /// Text to search for.
    #[serde(default)]
    q: String,
}

/// A line with its marks.
#[derive(Serialize)]
struct Line {
    number: usize,
    text: String,
    cited: bool,
    told: bool,
    red: bool,
    hit: bool,
}

pub(super) async fn of_report(
    page: PageContext,
    Path((id, label)): Path<(String, String)>,
    PageQuery(asked): PageQuery<EvidenceQuery>,
) -> Result<Html<String>, PageError> {
    show(&page, Owner::Report(known_id(&id)?), &Principal::nobody(), &label, &asked).await
}

pub(super) async fn of_conversation(
    page: PageContext,
    caller: Caller,
    Path((id, label)): Path<(String, String)>,
    PageQuery(asked): PageQuery<EvidenceQuery>,
) -> Result<Html<String>, PageError> {
    show(&page, Owner::Conversation(known_id(&id)?), &Principal::from(&caller), &label, &asked).await
}

async fn show(
    page: &PageContext,
    owner: Owner,
    reader: &Principal,
    label: &str,
    asked: &EvidenceQuery,
) -> Result<Html<String>, PageError> {
    let pieces = evidence::list(&page.app.pool, owner, reader).await?;
    let label = label.to_uppercase();
    let known = pieces.iter().find(|piece| piece.label == label).ok_or_else(|| missing("evidence"))?;
    if let Some(owner) = known.visible_to.as_deref().filter(|owner| !reader.may_read(Some(owner))) {
        return Err(withheld(owner).into());
    }
    // Section, its name, the page that the evidence belongs to, and the kind of page.
    let (section, name, path, what) = match owner {
        Owner::Report(id) => ("/reports", "Reports", format!("/reports/{id}"), "report"),
        Owner::Conversation(id) => ("/chat", "Chat", format!("/chat/{id}"), "conversation"),
    };
    let trail = value([[name, section], [what, path.as_str()]]);
    if let Some(gone) = known.pruned_at {
        let values = context! { trail, label, title => known.title.clone(), gone => value(gone), lines => known.lines, bytes => known.bytes };
        return page.show(section, "evidence-gone.html", values).await;
    }
    let log = match page.logs.get(known.id).filter(|log| log.among == pieces.len()) {
        Some(log) => log,
        None => page.logs.read(&page.app, owner, reader, known.id).await?,
    };
    let wanted = asked.clone();
    let viewed = Arc::clone(&log);
    let view = page.app.blocking.run_checked(LIMIT, move |deadline| View::of(&viewed, &wanted, deadline));
    let view = view.await.map_err(overloaded)?;
    let piece = &log.piece;
    let View { total, from, cited, shown, hits, more_hits } = view;
    let red: Vec<u32> = piece.red.iter().copied().take(MAX_RED).collect();
    let values = context! {
        trail, from, more_hits, red,
        label => label.clone(),
        told => value(&log.told),
        title => piece.title.clone(),
        total,
        window => WINDOW,
        cited => value(cited),
        q => asked.q.clone(),
        lines => value(&shown),
        hits => value(&hits),
        others => pieces.iter().map(|piece| vec![piece.label.clone(), piece.title.clone()]).collect::<Vec<_>>(),
        raw => match owner {
            Owner::Report(id) => format!("/api/reports/{id}/evidence/{label}"),
            Owner::Conversation(id) => format!("/api/conversations/{id}/evidence/{label}"),
        },
    };
    page.show(section, "evidence.html", values).await
}

/// A window of a log, with search hits.
struct View {
    total: usize,
    from: usize,
    cited: Option<(usize, usize)>,
    shown: Vec<Line>,
    hits: Vec<Line>,
    more_hits: bool,
}

impl View {
    fn of(log: &RankedEvidence, asked: &EvidenceQuery, deadline: &Deadline) -> Result<Self, DeadlinePassed> {
        let (piece, told) = (&log.piece, &log.told);
        let all: Vec<&str> = piece.text.lines().collect();
        let cited = range(&asked.lines);
        let from = asked
            .from
            .or(cited.map(|(first, _)| first.saturating_sub(BEFORE)))
            .unwrap_or(1)
            .clamp(1, all.len().max(1));
        let found = match some(&asked.q) {
            Some(query) => holding(&piece.text, query, usize::MAX, deadline)?,
            None => Vec::new(),
        };
        let within = |number: usize, (first, last): &(usize, usize)| (*first..=*last).contains(&number);
        let line = |(number, text): (usize, &&str)| Line {
            number,
            text: cut(text),
            cited: cited.is_some_and(|cited| within(number, &cited)),
            told: told.iter().any(|span| within(number, span)),
            red: u32::try_from(number).is_ok_and(|number| piece.red.binary_search(&number).is_ok()),
            hit: found.binary_search(&number).is_ok(),
        };
        let shown = (1..).zip(&all).skip(from - 1).take(WINDOW).map(line).collect();
        let listed =
            found.iter().take(LISTED).filter_map(|number| Some(line((*number, all.get(number - 1)?))));
        let (hits, more_hits) = (listed.collect(), found.len() > LISTED);
        Ok(Self { total: all.len(), from, cited, shown, hits, more_hits })
    }
}

/// Returns the numbers of the first lines that contain a text, ignoring case.
fn holding(text: &str, find: &str, most: usize, deadline: &Deadline) -> Result<Vec<usize>, DeadlinePassed> {
    let mut found = Vec::new();
    let Ok(find) = pattern::text(&regex::escape(find), Case::Ignored) else {
        return Ok(found);
    };
    let (mut number, mut at) = (1, 0);
    for hit in find.find_iter(text) {
        deadline.check()?;
        number += memchr::memchr_iter(b'\n', &text.as_bytes()[at..hit.start()]).count();
        at = hit.start();
        if found.last() != Some(&number) {
            if found.len() == most {
                break;
            }
            found.push(number);
        }
    }
    Ok(found)
}

/// Parses `10-12` or `10`.
fn range(text: &str) -> Option<(usize, usize)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (1 <= first && first <= last).then_some((first, last))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}… ({} bytes more)", &text[..end], text.len() - end),
        None => text.to_owned(),
    }
}

/// Request of a script: a window, or the lines that contain a text.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Window {
    #[serde(default = "first")]
    from: usize,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    find: String,
}

fn first() -> usize {
    1
}

/// Response to a script.
#[derive(Serialize)]
pub(super) struct Lines {
    lines: Vec<String>,
    hits: Vec<usize>,
    more: bool,
}

pub(super) async fn lines_of_report(
    page: PageContext,
    Path((id, label)): Path<(String, String)>,
    PageQuery(window): PageQuery<Window>,
) -> Result<Json<Lines>, ScriptError> {
    lines(&page, Owner::Report(known_id(&id)?), &Principal::nobody(), &label, &window).await
}

pub(super) async fn lines_of_conversation(
    page: PageContext,
    caller: Caller,
    Path((id, label)): Path<(String, String)>,
    PageQuery(window): PageQuery<Window>,
) -> Result<Json<Lines>, ScriptError> {
    lines(&page, Owner::Conversation(known_id(&id)?), &Principal::from(&caller), &label, &window).await
}

async fn lines(
    page: &PageContext,
    owner: Owner,
    reader: &Principal,
    label: &str,
    window: &Window,
) -> Result<Json<Lines>, ScriptError> {
    let app = &page.app;
    let position = crate::api::position(label)?;
    let id = evidence::id(&app.pool, owner, position, reader).await?;
    let text = match id.and_then(|id| page.logs.get(id)) {
        Some(log) => Text::Held(log),
        None => Text::Fetched(kept_text(app, owner, position, reader).await?),
    };
    let Window { from, count, find } = window.clone();
    let lines = app.blocking.run_checked(LIMIT, move |deadline| {
        let text = text.as_str();
        let (mut hits, mut lines) = (Vec::new(), Vec::new());
        if find.is_empty() {
            let all = text.lines().skip(from.saturating_sub(1));
            lines = all.take(count.clamp(1, MAX_LINES)).map(cut).collect();
        } else {
            hits = holding(text, &find, TOLD + 1, deadline)?;
        }
        let more = hits.len() > TOLD;
        hits.truncate(TOLD);
        Ok(Lines { lines, hits, more })
    });
    Ok(Json(lines.await.map_err(overloaded)?))
}

/// A cached log, or one read from the database.
enum Text {
    Held(Arc<RankedEvidence>),
    Fetched(String),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Held(log) => &log.piece.text,
            Self::Fetched(text) => text,
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_range_of_lines_is_read_or_nothing() {
        let read = ["10-12", "7", "0-3", "5-2", "x", "", "1-99999999999999999999"].map(range);
        assert_eq!(read, [Some((10, 12)), Some((7, 7)), None, None, None, None, None]);
    }

    #[test]
    fn lines_that_hold_a_text_are_found_once_each() {
        let text = "Error: no [x]\nfine\r\n\nERROR error\nÄrger (error)";
        let found = |text: &str, find: &str, most| holding(text, find, most, &Deadline::never()).unwrap();
        assert_eq!(found(text, "error", 9), [1, 4, 5]);
        assert_eq!(found(text, "error", 2), [1, 4]);
        assert_eq!(found(text, "[X]", 9), [1]);
        assert_eq!(found(text, "ärger (", 9), [5]);
        assert!(found(text, "nowhere", 9).is_empty());
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let long = "ä".repeat(MAX_LINE + 3);
        assert!(cut(&long).ends_with("ä… (6 bytes more)"));
        assert_eq!(cut("short"), "short");
    }
}
