//! The agent loop: request a completion, answer its tool calls, and repeat until a defined reason to stop.

use super::calls::Calls;
use super::egress_guard::EgressGuard;
use super::event::{Event, Review, Watcher};
use super::fit::fit;
use super::tool::Tool;
use super::workspace::Workspace;
use crate::audit::Recorder;
use crate::budget::Account;
use crate::domain::{Message, Money, RunLimits, StopReason, ToolCallRecord, ToolSpec, Usage};
use crate::llm::{
    self, Completion, CompletionDelta, Listener, Model, ModelError, Request, ToolChoice, text_calls,
};
use crate::telemetry::trace::{KeyValue, Span, SpanKind, provider};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Maximum number of times the history is shortened after the provider rejects it as too long.
const MAX_SHRINKS: u32 = 4;
/// Number of turns with only repeated calls before the model has to conclude.
const MAX_REPEATS: u32 = 1;

/// Appended to the last result before a model without a finishing tool has to answer.
const LAST_TURN: &str = "\n\n(No more calls can be made: answer now, from what there is.)";

/// A model with tools and limits.
pub struct Agent {
    /// Name of the agent in traces.
    pub name: String,
    /// The model.
    pub model: Arc<dyn Model>,
    /// Available tools.
    pub tools: Vec<Arc<dyn Tool>>,
    /// Tool that ends the run; without one, a text answer ends it.
    pub finishing_tool: Option<&'static str>,
    /// Limits of the run.
    pub budget: RunLimits,
    /// Evidence of the run.
    pub workspace: Arc<Workspace>,
    /// Receives the events of the run.
    pub watcher: Option<Arc<Watcher>>,
    /// Reviews the answer of a run without a finishing tool.
    pub review: Option<Arc<Review>>,
    /// Account charged for the requests.
    pub account: Option<Arc<Account>>,
    /// Records the requests.
    pub recorder: Recorder,
}

/// Result and usage of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Why the run stopped.
    pub stop: StopReason,
    /// Details for people.
    pub detail: Option<String>,
    /// Arguments of the finishing tool, if it was called.
    pub finish: Option<Value>,
    /// Last text of the model.
    pub text: String,
    /// All tool calls.
    pub calls: Vec<ToolCallRecord>,
    /// Token usage, including failed attempts.
    pub usage: Usage,
    /// Cost of the requests; absent without a price.
    pub cost: Option<Money>,
    /// Number of completions.
    pub turns: u32,
    /// Whether the last completion reached the model's output limit.
    pub cut_off: bool,
}

impl Outcome {
    /// An outcome with the reason `Answered` and no usage.
    #[must_use]
    pub fn answered() -> Self {
        Self {
            stop: StopReason::Answered,
            detail: None,
            finish: None,
            text: String::new(),
            calls: Vec::new(),
            usage: Usage::default(),
            cost: None,
            turns: 0,
            cut_off: false,
        }
    }
}

struct State {
    messages: Vec<Message>,
    outcome: Outcome,
    context_tokens: usize,
    nudged: bool,
    /// Number of turns with only repeated calls.
    repeats: u32,
    /// Arguments that the finishing tool would accept, although it asked for a better version.
    draft: Option<Value>,
}

impl Agent {
    /// Runs the loop from a brief to its end. Never fails; the outcome describes errors.
    pub async fn run(&self, brief: Vec<Message>, cancel: &CancellationToken) -> Outcome {
        let attributes = vec![
            KeyValue::new("gen_ai.operation.name", "invoke_agent"),
            provider(),
            KeyValue::new("gen_ai.agent.name", self.name.clone()),
            KeyValue::new("gen_ai.request.model", self.model.name().to_owned()),
        ];
        let span = Span::begin(format!("invoke_agent {}", self.name), SpanKind::Internal, attributes);
        let outcome = span.of(self.run_within(brief, cancel)).await;
        span.used(outcome.usage);
        span.set("regreen.turns", i64::from(outcome.turns));
        span.set("regreen.stop_reason", outcome.stop.as_str());
        outcome
    }

    async fn run_within(&self, brief: Vec<Message>, cancel: &CancellationToken) -> Outcome {
        let deadline = Instant::now() + self.budget.wall;
        let mut state = State {
            messages: brief,
            outcome: Outcome { stop: StopReason::Turns, ..Outcome::answered() },
            context_tokens: self.budget.context_tokens,
            nudged: false,
            repeats: 0,
            draft: None,
        };
        let turns = self.turns(&mut state, cancel);
        let stop = tokio::select! {
            biased;
            () = cancel.cancelled() => (StopReason::Cancelled, None),
            () = tokio::time::sleep_until(deadline.into()) => {
                let limit = humantime::format_duration(self.budget.wall);
                (StopReason::WallTime, Some(format!("the run took longer than {limit}")))
            }
            stop = turns => stop,
        };
        (state.outcome.stop, state.outcome.detail) = stop;
        if let Some(used) = self.account.as_ref().map(|account| account.used()) {
            (state.outcome.usage, state.outcome.cost) = (used.usage, used.cost);
        }
        // No better version followed: use the draft.
        if state.outcome.stop != StopReason::Cancelled
            && state.outcome.finish.is_none()
            && let Some(draft) = state.draft.take()
        {
            state.outcome.finish = Some(draft);
            state.outcome.stop = StopReason::Submitted;
        }
        state.outcome
    }

    async fn turns(&self, state: &mut State, cancel: &CancellationToken) -> (StopReason, Option<String>) {
        let mut calls = Calls {
            tools: &self.tools,
            budget: self.budget,
            workspace: &self.workspace,
            watcher: self.watcher.as_deref(),
            seen: HashSet::new(),
            told: EgressGuard::default(),
        };
        let all: Arc<[ToolSpec]> = self.tools.iter().map(|tool| tool.spec().clone()).collect();
        for turn in 1..=self.budget.turns {
            if let Some(stop) = self.spent(state) {
                return stop;
            }
            let last =
                turn == self.budget.turns || (state.repeats >= MAX_REPEATS && self.finishing_tool.is_some());
            self.warn_of_last(state, last);
            let completion = match self.complete(state, &all, last).await {
                Ok(completion) => completion,
                Err(stop) => return stop,
            };
            state.outcome.turns = turn;
            state.outcome.usage += completion.usage;
            self.tell(|| Event::Used { usage: state.outcome.usage });
            let Completion { text, mut tool_calls, truncated, .. } = completion;
            state.outcome.cut_off = truncated;
            // A text answer may show such an object as an example, so only runs with a finishing tool parse it as a call.
            if tool_calls.is_empty() && self.finishing_tool.is_some() {
                tool_calls = text_calls::calls(&text, &all, self.finishing_tool, state.messages.len()).calls;
            }
            if !text.trim().is_empty() {
                state.outcome.text.clone_from(&text);
            }
            state.messages.push(Message::Assistant { text, tool_calls: tool_calls.clone() });
            if tool_calls.is_empty() {
                match self.nudge(state, turn).await {
                    Some(stop) => return stop,
                    None => continue,
                }
            }
            let may = |tool: &&ToolSpec| !last || self.finishing_tool == Some(tool.name.as_str());
            let offered: Vec<&str> = all.iter().filter(may).map(|tool| tool.name.as_str()).collect();
            if calls.all_repeated(&tool_calls) {
                state.repeats += 1;
            }
            let answers = calls.answer(&tool_calls, turn, &offered, cancel).await;
            for (call, answer) in tool_calls.into_iter().zip(answers) {
                state.outcome.calls.push(answer.record);
                state.messages.push(Message::Tool { call_id: call.id, name: call.name, text: answer.text });
                state.outcome.finish = state.outcome.finish.take().or(answer.finish);
                state.draft = answer.draft.or(state.draft.take());
            }
            if state.outcome.finish.is_some() {
                return (StopReason::Submitted, None);
            }
        }
        let turns = self.budget.turns;
        (StopReason::Turns, Some(format!("no conclusion within {turns} turns")))
    }

    /// Returns the stop reason if the run has used its tokens.
    fn spent(&self, state: &State) -> Option<(StopReason, Option<String>)> {
        let used = self.account.as_ref().map_or(state.outcome.usage, |account| account.used().usage);
        let limit = self.budget.total_tokens;
        let is_over = used.total() >= limit;
        is_over.then(|| (StopReason::Tokens, Some(format!("the run used its {limit} tokens"))))
    }

    /// Appends a notice to the last result that an answer is due, if no finishing tool can be required.
    fn warn_of_last(&self, state: &mut State, last: bool) {
        if last
            && self.finishing_tool.is_none()
            && let Some(Message::Tool { text, .. }) = state.messages.last_mut()
        {
            text.push_str(LAST_TURN);
        }
    }

    /// Requests one completion. Shortens the history and retries if the provider rejects it as too long.
    async fn complete(
        &self,
        state: &mut State,
        tools: &Arc<[ToolSpec]>,
        last: bool,
    ) -> Result<Completion, (StopReason, Option<String>)> {
        for shrink in 0..=MAX_SHRINKS {
            if let Err(too_long) = fit(&mut state.messages, tools, state.context_tokens) {
                let (tokens, limit) = (too_long.tokens, state.context_tokens);
                let detail = format!("{tokens} tokens are left when everything is shortened; {limit} fit");
                return Err((StopReason::ContextTooLong, Some(detail)));
            }
            // The list of tools is the same in all turns, so that the provider's prompt cache stays valid.
            let choice = match self.finishing_tool {
                Some(_) if !last => ToolChoice::Call,
                None if !last => ToolChoice::Any,
                Some(name) => ToolChoice::Only(name.to_owned()),
                None => ToolChoice::None,
            };
            let request = Request {
                messages: state.messages.clone(),
                tools: Arc::clone(tools),
                choice,
                account: self.account.clone(),
            };
            let heard = |heard: CompletionDelta<'_>| {
                self.tell(|| match heard {
                    CompletionDelta::Begun => Event::Begun { turn: state.outcome.turns + 1 },
                    CompletionDelta::Text(text) => Event::Text { text: text.to_owned() },
                });
            };
            let listener = self.watcher.as_ref().map(|_| &heard as &Listener<'_>);
            match llm::ask(&*self.model, &request, &self.recorder, listener).await {
                Ok(completion) => return Ok(completion),
                // Without tool results, nothing can be shortened.
                Err(ModelError::ContextTooLong { .. })
                    if shrink < MAX_SHRINKS
                        && state.messages.iter().any(|message| matches!(message, Message::Tool { .. })) =>
                {
                    state.context_tokens = state.context_tokens / 3 * 2;
                }
                Err(error @ ModelError::ContextTooLong { .. }) => {
                    return Err((StopReason::ContextTooLong, Some(error.to_string())));
                }
                Err(error @ ModelError::OverBudget { .. }) => {
                    return Err((StopReason::Budget, Some(error.to_string())));
                }
                Err(error) => return Err((StopReason::ModelFailed, Some(error.to_string()))),
            }
        }
        Err((StopReason::ContextTooLong, None))
    }

    fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(watcher) = &self.watcher {
            watcher(event());
        }
    }

    /// Handles a turn without tool calls. Without a finishing tool, the text ends the run, unless the review rejects it once;
    /// with one, the model is reminded once to call it.
    async fn nudge(&self, state: &mut State, turn: u32) -> Option<(StopReason, Option<String>)> {
        let Some(name) = self.finishing_tool else {
            let last = state.nudged || turn == self.budget.turns;
            let problem = match self.review.as_ref().filter(|_| !last) {
                Some(review) => review(state.outcome.text.clone()).await,
                None => None,
            };
            let Some(problem) = problem else {
                return Some((StopReason::Answered, None));
            };
            state.nudged = true;
            state.messages.push(Message::User { text: problem });
            return None;
        };
        if state.nudged || turn == self.budget.turns {
            let why = if state.outcome.cut_off {
                format!(
                    "the model's answer was cut off at its output limit before it called {name}; `model.max_output_tokens` sets it"
                )
            } else {
                format!("the model answered in prose and did not call {name}")
            };
            return Some((StopReason::Answered, Some(why)));
        }
        state.nudged = true;
        let text = if state.outcome.cut_off {
            format!(
                "Your answer was cut off at its longest length. Call the tool `{name}` with fewer words and fewer claims."
            )
        } else {
            format!("Conclude by calling the tool `{name}`; an answer in prose cannot be checked or filed.")
        };
        state.messages.push(Message::User { text });
        None
    }
}
