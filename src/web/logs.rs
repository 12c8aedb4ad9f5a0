//! Cache of recently viewed long logs. A reader requests window after window; without the cache, each request would read the
//! whole log from the database and rank it to mark the lines given to the analyst.

use crate::api::{Problem, missing};
use crate::app::App;
use crate::blocking::BlockingError;
use crate::db::evidence::{self, Owner};
use crate::domain::{Evidence, Principal};
use crate::triage::ExcerptBudget;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Maximum size of the cache in bytes, and minimum size of a log that is cached.
const HELD: usize = 48 << 20;
const LONG: usize = 128 << 10;
/// Time limit for ranking a log, including the wait for a thread, and seconds after which to retry.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
const RETRY_AFTER: u32 = 10;

/// A piece of evidence, ready for display.
pub(super) struct RankedEvidence {
    pub(super) piece: Evidence,
    /// First and last line of each range given to the analyst.
    pub(super) told: Vec<(usize, usize)>,
    /// Number of pieces of evidence, which share the space in the analyst's brief.
    pub(super) among: usize,
}

/// Cached logs, most recently used first. Stored evidence never changes.
#[derive(Default)]
pub(super) struct Logs(Mutex<VecDeque<Arc<RankedEvidence>>>);

impl Logs {
    fn held(&self) -> MutexGuard<'_, VecDeque<Arc<RankedEvidence>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a cached piece by id.
    pub(super) fn get(&self, id: Uuid) -> Option<Arc<RankedEvidence>> {
        let mut held = self.held();
        let at = held.iter().position(|shown| shown.piece.id == id)?;
        let shown = held.remove(at)?;
        held.push_front(Arc::clone(&shown));
        Some(shown)
    }

    fn put(&self, shown: &Arc<RankedEvidence>) {
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

    /// Reads a piece of evidence that this reader may see.
    pub(super) async fn read(
        &self,
        app: &App,
        owner: Owner,
        reader: &Principal,
        id: Uuid,
    ) -> Result<Arc<RankedEvidence>, Problem> {
        let pieces = evidence::of(&app.pool, owner, reader).await?;
        let shown = Arc::new(ranked(app, pieces, id).await?);
        self.put(&shown);
        Ok(shown)
    }
}

/// Ranks a piece on a blocking thread, since a long log takes a while.
async fn ranked(app: &App, mut pieces: Vec<Evidence>, id: Uuid) -> Result<RankedEvidence, Problem> {
    let index = pieces.iter().position(|piece| piece.id == id).ok_or_else(|| missing("evidence"))?;
    let room = ExcerptBudget::of(&app.config);
    let ranked = app.blocking.run_checked(LIMIT, move |deadline| {
        let spans = room.lines(&pieces, index, deadline)?;
        let told = spans.into_iter().map(|(first, last)| (first as usize, last as usize)).collect();
        let among = pieces.len();
        Ok(RankedEvidence { piece: pieces.swap_remove(index), told, among })
    });
    ranked.await.map_err(overloaded)
}

/// Returns the problem for a log that could not be ranked or searched in time.
pub(super) fn overloaded(error: BlockingError) -> Problem {
    tracing::warn!(%error, "a log could not be worked through for a reader");
    let detail = format!("the log could not be worked through: {error}; try again in a moment");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
}
