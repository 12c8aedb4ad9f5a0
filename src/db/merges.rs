//! Merging and splitting of incidents. The caller holds the lock of `fingerprints::lock`.

use crate::domain::Incident;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Returns whether one of these incidents is under investigation or has waiting reports.
pub async fn is_investigated(db: impl PgExecutor<'_>, incidents: &[Uuid]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from reports where incident_id = any($1)
                          and (status = 'waiting' or leads and status in ('queued', 'running'))) as "busy!""#,
        incidents
    )
    .fetch_one(db)
    .await
}

/// Returns whether one of these incidents has a report of a namespace other than these.
pub async fn has_others(
    db: impl PgExecutor<'_>,
    incidents: &[Uuid],
    namespaces: &[String],
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from reports where incident_id = any($1) and namespace <> all($2)) as "others!""#,
        incidents,
        namespaces
    )
    .fetch_one(db)
    .await
}

/// Data that the target incident takes over.
#[derive(Debug, Clone, Copy)]
pub struct Takes {
    /// The diagnosis, if the target has none.
    pub diagnosis: bool,
    /// The issue, if the target has none.
    pub issue: bool,
}

/// Source and target of a merge.
#[derive(Debug, Clone, Copy)]
pub struct IncidentMerge {
    /// Incident that is merged.
    pub from: Uuid,
    /// Incident that remains.
    pub into: Uuid,
}

/// Moves all reports of an incident to the target.
pub async fn merge(
    db: &mut PgConnection,
    IncidentMerge { from, into }: IncidentMerge,
    takes: Takes,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if takes.diagnosis {
        sqlx::query!("update reports set leads = false where incident_id = $1 and leads", into)
            .execute(&mut *db)
            .await?;
    }
    sqlx::query!(
        "update incidents i
         set occurrences = i.occurrences + f.occurrences, first_seen = least(i.first_seen, f.first_seen),
             last_seen = greatest(i.last_seen, f.last_seen),
             diagnosis = case when $3 then f.diagnosis else i.diagnosis end,
             title = case when $3 then f.title else i.title end, class = case when $3 then f.class else i.class end,
             issue_url = case when $4 then f.issue_url else i.issue_url end,
             issue_number = case when $4 then f.issue_number else i.issue_number end,
             commented_at = case when $4 then f.commented_at else i.commented_at end,
             issue_marker = case when $4 then coalesce(f.issue_marker, f.id) else i.issue_marker end
         from incidents f where i.id = $2 and f.id = $1",
        from,
        into,
        takes.diagnosis,
        takes.issue
    )
    .execute(&mut *db)
    .await?;
    // A diagnosis cites its leading report, so reports of the source keep leading only with their diagnosis.
    sqlx::query!(
        "update reports set incident_id = $2, leads = leads and $3 where incident_id = $1",
        from,
        into,
        takes.diagnosis
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "update incidents
         set status = 'resolved', resolved_at = $3, merged_into = $2, occurrences = 0,
             issue_url = case when $4 then null else issue_url end,
             issue_number = case when $4 then null else issue_number end
         where id = $1",
        from,
        into,
        now,
        takes.issue
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("update incidents set merged_into = $2 where merged_into = $1", from, into)
        .execute(db)
        .await?;
    Ok(())
}

/// Returns id and title of incidents merged into this one, newest first.
pub async fn merged(db: impl PgExecutor<'_>, into: Uuid) -> sqlx::Result<Vec<(Uuid, String)>> {
    let rows = sqlx::query!(
        "select id, title from incidents where merged_into = $1 order by resolved_at desc, id desc limit 100",
        into
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.title)).collect())
}

/// Creates a separate incident for these reports of another incident.
pub async fn split(db: &mut PgConnection, new: &Incident, reports: &[Uuid]) -> sqlx::Result<()> {
    let from = new.split_from;
    sqlx::query!(
        "insert into incidents (id, namespace, fingerprint, title, first_seen, last_seen, occurrences, split_from)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        new.id,
        new.namespace,
        new.fingerprint.0,
        new.title,
        new.first_seen,
        new.last_seen,
        new.occurrences,
        from
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("update reports set incident_id = $1, leads = false where id = any($2)", new.id, reports)
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "update incidents
         set occurrences = greatest(occurrences - $2, 0),
             last_seen = coalesce((select max(created_at) from reports where incident_id = $1), last_seen)
         where id = $1",
        from,
        new.occurrences
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Changes the fingerprint of an incident.
pub async fn rename(db: impl PgExecutor<'_>, id: Uuid, fingerprint: &str) -> sqlx::Result<()> {
    sqlx::query!("update incidents set fingerprint = $2 where id = $1", id, fingerprint).execute(db).await?;
    Ok(())
}

/// Returns the latest of these reports that still has evidence.
pub async fn latest_with_evidence(db: impl PgExecutor<'_>, reports: &[Uuid]) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select r.id from reports r
         where r.id = any($1) and exists (select from evidence e where e.report_id = r.id and e.pruned_at is null)
         order by r.id desc limit 1",
        reports
    )
    .fetch_optional(db)
    .await
}
