//! Evidence of one run: the pieces of the brief and later tool results, complete and redacted.

use super::schemas::Schemas;
use crate::blocking::{BlockingError, BlockingPool};
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Evidence, EvidenceKind, citation};
use crate::evidence::clean::{Cleaned, clean_within};
use crate::evidence::redact::Redactor;
use crate::evidence::untrusted::fence::Fence;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Time limit for one operation on texts, including the wait for a thread.
const WORK_LIMIT: Duration = Duration::from_mins(1);
/// Maximum bytes to redact on the async thread, which takes at most a millisecond.
const SHORT: usize = 4 << 10;

/// Evidence shared by the loop and the tools.
#[derive(Debug)]
pub struct Workspace {
    /// Delimiters around untrusted text, with a random mark.
    fence: Fence,
    keeps_results: bool,
    /// Locked only for short operations.
    inner: Mutex<Inner>,
    /// One redactor for all texts of a run, so that equal secrets have equal placeholders. An async mutex, so that waiting
    /// blocks no thread.
    redactor: Arc<tokio::sync::Mutex<Redactor>>,
    blocking: BlockingPool,
    schemas: Schemas,
}

#[derive(Debug)]
struct Inner {
    pieces: Vec<Arc<Evidence>>,
    given: usize,
    /// Runbook passages given to the analyst.
    guidance: Vec<Arc<str>>,
    /// Labels of pieces that contain general knowledge instead of evidence of the failure.
    known: Vec<String>,
    /// Labels of tool results, with the texts that the model sent to get them.
    sent: Vec<(String, Vec<String>)>,
}

impl Workspace {
    /// Creates a workspace with the pieces collected so far. Long operations run on the pool.
    #[must_use]
    pub fn new(pieces: Vec<impl Into<Arc<Evidence>>>, redactor: Redactor, blocking: BlockingPool) -> Self {
        let given = pieces.len();
        let pieces = pieces.into_iter().map(Into::into).collect();
        // The first twelve digits are random; the UUID version follows them.
        let fence = Fence::new(&Uuid::new_v4().simple().to_string()[..12]);
        let inner =
            Mutex::new(Inner { pieces, given, guidance: Vec::new(), known: Vec::new(), sent: Vec::new() });
        let redactor = Arc::new(tokio::sync::Mutex::new(redactor));
        Self { fence, keeps_results: false, inner, redactor, blocking, schemas: Schemas::default() }
    }

    /// Stores every tool result as evidence, not only long ones, so that statements about it can be verified.
    #[must_use]
    pub fn keeping_results(mut self) -> Self {
        self.keeps_results = true;
        self
    }

    /// Shares compiled schemas with other runs.
    #[must_use]
    pub fn sharing(mut self, schemas: &Schemas) -> Self {
        self.schemas = schemas.clone();
        self
    }

    pub(super) fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// Uses the mark of an earlier run, to continue with its texts.
    #[must_use]
    pub fn fenced_with(mut self, fence: &str) -> Self {
        if !fence.is_empty() {
            self.fence = Fence::new(fence);
        }
        self
    }

    pub(super) fn keeps_results(&self) -> bool {
        self.keeps_results
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in another thread leaves only complete pieces, so they stay readable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool for long operations.
    #[must_use]
    pub fn blocking(&self) -> &BlockingPool {
        &self.blocking
    }

    /// Runs an operation on texts on the pool.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub async fn work<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce(&Deadline) -> Result<T, DeadlinePassed> + Send + 'static,
    {
        self.blocking.run_checked(WORK_LIMIT, work).await
    }

    /// Runs an operation with the redactor on the pool.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub async fn redacting<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Redactor, &Deadline) -> Result<T, DeadlinePassed> + Send + 'static,
    {
        let mut redactor = Arc::clone(&self.redactor).lock_owned().await;
        self.work(move |deadline| work(&mut redactor, deadline)).await
    }

    /// Replaces secrets in a text. Omits a text that cannot be redacted in time.
    #[must_use]
    pub async fn redact(&self, text: &str) -> String {
        if text.len() <= SHORT {
            return self.redactor.lock().await.redact(text);
        }
        let text = text.to_owned();
        let redacted = self.redacting(move |redactor, deadline| redactor.redact_within(&text, deadline));
        redacted.await.unwrap_or_else(|error| format!("(left out: it could not be redacted, {error})"))
    }

    /// Cleans and redacts an untrusted text.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub async fn cleaned(&self, text: String) -> Result<Cleaned, BlockingError> {
        let cleaned = self.redacting(move |redactor, deadline| {
            let Cleaned { text, red } = clean_within(&text, deadline)?;
            Ok(Cleaned { text: redactor.redact_within(&text, deadline)?, red })
        });
        cleaned.await
    }

    /// Returns the piece with this label; accepts any form of citation.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<Arc<Evidence>> {
        let (label, _) = citation(label);
        self.lock().pieces.iter().find(|piece| piece.label == label).cloned()
    }

    /// Returns all pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> Vec<Arc<Evidence>> {
        self.lock().pieces.clone()
    }

    /// Returns the pieces added during the run.
    #[must_use]
    pub fn added(&self) -> Vec<Arc<Evidence>> {
        let inner = self.lock();
        inner.pieces[inner.given..].to_vec()
    }

    /// Stores a cleaned and redacted text with the numbers of its red lines. Returns the new piece.
    pub fn add(&self, title: String, text: String, red: Vec<u32>) -> Arc<Evidence> {
        let mut inner = self.lock();
        let piece = Arc::new(Evidence {
            id: Uuid::now_v7(),
            label: format!("E{}", inner.pieces.len() + 1),
            kind: EvidenceKind::ToolResult,
            title,
            text,
            red,
        });
        inner.pieces.push(Arc::clone(&piece));
        piece
    }

    /// Stores a runbook passage given to the analyst; next steps may use it.
    pub fn guide(&self, passage: &str) {
        self.lock().guidance.push(Arc::from(passage));
    }

    /// Returns the runbook passages given to the analyst.
    #[must_use]
    pub fn guidance(&self) -> Vec<Arc<str>> {
        self.lock().guidance.clone()
    }

    /// Marks a piece as general knowledge, which proves nothing about the current failure.
    pub(super) fn mark_known(&self, label: &str) {
        self.lock().known.push(label.to_owned());
    }

    /// Returns the labels of pieces with general knowledge.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.lock().known.clone()
    }

    /// Stores the texts that a model sent to get a piece. Where the result repeats them, it is not evidence.
    pub(super) fn note_sent(&self, label: &str, sent: Vec<String>) {
        self.lock().sent.push((label.to_owned(), sent));
    }

    /// Returns the labels of tool results, with the texts that the model sent.
    #[must_use]
    pub fn sent(&self) -> Vec<(String, Vec<String>)> {
        self.lock().sent.clone()
    }

    /// Delimiters of this run.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Encloses untrusted text in delimiters that it cannot contain.
    #[must_use]
    pub fn fenced(&self, text: &str) -> String {
        self.fence.around(text)
    }
}
