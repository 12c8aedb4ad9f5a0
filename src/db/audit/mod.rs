//! The record of what was done: rows are added and never changed. What seals them is in `seal`, what checks the seals in `verify`.

mod chain;
mod months;
mod seal;
mod verify;

pub use chain::GENESIS;
pub use months::{Dropped, add_months, drop_before};
pub use seal::{Head, head, seal};
pub use verify::{Broken, Fault, Verified, verify};

use crate::audit::Recorder;
use crate::domain::AuditEvent;
use crate::evidence::redact::Redactor;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgExecutor, PgPool, Postgres, Transaction};
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest texts of a row, in bytes. A row is read by people.
const MAX_NAME: usize = 500;
const MAX_DETAIL: usize = 4_000;

/// Adds a row.
pub async fn add(db: impl PgExecutor<'_>, event: &AuditEvent) -> sqlx::Result<()> {
    add_all(db, std::slice::from_ref(event)).await
}

/// Adds rows in one statement. Secrets in them are replaced here, whoever recorded them.
pub async fn add_all(db: impl PgExecutor<'_>, events: &[AuditEvent]) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut redactor = Redactor::new();
    let mut text = |text: &str, bytes: usize| clean(&redactor.redact(text), bytes);
    let details: Vec<String> = events.iter().map(|event| text(&event.detail, MAX_DETAIL)).collect();
    let names: Vec<String> = events.iter().map(|event| text(&event.object, MAX_NAME)).collect();
    let actors: Vec<String> = events.iter().map(|event| text(&event.actor.name, MAX_NAME)).collect();
    let traces: Vec<String> = events.iter().map(|event| text(&event.actor.trace, MAX_NAME)).collect();
    let data: Vec<String> = events.iter().map(|event| redacted(&event.data, &mut text).to_string()).collect();
    let named = |of: fn(&AuditEvent) -> &'static str| {
        events.iter().map(|event| of(event).to_owned()).collect::<Vec<_>>()
    };
    sqlx::query!(
        "insert into audit (at, actor, action, object_kind, object, outcome, duration_ms, trace, run, detail, data)
         select at, actor, action, object_kind, object, outcome, duration_ms, trace, run, detail, data::json
         from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[],
                     $9::uuid[], $10::text[], $11::text[])
              as note (at, actor, action, object_kind, object, outcome, duration_ms, trace, run, detail, data)",
        &events.iter().map(|event| event.at).collect::<Vec<_>>(),
        &actors,
        &named(|event| event.action.into()),
        &named(|event| event.object_kind),
        &names,
        &named(|event| event.outcome.into()),
        &events.iter().map(|event| event.duration_ms).collect::<Vec<_>>() as &[Option<i64>],
        &traces,
        &events.iter().map(|event| event.run).collect::<Vec<_>>() as &[Option<Uuid>],
        &details,
        &data
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A text that the database takes and a person can read.
fn clean(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].replace('\0', "\u{fffd}")
}

/// The value with its texts redacted.
fn redacted(value: &Value, text: &mut impl FnMut(&str, usize) -> String) -> Value {
    match value {
        Value::String(own) => Value::String(text(own, MAX_DETAIL)),
        Value::Array(items) => items.iter().map(|item| redacted(item, text)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), redacted(item, text))).collect())
        }
        other => other.clone(),
    }
}

/// Commits a transaction together with what the work has recorded: both are there, or neither.
pub async fn commit(mut transaction: Transaction<'_, Postgres>, recorder: &Recorder) -> sqlx::Result<()> {
    let pending = recorder.pending();
    add_all(&mut *transaction, &pending).await?;
    transaction.commit().await?;
    recorder.written(pending.len());
    Ok(())
}

/// Writes down what the work has recorded and has no transaction for. What cannot be written now is said in the log and tried again
/// with the next record.
pub async fn flush(pool: &PgPool, recorder: &Recorder) {
    if recorder.pending().is_empty() {
        return;
    }
    // On the heap and only while it lasts: every answer would carry it otherwise.
    let written = Box::pin(super::with_timeout(async { commit(pool.begin().await?, recorder).await }));
    if let Err(error) = written.await {
        tracing::error!(%error, "what was done cannot be put on record now");
    }
}

/// A row.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Entry {
    /// Counts up.
    pub id: i64,
    /// When it began.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// Kind of what it was done to.
    pub object_kind: String,
    /// Its id or name.
    pub object: String,
    /// `done`, `failed`, `refused` or `stopped`.
    pub outcome: String,
    /// Milliseconds it took, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// The request it came with, or the report or turn it was done for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// The run of an agent that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// What else there is to know.
    pub detail: String,
    /// Figures and hashes.
    #[schema(value_type = Object)]
    pub data: Value,
    /// Its place in the chain, once it is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// Its seal, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// How the record is narrowed.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only by them.
    pub actor: Option<String>,
    /// Only actions that begin like this.
    pub action: Option<String>,
    /// Only what was done to this id or name.
    pub object: Option<String>,
    /// Only what came with this request, or was done for this report or turn.
    pub trace: Option<String>,
    /// Only what this run did.
    pub run: Option<Uuid>,
    /// Only what has to do with this: as object, trace or run.
    pub about: Option<String>,
    /// Only what ended like this.
    pub outcome: Option<String>,
    /// Not before then.
    pub since: Option<DateTime<Utc>>,
    /// Not after then.
    pub until: Option<DateTime<Utc>>,
    /// Only rows before this one.
    pub before: Option<i64>,
}

/// Rows, newest first.
pub async fn list(db: impl PgExecutor<'_>, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Entry>> {
    let about_run: Option<Uuid> = filter.about.as_deref().and_then(|about| about.parse().ok());
    let rows = sqlx::query!(
        r#"select id, at, actor, action, object_kind, object, outcome, duration_ms, trace, run, detail, data as "data: Value",
                  seq, encode(hash, 'hex') as hash
         from audit
         where ($1::text is null or actor = $1) and ($2::text is null or starts_with(action, $2))
           and ($3::text is null or object = $3) and ($4::timestamptz is null or at >= $4)
           and ($5::timestamptz is null or at <= $5) and ($6::bigint is null or id < $6)
           and ($8::text is null or trace = $8) and ($9::uuid is null or run = $9)
           and ($10::text is null or object = $10 or trace = $10 or run = $11) and ($12::text is null or outcome = $12)
         order by id desc limit $7"#,
        filter.actor,
        filter.action,
        filter.object,
        filter.since,
        filter.until,
        filter.before,
        limit,
        filter.trace,
        filter.run,
        filter.about,
        about_run,
        filter.outcome
    )
    .fetch_all(db)
    .await?;
    let entry = rows.into_iter().map(|row| Entry {
        id: row.id,
        at: row.at,
        actor: row.actor,
        action: row.action,
        object_kind: row.object_kind,
        object: row.object,
        outcome: row.outcome,
        duration_ms: row.duration_ms,
        trace: row.trace,
        run: row.run,
        detail: row.detail,
        data: row.data,
        seq: row.seq,
        hash: row.hash,
    });
    Ok(entry.collect())
}
