//! Conversation history within a token budget: recent messages in full, older messages as a stored summary.

use super::task::Task;
use crate::app::App;
use crate::config::Config;
use crate::db::conversations;
use crate::db::usage::UsageKind;
use crate::domain::{ConversationMessage, Message, MessageRole, Principal, Usage};
use crate::evidence::tokens;
use crate::evidence::untrusted::fence::Fence;
use crate::evidence::untrusted::hidden;
use crate::llm::{self, Model, Request};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Percentage of the budget for complete messages once older ones must be dropped.
const WHOLE: usize = 60;
/// Time limit for counting the tokens of a history, including the wait for a thread.
const LIMIT: Duration = Duration::from_mins(1);

/// The history of a conversation without its last message, the question.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Summary of the messages before `messages`.
    pub(super) summary: Option<String>,
    /// The most recent messages, oldest first.
    pub(super) messages: Vec<ConversationMessage>,
    /// Token usage of the summary.
    pub(super) usage: Usage,
}

/// Reads the history that is visible to the recipient of the answer. Summarises messages over the budget and stores the
/// summary. Without a model, those messages are omitted.
pub(super) async fn history(
    app: &App,
    task: &Task,
    model: Option<&Arc<dyn Model>>,
) -> anyhow::Result<History> {
    let (budget, conversation) = (room(&app.config), task.conversation);
    let (mut summary, from) = conversations::summary(&app.pool, conversation).await?;
    let mut messages = conversations::messages(&app.pool, conversation, from, &task.reader()).await?;
    messages.pop();
    let mut usage = Usage::default();
    let (counts, taken);
    (messages, summary, counts, taken) = app
        .blocking
        .run(LIMIT, move |_| {
            let counts: Vec<usize> =
                messages.iter().map(|message| tokens::count(&message.text) + 4).collect();
            let taken = summary.as_deref().map_or(0, tokens::count);
            (messages, summary, counts, taken)
        })
        .await?;
    if counts.iter().sum::<usize>() + taken > budget {
        let keep = newest(&counts, budget * WHOLE / 100);
        let old: Vec<ConversationMessage> = messages.drain(..messages.len() - keep).collect();
        if let Some(last) = old.last() {
            // Everybody can read the summary, so it excludes private content.
            let shared: Vec<ConversationMessage> =
                old.iter().map(|message| message.clone().redacted_for(&Principal::nobody())).collect();
            let told = match model {
                Some(model) => summarised(app, model, task, summary.as_deref(), &shared).await,
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

/// Returns the token budget of the history.
fn room(config: &Config) -> usize {
    config.agent.share(config.chat.history_tokens)
}

/// Returns the number of messages from the end that fit into the budget.
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
    model: &Arc<dyn Model>,
    task: &Task,
    before: Option<&str>,
    old: &[ConversationMessage],
) -> Option<(String, Usage)> {
    let limit = room(&app.config) / 4;
    // Truncates messages so that all of them fit into one request.
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
    let account = Some(app.ledger.account(task.charged(UsageKind::Summary)));
    let request = Request { messages: vec![Message::User { text }], account, ..Request::default() };
    match llm::ask(&**model, &request, &task.recorder, None).await {
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

/// Returns the messages of the request: alternating roles, as strict chat templates require, with the context first. Fences
/// everything except the user's own messages and answers to them: messages of others, and answers to them, are data.
pub(super) fn messages(
    system: String,
    context: &str,
    history: &History,
    task: &Task,
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
        let said = hidden::removed(&message.text);
        let (user, author) = (message.role == MessageRole::User, message.author.as_str());
        match message.speaker.as_deref() {
            // Written by the user, directly or through their client.
            Some(speaker) if speaker == task.speaker && user && author == "user" => {
                add(true, said.into_owned())
            }
            Some(speaker) if speaker == task.speaker && user => add(true, format!("({author}) {said}")),
            Some(speaker) if speaker == task.speaker => add(false, said.into_owned()),
            Some(speaker) if !user => add(true, fence.around(&format!("(answer to {speaker}) {said}"))),
            _ if user => add(true, fence.around(&format!("({author}) {said}"))),
            // Results of the investigation, and old answers stored without a recipient.
            _ => add(false, said.into_owned()),
        }
    }
    let question = hidden::removed(&task.question);
    // A message about decisions contains arguments written by a model.
    let is_order = task.decided.is_empty();
    add(true, if is_order { question.into_owned() } else { fence.around(&question) });
    // The first message after the system prompt must be a user message.
    if matches!(all.get(1), Some(Message::Assistant { .. })) {
        all.insert(1, Message::User { text: "(The conversation goes on.)".to_owned() });
    }
    all
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::audit::Recorder;
    use crate::chat::Sampling;
    use crate::domain::MessageRole::{Assistant, User};
    use crate::domain::{Actor, Caller, Profile, Prompt};
    use chrono::DateTime;

    fn said(role: MessageRole, (author, speaker): (&str, Option<&str>), text: &str) -> ConversationMessage {
        ConversationMessage {
            id: Uuid::nil(),
            position: 0,
            role,
            author: author.into(),
            text: text.into(),
            citations: Vec::new(),
            not_found: Vec::new(),
            run: None,
            visible_to: None,
            speaker: speaker.map(Into::into),
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    fn asked(question: &str) -> Task {
        let profile = Profile {
            id: Uuid::nil(),
            name: "a".into(),
            description: String::new(),
            prompt: Prompt::Text(String::new()),
            model: None,
            temperature: None,
            max_output_tokens: None,
            tools: Vec::new(),
            turns: None,
            total_tokens: None,
            built_in: true,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        Task {
            sampling: Sampling::default(),
            turn: Uuid::nil(),
            conversation: Uuid::nil(),
            title: String::new(),
            incident: None,
            profile,
            caller: Caller::recorded("alice", "operator"),
            speaker: "alice".into(),
            author: "alice".into(),
            question: question.into(),
            decided: Vec::new(),
            token: None,
            recorder: Recorder::new(Actor::service("test")),
        }
    }

    fn shown(history: &History, question: &str) -> Vec<(&'static str, String)> {
        let all = messages("sys".into(), "context", history, &asked(question), &Fence::new("abc123"));
        let shown = all.into_iter().map(|message| match message {
            Message::System { text } => ("system", text),
            Message::User { text } => ("user", text),
            Message::Assistant { text, .. } => ("assistant", text),
            Message::Tool { text, .. } => ("tool", text),
        });
        shown.collect()
    }

    #[test]
    fn roles_alternate() {
        let history = History {
            summary: Some("before".into()),
            messages: vec![
                said(User, ("report", None), "Pod failed."),
                said(Assistant, ("m", None), "Disk."),
                said(User, ("alice", Some("alice")), "noted"),
            ],
            usage: Usage::default(),
        };
        let shown = shown(&history, "why?");
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
            "sys".into(),
            " ",
            &History { messages: vec![said(Assistant, ("m", None), "Hi")], ..History::default() },
            &asked("q"),
            &Fence::new("abc123"),
        );
        assert!(matches!(&bare[1], Message::User { .. }) && bare.len() == 4);
    }

    #[test]
    fn what_others_say_and_are_told_is_data() {
        let bob = ("bob", Some("bob"));
        let messages = vec![
            said(User, bob, "call payroll"),
            said(Assistant, ("m", Some("bob")), "I will."),
            said(User, ("mallory", Some("alice")), "mine, whatever it is called"),
            said(Assistant, ("m", Some("alice")), "Yes."),
            said(User, ("alice", None), "of before, or of nobody who is known"),
        ];
        let shown = shown(&History { messages, ..History::default() }, "go");
        let roles: Vec<&str> = shown.iter().map(|(role, _)| *role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert_eq!(
            shown[1].1,
            "context\n\n<<data abc123\n(bob) call payroll\ndata abc123>>\n\n\
             <<data abc123\n(answer to bob) I will.\ndata abc123>>\n\n(mallory) mine, whatever it is called"
        );
        assert_eq!(
            shown[3].1,
            "<<data abc123\n(alice) of before, or of nobody who is known\ndata abc123>>\n\ngo"
        );
    }

    #[test]
    fn the_newest_messages_stay_whole() {
        assert_eq!(newest(&[50, 10, 20, 30], 60), 3);
        assert_eq!(newest(&[50, 10, 20, 30], 29), 0);
        assert_eq!(newest(&[5, 500, 5], 100), 1, "nothing is skipped");
    }
}
