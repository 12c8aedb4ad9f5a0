//! Vectors of chunks, by space: one space per model, one index per space and set.
//!
//! An index over a cast needs its dimensions and its predicate as literals, so some statements are put together here,
//! out of integers and names of our own alone.

use super::documents::Realm;
use chrono::{DateTime, Utc};
use pgvector::Vector;
use sqlx::{AssertSqlSafe, PgExecutor, PgPool, Row as _};
use uuid::Uuid;

/// Vectors of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Identifies it.
    pub id: i32,
    /// `lexical`, `endpoint` or `local`.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Numbers of each vector.
    pub dimensions: i32,
    /// When every chunk had its vector for the first time.
    pub ready_at: Option<DateTime<Utc>>,
}

/// A chunk without a vector.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Identifies it.
    pub id: i64,
    /// Heading path.
    pub heading: String,
    /// Text.
    pub text: String,
}

/// A chunk near to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// The chunk.
    pub chunk: i64,
    /// Its document.
    pub document: Uuid,
    /// Cosine of the angle, 1 for the same direction.
    pub similarity: f32,
}

/// The space of a model.
pub async fn space(db: impl PgExecutor<'_>, provider: &str, model: &str) -> sqlx::Result<Option<Space>> {
    sqlx::query_as!(
        Space,
        "select id, provider, model, dimensions, ready_at from embedding_spaces where provider = $1 and model = $2",
        provider,
        model
    )
    .fetch_optional(db)
    .await
}

/// All spaces, those that became ready last first.
pub async fn spaces(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Space>> {
    sqlx::query_as!(
        Space,
        "select id, provider, model, dimensions, ready_at from embedding_spaces order by ready_at desc nulls last, id desc"
    )
    .fetch_all(db)
    .await
}

/// Opens the space of a model, or finds it.
pub async fn open(
    pool: &PgPool,
    provider: &str,
    model: &str,
    dimensions: i32,
    now: DateTime<Utc>,
) -> sqlx::Result<Space> {
    sqlx::query!(
        "insert into embedding_spaces (provider, model, dimensions, created_at) values ($1, $2, $3, $4)
         on conflict (provider, model) do nothing",
        provider,
        model,
        dimensions,
        now
    )
    .execute(pool)
    .await?;
    space(pool, provider, model).await?.ok_or(sqlx::Error::RowNotFound)
}

/// Says that every chunk has its vector.
pub async fn set_ready(db: impl PgExecutor<'_>, space: i32, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update embedding_spaces set ready_at = $2 where id = $1 and ready_at is null", space, now)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes spaces other than this one, with their vectors and indexes. Returns their number.
pub async fn drop_others(pool: &PgPool, space: i32) -> sqlx::Result<u64> {
    let others = sqlx::query_scalar!("select id from embedding_spaces where id <> $1", space);
    for id in others.fetch_all(pool).await? {
        for realm in Realm::ALL.iter().copied() {
            let name = index_name(id, realm);
            sqlx::raw_sql(AssertSqlSafe(format!("drop index concurrently if exists {name}")))
                .execute(pool)
                .await?;
        }
    }
    let gone = sqlx::query!("delete from embedding_spaces where id <> $1", space);
    Ok(gone.execute(pool).await?.rows_affected())
}

/// Chunks without a vector in a space, in order of their ids.
pub async fn missing(
    db: impl PgExecutor<'_>,
    space: i32,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Missing>> {
    sqlx::query_as!(
        Missing,
        "select c.id, c.heading, c.text from chunks c
         where c.id > $2 and not exists (select from embeddings e where e.space_id = $1 and e.chunk_id = c.id)
         order by c.id limit $3",
        space,
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// Number of chunks without a vector in a space.
pub async fn count_missing(db: impl PgExecutor<'_>, space: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from chunks c
           where not exists (select from embeddings e where e.space_id = $1 and e.chunk_id = c.id)"#,
        space
    )
    .fetch_one(db)
    .await
}

/// Stores vectors; a chunk that went away meanwhile is passed over.
pub async fn put(
    db: impl PgExecutor<'_>,
    space: i32,
    chunks: &[i64],
    vectors: &[Vector],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into embeddings (space_id, chunk_id, realm, kind, applies_to, vector)
         select $1, c.id, c.realm, c.kind, c.applies_to, given.vector
         from unnest($2::bigint[], $3::vector[]) as given (chunk_id, vector)
         -- Locked, so that a chunk cannot go away between here and the check of the reference.
         join lateral (select * from chunks where id = given.chunk_id for key share) c on true
         on conflict do nothing",
        space,
        chunks,
        vectors as _
    )
    .execute(db)
    .await?;
    Ok(())
}

fn index_name(space: i32, realm: Realm) -> String {
    format!("embeddings_{space}_{}", realm.as_str())
}

/// Builds the index of a space and set once it holds `from` vectors; fewer are compared one by one. `true` when it was built now.
pub async fn ensure_index(pool: &PgPool, space: &Space, realm: Realm, from: i64) -> sqlx::Result<bool> {
    let name = index_name(space.id, realm);
    let valid = sqlx::query_scalar!(
        r#"select i.indisvalid as "valid!" from pg_index i where i.indexrelid = to_regclass($1)"#,
        name
    )
    .fetch_optional(pool)
    .await?;
    if valid == Some(true) {
        return Ok(false);
    }
    let held = sqlx::query_scalar!(
        r#"select count(*) as "count!" from (select from embeddings where space_id = $1 and realm = $2 limit $3) held"#,
        space.id,
        realm.as_str(),
        from
    )
    .fetch_one(pool)
    .await?;
    if held < from {
        return Ok(false);
    }
    if valid == Some(false) {
        // A build that was interrupted.
        sqlx::raw_sql(AssertSqlSafe(format!("drop index concurrently if exists {name}")))
            .execute(pool)
            .await?;
    }
    let build = format!(
        "create index concurrently if not exists {name} on embeddings
         using hnsw ((vector::vector({})) vector_ip_ops) with (m = 24, ef_construction = 200)
         where space_id = {} and realm = '{}'",
        space.dimensions,
        space.id,
        realm.as_str()
    );
    let mut connection = pool.acquire().await?;
    // The graph is built in memory as far as it fits.
    sqlx::raw_sql("set maintenance_work_mem = '512MB'").execute(&mut *connection).await?;
    let built = sqlx::raw_sql(AssertSqlSafe(build)).execute(&mut *connection).await;
    sqlx::raw_sql("reset maintenance_work_mem").execute(&mut *connection).await?;
    built?;
    Ok(true)
}

/// How a nearest-neighbour search is narrowed.
#[derive(Debug, Clone, Copy)]
pub struct Narrow<'a> {
    /// The set.
    pub realm: Realm,
    /// Only this kind.
    pub kind: Option<&'a str>,
    /// Only what applies to one of these.
    pub applies_to: Option<&'a [String]>,
}

/// The chunks nearest to a vector of the space, nearest first.
#[expect(clippy::disallowed_methods, reason = "the index needs its dimensions as a literal")]
pub async fn nearest(
    db: impl PgExecutor<'_>,
    space: &Space,
    query: &Vector,
    narrow: Narrow<'_>,
    limit: i64,
) -> sqlx::Result<Vec<Near>> {
    let sql = format!(
        "select n.chunk_id, n.distance, c.document_id from (
             select chunk_id, (vector::vector({d}) <#> $1)::real as distance from embeddings
             where space_id = {} and realm = '{}' and ($2::text is null or kind = $2) and ($3::text[] is null or applies_to && $3)
             order by vector::vector({d}) <#> $1 limit $4
         ) n join chunks c on c.id = n.chunk_id order by n.distance, n.chunk_id",
        space.id,
        narrow.realm.as_str(),
        d = space.dimensions
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(query)
        .bind(narrow.kind)
        .bind(narrow.applies_to)
        .bind(limit)
        .fetch_all(db)
        .await?;
    let near = |row: &sqlx::postgres::PgRow| {
        Ok(Near {
            chunk: row.try_get("chunk_id")?,
            document: row.try_get("document_id")?,
            similarity: -row.try_get::<f32, _>("distance")?,
        })
    };
    rows.iter().map(near).collect()
}
