//! Verification of the audit log: follows the chain from the beginning to its head in pages and reports the first
//! position that is invalid.

use super::chain::{ChainEntry, GENESIS};
use super::months::{self, Stretch};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

/// Number of rows per page.
const PAGE: i64 = 5_000;
/// Number of following rows searched for a row that is out of place.
const NEAR: i64 = 1_000;

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of rows whose hash was checked.
    pub rows: i64,
    /// Number of rows that were dropped with their months, known by their stored hash.
    pub dropped: i64,
    /// Number of rows without a hash.
    pub unsealed: i64,
    /// Position of the last row.
    pub seq: i64,
    /// Hash of the last row, in hexadecimal.
    pub head: String,
    /// Position of the requested hash, if it is in the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_at: Option<i64>,
    /// First invalid position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// An invalid position of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Position in the chain.
    pub seq: i64,
    /// Id of the row at that position, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Kind of fault.
    pub fault: Fault,
    /// Description.
    pub what: String,
}

/// Faults of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A row does not match its hash.
    Changed,
    /// Rows are missing from the middle.
    Missing,
    /// A row was inserted without being sealed.
    Inserted,
    /// Rows are in a different order than they were sealed in.
    Reordered,
    /// Rows are missing from the end.
    Truncated,
    /// The requested hash is not in the chain.
    HeadUnknown,
}

/// State of the verification.
struct Walk {
    verified: Verified,
    hash: Vec<u8>,
    gone: Vec<Stretch>,
    wanted: Option<String>,
}

/// Verifies the chain. `wanted` is a hash noted elsewhere, in hexadecimal, that the chain must contain.
///
/// # Errors
/// Fails when the database is unavailable.
pub async fn verify(pool: &PgPool, wanted: Option<&str>) -> sqlx::Result<Verified> {
    let mut transaction = pool.begin().await?;
    // One snapshot, regardless of concurrent inserts and sealing.
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
        // Rows with the same position must be on one page; otherwise a duplicate would be missed.
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
    /// Records the current position when its hash is the requested one.
    fn known(&mut self) {
        if self.wanted.as_deref() == Some(&hex::encode(&self.hash)) {
            self.verified.known_at = Some(self.verified.seq);
        }
    }

    /// Skips dropped rows that begin at the next position.
    fn leap(&mut self) {
        while let Some(stretch) = self.gone.iter().find(|stretch| stretch.first == self.verified.seq + 1) {
            self.verified.dropped += stretch.last - stretch.first + 1;
            self.verified.seq = stretch.last;
            self.hash = hex::decode(&stretch.hash).unwrap_or_default();
            self.known();
        }
    }

    /// Checks the next row and returns its fault, if any.
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

    /// Determines why a row does not match: whether another row belongs in its position, or the chain continues after
    /// it.
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
        // The row that belongs here may have kept its hash or left it in place.
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

    /// Checks that the chain ends at the head and contains the requested hash.
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

/// Adds all rows with the last position of a page.
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
