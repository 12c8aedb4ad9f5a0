//! The agents that ship, and how an agent's settings become a model, a prompt, tools and limits.

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

/// Who answers about an incident unless somebody else is asked for.
const FAILURE_ANALYST: Uuid = uuid!("01a1f000-0000-7000-8000-000000000002");
/// Who answers otherwise.
const TROUBLESHOOTER: Uuid = uuid!("01a1f000-0000-7000-8000-000000000001");

/// The agents that ship.
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

/// Stores the agents that ship; what a newer version says of them takes the place of what an older one said.
///
/// # Errors
/// The database is away.
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

/// Who answers when nobody in particular is asked.
#[must_use]
pub fn default_agent(about_incident: bool) -> Uuid {
    if about_incident { FAILURE_ANALYST } else { TROUBLESHOOTER }
}

/// The agent that was asked for, else the conversation's, else the shipped one for the subject.
pub(super) async fn choose(
    db: impl PgExecutor<'_>,
    asked: Option<Uuid>,
    about_incident: bool,
) -> sqlx::Result<Option<Profile>> {
    agents::get(db, asked.unwrap_or(default_agent(about_incident))).await
}

/// The agent's instructions.
pub(super) fn instructions(prompts: &Prompts, profile: &Profile) -> anyhow::Result<String> {
    match &profile.prompt {
        Prompt::File(name) => prompts.render(name, values(profile)),
        Prompt::Text(text) => prompts.render_text(text, values(profile)),
    }
}

/// Whether a prompt can be rendered; the error says why not, for people.
///
/// # Errors
/// There is no such file, the template has a syntax error, or it names a variable that there is not.
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

/// The agent's tool globs.
///
/// # Errors
/// One is no glob.
pub(super) fn globs(tools: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for tool in tools {
        set.add(Glob::new(tool).with_context(|| format!("`{tool}` is no glob"))?);
    }
    Ok(set.build()?)
}

/// Whether tool globs are globs.
///
/// # Errors
/// One is none.
pub fn check_tools(tools: &[String]) -> anyhow::Result<()> {
    globs(tools).map(drop)
}

/// How a model answers, where whoever asks says so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// Longest completion in tokens; of several limits the smallest holds.
    pub max_output_tokens: Option<u32>,
    /// In place of the agent's.
    pub temperature: Option<f32>,
}

/// The agent with what is asked of this one answer.
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

/// The model of an answer, as it is asked for this time.
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

/// The configured limits with the agent's own.
pub(super) fn run_limits(configured: RunLimits, profile: &Profile) -> RunLimits {
    let turns = profile.turns.and_then(|turns| u32::try_from(turns).ok());
    let total = profile.total_tokens.and_then(|tokens| u64::try_from(tokens).ok());
    let turns = turns.unwrap_or(configured.turns);
    let total_tokens = total.unwrap_or(configured.total_tokens);
    RunLimits { turns, total_tokens, ..configured }.with_results_that_fit()
}
