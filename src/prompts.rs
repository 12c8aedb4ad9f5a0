//! Embedded templates of `prompts/`, rendered strictly: a missing variable is an error. Files of a folder may override
//! them.

use crate::overrides::replace_templates;
use anyhow::Context as _;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use std::path::Path;

/// All templates by name.
const TEMPLATES: &[(&str, &str)] = &[
    ("triage-system", include_str!("../prompts/triage-system.md")),
    ("triage-brief", include_str!("../prompts/triage-brief.md")),
    ("issue", include_str!("../prompts/issue.md")),
    ("comment", include_str!("../prompts/comment.md")),
    ("pull-request", include_str!("../prompts/pull-request.md")),
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
    /// Compiles the embedded templates, overridden by files of the same name.
    ///
    /// # Errors
    /// Fails when a template has a syntax error, the folder cannot be read, or a file matches no template or uses an
    /// unknown variable.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        for (name, text) in TEMPLATES {
            environment.add_template(name, text).with_context(|| format!("prompts/{name}.md"))?;
        }
        let Some(folder) = folder else { return Ok(Self { environment }) };
        replace_templates(&mut environment, folder, ".md", None)?;
        Ok(Self { environment })
    }

    /// Renders a template.
    ///
    /// # Errors
    /// Fails when there is no such template, or a variable is missing.
    pub fn render(&self, name: &str, values: impl Serialize) -> anyhow::Result<String> {
        let template = self.environment.get_template(name).with_context(|| format!("prompts/{name}.md"))?;
        template.render(minijinja::Value::from(Serde(values))).with_context(|| format!("prompts/{name}.md"))
    }

    /// Returns the source of a template.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<String> {
        self.environment.get_template(name).ok().map(|template| template.source().to_owned())
    }

    /// Renders a template written by a user.
    ///
    /// # Errors
    /// Fails when it has a syntax error or uses an unknown variable.
    pub fn render_text(&self, text: &str, values: impl Serialize) -> anyhow::Result<String> {
        self.environment.render_str(text, minijinja::Value::from(Serde(values))).context("the prompt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, text: &str) -> anyhow::Result<Prompts> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        Prompts::load(Some(folder.path()))
    }

    #[test]
    fn a_file_takes_the_place_of_the_template_of_its_name() {
        let prompts = load("chat-summary.md", "Sum it up.").unwrap();
        assert_eq!(prompts.source("chat-summary"), Some("Sum it up.".to_owned()));
        assert_eq!(prompts.source("issue"), Prompts::load(None).unwrap().source("issue"));
    }

    #[test]
    fn what_would_fail_in_a_request_fails_at_the_start() {
        for (name, text, told) in [
            ("chat-sumary.md", "", "takes the place of nothing; there is agent-explainer.md"),
            ("issue.txt", "", "takes the place of nothing"),
            ("issue.md", "{% if %}", "syntax error"),
            ("issue.md", "{{ no_such_thing }}", "asks for `no_such_thing`, which the built-in one does not"),
        ] {
            let error = format!("{:#}", load(name, text).unwrap_err());
            assert!(error.contains(told) && error.contains(name), "{error}");
        }
    }
}
