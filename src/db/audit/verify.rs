//! Verifying: the chain is followed from its beginning to its head, some thousand rows at a time, and the first place where it does
//! not hold is named.

use super::chain::{ChainEntry, GENESIS};
use super::months::{self, Stretch};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

/// Rows read at a time.
const PAGE: i64 = 5_000;
/// Places further on at which a row is looked for that does not stand where it belongs.
const NEAR: i64 = 1_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Rows whose seal was checked.
    pub rows: i64,
    /// Rows that were dropped with their months and are known by the seal that was kept.
    pub dropped: i64,
    /// Rows that have no seal yet.
    pub unsealed: i64,
    /// Place and seal of the last row.
    pub seq: i64,
    /// In hexadecimal.
    pub head: String,
    /// The place of the seal that was asked for, when it is in the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_at: Option<i64>,
    /// The first place where the chain does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// Where the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Place in the chain.
    pub seq: i64,
    /// Id of the row there, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// What is wrong.
    pub fault: Fault,
    /// In words.
    pub what: String,
}

/// What can be wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A row does not fit its seal.
    Changed,
    /// Rows are gone from the middle.
    Missing,
    /// A row is there that was not sealed.
    Inserted,
    /// Rows stand in another order than they were sealed in.
    Reordered,
    /// Rows are gone from the end.
    Truncated,
    /// The seal that was asked for is not in the chain.
    HeadUnknown,
}

/// The chain as far as it was followed.
struct Walk {
    verified: Verified,
    hash: Vec<u8>,
    gone: Vec<Stretch>,
    wanted: Option<String>,
}

/// Follows the chain; `wanted` is a seal noted elsewhere, in hexadecimal, which has to be in it.
///
/// # Errors
/// The database is away.
pub async fn verify(pool: &PgPool, wanted: Option<&str>) -> sqlx::Result<Verified> {
    let mut transaction = pool.begin().await?;
    // One view of the record, whatever is added and sealed meanwhile.
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *transaction)
        .await?;
    let head = super::head(&mut *transaction).await?;
    let verified = Verified {
        rows: 0,
        dropped: 0,
        unsealed: 0,
        seq: 0,
        head: hex::encode(GENESIS),
        known_at: None,
        broken: None,
    };
    let gone = months::dropped(&mut transaction).await?;
    let wanted = wanted.map(str::to_ascii_lowercase);
    let mut walk = Walk { verified, hash: GENESIS.to_vec(), gone, wanted };
    walk.known();
    let mut last = 0;
    while walk.verified.broken.is_none() {
        let links = page(&mut transaction, last, PAGE).await?;
        let Some(end) = links.last().and_then(|link| link.seq) else { break };
        // Rows of one place are never parted by a page, or the second one would not be seen.
        let links = with_twins(&mut transaction, links, end).await?;
        for link in &links {
            if let Some(fault) = walk.step(link) {
                walk.verified.broken = Some(walk.explain(&mut transaction, link, fault).await?);
                break;
            }
        }
        last = end;
    }
    walk.ends_at(&head.hash, head.seq);
    let unsealed = sqlx::query_scalar!(r#"select count(*) as "count!" from audit where seq is null"#);
    walk.verified.unsealed = unsealed.fetch_one(&mut *transaction).await?;
    walk.verified.head = hex::encode(walk.hash);
    Ok(walk.verified)
}

impl Walk {
    /// Whether the seal that was asked for is the latest one.
    fn known(&mut self) {
        if self.wanted.as_deref() == Some(&hex::encode(&self.hash)) {
            self.verified.known_at = Some(self.verified.seq);
        }
    }

    /// Goes over rows that were dropped, if they begin here.
    fn leap(&mut self) {
        while let Some(stretch) = self.gone.iter().find(|stretch| stretch.first == self.verified.seq + 1) {
            self.verified.dropped += stretch.last - stretch.first + 1;
            self.verified.seq = stretch.last;
            self.hash = hex::decode(&stretch.hash).unwrap_or_default();
            self.known();
        }
    }

    /// One row further; what is wrong with it otherwise.
    fn step(&mut self, link: &ChainEntry) -> Option<Fault> {
        let seq = link.seq.unwrap_or_default();
        self.leap();
        let next = self.verified.seq + 1;
        if seq > next {
            return Some(Fault::Missing);
        }
        if seq < next {
            return Some(Fault::Inserted);
        }
        if !link.fits(&self.hash, seq) {
            return Some(Fault::Changed);
        }
        self.verified.rows += 1;
        self.verified.seq = seq;
        self.hash = link.hash.clone().unwrap_or_default();
        self.known();
        None
    }

    /// What became of a row that does not fit: whether another one belongs in its place, or the chain goes on after it.
    async fn explain(&self, db: &mut PgConnection, link: &ChainEntry, fault: Fault) -> sqlx::Result<Broken> {
        let (here, next) = (link.seq.unwrap_or_default(), self.verified.seq + 1);
        let broken = |seq, fault, what: String| Broken { seq, id: Some(link.id), fault, what };
        match fault {
            Fault::Missing if here == next + 1 => {
                return Ok(Broken {
                    id: None,
                    ..broken(next, fault, format!("the row at place {next} is missing"))
                });
            }
            Fault::Missing => {
                let what = format!("the rows at places {next} to {} are missing", here - 1);
                return Ok(Broken { id: None, ..broken(next, fault, what) });
            }
            Fault::Inserted => {
                let what = format!("row {} stands at place {here}, which another row has", link.id);
                return Ok(broken(here, fault, what));
            }
            _ => {}
        }
        let after = page(db, here, NEAR).await?;
        // The row that belongs here: it took its seal along, or left it behind.
        let belongs = |other: &&ChainEntry| {
            other.fits(&self.hash, here) || link.hash.as_deref() == Some(&other.sealed(&self.hash, here))
        };
        let Some(own) = after.iter().find(belongs) else {
            let what = format!(
                "row {} was changed after it was sealed, or is not the one that stood at place {here}",
                link.id
            );
            return Ok(broken(here, Fault::Changed, what));
        };
        let seal = own.sealed(&self.hash, here);
        let follows = |other: &ChainEntry| {
            link.fits(other.hash.as_deref().unwrap_or_default(), other.seq.unwrap_or_default() + 1)
        };
        let was_sealed = link.fits(&seal, here + 1)
            || link.hash.as_deref() == Some(seal.as_slice())
            || after.iter().any(follows);
        Ok(if was_sealed {
            let what = format!(
                "rows stand in another order than they were sealed in: row {} belongs at place {here}, where row {} stands",
                own.id, link.id
            );
            broken(here, Fault::Reordered, what)
        } else {
            let what = format!("row {} was put at place {here}, where row {} belongs", link.id, own.id);
            broken(here, Fault::Inserted, what)
        })
    }

    /// The chain has to end where the last row was sealed, and to hold the seal that was asked for.
    fn ends_at(&mut self, hash: &str, seq: i64) {
        if self.verified.broken.is_some() {
            return;
        }
        self.leap();
        let found = self.verified.seq;
        if found != seq || hex::encode(&self.hash) != hash {
            let what = if found < seq {
                format!("the rows at places {} to {seq} are missing from the end", found + 1)
            } else {
                format!("the chain has {found} rows, but its noted end is another one, at place {seq}")
            };
            let fault = if found < seq { Fault::Truncated } else { Fault::Inserted };
            self.verified.broken = Some(Broken { seq: found.min(seq) + 1, id: None, fault, what });
        } else if self.wanted.is_some() && self.verified.known_at.is_none() {
            let what = "the seal that was asked for is not in the chain: the record was written anew, or lost rows at its end, since that seal was noted; or it belongs to rows that were dropped since".to_owned();
            self.verified.broken = Some(Broken { seq: found, id: None, fault: Fault::HeadUnknown, what });
        }
    }
}

async fn page(db: &mut PgConnection, after: i64, limit: i64) -> sqlx::Result<Vec<ChainEntry>> {
    sqlx::query_as!(
        ChainEntry,
        r#"select id, at, actor, action, object_kind, object, outcome, duration_ms, trace, run, detail, data::text as "data!", seq, hash
           from audit where seq > $1 order by seq, id limit $2"#,
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// All rows of the last place of a page.
async fn with_twins(
    db: &mut PgConnection,
    mut links: Vec<ChainEntry>,
    end: i64,
) -> sqlx::Result<Vec<ChainEntry>> {
    let twins = page(db, end - 1, 10).await?;
    let known: Vec<i64> = links.iter().rev().take(10).map(|link| link.id).collect();
    links.extend(twins.into_iter().filter(|twin| twin.seq == Some(end) && !known.contains(&twin.id)));
    Ok(links)
}
