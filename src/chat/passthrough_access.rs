//! Tools of servers with `passthrough`, which are called with the requester's own token. They are offered only in answers to
//! the requester's own messages. Their results, and the answer based on them, are visible only to the requester.

use super::task::Task;
use crate::agent::{Tool, ToolAnswer};
use crate::audit::Recorder;
use crate::db::{conversations, turns};
use crate::domain::ToolSpec;
use crate::events::AnswerStream;
use async_trait::async_trait;
use serde_json::Value;
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The passthrough tools that an answer may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassthroughAccess {
    /// All tools: nobody else writes in the conversation.
    All,
    /// Tools that the question names: the model also reads texts of others and may follow them.
    Named,
    /// No tools: the answer was not started by a message of the user.
    None,
}

impl PassthroughAccess {
    /// Determines the access of an answer.
    pub(super) async fn of(pool: &PgPool, task: &Task) -> sqlx::Result<Self> {
        if !task.decided.is_empty() {
            return Ok(Self::None);
        }
        let others = conversations::others_speak(pool, task.conversation, &task.speaker).await?;
        Ok(if others { Self::Named } else { Self::All })
    }

    /// Removes the tools that must not be used. Returns the servers of the removed tools.
    pub(super) fn keep_permitted(self, question: &str, tools: &mut Vec<Arc<dyn Tool>>) -> BTreeSet<String> {
        let question = question.to_lowercase();
        let mut missing = BTreeSet::new();
        tools.retain(|tool| {
            let Some(server) = tool.passthrough() else { return true };
            let permitted = match self {
                Self::All => true,
                Self::Named => {
                    let name = tool.spec().name.as_str();
                    // A single word such as `get` or `look` occurs in many questions.
                    names(&question, server) || (name.contains(['_', '-']) && names(&question, name))
                }
                Self::None => false,
            };
            if !permitted {
                missing.insert(server.to_owned());
            }
            permitted
        });
        missing
    }

    /// Returns the note for the model about the servers of the removed tools.
    pub(super) fn note(self, missing: &BTreeSet<String>) -> Option<String> {
        let servers: Vec<String> = missing.iter().map(|server| format!("`{server}`")).collect();
        let why = match self {
            Self::All => return None,
            Self::Named => {
                "others have a say in this conversation, and the question does not name the server. If they are needed, say that \
                 the question has to name it"
            }
            Self::None => {
                "no message of theirs began it. If they are needed, say that they have to be asked for"
            }
        };
        (!servers.is_empty()).then(|| {
            format!(
                "Tools of {} are not offered in this answer: they are called with the own access of whoever asks, and {why}.",
                servers.join(", ")
            )
        })
    }
}

/// Whether a lower-case text contains a name as a separate word.
fn names(text: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty()
        && text.match_indices(&name).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + name.len()..]);
            !before.chars().next_back().is_some_and(is_part) && !after.chars().next().is_some_and(is_part)
        })
}

/// Makes an answer visible only to its requester: events, results, text and recorded calls.
pub(super) async fn make_private(
    pool: &PgPool,
    answer: &AnswerStream,
    recorder: &Recorder,
) -> sqlx::Result<()> {
    if answer.visible_to().is_none() {
        turns::make_private(pool, answer.turn).await?;
        answer.make_private();
    }
    recorder.withhold();
    Ok(())
}

/// A tool whose results are visible only to the requester.
struct PrivateResultTool {
    pool: PgPool,
    answer: Arc<AnswerStream>,
    recorder: Recorder,
    tool: Arc<dyn Tool>,
}

/// Wraps the tool so that its results stay private, if it is called with the caller's own token.
pub(super) fn kept_apart(
    pool: &PgPool,
    task: &Task,
    answer: &Arc<AnswerStream>,
    tool: Arc<dyn Tool>,
) -> Arc<dyn Tool> {
    // Without a token, no call is made and no result needs protection.
    if tool.passthrough().is_none() || task.caller.token.is_none() {
        return tool;
    }
    let (answer, recorder) = (Arc::clone(answer), task.recorder.clone());
    Arc::new(PrivateResultTool { pool: pool.clone(), answer, recorder, tool })
}

#[async_trait]
impl Tool for PrivateResultTool {
    fn spec(&self) -> &ToolSpec {
        self.tool.spec()
    }

    fn tells_others(&self) -> bool {
        self.tool.tells_others()
    }

    fn passthrough(&self) -> Option<&str> {
        self.tool.passthrough()
    }

    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer {
        // Before the call: no result is requested that cannot be kept private.
        if let Err(error) = make_private(&self.pool, &self.answer, &self.recorder).await {
            tracing::warn!(%error, tool = self.spec().name, "an answer cannot be kept to one person");
            return ToolAnswer::Failed("nothing was done: the result could not be kept apart".to_owned());
        }
        self.tool.call(arguments, cancel).await
    }
}

#[cfg(test)]
mod unit {
    use super::names;

    #[test]
    fn a_name_is_a_word_of_its_own() {
        for text in ["ask payroll.", "payroll: who?", "`payroll`", "who is in payroll"] {
            assert!(names(text, "Payroll"), "{text}");
        }
        for text in ["payrolls", "pay-payroll", "payroll_look", "why does it fail?", ""] {
            assert!(!names(text, "payroll"), "{text}");
        }
        assert!(!names("why?", ""));
    }
}
