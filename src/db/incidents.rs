//! Incidents: at most one open incident per cause.

use crate::domain::{Diagnosis, FailureClass, Fingerprint, Incident, IncidentStatus};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use sqlx::types::Json;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};
use utoipa::ToSchema;
use uuid::Uuid;

struct Row {
    id: Uuid,
    namespace: String,
    fingerprint: String,
    status: String,
    title: String,
    class: String,
    diagnosis: Option<Json<Diagnosis>>,
    issue_url: Option<String>,
    occurrences: i32,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    previous_id: Option<Uuid>,
    resolved_at: Option<DateTime<Utc>>,
    merged_into: Option<Uuid>,
    split_from: Option<Uuid>,
}

impl From<Row> for Incident {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            namespace: row.namespace,
            fingerprint: Fingerprint(row.fingerprint),
            status: IncidentStatus::parse(&row.status),
            title: row.title,
            class: FailureClass::parse(&row.class),
            diagnosis: row.diagnosis.map(|json| json.0),
            issue_url: row.issue_url,
            occurrences: row.occurrences,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
            previous_id: row.previous_id,
            resolved_at: row.resolved_at,
            merged_into: row.merged_into,
            split_from: row.split_from,
        }
    }
}

/// A report to assign to an incident.
#[derive(Debug)]
pub struct Sighting<'a> {
    /// Id for a new incident.
    pub id: Uuid,
    /// Kubernetes namespace of the report.
    pub namespace: &'a str,
    /// Fingerprint of the cause.
    pub fingerprint: &'a Fingerprint,
    /// Title until a diagnosis exists.
    pub title: &'a str,
    /// Current time.
    pub now: DateTime<Utc>,
}

/// Opens an incident for a cause, or increments the occurrences of the open one. Locks the row until the transaction
/// ends.
pub async fn see(db: impl PgExecutor<'_>, sighting: &Sighting<'_>) -> sqlx::Result<Incident> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into incidents (id, namespace, fingerprint, title, first_seen, last_seen, previous_id)
           values ($1, $2, $3, $4, $5, $5,
                   (select p.id from incidents p where p.fingerprint = $3 and p.status = 'resolved' and p.merged_into is null
                    order by p.resolved_at desc limit 1))
           on conflict (fingerprint) where status = 'open'
           do update set occurrences = incidents.occurrences + 1, last_seen = excluded.last_seen
           returning id, namespace, fingerprint, status, title, class, diagnosis as "diagnosis: Json<Diagnosis>",
                     issue_url, occurrences, first_seen, last_seen, previous_id, resolved_at, merged_into, split_from"#,
        sighting.id,
        sighting.namespace,
        sighting.fingerprint.0,
        sighting.title,
        sighting.now
    )
    .fetch_one(db)
    .await?;
    Ok(row.into())
}

/// Returns the open incident of a cause, if any. Locks the row until the transaction ends.
pub async fn open(db: impl PgExecutor<'_>, fingerprint: &Fingerprint) -> sqlx::Result<Option<Incident>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, namespace, fingerprint, status, title, class, diagnosis as "diagnosis: Json<Diagnosis>",
                  issue_url, occurrences, first_seen, last_seen, previous_id, resolved_at, merged_into, split_from
           from incidents where fingerprint = $1 and status = 'open' for update"#,
        fingerprint.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Incident::from))
}

/// Decrements the occurrences, because a report's own evidence does not support the cause.
pub async fn uncount(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update incidents set occurrences = greatest(occurrences - 1, 0) where id = $1", id)
        .execute(db)
        .await?;
    Ok(())
}

/// Moves an undiagnosed incident to the namespace of the report that investigates its cause.
pub async fn lead(db: impl PgExecutor<'_>, id: Uuid, namespace: &str, title: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update incidents set namespace = $2, title = $3 where id = $1 and diagnosis is null and namespace <> $2",
        id,
        namespace,
        title
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns whether a queued or running report other than `except` leads the incident.
pub async fn has_leader(db: impl PgExecutor<'_>, incident: Uuid, except: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from reports
                          where incident_id = $1 and leads and id <> $2 and status in ('queued', 'running')) as "led!""#,
        incident,
        except
    )
    .fetch_one(db)
    .await
}

/// Locks an incident's row, so that no report is assigned to it until the transaction ends.
pub async fn lock(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("select id from incidents where id = $1 for update", id).fetch_optional(db).await?;
    Ok(())
}

/// Returns an incident.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Incident>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, namespace, fingerprint, status, title, class, diagnosis as "diagnosis: Json<Diagnosis>",
                  issue_url, occurrences, first_seen, last_seen, previous_id, resolved_at, merged_into, split_from
           from incidents where id = $1"#,
        id
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Incident::from))
}

/// Which incidents of a list are first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    ToSchema,
    IntoStaticStr,
    EnumString,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[schema(rename_all = "snake_case")]
pub enum Sort {
    /// Those seen last.
    #[default]
    LastSeen,
    /// Those that are new.
    FirstSeen,
    /// Those seen most often.
    Occurrences,
}

impl Sort {
    /// All values.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all values.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Filter and order of an incident list.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// `open` or `resolved`.
    pub status: Option<&'a str>,
    /// Failure class.
    pub class: Option<&'a str>,
    /// Kubernetes namespace.
    pub namespace: Option<&'a str>,
    /// Permitted namespaces.
    pub within: Option<&'a [String]>,
    /// Pipeline of a report of the incident.
    pub pipeline: Option<&'a str>,
    /// Inclusive start of the time of occurrence.
    pub since: Option<DateTime<Utc>>,
    /// Exclusive end of the time of occurrence.
    pub until: Option<DateTime<Utc>>,
    /// Sort order.
    pub sort: Sort,
    /// Words that must all occur in the title or namespace; prefixes match.
    pub text: Option<&'a str>,
    /// Cursor for the next page: only incidents after this one.
    pub before: Option<Uuid>,
    /// Number of incidents to skip.
    pub offset: i64,
}

/// Lists incidents in the order of the filter, without merged ones.
pub async fn list(db: impl PgExecutor<'_>, filter: &Filter<'_>, limit: i64) -> sqlx::Result<Vec<Incident>> {
    let words = filter.text.map(beginnings).filter(|words| !words.is_empty());
    let rows = sqlx::query_as!(
        Row,
        r#"select id, namespace, fingerprint, status, title, class, diagnosis as "diagnosis: Json<Diagnosis>",
                  issue_url, occurrences, first_seen, last_seen, previous_id, resolved_at, merged_into, split_from
           from incidents
           where merged_into is null and ($1::text is null or status = $1) and ($2::text is null or class = $2) and ($3::text is null or namespace = $3)
             and ($4::text is null or to_tsvector('simple', regexp_replace(title || ' ' || namespace, '[^[:alnum:]]+', ' ', 'g')) @@ to_tsquery('simple', $4))
             and ($5::uuid is null or case $9::text
                     when 'first_seen' then (first_seen, id) < (select b.first_seen, b.id from incidents b where b.id = $5)
                     when 'occurrences' then (occurrences, id) < (select b.occurrences, b.id from incidents b where b.id = $5)
                     else (last_seen, id) < (select b.last_seen, b.id from incidents b where b.id = $5) end)
             and ($6::text[] is null or namespace = any($6))
             and ($10::timestamptz is null or last_seen >= $10) and ($11::timestamptz is null or first_seen < $11)
             and ($12::text is null or exists (select from reports r where r.incident_id = incidents.id and r.failure ->> 'pipeline' = $12))
           -- The planner knows the sort's name, so that each of them is read from its index.
           order by case when $9 = 'first_seen' then first_seen end desc, case when $9 = 'occurrences' then occurrences end desc,
                    case when $9 = 'last_seen' then last_seen end desc, id desc
           offset $7 limit $8"#,
        filter.status,
        filter.class,
        filter.namespace,
        words,
        filter.before,
        filter.within,
        filter.offset,
        limit,
        filter.sort.as_str(),
        filter.since,
        filter.until,
        filter.pipeline
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Incident::from).collect())
}

/// Builds a full-text query that matches words by prefix.
fn beginnings(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| format!("{word}:*")).collect::<Vec<_>>().join(" & ")
}

/// Returns those of the given incidents that have this class.
pub async fn of_class(db: impl PgExecutor<'_>, ids: &[Uuid], class: &str) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("select id from incidents where id = any($1) and class = $2", ids, class)
        .fetch_all(db)
        .await
}

/// Returns those of the given incidents that are in one of these namespaces.
pub async fn of_namespaces(
    db: impl PgExecutor<'_>,
    ids: &[Uuid],
    namespaces: &[String],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from incidents where id = any($1) and namespace = any($2)",
        ids,
        namespaces
    )
    .fetch_all(db)
    .await
}

/// Stores the diagnosis.
pub async fn set_diagnosis(db: impl PgExecutor<'_>, id: Uuid, diagnosis: &Diagnosis) -> sqlx::Result<()> {
    sqlx::query!(
        "update incidents set diagnosis = $2, title = $3, class = $4 where id = $1",
        id,
        Json(diagnosis) as _,
        diagnosis.title,
        diagnosis.class.as_str()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores the URL and number of the filed issue. Filing counts as the first comment.
pub async fn set_issue(
    db: impl PgExecutor<'_>,
    id: Uuid,
    url: &str,
    number: Option<i64>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update incidents set issue_url = $2, issue_number = $3, commented_at = $4, issue_unsure_until = null where id = $1",
        id,
        url,
        number,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the number of the incident's issue.
pub async fn issue_number(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<i64>> {
    let number = sqlx::query_scalar!("select issue_number from incidents where id = $1", id);
    number.fetch_optional(db).await.map(Option::flatten)
}

/// Returns until when a requested issue may still appear in the tracker; `None` when its filing is confirmed or ruled
/// out.
pub async fn issue_unsure_until(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<DateTime<Utc>>> {
    let until = sqlx::query_scalar!("select issue_unsure_until from incidents where id = $1", id);
    until.fetch_optional(db).await.map(Option::flatten)
}

/// Stores until when a requested issue may still appear in the tracker.
pub async fn set_issue_unsure_until(
    db: impl PgExecutor<'_>,
    id: Uuid,
    until: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!("update incidents set issue_unsure_until = $2 where id = $1", id, until).execute(db).await?;
    Ok(())
}

/// Claims the right to comment, at most once per interval. Returns the issue number.
pub async fn claim_comment(
    db: impl PgExecutor<'_>,
    id: Uuid,
    now: DateTime<Utc>,
    not_since: DateTime<Utc>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        r#"update incidents set commented_at = $2
           where id = $1 and issue_number is not null and (commented_at is null or commented_at < $3)
           returning issue_number as "number!""#,
        id,
        now,
        not_since
    )
    .fetch_optional(db)
    .await
}

/// An incident whose issue state is checked.
#[derive(Debug)]
pub struct Checked {
    /// Incident id.
    pub id: Uuid,
    /// Id of the incident whose marker is in the issue.
    pub marker: Uuid,
    /// Time of the first report.
    pub first_seen: DateTime<Utc>,
}

/// Claims the right to check the issue state of an open incident, at most once per interval.
pub async fn claim_check(
    db: impl PgExecutor<'_>,
    fingerprint: &Fingerprint,
    now: DateTime<Utc>,
    not_since: DateTime<Utc>,
) -> sqlx::Result<Option<Checked>> {
    let claimed = sqlx::query_as!(
        Checked,
        r#"update incidents set issue_checked_at = $2
         where fingerprint = $1 and status = 'open' and issue_url is not null
               and coalesce(issue_checked_at, commented_at, first_seen) < $3
         returning id, coalesce(issue_marker, id) as "marker!", first_seen"#,
        fingerprint.0,
        now,
        not_since
    );
    claimed.fetch_optional(db).await
}

/// Marks an incident as resolved. The next report of the cause opens a new incident.
pub async fn resolve(db: impl PgExecutor<'_>, id: Uuid, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update incidents set status = 'resolved', resolved_at = $2 where id = $1 and status = 'open'",
        id,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Reopens a resolved incident.
pub async fn reopen(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update incidents set status = 'open', resolved_at = null where id = $1", id)
        .execute(db)
        .await?;
    Ok(())
}

/// Last pipeline and task of an incident.
#[derive(Debug, Clone, Serialize)]
pub struct SeenIn {
    /// Incident id.
    pub incident: Uuid,
    /// Pipeline of the latest report.
    pub pipeline: Option<String>,
    /// Task within the pipeline.
    pub task: Option<String>,
}

/// Returns pipeline and task of the latest report of each given incident.
pub async fn seen_in(db: impl PgExecutor<'_>, incidents: &[Uuid]) -> sqlx::Result<Vec<SeenIn>> {
    sqlx::query_as!(
        SeenIn,
        r#"select i.id as "incident!", r.pipeline, r.task from unnest($1::uuid[]) as i (id)
           cross join lateral (select failure ->> 'pipeline' as pipeline, failure ->> 'task' as task
                               from reports where incident_id = i.id order by id desc limit 1) r"#,
        incidents
    )
    .fetch_all(db)
    .await
}

/// Returns the pipelines of the incident's reports, sorted by name.
pub async fn pipelines(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"with recursive known (pipeline) as (
               -- From one to the next in the index, instead of reading all reports for the few that differ.
               select min(failure ->> 'pipeline') from reports where incident_id = $1
               union all
               select (select min(failure ->> 'pipeline') from reports
                       where incident_id = $1 and failure ->> 'pipeline' > known.pipeline)
               from known where pipeline is not null
           )
           select pipeline as "pipeline!" from known where pipeline is not null limit 100"#,
        id
    )
    .fetch_all(db)
    .await
}

/// Returns the last good run given by the incident's latest report that names one.
pub async fn last_good_run(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"select failure ->> 'last_good_run' as "run!" from reports
           where incident_id = $1 and failure ->> 'last_good_run' is not null order by id desc limit 1"#,
        id
    )
    .fetch_optional(db)
    .await
}
