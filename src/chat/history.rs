//! What was said before, within a number of tokens: the newest messages whole, the older ones summarised once.

use super::decide::DECISIONS;
use crate::app::App;
use crate::db::conversations;
use crate::db::usage::Purpose;
use crate::domain::{ConversationMessage, Message, Usage};
use crate::evidence::tokens;
use crate::evidence::untrusted::fence::Fence;
use crate::evidence::untrusted::hidden;
use crate::journal;
use crate::llm::{Model, Request};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// Share of the room that stays with whole messages when older ones have to go, in percent.
const WHOLE: usize = 60;

/// The history of a conversation without its last message, the question.
#[derive(Debug, Default)]
pub(super) struct History {
    /// What was said before the messages, in short.
    pub(super) summary: Option<String>,
    /// The newest messages, oldest first.
    pub(super) messages: Vec<ConversationMessage>,
    /// What the summary took.
    pub(super) usage: Usage,
}

/// Reads the history; summarises and stores what does not fit any more. Without a model it is left out.
pub(super) async fn history(
    app: &App,
    conversation: Uuid,
    model: Option<(&Arc<dyn Model>, Purpose)>,
) -> anyhow::Result<History> {
    let budget = app.config.chat.history_tokens;
    let (mut summary, from) = conversations::summary(&app.pool, conversation).await?;
    let mut messages = conversations::messages(&app.pool, conversation, from).await?;
    messages.pop();
    let mut usage = Usage::default();
    let counts: Vec<usize> = messages.iter().map(|message| tokens::count(&message.text) + 4).collect();
    let taken = summary.as_deref().map_or(0, tokens::count);
    if counts.iter().sum::<usize>() + taken > budget {
        let keep = newest(&counts, budget * WHOLE / 100);
        let old: Vec<ConversationMessage> = messages.drain(..messages.len() - keep).collect();
        if let Some(last) = old.last() {
            let told = match model {
                Some((model, purpose)) => {
                    let told = (summary.as_deref(), &old[..]);
                    summarised(app, (model, purpose), told, budget / 4).await
                }
                None => None,
            };
            if let Some((text, used)) = told {
                conversations::summarise(&app.pool, conversation, &text, last.position + 1).await?;
                (summary, usage) = (Some(text), used);
            } else {
                let left_out = format!("({} earlier messages are left out.)", old.len());
                summary = Some(summary.map_or(left_out.clone(), |text| format!("{text}\n{left_out}")));
            }
        }
    }
    Ok(History { summary, messages, usage })
}

/// How many messages from the end fit.
fn newest(counts: &[usize], budget: usize) -> usize {
    let mut left = budget;
    counts
        .iter()
        .rev()
        .take_while(|count| {
            let fits = **count <= left;
            left = left.saturating_sub(**count);
            fits
        })
        .count()
}

async fn summarised(
    app: &App,
    (model, purpose): (&Arc<dyn Model>, Purpose),
    (before, old): (Option<&str>, &[ConversationMessage]),
    limit: usize,
) -> Option<(String, Usage)> {
    // What does not fit into one request either is shortened in its middle messages.
    let share = app.config.agent.context_tokens / 2 / old.len().max(1);
    let shown = |fence: &Fence| {
        let shown = old.iter().map(|message| {
            let text: String = message.text.chars().take(share.max(40) * 2).collect();
            json!({"role": message.role, "author": message.author, "text": fence.around(&text)})
        });
        shown.collect::<Vec<_>>()
    };
    let fence = Fence::new(&Uuid::new_v4().simple().to_string()[..12]);
    let before = before.map(|text| fence.around(text));
    let values =
        json!({"mark": fence.mark(), "before": before, "messages": shown(&fence), "words": limit / 2});
    let text =
        app.prompts.render("chat-summary", values).inspect_err(|error| tracing::error!("{error:#}")).ok()?;
    let account = Some(app.ledger.account(purpose));
    let request = Request { messages: vec![Message::User { text }], account, ..Request::default() };
    let asking = journal::asking(model.name(), &request);
    let answer = asking.of(model.complete(&request)).await;
    asking.answered(&answer);
    match answer {
        Ok(completion) if !completion.text.trim().is_empty() => {
            Some((completion.text.trim().to_owned(), completion.usage))
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "older messages cannot be summarised and are left out");
            None
        }
    }
}

/// The request's messages: roles in turn, as strict chat templates want them, context before the first word. What is not a
/// person's word, nor the assistant's own, is fenced.
pub(super) fn messages(
    (system, context): (String, &str),
    history: &History,
    question: &str,
    fence: &Fence,
) -> Vec<Message> {
    let mut all = vec![Message::System { text: system }];
    let mut opening = context.trim().to_owned();
    if let Some(summary) = &history.summary {
        opening = format!("{opening}\n\nWhat was said before, in short:\n{}", fence.around(summary));
    }
    let mut add = |user: bool, text: String| match (user, all.last_mut()) {
        (true, Some(Message::User { text: known }))
        | (false, Some(Message::Assistant { text: known, .. })) => {
            known.push_str("\n\n");
            known.push_str(&text);
        }
        (true, _) => all.push(Message::User { text }),
        (false, _) => all.push(Message::Assistant { text, tool_calls: Vec::new() }),
    };
    if !opening.trim().is_empty() {
        add(true, opening.trim().to_owned());
    }
    for message in &history.messages {
        let user = message.role == "user";
        // A history that would begin with an answer begins with a word of ours.
        let said = hidden::removed(&message.text);
        let text = match message.author.as_str() {
            "report" if user => fence.around(&format!("(report) {said}")),
            _ if user && said.starts_with(DECISIONS) => fence.around(&said),
            author if user && author != "user" => format!("({author}) {said}"),
            _ => said.into_owned(),
        };
        add(user, text);
    }
    let question = hidden::removed(question);
    // What was decided, with arguments that a model wrote.
    add(true, if question.starts_with(DECISIONS) { fence.around(&question) } else { question.into_owned() });
    if matches!(all.get(1), Some(Message::Assistant { .. })) {
        all.insert(1, Message::User { text: "(The conversation goes on.)".to_owned() });
    }
    all
}

#[cfg(test)]
mod unit {
    use super::*;
    use chrono::DateTime;

    fn said(role: &str, author: &str, text: &str) -> ConversationMessage {
        ConversationMessage {
            id: Uuid::nil(),
            position: 0,
            role: role.into(),
            author: author.into(),
            text: text.into(),
            citations: Vec::new(),
            not_found: Vec::new(),
            run: None,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn roles_alternate() {
        let history = History {
            summary: Some("before".into()),
            messages: vec![
                said("user", "report", "Pod failed."),
                said("assistant", "m", "Disk."),
                said("user", "alice", "noted"),
            ],
            usage: Usage::default(),
        };
        let all = messages(("sys".into(), "context"), &history, "why?", &Fence::new("abc123"));
        let shown: Vec<(&str, String)> = all
            .iter()
            .map(|message| match message {
                Message::System { text } => ("system", text.clone()),
                Message::User { text } => ("user", text.clone()),
                Message::Assistant { text, .. } => ("assistant", text.clone()),
                Message::Tool { text, .. } => ("tool", text.clone()),
            })
            .collect();
        assert_eq!(
            shown.iter().map(|(role, _)| *role).collect::<Vec<_>>(),
            ["system", "user", "assistant", "user"]
        );
        assert_eq!(
            shown[1].1,
            "context\n\nWhat was said before, in short:\n<<data abc123\nbefore\ndata abc123>>\n\n\
             <<data abc123\n(report) Pod failed.\ndata abc123>>"
        );
        assert_eq!(shown[3].1, "(alice) noted\n\nwhy?");
        let bare = messages(
            ("sys".into(), " "),
            &History { messages: vec![said("assistant", "m", "Hi")], ..History::default() },
            "q",
            &Fence::new("abc123"),
        );
        assert!(matches!(&bare[1], Message::User { .. }) && bare.len() == 4);
    }

    #[test]
    fn the_newest_messages_stay_whole() {
        assert_eq!(newest(&[50, 10, 20, 30], 60), 3);
        assert_eq!(newest(&[50, 10, 20, 30], 29), 0);
        assert_eq!(newest(&[5, 500, 5], 100), 1, "nothing is skipped");
    }
}
