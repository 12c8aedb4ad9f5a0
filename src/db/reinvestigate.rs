//! Reports that are taken up once more because a person said so.

use crate::domain::StepName;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Puts a failed report back into the queue. `false` when it did not fail. What was collected for it stays.
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

/// Has a report that ended lead the investigation of its incident once more. `false` when it has not ended.
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

/// Its investigation was made anew.
pub async fn concluded(db: &mut PgConnection, report: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update reports set anew = false where id = $1 and anew", report).execute(db).await?;
    Ok(())
}

/// What is done once more is noted once more; only what was collected is not collected again.
async fn forget_steps(db: &mut PgConnection, report: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from steps where report_id = $1 and name <> $2", report, StepName::Collect.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// The report that investigates an incident anew: the one that led, else the latest that ended.
pub async fn to_investigate(db: &mut PgConnection, incident: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from reports where incident_id = $1 and status in ('done', 'failed')
         order by leads desc, created_at desc, id desc limit 1",
        incident
    )
    .fetch_optional(db)
    .await
}
