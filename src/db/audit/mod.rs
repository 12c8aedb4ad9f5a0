//! The append-only audit log. `seal` chains the rows with hashes, and `verify` checks the chain.

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

/// Maximum lengths of texts in bytes, so that rows stay readable.
const MAX_NAME: usize = 500;
const MAX_DETAIL: usize = 4_000;

/// Inserts a row.
pub async fn add(db: impl PgExecutor<'_>, event: &AuditEvent) -> sqlx::Result<()> {
    add_all(db, std::slice::from_ref(event)).await
}

/// Inserts rows in one statement. Redacts secrets in all texts.
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

/// Truncates a text and replaces NUL characters, which the database rejects.
fn clean(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].replace('\0', "\u{fffd}")
}

/// Returns the value with all strings redacted.
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

/// Commits a transaction together with the recorded events, so that both are stored or neither is.
pub async fn commit(mut transaction: Transaction<'_, Postgres>, recorder: &Recorder) -> sqlx::Result<()> {
    let pending = recorder.pending();
    add_all(&mut *transaction, &pending).await?;
    transaction.commit().await?;
    recorder.written(pending.len());
    Ok(())
}

/// Writes recorded events outside of a transaction. On failure, logs an error and keeps them for the next attempt.
pub async fn flush(pool: &PgPool, recorder: &Recorder) {
    if recorder.pending().is_empty() {
        return;
    }
    // Boxed to keep the futures of all responses small.
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

/// Filter of the audit log.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Actor.
    pub actor: Option<String>,
    /// Prefix of the action.
    pub action: Option<String>,
    /// Id or name of the object.
    pub object: Option<String>,
    /// Request, report or turn id.
    pub trace: Option<String>,
    /// Agent run.
    pub run: Option<Uuid>,
    /// Id that is the object, trace or run.
    pub about: Option<String>,
    /// Outcome.
    pub outcome: Option<String>,
    /// Inclusive start.
    pub since: Option<DateTime<Utc>>,
    /// Inclusive end.
    pub until: Option<DateTime<Utc>>,
    /// Cursor for the next page: only rows before this one.
    pub before: Option<i64>,
}

/// Lists rows, newest first.
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
