//! What happens in a run, for whoever watches it.

use crate::domain::Usage;
use futures::future::BoxFuture;

/// One thing that happened. Texts are redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The model begins to write, maybe once more; what it wrote in this turn before does not count.
    Begun {
        /// From 1.
        turn: u32,
    },
    /// The next piece of free text.
    Text {
        /// The piece.
        text: String,
    },
    /// A tool is called.
    ToolStarted {
        /// Names the call within the run.
        call: String,
        /// Name of the tool.
        name: String,
        /// As the model wrote them.
        arguments: String,
    },
    /// A call was answered.
    ToolFinished {
        /// Names the call within the run.
        call: String,
        /// Name of the tool.
        name: String,
        /// Whether it failed.
        failed: bool,
        /// Milliseconds it took.
        duration_ms: i64,
        /// What the model is shown.
        result: String,
    },
    /// A turn is paid for.
    Used {
        /// All tokens of the run so far.
        usage: Usage,
    },
}

/// Watches a run. Called within the loop: it has to return at once.
pub type Watcher = dyn Fn(Event) + Send + Sync;

/// Looks at an answer in free text before it ends the run. `Some`: what is wrong with it, in words for the model, which may
/// answer once more.
pub type Review = dyn Fn(String) -> BoxFuture<'static, Option<String>> + Send + Sync;
