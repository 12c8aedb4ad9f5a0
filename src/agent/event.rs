//! Events of a run, for its watcher.

use crate::domain::Usage;
use futures::future::BoxFuture;

/// An event. Its texts are redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The model starts or restarts a turn; discard any text of the turn received before.
    Begun {
        /// Number of the turn, from 1.
        turn: u32,
    },
    /// Next piece of text.
    Text {
        /// The piece.
        text: String,
    },
    /// A tool call starts.
    ToolStarted {
        /// Id of the call, unique within the run.
        call: String,
        /// Name of the tool.
        name: String,
        /// Arguments as written by the model.
        arguments: String,
    },
    /// A tool call ended.
    ToolFinished {
        /// Id of the call, unique within the run.
        call: String,
        /// Name of the tool.
        name: String,
        /// Whether the call failed.
        failed: bool,
        /// Duration in milliseconds.
        duration_ms: i64,
        /// Result as shown to the model.
        result: String,
    },
    /// Token usage after a turn.
    Used {
        /// Total usage of the run so far.
        usage: Usage,
    },
}

/// Receives the events of a run. Called within the loop, so it must return immediately.
pub type Watcher = dyn Fn(Event) + Send + Sync;

/// Reviews an answer in text form before it ends the run. Returns a problem as a message for the model, which may then
/// answer once more; `None` accepts the answer.
pub type Review = dyn Fn(String) -> BoxFuture<'static, Option<String>> + Send + Sync;
