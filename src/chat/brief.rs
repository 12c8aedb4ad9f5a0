//! Context of an answer: the agent's instructions, data about the incident, and matching runbooks.

use super::profiles;
use super::task::Task;
use crate::agent::{Schemas, Workspace};
use crate::app::App;
use crate::blocking::BlockingPool;
use crate::config::Config;
use crate::db::documents::Realm;
use crate::db::evidence::{self, Owner};
use crate::db::{incidents, reports, resolutions};
use crate::domain::{Evidence, Incident, Principal, Resolution};
use crate::evidence::redact::Redactor;
use crate::knowledge::{Hit, Knowledge, Passage};
use serde_json::json;
use sqlx::PgPool;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of runbooks and past incidents in the context.
const RUNBOOKS: usize = 3;
const INCIDENTS: usize = 2;

/// An incident with the report that was investigated.
pub(super) struct KnownIncident {
    pub(super) incident: Incident,
    pub(super) report: Option<Uuid>,
}

/// The facts available to an answer.
pub(super) struct AnswerContext {
    /// The incident of the conversation.
    pub(super) incident: Option<KnownIncident>,
    /// Resolutions of the incident.
    pub(super) resolutions: Vec<Resolution>,
    /// Matching runbooks and past incidents.
    pub(super) runbooks: Vec<Hit>,
    pub(super) past: Vec<Hit>,
    /// Evidence of the report and of the conversation.
    pub(super) pieces: Vec<Evidence>,
    /// Number of pieces that belong to the report.
    pub(super) reported: usize,
}

/// Loads the context. Failed searches only leave out their results.
pub(super) async fn known(pool: &PgPool, knowledge: &Knowledge, task: &Task) -> sqlx::Result<AnswerContext> {
    let (mut incident, mut resolutions, mut pieces) = (None, Vec::new(), Vec::new());
    if let Some(id) = task.incident
        && let Some(found) = incidents::get(pool, id).await?
    {
        let report = reports::leader(pool, id).await?;
        if let Some(report) = report {
            pieces = evidence::of(pool, Owner::Report(report), &Principal::nobody()).await?;
        }
        resolutions = resolutions::of_incident(pool, id).await?;
        incident = Some(KnownIncident { incident: found, report });
    }
    let reported = pieces.len();
    let own = Owner::Conversation(task.conversation);
    pieces.extend(evidence::of(pool, own, &task.reader()).await?);
    // A short question about an incident is too vague by itself, so the incident's title is added.
    let subject = incident.as_ref().map_or("", |known| known.incident.title.as_str());
    let text = format!("{}\n{subject}", task.question);
    let runbooks = knowledge.near(text.trim(), Realm::Runbook, RUNBOOKS, None).await;
    let mut past = knowledge.near(text.trim(), Realm::Incident, INCIDENTS + 1, None).await;
    past.retain(|hit| hit.incident_id != task.incident);
    past.truncate(INCIDENTS);
    Ok(AnswerContext { incident, resolutions, runbooks, past, pieces, reported })
}

impl AnswerContext {
    /// Creates the workspace of the agent loop. Moves the texts of the evidence into it.
    pub(super) fn workspace(&mut self, blocking: &BlockingPool, schemas: &Schemas) -> Workspace {
        // Labels continue after those of the report, independent of the stored labels. Texts may be long and are needed only
        // once.
        let pieces = (1..).zip(&mut self.pieces).map(|(number, piece)| Evidence {
            label: format!("E{number}"),
            text: std::mem::take(&mut piece.text),
            ..piece.clone()
        });
        let pieces: Vec<Evidence> = pieces.collect();
        Workspace::new(pieces, Redactor::new(), blocking.clone()).sharing(schemas).keeping_results()
    }

    /// Returns passages of runbooks and past incidents within their token budgets.
    pub(super) async fn passages(
        &self,
        config: &Config,
        knowledge: &Knowledge,
    ) -> (Vec<Passage>, Vec<Passage>) {
        let budget = config.agent.share(config.knowledge.brief_tokens);
        let runbooks = knowledge.passages(&self.runbooks, budget).await;
        (runbooks, knowledge.passages(&self.past, budget / 3).await)
    }

    /// Renders the instructions and the context.
    pub(super) async fn texts(
        &self,
        app: &App,
        task: &Task,
        workspace: &Workspace,
    ) -> anyhow::Result<(String, String)> {
        let instructions = profiles::instructions(&app.prompts, &task.profile)?;
        let system = app.prompts.render("chat-system", json!({ "instructions": instructions.trim() }))?;
        let (runbooks, past) = self.passages(&app.config, &app.knowledge).await;
        // Title, cause and claims are a model's words about a log, and anybody may have written a resolution.
        let incident = match &self.incident {
            Some(KnownIncident { incident, .. }) => {
                let said: Vec<String> =
                    self.resolutions.iter().map(crate::knowledge::resolution_line).collect();
                let text =
                    app.prompts.render("chat-incident", json!({ "incident": incident, "said": said }))?;
                Some(workspace.fenced(text.trim()))
            }
            None => None,
        };
        let passage = |passage: &Passage| json!({ "solved": passage.solved, "text": workspace.fenced(&passage.titled()) });
        let pieces = workspace.pieces();
        let listed = workspace.work(move |_| {
            let piece = |piece: &Arc<Evidence>| {
                json!({"label": piece.label, "title": piece.title, "lines": piece.text.lines().count()})
            };
            Ok(pieces.iter().map(piece).collect::<Vec<_>>())
        });
        let pieces = listed.await?;
        let context = app.prompts.render(
            "chat-context",
            json!({
                "mark": workspace.fence().mark(),
                "incident": incident,
                "evidence": pieces,
                "runbooks": runbooks.iter().map(passage).collect::<Vec<_>>(),
                "past": past.iter().map(passage).collect::<Vec<_>>(),
            }),
        )?;
        Ok((system, context))
    }
}
