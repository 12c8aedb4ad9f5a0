//! The evidence of one run: what the brief was made of and what tools returned since, whole and redacted.

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

/// How long one piece of work over texts may take, with the wait for a thread.
const WORK_LIMIT: Duration = Duration::from_mins(1);
/// Bytes that are redacted where they are: a millisecond at most.
const SHORT: usize = 4 << 10;

/// Shared by the loop and the tools that read evidence.
#[derive(Debug)]
pub struct Workspace {
    /// Marks around untrusted text; nobody outside the run can guess them.
    fence: Fence,
    keeps_results: bool,
    /// Held for moments only.
    inner: Mutex<Inner>,
    /// The same secret has the same placeholder in all texts of a run: one text at a time. Whoever waits for it holds no thread.
    redactor: Arc<tokio::sync::Mutex<Redactor>>,
    blocking: BlockingPool,
    schemas: Schemas,
}

#[derive(Debug)]
struct Inner {
    pieces: Vec<Arc<Evidence>>,
    given: usize,
    /// Passages of runbooks that the analyst was given.
    guidance: Vec<Arc<str>>,
    /// Labels of pieces that tell what is known, and nothing of what is looked at.
    known: Vec<String>,
    /// Labels of results, with what the model itself sent to get them.
    sent: Vec<(String, Vec<String>)>,
}

impl Workspace {
    /// Begins with the pieces collected so far. What takes long is done on the pool.
    #[must_use]
    pub fn new(pieces: Vec<impl Into<Arc<Evidence>>>, redactor: Redactor, blocking: BlockingPool) -> Self {
        let given = pieces.len();
        let pieces = pieces.into_iter().map(Into::into).collect();
        // Its first twelve digits are chance alone, the version comes after.
        let fence = Fence::new(&Uuid::new_v4().simple().to_string()[..12]);
        let inner =
            Mutex::new(Inner { pieces, given, guidance: Vec::new(), known: Vec::new(), sent: Vec::new() });
        let redactor = Arc::new(tokio::sync::Mutex::new(redactor));
        Self { fence, keeps_results: false, inner, redactor, blocking, schemas: Schemas::default() }
    }

    /// Keeps every tool result under a label, not only the long ones: what is said of it can be looked up.
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

    /// Keeps the mark of an earlier run, whose texts it goes on with.
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
        // A panic elsewhere leaves whole pieces behind; they stay readable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool for what takes long.
    #[must_use]
    pub fn blocking(&self) -> &BlockingPool {
        &self.blocking
    }

    /// Does work over texts on the pool.
    ///
    /// # Errors
    /// Those of [`BlockingError`].
    pub async fn work<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce(&Deadline) -> Result<T, DeadlinePassed> + Send + 'static,
    {
        self.blocking.run_checked(WORK_LIMIT, work).await
    }

    /// The same for work that redacts.
    ///
    /// # Errors
    /// Those of [`BlockingError`].
    pub async fn redacting<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Redactor, &Deadline) -> Result<T, DeadlinePassed> + Send + 'static,
    {
        let mut redactor = Arc::clone(&self.redactor).lock_owned().await;
        self.work(move |deadline| work(&mut redactor, deadline)).await
    }

    /// The text with its secrets replaced. One that cannot be redacted in time is left out: nobody sees what it may hold.
    #[must_use]
    pub async fn redact(&self, text: &str) -> String {
        if text.len() <= SHORT {
            return self.redactor.lock().await.redact(text);
        }
        let text = text.to_owned();
        let redacted = self.redacting(move |redactor, deadline| redactor.redact_within(&text, deadline));
        redacted.await.unwrap_or_else(|error| format!("(left out: it could not be redacted, {error})"))
    }

    /// A text of others, cleaned and redacted.
    ///
    /// # Errors
    /// Those of [`BlockingError`].
    pub async fn cleaned(&self, text: String) -> Result<Cleaned, BlockingError> {
        let cleaned = self.redacting(move |redactor, deadline| {
            let Cleaned { text, red } = clean_within(&text, deadline)?;
            Ok(Cleaned { text: redactor.redact_within(&text, deadline)?, red })
        });
        cleaned.await
    }

    /// The piece of that label, in any form in which it is cited.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<Arc<Evidence>> {
        let (label, _) = citation(label);
        self.lock().pieces.iter().find(|piece| piece.label == label).cloned()
    }

    /// All pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> Vec<Arc<Evidence>> {
        self.lock().pieces.clone()
    }

    /// The pieces added during the run.
    #[must_use]
    pub fn added(&self) -> Vec<Arc<Evidence>> {
        let inner = self.lock();
        inner.pieces[inner.given..].to_vec()
    }

    /// Keeps a cleaned and redacted text whole, with the numbers of its red lines; returns the piece.
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

    /// Keeps a passage of a runbook that the analyst is given: its steps may be told.
    pub fn guide(&self, passage: &str) {
        self.lock().guidance.push(Arc::from(passage));
    }

    /// The passages of runbooks that the analyst was given.
    #[must_use]
    pub fn guidance(&self) -> Vec<Arc<str>> {
        self.lock().guidance.clone()
    }

    /// That a piece tells what is known, and so proves nothing of what is looked at.
    pub(super) fn mark_known(&self, label: &str) {
        self.lock().known.push(label.to_owned());
    }

    /// The labels of such pieces.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.lock().known.clone()
    }

    /// What a model sent to get a piece: where the result repeats it, it is the model's word and no evidence.
    pub(super) fn note_sent(&self, label: &str, sent: Vec<String>) {
        self.lock().sent.push((label.to_owned(), sent));
    }

    /// The labels of such pieces, with what was sent.
    #[must_use]
    pub fn sent(&self) -> Vec<(String, Vec<String>)> {
        self.lock().sent.clone()
    }

    /// The marks of this run.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Untrusted text between marks that it cannot contain.
    #[must_use]
    pub fn fenced(&self, text: &str) -> String {
        self.fence.around(text)
    }
}
