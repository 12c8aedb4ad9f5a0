//! Long logs that were looked at lately. Whoever reads one asks for window after window, and each would fetch the whole log
//! from the database; the page would rank it each time to mark what the analyst was shown.

use crate::app::App;
use crate::db::evidence::{self, Owner};
use crate::domain::{Evidence, EvidenceSummary, Reader};
use crate::http::{Problem, missing};
use crate::triage::Room;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Bytes that are held at most, and of a log for which it is worth it.
const HELD: usize = 48 << 20;
const LONG: usize = 128 << 10;

/// A piece of evidence, ready to be shown.
pub(super) struct Shown {
    pub(super) piece: Evidence,
    /// First and last of each run of lines that the analyst was shown.
    pub(super) told: Vec<(usize, usize)>,
    /// Among how many pieces: they share the room in the analyst's brief.
    among: usize,
}

/// The logs, the latest read first. What is stored of a piece never changes.
#[derive(Default)]
pub(super) struct Logs(Mutex<VecDeque<Arc<Shown>>>);

impl Logs {
    fn held(&self) -> MutexGuard<'_, VecDeque<Arc<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The piece of this id, if it is at hand.
    pub(super) fn get(&self, id: Uuid) -> Option<Arc<Shown>> {
        let mut held = self.held();
        let at = held.iter().position(|shown| shown.piece.id == id)?;
        let shown = held.remove(at)?;
        held.push_front(Arc::clone(&shown));
        Some(shown)
    }

    fn put(&self, shown: &Arc<Shown>) {
        if !(LONG..=HELD).contains(&shown.piece.text.len()) {
            return;
        }
        let mut held = self.held();
        held.retain(|known| known.piece.id != shown.piece.id);
        held.push_front(Arc::clone(shown));
        let mut bytes = 0;
        held.retain(|known| {
            bytes += known.piece.text.len();
            bytes <= HELD
        });
    }

    /// A piece of somebody's evidence, which this reader may see.
    pub(super) async fn read(
        &self,
        app: &App,
        (owner, reader): (Owner, &Reader),
        (known, among): (&EvidenceSummary, usize),
    ) -> Result<Arc<Shown>, Problem> {
        if let Some(shown) = self.get(known.id).filter(|shown| shown.among == among) {
            return Ok(shown);
        }
        let pieces = evidence::of(&app.pool, owner, reader).await?;
        let shown = Arc::new(ranked(Room::of(&app.config), pieces, known.id).await?);
        self.put(&shown);
        Ok(shown)
    }
}

/// Ranking a long log takes a while, and no worker waits for it.
async fn ranked(room: Room, mut pieces: Vec<Evidence>, id: Uuid) -> Result<Shown, Problem> {
    let index = pieces.iter().position(|piece| piece.id == id).ok_or_else(|| missing("evidence"))?;
    let ranked = tokio::task::spawn_blocking(move || {
        let spans = room.lines(&pieces, index);
        let told = spans.into_iter().map(|(first, last)| (first as usize, last as usize)).collect();
        let among = pieces.len();
        Shown { piece: pieces.swap_remove(index), told, among }
    });
    ranked.await.map_err(|_| {
        let detail = "the log cannot be ranked; the server's log has more";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::domain::EvidenceKind;

    fn shown(bytes: usize) -> Arc<Shown> {
        let piece = Evidence {
            id: Uuid::now_v7(),
            label: "E1".to_owned(),
            kind: EvidenceKind::Log,
            title: String::new(),
            text: "x".repeat(bytes),
            red: Vec::new(),
        };
        Arc::new(Shown { piece, told: Vec::new(), among: 1 })
    }

    #[test]
    fn the_longest_unread_log_goes_first_and_short_ones_are_not_held() {
        let logs = Logs::default();
        let (short, one, two, three) = (shown(100), shown(HELD / 2), shown(HELD / 2), shown(LONG));
        for log in [&short, &one, &two] {
            logs.put(log);
        }
        assert!(logs.get(short.piece.id).is_none());
        assert!(logs.get(one.piece.id).is_some());
        logs.put(&three);
        let held = [&one, &two, &three].map(|log| logs.get(log.piece.id).is_some());
        assert_eq!(held, [true, false, true]);
        logs.put(&shown(HELD + 1));
        assert_eq!(logs.held().len(), 2);
    }
}
