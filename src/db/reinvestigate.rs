//! Retry and reinvestigation of reports by request of a person.

use crate::domain::StepName;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Returns a failed report to the queue and keeps its evidence. Returns `false` when it has not failed.
pub async fn retry(db: &mut PgConnection, report: Uuid, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update reports set status = 'queued', attempts = 0, result = null, error = null, finished_at = null, again_at = $2,
                -- Somebody else may have concluded meanwhile: it is placed again, unless it was to investigate anew.
                leads = leads and anew
         where id = $1 and status = 'failed'",
        report,
        now
    )
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    forget_steps(db, report).await?;
    Ok(true)
}

/// Lets a finished report lead a new investigation of its incident. Returns `false` when it is not finished.
pub async fn investigate(db: &mut PgConnection, report: Uuid, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update reports set status = 'queued', attempts = 0, result = null, error = null, finished_at = null, again_at = $2,
                leads = true, anew = true
         where id = $1 and status in ('done', 'failed')",
        report,
        now
    )
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    forget_steps(db, report).await?;
    Ok(true)
}

/// Marks the reinvestigation as done.
pub async fn concluded(db: &mut PgConnection, report: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update reports set anew = false where id = $1 and anew", report).execute(db).await?;
    Ok(())
}

/// Deletes the steps that are repeated; the collection is not.
async fn forget_steps(db: &mut PgConnection, report: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from steps where report_id = $1 and name <> $2", report, StepName::Collect.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Returns the report that reinvestigates an incident: the previous leader, else the latest finished report.
pub async fn to_investigate(db: &mut PgConnection, incident: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from reports where incident_id = $1 and status in ('done', 'failed')
         order by leads desc, created_at desc, id desc limit 1",
        incident
    )
    .fetch_optional(db)
    .await
}
