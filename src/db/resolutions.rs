//! Verdicts of people and the tracker about a cause.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::domain::{Resolution, Verdict};

/// Inserts a resolution. Returns `false` when this webhook delivery was stored before.
pub async fn add(
    db: impl PgExecutor<'_>,
    incident: Uuid,
    resolution: &Resolution,
    delivery: Option<&str>,
) -> sqlx::Result<bool> {
    let added = sqlx::query!(
        "insert into resolutions (id, incident_id, verdict, cause, fix, link, author, origin, delivery, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (delivery) do nothing",
        resolution.id,
        incident,
        resolution.verdict.as_str(),
        resolution.cause,
        resolution.fix,
        resolution.link,
        resolution.author,
        resolution.origin,
        delivery,
        resolution.created_at
    )
    .execute(db)
    .await?;
    Ok(added.rows_affected() > 0)
}

struct Row {
    id: Uuid,
    verdict: String,
    cause: Option<String>,
    fix: Option<String>,
    link: Option<String>,
    author: String,
    origin: String,
    created_at: DateTime<Utc>,
}

impl From<Row> for Resolution {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            verdict: Verdict::parse(&row.verdict),
            cause: row.cause,
            fix: row.fix,
            link: row.link,
            author: row.author,
            origin: row.origin,
            created_at: row.created_at,
        }
    }
}

/// Returns the resolutions of an incident, oldest first.
pub async fn of_incident(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Vec<Resolution>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, verdict, cause, fix, link, author, origin, created_at from resolutions
         where incident_id = $1 order by created_at, id",
        incident
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Resolution::from).collect())
}

/// Returns the resolutions of an incident and of those merged into it.
pub async fn of_all(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Vec<Resolution>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, verdict, cause, fix, link, author, origin, created_at from resolutions
         where incident_id = $1 or incident_id in (select i.id from incidents i where i.merged_into = $1)
         order by created_at, id",
        incident
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Resolution::from).collect())
}

/// Returns the incident with this issue number, if any; unmerged and newer ones first.
pub async fn incident_of_issue(db: impl PgExecutor<'_>, number: i64) -> sqlx::Result<Option<(Uuid, String)>> {
    let row = sqlx::query!(
        r#"select id, issue_url as "url!" from incidents
           where issue_number = $1 and issue_url is not null order by merged_into is not null, first_seen desc limit 1"#,
        number
    );
    Ok(row.fetch_optional(db).await?.map(|row| (row.id, row.url)))
}
