//! Tools that are called with the own token of whoever asks, of servers with `passthrough`. They are offered where that person's
//! own message asks for them, and what they tell is visible to that person alone, with the answer that knows of it.

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

/// Which of these tools an answer may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassthroughAccess {
    /// All: nobody else has a say in the conversation.
    All,
    /// Those that the question names: the model reads texts of others too, and may obey them.
    Named,
    /// None: it was no message of theirs that began the answer.
    None,
}

impl PassthroughAccess {
    /// What holds for an answer.
    pub(super) async fn of(pool: &PgPool, task: &Task) -> sqlx::Result<Self> {
        if !task.decided.is_empty() {
            return Ok(Self::None);
        }
        let others = conversations::others_speak(pool, task.conversation, &task.speaker).await?;
        Ok(if others { Self::Named } else { Self::All })
    }

    /// Takes out the tools that may not be used. Returns the servers whose tools are missing then.
    pub(super) fn keep_permitted(self, question: &str, tools: &mut Vec<Arc<dyn Tool>>) -> BTreeSet<String> {
        let question = question.to_lowercase();
        let mut missing = BTreeSet::new();
        tools.retain(|tool| {
            let Some(server) = tool.passthrough() else { return true };
            let permitted = match self {
                Self::All => true,
                Self::Named => {
                    let name = tool.spec().name.as_str();
                    // One word, such as `get` or `look`, stands in many a question.
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

    /// What the model is told of the servers whose tools are missing.
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

/// Whether a text in small letters has a name as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty()
        && text.match_indices(&name).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + name.len()..]);
            !before.chars().next_back().is_some_and(is_part) && !after.chars().next().is_some_and(is_part)
        })
}

/// From now on an answer is visible to whoever it answers alone: its events, its results, its text, and its calls on record.
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

/// A tool whose results are visible to whoever asks alone.
struct PrivateResultTool {
    pool: PgPool,
    answer: Arc<AnswerStream>,
    recorder: Recorder,
    tool: Arc<dyn Tool>,
}

/// The tool with its results kept apart, where it is called with the caller's own token.
pub(super) fn kept_apart(
    pool: &PgPool,
    task: &Task,
    answer: &Arc<AnswerStream>,
    tool: Arc<dyn Tool>,
) -> Arc<dyn Tool> {
    // Without a token nothing is called: there is nothing to keep from others.
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
        // Before anything comes back: a result that cannot be kept apart is not asked for.
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
