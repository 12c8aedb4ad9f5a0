//! A single completion without tools and conversation, for requests that a client makes for itself. Redacted, charged and
//! recorded like every other request.

use super::begin::{AskError, LIMIT};
use super::profiles::{self, Sampling};
use crate::app::App;
use crate::audit::Recorder;
use crate::db::audit;
use crate::db::usage::{Purpose, UsageKind};
use crate::domain::{Actor, Caller, Message, Profile, Usage};
use crate::evidence::redact::Redactor;
use crate::llm::{self, Request};

/// Request for a single completion.
#[derive(Debug)]
pub struct SingleCompletion {
    /// The client's instructions, if any.
    pub system: Vec<String>,
    /// The prompt.
    pub prompt: String,
    /// The agent whose model answers.
    pub profile: Profile,
    /// Sampling settings.
    pub sampling: Sampling,
    /// The user who asks.
    pub caller: Caller,
}

/// Result of a single completion.
#[derive(Debug)]
pub struct SingleCompletionResult {
    /// The redacted prompt.
    pub prompt: String,
    /// The redacted completion. `None` without a model, or when the model failed.
    pub text: Option<String>,
    /// Token usage.
    pub usage: Usage,
}

/// Requests one completion from the agent's model.
///
/// # Errors
/// No slot or time is left, or the server is shutting down. A failing model is not an error, so that the client can continue.
pub async fn complete_once(app: &App, plain: SingleCompletion) -> Result<SingleCompletionResult, AskError> {
    if app.shutdown.token().is_cancelled() {
        return Err(AskError::Stopping);
    }
    let _place = app.admission.answer().ok_or(AskError::Full)?;
    let SingleCompletion { system, prompt, profile, sampling, caller } = plain;
    let recorder = Recorder::new(Actor::service(&caller.request));
    let redacted = app.blocking.run_checked(LIMIT, move |deadline| {
        let mut redactor = Redactor::new();
        let prompt = redactor.redact_within(&prompt, deadline)?;
        // Strict chat templates accept only one system message.
        let system = Some(system.join("\n\n")).filter(|text| !text.trim().is_empty());
        let system = system.map(|text| redactor.redact_within(&text, deadline)).transpose()?;
        Ok((prompt, system))
    });
    let (prompt, system) = redacted.await.map_err(|error| {
        tracing::warn!(%error, "a client's prompt could not be redacted");
        AskError::Full
    })?;
    let profile = profiles::sampled(app.config.model.as_ref(), &profile, sampling);
    let Some(model) = app.model_of(&profile) else {
        return Ok(SingleCompletionResult { prompt, text: None, usage: Usage::default() });
    };
    let purpose = Purpose { kind: UsageKind::Answer, caller: caller.name, ..Purpose::default() };
    let said = Message::User { text: prompt.clone() };
    let request = Request {
        messages: system.into_iter().map(|text| Message::System { text }).chain([said]).collect(),
        account: Some(app.ledger.account(purpose)),
        ..Request::default()
    };
    let answer = llm::ask(&*model, &request, &recorder, None).await;
    audit::flush(&app.pool, &recorder).await;
    match answer {
        Ok(completion) => {
            let (text, usage) = (completion.text, completion.usage);
            let plain = app
                .blocking
                .run_checked(LIMIT, move |deadline| Redactor::new().redact_within(text.trim(), deadline));
            Ok(SingleCompletionResult { prompt, text: plain.await.ok(), usage })
        }
        Err(error) => {
            tracing::warn!(%error, "a client's own prompt was not answered by the model");
            Ok(SingleCompletionResult { prompt, text: None, usage: Usage::default() })
        }
    }
}
