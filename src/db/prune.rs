//! Deletes expired data in small batches, so that locks are short and finished batches persist when the process stops.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use strum::VariantArray;

/// Maximum rows per statement, because texts may be large and deleting a report also deletes its steps, runs and
/// evidence.
const BATCH: i64 = 500;
/// Placeholder of a deleted tool result.
const GONE: &str = "(no longer kept)";

/// Kinds of data with their own retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum Kind {
    /// Resolved incidents with all their data.
    Incidents,
    /// Conversations without an incident.
    Conversations,
    /// Reports, except those that led to the diagnosis of a retained incident.
    Reports,
    /// Texts of evidence. Labels, titles and sizes stay, because claims refer to them.
    Evidence,
    /// Model inputs and tool results of runs; the runs' figures stay.
    Runs,
    /// Usage of model requests.
    Usage,
}

impl Kind {
    /// All kinds, largest first, so that data deleted with an incident is not pruned separately before.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// Display name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incidents => "resolved incidents",
            Self::Conversations => "conversations",
            Self::Reports => "reports",
            Self::Evidence => "texts of evidence",
            Self::Runs => "records of runs",
            Self::Usage => "entries of usage",
        }
    }
}

/// Deletes all expired data of a kind and returns the number of rows.
///
/// # Errors
/// Fails when the database is unavailable; completed batches persist.
pub async fn prune(
    db: &mut PgConnection,
    kind: Kind,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let mut all = 0;
    loop {
        let some = match kind {
            Kind::Incidents => incidents(&mut *db, before).await?,
            Kind::Conversations => conversations(&mut *db, before).await?,
            Kind::Reports => reports(&mut *db, before).await?,
            Kind::Evidence => evidence(&mut *db, before, now).await?,
            Kind::Runs => runs(&mut *db, before, now).await?,
            Kind::Usage => usage(&mut *db, before).await?,
        };
        if some == 0 {
            return Ok(all);
        }
        all += some;
    }
}

/// Deletes resolved incidents without later activity. The next report of the cause opens a new incident in any case.
async fn incidents(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with past as (
             select i.id from incidents i left join conversations c on c.incident_id = i.id
             where i.status = 'resolved' and i.resolved_at < $1 and i.last_seen < $1 and coalesce(c.updated_at < $1, true)
                   and not exists (select from reports r where r.incident_id = i.id and r.finished_at is null)
             order by i.resolved_at limit $2 for update of i skip locked),
         gone as (delete from reports where incident_id in (select id from past) returning id),
         sums as (delete from spent where scope = 'report' and name in (select id::text from gone)),
         talk as (delete from spent where scope = 'conversation'
                  and name in (select id::text from conversations where incident_id in (select id from past)))
         delete from incidents where id in (select id from past)",
        before,
        BATCH
    );
    Ok(done.execute(db).await?.rows_affected())
}

/// Keeps conversations with pending calls.
async fn conversations(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with past as (
             select c.id from conversations c
             where c.incident_id is null and c.updated_at < $1
                   and not exists (select from turns t where t.conversation_id = c.id and t.state = 'running')
                   and not exists (select from approvals a
                                   where a.conversation_id = c.id and a.state in ('pending', 'approved', 'running'))
             order by c.updated_at limit $2 for update of c skip locked),
         sums as (delete from spent where scope = 'conversation' and name in (select id::text from past))
         delete from conversations where id in (select id from past)",
        before,
        BATCH
    );
    Ok(done.execute(db).await?.rows_affected())
}

async fn reports(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with past as (
             select id from reports where not leads and finished_at < $1
             order by finished_at limit $2 for update skip locked),
         sums as (delete from spent where scope = 'report' and name in (select id::text from past))
         delete from reports where id in (select id from past)",
        before,
        BATCH
    );
    Ok(done.execute(db).await?.rows_affected())
}

/// Keeps evidence that led to the diagnosis of a recently seen cause, because its issue refers to the lines.
async fn evidence(db: impl PgExecutor<'_>, before: DateTime<Utc>, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update evidence set text = '', raw = null, red = '{}', pruned_at = $3
         where id in (
             select e.id from evidence e
             left join reports r on r.id = e.report_id
             left join incidents i on i.id = r.incident_id and r.leads
             left join conversations c on c.id = e.conversation_id
             where e.pruned_at is null and e.created_at < $1 and coalesce(r.finished_at, c.updated_at) < $1
                   and coalesce(i.last_seen < $1, true)
             order by e.created_at limit $2 for update of e skip locked)",
        before,
        BATCH,
        now
    );
    Ok(done.execute(db).await?.rows_affected())
}

async fn runs(db: impl PgExecutor<'_>, before: DateTime<Utc>, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with past as (
             select u.id from runs u
             left join reports r on r.id = u.report_id
             left join incidents i on i.id = r.incident_id and r.leads
             left join turns t on t.id = u.turn_id
             left join conversations c on c.id = t.conversation_id
             where u.pruned_at is null and u.started_at < $1 and coalesce(r.finished_at, c.updated_at) < $1
                   and coalesce(i.last_seen < $1, true)
             order by u.started_at limit $2 for update of u skip locked),
         calls as (update tool_calls set arguments = '{}', result = $4 where run_id in (select id from past)),
         told as (delete from recordings where run_id in (select id from past))
         -- A trigger removes the events.
         update runs set pruned_at = $3 where id in (select id from past)",
        before,
        BATCH,
        now,
        GONE
    );
    Ok(done.execute(db).await?.rows_affected())
}

/// Also deletes daily sums; those of reports and conversations are deleted with them.
async fn usage(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with sums as (delete from spent where scope in ('all', 'caller') and day < $3)
         delete from usage where id in (
             select id from usage where at < $1 and held_until is null order by at limit $2 for update skip locked)",
        before,
        BATCH * 10,
        before.date_naive()
    );
    Ok(done.execute(db).await?.rows_affected())
}
