//! Full-text search for chunks that share rare words with a query, weighted by inverse document frequency (Robertson
//! and Spärck Jones). The rarest word has weight 1.

use super::documents::Realm;
use super::embeddings::Narrow;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgExecutor, PgPool, Row as _};
use uuid::Uuid;

/// Maximum number of postings per query; more frequent words are ignored.
const POSTINGS: i64 = 2_000;

/// A chunk that shares words with the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// Chunk id.
    pub chunk: i64,
    /// Document id.
    pub document: Uuid,
    /// Shared words.
    pub words: Vec<String>,
    /// Weight of each word, multiplied by 1.5 for words in the heading.
    pub weights: Vec<f32>,
}

/// Result of a full-text search.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Chunks, highest weight first.
    pub chunks: Vec<Shared>,
    /// Total weight of all words that were looked up, found or not.
    pub asked: f32,
}

/// Statement of [`search`]. The realm is inserted as a literal: each realm has its own index, which a generic plan
/// could not use.
const SEARCH: &str = "with asked as (
       select distinct unnest(tsvector_to_array(
           to_tsvector('english', $1) || to_tsvector('simple', $1)
           || to_tsvector('simple', regexp_replace($1, '[^[:alnum:]]+', ' ', 'g')))) as word
   ), held as (
       select greatest(sum(chunks), 1) as chunks from lexeme_totals
   ), weighed as (
       -- A word that was never counted is new or stands nowhere: rare in either case. Stop words are left out. Rarity is
       -- that of all sets together: in a small one every word would seem rare.
       select a.word, greatest(here.chunks, 1) as chunks,
              ln(1 + (held.chunks + 0.5) / (greatest(everywhere.chunks, 1) + 0.5)) / ln(1 + (held.chunks + 0.5) / 1.5) as weight
       from asked a
       cross join held
       left join lexemes here on here.realm = $2 and here.word = a.word
       left join lateral (select sum(l.chunks) as chunks from lexemes l where l.word = a.word) everywhere on true
       where to_tsvector('english', a.word) <> ''
   ), ranked as (
       select word, weight, sum(chunks) over (order by chunks, word) as postings,
              row_number() over (order by chunks, word) as nth
       from weighed
   ), used as materialized (
       select word, weight::real as weight, quoted::tsquery as query, (quoted || ':A')::tsquery as in_heading
       from ranked, lateral (select '''' || replace(replace(word, '\\', '\\\\'), '''', '''''') || '''' as quoted) q
       where postings <= $3 or nth = 1
   ), found as (
       -- The vector of words itself is not looked at here: reading it is what would take the time.
       select c.id, array_agg(u.word) as words, sum(u.weight) as weight
       from used u
       cross join lateral (
           select c.id from chunks c
           where c.search @@ u.query and c.realm = '{realm}'
                 and ($4::text is null or c.kind = $4) and ($5::text[] is null or c.applies_to && $5)
           limit $3
       ) c
       group by c.id order by weight desc, c.id limit 2 * $6::bigint
   ), boosted as (
       -- What stands in the heading counts half more.
       select c.id, c.document_id, u.word, u.weight * case when c.search @@ u.in_heading then 1.5 else 1 end as weight
       from found f join chunks c on c.id = f.id join used u on u.word = any(f.words)
   )
   select id, document_id, array_agg(word order by weight desc) as words, array_agg(weight order by weight desc)::real[] as weights,
          (select sum(weight)::real from used) as asked
   from boosted group by id, document_id order by sum(weight) desc, id limit $6::bigint";

/// Returns chunks of a realm that share words with the query, highest weight first.
#[expect(clippy::disallowed_methods, reason = "the index needs the set as a literal")]
pub async fn search(
    db: impl PgExecutor<'_>,
    query: &str,
    narrow: Narrow<'_>,
    limit: i64,
) -> sqlx::Result<Found> {
    let realm = narrow.realm.as_str();
    let rows = sqlx::query(AssertSqlSafe(SEARCH.replace("{realm}", realm)))
        .bind(query)
        .bind(realm)
        .bind(POSTINGS)
        .bind(narrow.kind)
        .bind(narrow.applies_to)
        .bind(limit)
        .fetch_all(db)
        .await?;
    let asked = rows.first().map_or(Ok(0.0), |row| row.try_get("asked"))?;
    let shared = |row: &PgRow| {
        Ok(Shared {
            chunk: row.try_get("id")?,
            document: row.try_get("document_id")?,
            words: row.try_get("words")?,
            weights: row.try_get("weights")?,
        })
    };
    Ok(Found { chunks: rows.iter().map(shared).collect::<sqlx::Result<_>>()?, asked })
}

/// Recounts document frequencies of words when a tenth of the chunks has changed since the last count. Returns
/// whether it recounted.
pub async fn count(pool: &PgPool, realm: Realm) -> sqlx::Result<bool> {
    let due = sqlx::query_scalar!(
        r#"select coalesce(
               abs(held.chunks - t.chunks) + (select count(*) from (select from chunks c where c.realm = $1 and c.id > t.last_chunk limit 100000) fresh)
               > t.chunks / 10, held.chunks > 0) as "due!"
           from (select count(*) as chunks from chunks where realm = $1) held
           left join lexeme_totals t on t.realm = $1"#,
        realm.as_str()
    )
    .fetch_one(pool)
    .await?;
    if !due {
        return Ok(false);
    }
    let mut transaction = pool.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtext('regreen lexemes'))")
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from lexemes where realm = $1", realm.as_str()).execute(&mut *transaction).await?;
    sqlx::query!(
        r#"insert into lexemes (realm, word, chunks)
           select $1, word, ndoc from ts_stat('select search from chunks where realm = ' || quote_literal($1))"#,
        realm.as_str()
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "insert into lexeme_totals (realm, chunks, last_chunk)
         select $1, count(*), coalesce(max(id), 0) from chunks where realm = $1
         on conflict (realm) do update set chunks = excluded.chunks, last_chunk = excluded.last_chunk",
        realm.as_str()
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}
