//! One completion without tools and without a conversation, for what a client asks on its own behalf. Redacted, charged and
//! recorded as every other request.

use super::begin::{AskError, LIMIT};
use super::profiles::{self, Sampling};
use crate::app::App;
use crate::audit::Recorder;
use crate::db::audit;
use crate::db::usage::{Purpose, UsageKind};
use crate::domain::{Actor, Caller, Message, Profile, Usage};
use crate::evidence::redact::Redactor;
use crate::llm::{self, Request};

/// What is asked.
#[derive(Debug)]
pub struct SingleCompletion {
    /// The client's instructions, if there are any beside the prompt.
    pub system: Vec<String>,
    /// The prompt.
    pub prompt: String,
    /// Whose model answers.
    pub profile: Profile,
    /// How it answers.
    pub sampling: Sampling,
    /// Who asks.
    pub caller: Caller,
}

/// What came of it.
#[derive(Debug)]
pub struct SingleCompletionResult {
    /// The prompt without secrets.
    pub prompt: String,
    /// What the model wrote, without secrets; none without a model, or when it failed.
    pub text: Option<String>,
    /// Tokens used.
    pub usage: Usage,
}

/// Asks the agent's model once.
///
/// # Errors
/// There is no room, or the process ends. A model that fails is no error: the client's own work goes on without it.
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
        // Strict chat templates take one message of the system's.
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
