//! The evidence of one run: what the brief was made of and what tools returned since, whole and redacted.

use crate::domain::{Evidence, EvidenceKind};
use crate::evidence::redact::Redactor;
use crate::evidence::untrusted::fence::Fence;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Shared by the loop and the tools that read evidence.
#[derive(Debug)]
pub struct Workspace {
    /// Marks around untrusted text; nobody outside the run can guess them.
    fence: Fence,
    keeps_results: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    pieces: Vec<Arc<Evidence>>,
    given: usize,
    redactor: Redactor,
}

impl Workspace {
    /// Begins with the pieces collected so far.
    #[must_use]
    pub fn new(pieces: Vec<Evidence>, redactor: Redactor) -> Self {
        let given = pieces.len();
        let pieces = pieces.into_iter().map(Arc::new).collect();
        // Its first twelve digits are chance alone, the version comes after.
        let fence = Fence::new(&Uuid::new_v4().simple().to_string()[..12]);
        let inner = Mutex::new(Inner { pieces, given, redactor });
        Self { fence, keeps_results: false, inner }
    }

    /// Keeps every tool result under a label, not only the long ones: what is said of it can be looked up.
    #[must_use]
    pub fn keeping_results(mut self) -> Self {
        self.keeps_results = true;
        self
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

    /// The text with its secrets replaced.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.lock().redactor.redact(text)
    }

    /// The piece of that label.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<Arc<Evidence>> {
        self.lock().pieces.iter().find(|piece| piece.label.eq_ignore_ascii_case(label)).cloned()
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
