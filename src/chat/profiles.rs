//! Built-in agents, and the mapping of an agent's settings to model, prompt, tools and limits.

use crate::app::App;
use crate::clock;
use crate::config::ModelEndpoint;
use crate::db::agents;
use crate::domain::{Profile, Prompt, RunLimits};
use crate::llm::Model;
use crate::prompts::Prompts;
use anyhow::Context as _;
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde_json::json;
use sqlx::{PgExecutor, PgPool};
use std::sync::Arc;
use uuid::{Uuid, uuid};

/// Default agent for conversations about an incident.
const FAILURE_ANALYST: Uuid = uuid!("01a1f000-0000-7000-8000-000000000002");
/// Default agent for all other conversations.
const TROUBLESHOOTER: Uuid = uuid!("01a1f000-0000-7000-8000-000000000001");

/// The built-in agents.
const SHIPPED: [(Uuid, &str, &str, &str, &[&str]); 3] = [
    (
        TROUBLESHOOTER,
        "troubleshooter",
        "Finds out what is wrong in the cluster and the pipelines, with all tools; what changes something waits for a person.",
        "agent-troubleshooter",
        &[],
    ),
    (
        FAILURE_ANALYST,
        "failure-analyst",
        "Explains a failure that was reported: why the cause is the cause, and what to do.",
        "agent-failure-analyst",
        &[],
    ),
    (
        uuid!("01a1f000-0000-7000-8000-000000000003"),
        "read-only explainer",
        "Explains from runbooks, past incidents and stored evidence alone; asks no other system.",
        "agent-explainer",
        &["read_evidence", "search_evidence", "search_runbooks", "similar_incidents"],
    ),
];

/// Stores the built-in agents. Replaces those of an older version.
///
/// # Errors
/// The database is unavailable.
pub async fn seed_builtin_agents(pool: &PgPool) -> sqlx::Result<()> {
    let now = clock::now();
    for (id, name, description, file, tools) in SHIPPED {
        let profile = Profile {
            id,
            name: name.to_owned(),
            description: description.to_owned(),
            prompt: Prompt::File(file.to_owned()),
            model: None,
            temperature: None,
            max_output_tokens: None,
            tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
            turns: None,
            total_tokens: None,
            built_in: true,
            created_at: now,
            updated_at: now,
        };
        if !agents::put(pool, &profile).await? {
            tracing::warn!(name, "another agent has the name of one that ships; the shipped one is left out");
        }
    }
    Ok(())
}

/// Returns the default agent.
#[must_use]
pub fn default_agent(about_incident: bool) -> Uuid {
    if about_incident { FAILURE_ANALYST } else { TROUBLESHOOTER }
}

/// Returns the requested agent, or the default agent when none is requested.
pub(super) async fn choose(
    db: impl PgExecutor<'_>,
    asked: Option<Uuid>,
    about_incident: bool,
) -> sqlx::Result<Option<Profile>> {
    agents::get(db, asked.unwrap_or(default_agent(about_incident))).await
}

/// Renders the agent's instructions.
pub(super) fn instructions(prompts: &Prompts, profile: &Profile) -> anyhow::Result<String> {
    match &profile.prompt {
        Prompt::File(name) => prompts.render(name, values(profile)),
        Prompt::Text(text) => prompts.render_text(text, values(profile)),
    }
}

/// Checks that a prompt can be rendered. The error explains the problem to the user.
///
/// # Errors
/// The file does not exist or is not an agent prompt, the template has a syntax error, or it uses an undefined variable.
pub fn check_prompt(prompts: &Prompts, profile: &Profile) -> anyhow::Result<()> {
    if let Prompt::File(name) = &profile.prompt
        && !name.starts_with("agent-")
    {
        anyhow::bail!("`{name}` is no agent's prompt; those begin with `agent-`");
    }
    instructions(prompts, profile).map(drop)
}

fn values(profile: &Profile) -> serde_json::Value {
    json!({ "name": profile.name, "description": profile.description })
}

/// Compiles the agent's tool globs.
///
/// # Errors
/// A glob is invalid.
pub(super) fn globs(tools: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for tool in tools {
        set.add(Glob::new(tool).with_context(|| format!("`{tool}` is no glob"))?);
    }
    Ok(set.build()?)
}

/// Checks the tool globs.
///
/// # Errors
/// A glob is invalid.
pub fn check_tools(tools: &[String]) -> anyhow::Result<()> {
    globs(tools).map(drop)
}

/// Sampling settings of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// Maximum length of a completion in tokens. The smallest of several limits applies.
    pub max_output_tokens: Option<u32>,
    /// Temperature, overrides that of the agent.
    pub temperature: Option<f32>,
}

/// Returns the agent with the sampling settings of a request.
pub(super) fn sampled(endpoint: Option<&ModelEndpoint>, profile: &Profile, sampling: Sampling) -> Profile {
    let own = profile.max_output_tokens.and_then(|tokens| u32::try_from(tokens).ok());
    let own = own.or_else(|| endpoint.and_then(|endpoint| endpoint.max_output_tokens));
    let limit = sampling.max_output_tokens.map(|limit| own.map_or(limit, |own| own.min(limit)));
    Profile {
        max_output_tokens: limit.and_then(|limit| i32::try_from(limit).ok()).or(profile.max_output_tokens),
        temperature: sampling.temperature.or(profile.temperature),
        ..profile.clone()
    }
}

/// Returns the model with the sampling settings of a request.
pub(super) fn sampled_model(
    app: &App,
    model: Option<Arc<dyn Model>>,
    profile: &Profile,
    sampling: Sampling,
) -> Option<Arc<dyn Model>> {
    if sampling == Sampling::default() {
        return model;
    }
    model.and_then(|_| app.model_of(&sampled(app.config.model.as_ref(), profile, sampling)))
}

/// Returns the configured limits, overridden by those of the agent.
pub(super) fn run_limits(configured: RunLimits, profile: &Profile) -> RunLimits {
    let turns = profile.turns.and_then(|turns| u32::try_from(turns).ok());
    let total = profile.total_tokens.and_then(|tokens| u64::try_from(tokens).ok());
    let turns = turns.unwrap_or(configured.turns);
    let total_tokens = total.unwrap_or(configured.total_tokens);
    RunLimits { turns, total_tokens, ..configured }.with_results_that_fit()
}
