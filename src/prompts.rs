//! The texts of `prompts/`, embedded and rendered strictly: a missing variable is an error, and found at start.

use anyhow::Context as _;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

/// Every template by name.
const TEMPLATES: &[(&str, &str)] = &[
    ("triage-system", include_str!("../prompts/triage-system.md")),
    ("triage-brief", include_str!("../prompts/triage-brief.md")),
    ("issue", include_str!("../prompts/issue.md")),
    ("comment", include_str!("../prompts/comment.md")),
    ("chat-system", include_str!("../prompts/chat-system.md")),
    ("chat-context", include_str!("../prompts/chat-context.md")),
    ("chat-incident", include_str!("../prompts/chat-incident.md")),
    ("chat-summary", include_str!("../prompts/chat-summary.md")),
    ("agent-troubleshooter", include_str!("../prompts/agent-troubleshooter.md")),
    ("agent-failure-analyst", include_str!("../prompts/agent-failure-analyst.md")),
    ("agent-explainer", include_str!("../prompts/agent-explainer.md")),
];

/// The compiled templates.
#[derive(Debug)]
pub struct Prompts {
    environment: Environment<'static>,
}

impl Prompts {
    /// Compiles all templates.
    ///
    /// # Errors
    /// A template has a syntax error.
    pub fn load() -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        for (name, text) in TEMPLATES {
            environment.add_template(name, text).with_context(|| format!("prompts/{name}.md"))?;
        }
        Ok(Self { environment })
    }

    /// Renders a template.
    ///
    /// # Errors
    /// There is no such template, or a variable is missing.
    pub fn render(&self, name: &str, values: impl Serialize) -> anyhow::Result<String> {
        let template = self.environment.get_template(name).with_context(|| format!("prompts/{name}.md"))?;
        template.render(minijinja::Value::from(Serde(values))).with_context(|| format!("prompts/{name}.md"))
    }

    /// The text of a template, as it is written.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&str> {
        TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// Renders a template that people wrote.
    ///
    /// # Errors
    /// It has a syntax error, or names a variable that there is not.
    pub fn render_text(&self, text: &str, values: impl Serialize) -> anyhow::Result<String> {
        self.environment.render_str(text, minijinja::Value::from(Serde(values))).context("the prompt")
    }
}
