//! Embeddings of chunks. Each model has an embedding space, with one index per space and realm.
//!
//! An index over a cast needs its dimensions and predicate as literals, so some statements are built at run time, only
//! from integers and internal names.

use super::documents::Realm;
use chrono::{DateTime, Utc};
use pgvector::Vector;
use sqlx::{AssertSqlSafe, PgExecutor, PgPool, Row as _};
use uuid::Uuid;

/// Embedding space of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Space id.
    pub id: i32,
    /// `lexical`, `endpoint` or `local`.
    pub provider: String,
    /// Model name.
    pub model: String,
    /// Vector dimensions.
    pub dimensions: i32,
    /// First time at which every chunk had an embedding.
    pub ready_at: Option<DateTime<Utc>>,
}

/// A chunk without an embedding.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Chunk id.
    pub id: i64,
    /// Heading path.
    pub heading: String,
    /// Text.
    pub text: String,
}

/// A chunk close to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// Chunk id.
    pub chunk: i64,
    /// Document id.
    pub document: Uuid,
    /// Cosine similarity; 1 for the same direction.
    pub similarity: f32,
}

/// Returns the space of a model.
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

/// Lists all spaces, most recently ready first.
pub async fn spaces(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Space>> {
    sqlx::query_as!(
        Space,
        "select id, provider, model, dimensions, ready_at from embedding_spaces order by ready_at desc nulls last, id desc"
    )
    .fetch_all(db)
    .await
}

/// Returns the space of a model, created if missing.
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

/// Marks a space as ready: every chunk has an embedding.
pub async fn set_ready(db: impl PgExecutor<'_>, space: i32, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update embedding_spaces set ready_at = $2 where id = $1 and ready_at is null", space, now)
        .execute(db)
        .await?;
    Ok(())
}

/// Deletes all other spaces with their embeddings and indexes. Returns their number.
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

/// Returns chunks without an embedding in a space, ordered by id.
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

/// Counts chunks without an embedding in a space.
pub async fn count_missing(db: impl PgExecutor<'_>, space: i32) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from chunks c
           where not exists (select from embeddings e where e.space_id = $1 and e.chunk_id = c.id)"#,
        space
    )
    .fetch_one(db)
    .await
}

/// Stores embeddings; skips chunks that were deleted meanwhile.
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

/// Builds the index of a space and realm once it has `from` embeddings; fewer are scanned sequentially. Returns whether
/// it was built now.
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
        // An interrupted build left an invalid index.
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
    // The HNSW graph is built in memory as far as it fits.
    sqlx::raw_sql("set maintenance_work_mem = '512MB'").execute(&mut *connection).await?;
    let built = sqlx::raw_sql(AssertSqlSafe(build)).execute(&mut *connection).await;
    sqlx::raw_sql("reset maintenance_work_mem").execute(&mut *connection).await?;
    built?;
    Ok(true)
}

/// Filter of a nearest-neighbour search.
#[derive(Debug, Clone, Copy)]
pub struct Narrow<'a> {
    /// The set.
    pub realm: Realm,
    /// Document kind.
    pub kind: Option<&'a str>,
    /// Components, one of which the document must apply to.
    pub applies_to: Option<&'a [String]>,
}

/// Returns the chunks nearest to a vector of the space, nearest first.
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
