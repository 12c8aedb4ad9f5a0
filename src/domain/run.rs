//! A run of an agent: its limits, its result, and its tool calls.

use super::Usage;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;
use uuid::Uuid;

/// Limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunLimits {
    /// Maximum number of completions requested from the model.
    pub turns: u32,
    /// Maximum number of tokens in one request.
    pub context_tokens: usize,
    /// Maximum number of tokens in all requests and answers together.
    pub total_tokens: u64,
    /// Maximum duration of the run.
    pub wall: Duration,
    /// Maximum duration of one tool call.
    pub tool_call: Duration,
    /// Maximum number of concurrent tool calls.
    pub parallel_calls: usize,
    /// Maximum number of tokens of one tool result shown to the model.
    pub result_tokens: usize,
}

impl RunLimits {
    /// Limits one part of a request to `tokens`, and to a fifth of the context.
    #[must_use]
    pub fn share(&self, tokens: usize) -> usize {
        tokens.min(self.context_tokens / 5)
    }

    /// Limits one tool result to an eighth of the context.
    #[must_use]
    pub fn with_results_that_fit(self) -> Self {
        Self { result_tokens: self.result_tokens.min(self.context_tokens / 8), ..self }
    }
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            turns: 12,
            context_tokens: 32_000,
            total_tokens: 400_000,
            wall: Duration::from_secs(300),
            tool_call: Duration::from_secs(30),
            parallel_calls: 4,
            result_tokens: 2_000,
        }
    }
}

/// Why a run ended.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StopReason {
    /// The finishing tool was called with good arguments.
    Submitted,
    /// The model answered in free text.
    Answered,
    /// All turns were used.
    Turns,
    /// The total of tokens was used.
    Tokens,
    /// A budget of money or tokens beyond the run's own is used up.
    Budget,
    /// Time ran out.
    WallTime,
    /// The brief alone does not fit the model's context.
    ContextTooLong,
    /// The model failed for good.
    ModelFailed,
    /// Somebody stopped it.
    Cancelled,
}

impl StopReason {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A tool call of a run, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallRecord {
    /// Turn it was made in, from 1.
    pub turn: u32,
    /// Tool name as the model knows it.
    pub name: String,
    /// Arguments as the model wrote them, redacted.
    pub arguments: String,
    /// What the model was shown, redacted and capped.
    pub result: String,
    /// Whether it failed.
    pub failed: bool,
    /// Milliseconds it took.
    pub duration_ms: i64,
}

/// A run as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Row id.
    pub id: Uuid,
    /// Model's name or `rules`.
    pub analyst: String,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// What to know about the end, when there is more to say.
    pub detail: Option<String>,
    /// Completions.
    pub turns: i32,
    /// Tokens used.
    pub usage: Usage,
    /// Cost in the currency of the configured prices; absent without prices.
    pub cost: Option<f64>,
    /// Claims of its diagnosis, and how many of them were found in the evidence.
    pub claims: i32,
    /// Of these, found.
    pub claims_verified: i32,
    /// Every call.
    pub tool_calls: Vec<ToolCallRecord>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Milliseconds it took.
    pub duration_ms: i64,
}
