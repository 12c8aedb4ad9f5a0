//! Inputs and conclusions of investigation runs, sufficient to replay them.

use crate::domain::{Diagnosis, Message, Run, RunLimits, ToolSpec};
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

/// Input and conclusion of a run.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Initial messages: instructions and brief.
    pub messages: Vec<Message>,
    /// Offered tools.
    pub tools: Vec<ToolSpec>,
    /// Fence around untrusted text in the brief.
    pub fence: String,
    /// Hash of the prompt templates.
    pub prompts: String,
    /// Limits of the run.
    pub budget: RunLimits,
    /// Verified diagnosis; `None` without a conclusion.
    pub diagnosis: Option<Diagnosis>,
}

/// A recorded run with its context.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The run with its calls.
    pub run: Run,
    /// Investigated report.
    pub report: Uuid,
    /// Fingerprint of the report's incident.
    pub fingerprint: Option<String>,
    /// Input and conclusion.
    pub recording: Recording,
    /// Other runs of the report, with their calls.
    pub others: Vec<Run>,
}

/// Inserts a recording. Texts shared by runs are stored once.
pub async fn insert(db: &mut PgConnection, run: Uuid, recording: &Recording) -> sqlx::Result<()> {
    let (system, brief) = match recording.messages.split_first() {
        Some((Message::System { text }, brief)) => (text.clone(), brief),
        _ => (String::new(), &recording.messages[..]),
    };
    let tools = serde_json::to_string(&recording.tools).unwrap_or_default();
    let texts = [system, tools].map(|text| text.replace('\0', "\u{fffd}"));
    let hashes = [0, 1].map(|index: usize| Sha256::digest(&texts[index]).to_vec());
    sqlx::query!(
        "insert into recorded_texts (hash, text) select * from unnest($1::bytea[], $2::text[]) order by 1
         on conflict do nothing",
        &hashes[..],
        &texts[..]
    )
    .execute(&mut *db)
    .await?;
    let brief = serde_json::to_string(brief).unwrap_or_default();
    sqlx::query!(
        "insert into recordings (run_id, system, tools, brief, fence, prompts, budget, diagnosis)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        run,
        hashes[0],
        hashes[1],
        brief,
        recording.fence,
        recording.prompts,
        Json(recording.budget) as _,
        recording.diagnosis.as_ref().map(Json) as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the recorded run with this id, or the latest one of the report with this id.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Recorded>> {
    let row = sqlx::query!(
        r#"select c.run_id, r.report_id as "report_id!", i.fingerprint as "fingerprint?", s.text as system, t.text as tools, c.brief,
                  c.fence, c.prompts, c.budget as "budget: Json<RunLimits>", c.diagnosis as "diagnosis: Json<Diagnosis>"
           from recordings c
           join runs r on r.id = c.run_id
           join reports p on p.id = r.report_id
           left join incidents i on i.id = p.incident_id
           join recorded_texts s on s.hash = c.system
           join recorded_texts t on t.hash = c.tools
           where r.id = $1 or r.report_id = $1
           order by r.started_at desc, r.id desc limit 1"#,
        id
    );
    let Some(row) = row.fetch_optional(pool).await? else { return Ok(None) };
    let runs = super::runs::of_report(pool, row.report_id).await?;
    let (own, others): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.id == row.run_id);
    let Some(run) = own.into_iter().next() else { return Ok(None) };
    let read = |error: serde_json::Error| sqlx::Error::Decode(error.into());
    let mut messages = vec![Message::System { text: row.system }];
    messages.extend(serde_json::from_str::<Vec<Message>>(&row.brief).map_err(read)?);
    let recording = Recording {
        messages,
        tools: serde_json::from_str(&row.tools).map_err(read)?,
        fence: row.fence,
        prompts: row.prompts,
        budget: row.budget.0,
        diagnosis: row.diagnosis.map(|diagnosis| diagnosis.0),
    };
    Ok(Some(Recorded { run, report: row.report_id, fingerprint: row.fingerprint, recording, others }))
}

/// Returns the latest recorded run of each report investigated since a time, newest first.
pub async fn since(
    db: impl PgExecutor<'_>,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"select id as "id!" from (
               select distinct on (r.report_id) r.id, r.started_at
               from recordings c join runs r on r.id = c.run_id
               where $1::timestamptz is null or r.started_at >= $1
               order by r.report_id, r.started_at desc, r.id desc) latest
           order by started_at desc, id desc limit $2"#,
        since,
        limit
    )
    .fetch_all(db)
    .await
}

/// Returns the other report that investigated the cause of a report, if any.
pub async fn investigated_by(db: impl PgExecutor<'_>, report: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select leader.id from reports own join reports leader on leader.incident_id = own.incident_id and leader.leads
         where own.id = $1 and leader.id <> $1 order by leader.created_at desc limit 1",
        report
    )
    .fetch_optional(db)
    .await
}
