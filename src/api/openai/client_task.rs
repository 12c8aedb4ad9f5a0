//! Auxiliary tasks of chat clients: titles, tags, follow-up questions and the like, recognised by the beginnings of the
//! published prompts. A prompt that an administrator rewrote is treated as a question.
//!
//! Sources: Open WebUI's `DEFAULT_*_PROMPT_TEMPLATE`s, LibreChat's title prompts, Continue's chat description.

use super::request::Turn;
use serde_json::{Value, json};

/// Format of a task's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line of text.
    Title,
    /// `{"title": …}`.
    TitleJson,
    /// `{"tags": […]}`.
    Tags,
    /// `{"follow_ups": […]}`.
    FollowUps,
    /// `{"queries": […]}`.
    Queries,
    /// `{"prompt": …}`.
    ImagePrompt,
    /// `{"text": …}`.
    Autocompletion,
    /// One emoji.
    Emoji,
}

/// Tasks of Open WebUI, by the text after this heading.
const HEADING: &str = "### Task:";
const UNDER_HEADING: [(&str, Kind); 11] = [
    ("Generate a concise title summarizing the chat history", Kind::TitleJson),
    ("Predict 3-5 useful messages this user might naturally send next", Kind::FollowUps),
    ("Generate a concise, 3-5 word title", Kind::TitleJson),
    ("Create a concise, 3-5 word title with an emoji", Kind::TitleJson),
    ("Generate 1-3 broad tags categorizing the main themes", Kind::Tags),
    ("Suggest 3-5 relevant follow-up questions", Kind::FollowUps),
    ("Analyze the chat history to determine the necessity of generating search queries", Kind::Queries),
    ("Generate a detailed prompt for am image generation task", Kind::ImagePrompt),
    ("Generate a detailed prompt for an image generation task", Kind::ImagePrompt),
    ("You are an autocompletion system. Continue the text in `<text>`", Kind::Autocompletion),
    ("Generate 1-3 broad tags", Kind::Tags),
];
/// Tasks without the heading: older ones of Open WebUI, and those of LibreChat and Continue.
const BEGINNINGS: [(&str, Kind); 7] = [
    ("Your task is to reflect the speaker's likely facial expression through a fitting emoji", Kind::Emoji),
    ("Create a concise, 3-5 word title with an emoji as a title for the chat history", Kind::Title),
    ("Create a concise, 3-5 word phrase as a header for the following query", Kind::Title),
    ("Detect user language and write in the same language an extremely concise title", Kind::Title),
    ("Provide a concise, 5-word-or-less title for the conversation", Kind::Title),
    ("Please generate a concise, 5-word-or-less title for the conversation", Kind::Title),
    (
        "Given the following... please reply with a title for the chat that is 3-4 words in length",
        Kind::Title,
    ),
];

/// Maximum number of words of a title that is made without a model.
const TITLE_WORDS: usize = 6;
/// Maximum length of a line and of a text of an answer, in characters, and maximum length of a list.
const MAX_LINE: usize = 120;
const MAX_TEXT: usize = 2_000;
const MAX_LIST: usize = 8;

/// Tags of conversations about pipelines, with the words that indicate them.
const TAGS: [(&str, &[&str]); 16] = [
    ("Kubernetes", &["kubernetes", "kubectl", "pod", "pods", "namespace"]),
    ("Tekton", &["tekton", "pipelinerun", "taskrun"]),
    ("Jenkins", &["jenkins", "jenkinsfile"]),
    ("GitHub", &["github"]),
    ("Gitea", &["gitea"]),
    ("Containers", &["docker", "podman", "buildah", "kaniko", "imagepullbackoff", "registry"]),
    ("Helm", &["helm"]),
    ("Terraform", &["terraform"]),
    ("Maven", &["maven", "mvn"]),
    ("npm", &["npm", "node"]),
    ("Python", &["python", "pip", "pytest"]),
    ("Rust", &["cargo", "rust"]),
    ("Go", &["golang"]),
    ("Memory", &["oom", "oomkilled", "memory"]),
    ("Storage", &["disk", "volume", "pvc"]),
    ("Network", &["dns", "tls", "timeout", "network"]),
];

/// Returns the task of a request: its prompt must be the only message besides system messages.
pub(super) fn recognised(messages: &[Turn]) -> Option<Kind> {
    let (last, before) = messages.split_last()?;
    let alone = before.iter().all(|turn| matches!(turn.role.as_str(), "system" | "developer"));
    alone.then(|| kind(&last.text())).flatten()
}

fn kind(prompt: &str) -> Option<Kind> {
    let prompt = prompt.trim_start();
    let known = |all: &[(&str, Kind)], text: &str| {
        all.iter().find(|(begin, _)| text.starts_with(begin)).map(|(_, kind)| *kind)
    };
    match prompt.strip_prefix(HEADING) {
        // Older versions of Open WebUI request plain titles instead of JSON.
        Some(task) => match known(&UNDER_HEADING, task.trim_start())? {
            Kind::TitleJson if !prompt.contains("\"title\"") => Some(Kind::Title),
            kind => Some(kind),
        },
        None => known(&BEGINNINGS, prompt),
    }
}

impl Kind {
    /// Converts the answer of a model to the requested format; `None` if it does not fit.
    pub(super) fn shaped(self, written: &str, plain: impl Fn(&str) -> String) -> Option<String> {
        let line = |text: &str| cut(&plain(&one_line(text)), MAX_LINE);
        let Some((name, is_list)) = self.field() else {
            let text = line(written.trim().trim_matches(['"', '\'', '*', '#', ' ']));
            return (!text.is_empty()).then_some(text);
        };
        let (from, to) = (written.find('{')?, written.rfind('}')?);
        let object: Value = serde_json::from_str(written.get(from..=to)?).ok()?;
        let value = if is_list {
            let all = object[name].as_array()?.iter().filter_map(Value::as_str).map(line);
            json!(all.filter(|text| !text.is_empty()).take(MAX_LIST).collect::<Vec<_>>())
        } else {
            let text = object[name].as_str()?;
            let text = if self == Self::TitleJson { line(text) } else { cut(&plain(text), MAX_TEXT) };
            if self == Self::TitleJson && text.is_empty() {
                return None;
            }
            json!(text)
        };
        Some(json!({ name: value }).to_string())
    }

    /// Returns whether the answer is a JSON object.
    pub(super) fn is_json(self) -> bool {
        self.field().is_some()
    }

    /// Returns the field of the answer and whether it is a list; `None` for a plain text answer.
    fn field(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Title | Self::Emoji => None,
            Self::TitleJson => Some(("title", false)),
            Self::Tags => Some(("tags", true)),
            Self::FollowUps => Some(("follow_ups", true)),
            Self::Queries => Some(("queries", true)),
            Self::ImagePrompt => Some(("prompt", false)),
            Self::Autocompletion => Some(("text", false)),
        }
    }

    /// Returns an answer without a model: as far as the prompt provides it, otherwise empty.
    pub(super) fn by_code(self, prompt: &str, plain: impl Fn(&str) -> String) -> String {
        let title = || cut(&plain(&title(prompt)), MAX_LINE);
        match self {
            Self::Title => title(),
            Self::TitleJson => json!({ "title": title() }).to_string(),
            Self::Tags => json!({ "tags": tags(prompt) }).to_string(),
            Self::FollowUps => json!({ "follow_ups": [] }).to_string(),
            Self::Queries => json!({ "queries": [] }).to_string(),
            Self::ImagePrompt => json!({ "prompt": title() }).to_string(),
            Self::Autocompletion => json!({ "text": "" }).to_string(),
            Self::Emoji => "🔧".to_owned(),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect::<String>().trim_end().to_owned()
}

/// Returns the chat history within a prompt.
fn history(prompt: &str) -> &str {
    let after = |mark: &str| prompt.split_once(mark).map(|(_, rest)| rest);
    if let Some(inside) = after("<chat_history>") {
        return inside.split("</chat_history>").next().unwrap_or(inside);
    }
    let marks = [
        "||>User:",
        "Conversation:",
        "avoiding the use of the word 'title':",
        "ending punctuation.",
        "Message:",
    ];
    marks.iter().find_map(|mark| after(mark)).unwrap_or_default()
}

/// Returns the first words of the user's first message.
fn title(prompt: &str) -> String {
    let lines = history(prompt).lines().map(str::trim).filter(|line| !line.is_empty());
    let first =
        lines.clone().find_map(|line| line.strip_prefix("USER:").or_else(|| line.strip_prefix("User:")));
    let first = first.or_else(|| lines.clone().next()).unwrap_or_default();
    let first = first.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '`' | '#' | '*'));
    let words: Vec<&str> = first.split_whitespace().take(TITLE_WORDS).collect();
    let words = words.join(" ");
    let words = words.trim_end_matches(['.', ',', ':', ';', '?', '!']);
    if words.is_empty() { "Conversation".to_owned() } else { words.to_owned() }
}

fn tags(prompt: &str) -> Vec<&'static str> {
    let said = history(prompt).to_lowercase();
    let words: std::collections::HashSet<&str> = said.split(|c: char| !c.is_alphanumeric()).collect();
    let known = TAGS.iter().filter(|(_, names)| names.iter().any(|name| words.contains(name)));
    std::iter::once("CI/CD").chain(known.map(|(tag, _)| *tag)).take(5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "### Chat History:\n<chat_history>\nUSER: Why does the DNS lookup fail in our Tekton pod, again?\nASSISTANT: Because.\n</chat_history>";

    fn prompt(task: &str, output: &str) -> String {
        format!("### Task:\n{task} and more.\n### Output:\n{output}\n{CHAT}")
    }

    fn said(role: &str, content: &str) -> Turn {
        serde_json::from_value(json!({"role": role, "content": content})).unwrap()
    }

    #[test]
    fn published_prompts_are_recognised_alone_and_questions_are_not() {
        let title =
            prompt("Generate a concise, 3-5 word title with an emoji", "JSON format: { \"title\": \"…\" }");
        assert_eq!(recognised(&[said("user", &title)]), Some(Kind::TitleJson));
        assert_eq!(recognised(&[said("system", "Be kind."), said("user", &title)]), Some(Kind::TitleJson));
        assert_eq!(recognised(&[said("user", "hi"), said("assistant", "ho"), said("user", &title)]), None);
        // Wording of Open WebUI 0.12.
        for (task, output, kind) in [
            (
                "Generate a concise title summarizing the chat history.",
                "JSON format: { \"title\": \"your concise title here\" }",
                Kind::TitleJson,
            ),
            (
                "Predict 3-5 useful messages this user might naturally send next to advance",
                "JSON format: { \"follow_ups\": [\"Suggested next message 1\"] }",
                Kind::FollowUps,
            ),
        ] {
            assert_eq!(recognised(&[said("user", &prompt(task, output))]), Some(kind), "{task}");
        }
        let libre = "Detect user language and write in the same language an extremely concise title for this conversation, which";
        assert_eq!(recognised(&[said("system", libre)]), Some(Kind::Title));
        for question in
            ["### Task:\nFind out why it fails.", "Generate a concise, 3-5 word title", "", "### Task:"]
        {
            assert_eq!(recognised(&[said("user", question)]), None, "{question}");
        }
        assert_eq!(recognised(&[]), None);
        assert_eq!(
            kind("### Task:  \nYou are an autocompletion system. Continue the text in `<text>` based"),
            Some(Kind::Autocompletion)
        );
    }

    #[test]
    fn without_a_model_the_answer_is_what_the_prompt_tells() {
        let plain = str::to_owned;
        let any = prompt("Any", "");
        assert_eq!(Kind::TitleJson.by_code(&any, plain), r#"{"title":"Why does the DNS lookup fail"}"#);
        assert_eq!(Kind::Tags.by_code(&any, plain), r#"{"tags":["CI/CD","Kubernetes","Tekton","Network"]}"#);
        assert_eq!(Kind::FollowUps.by_code(&any, plain), r#"{"follow_ups":[]}"#);
        assert_eq!(Kind::Queries.by_code(&any, plain), r#"{"queries":[]}"#);
        let libre =
            "Detect user language …\n\n||>User:\n\"The build is red!\"\n||>Response:\n\"…\"\n\n||>Title:";
        assert_eq!(Kind::Title.by_code(libre, plain), "The build is red");
        assert_eq!(Kind::Title.by_code("nothing", plain), "Conversation");
    }

    #[test]
    fn what_a_model_writes_is_brought_into_shape_or_is_no_answer() {
        let plain = |text: &str| text.replace("javascript:", "");
        let shaped = |kind: Kind, text: &str| kind.shaped(text, plain);
        let fenced = "Sure!\n```json\n{\"title\": \" DNS\\nfails \", \"more\": 1}\n```";
        assert_eq!(shaped(Kind::TitleJson, fenced).as_deref(), Some(r#"{"title":"DNS fails"}"#));
        assert_eq!(shaped(Kind::TitleJson, "DNS fails"), None);
        assert_eq!(shaped(Kind::TitleJson, r#"{"title":""}"#), None);
        assert_eq!(shaped(Kind::Title, "\"DNS fails\"\n").as_deref(), Some("DNS fails"));
        assert_eq!(
            shaped(Kind::FollowUps, r#"{"follow_ups":["a?",7,"","javascript:b?"]}"#).as_deref(),
            Some(r#"{"follow_ups":["a?","b?"]}"#)
        );
        assert_eq!(shaped(Kind::Tags, r#"{"tags":"one"}"#), None);
        assert_eq!(shaped(Kind::Autocompletion, r#"{"text":""}"#).as_deref(), Some(r#"{"text":""}"#));
        assert!(shaped(Kind::Title, &"word ".repeat(100)).unwrap().chars().count() <= MAX_LINE);
    }
}
