//! What an answer begins with: the agent's instructions, what is known of the incident, runbooks that fit the question.

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

/// Documents that are looked at.
const RUNBOOKS: usize = 3;
const INCIDENTS: usize = 2;

/// An incident, with the report that was investigated.
pub(super) struct KnownIncident {
    pub(super) incident: Incident,
    pub(super) report: Option<Uuid>,
}

/// What an answer can rest on.
pub(super) struct AnswerContext {
    /// What it is about.
    pub(super) incident: Option<KnownIncident>,
    /// What people said of it.
    pub(super) resolutions: Vec<Resolution>,
    /// Runbooks and past incidents that fit the question.
    pub(super) runbooks: Vec<Hit>,
    pub(super) past: Vec<Hit>,
    /// Evidence of the report and of the conversation.
    pub(super) pieces: Vec<Evidence>,
    /// How many of them are the report's.
    pub(super) reported: usize,
}

/// Reads what is known. Searches that fail leave the answer without what they would have found.
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
    // A short question about an incident says little by itself.
    let subject = incident.as_ref().map_or("", |known| known.incident.title.as_str());
    let text = format!("{}\n{subject}", task.question);
    let runbooks = knowledge.near(text.trim(), Realm::Runbook, RUNBOOKS, None).await;
    let mut past = knowledge.near(text.trim(), Realm::Incident, INCIDENTS + 1, None).await;
    past.retain(|hit| hit.incident_id != task.incident);
    past.truncate(INCIDENTS);
    Ok(AnswerContext { incident, resolutions, runbooks, past, pieces, reported })
}

impl AnswerContext {
    /// The evidence as the loop's workspace, which has its texts from then on.
    pub(super) fn workspace(&mut self, blocking: &BlockingPool, schemas: &Schemas) -> Workspace {
        // Labels count on from the report's, whatever was stored meanwhile. The texts may be long, and are needed once.
        let pieces = (1..).zip(&mut self.pieces).map(|(number, piece)| Evidence {
            label: format!("E{number}"),
            text: std::mem::take(&mut piece.text),
            ..piece.clone()
        });
        let pieces: Vec<Evidence> = pieces.collect();
        Workspace::new(pieces, Redactor::new(), blocking.clone()).sharing(schemas).keeping_results()
    }

    /// Passages of runbooks and of past incidents, within their share of tokens.
    pub(super) async fn passages(
        &self,
        config: &Config,
        knowledge: &Knowledge,
    ) -> (Vec<Passage>, Vec<Passage>) {
        let budget = config.agent.share(config.knowledge.brief_tokens);
        let runbooks = knowledge.passages(&self.runbooks, budget).await;
        (runbooks, knowledge.passages(&self.past, budget / 3).await)
    }

    /// Instructions and context, as texts.
    pub(super) async fn texts(
        &self,
        app: &App,
        task: &Task,
        workspace: &Workspace,
    ) -> anyhow::Result<(String, String)> {
        let instructions = profiles::instructions(&app.prompts, &task.profile)?;
        let system = app.prompts.render("chat-system", json!({ "instructions": instructions.trim() }))?;
        let (runbooks, past) = self.passages(&app.config, &app.knowledge).await;
        // Title, cause and claims are a model's words about a log, and anybody may have said something.
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
