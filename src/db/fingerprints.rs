//! Fingerprints and their aliases.

use crate::domain::Fingerprint;
use crate::domain::recognition::{
    AliasSource, FingerprintSet, KnownFingerprints, LearnedFingerprint, Recognition, recognise,
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Prevents merges and splits of incidents until the transaction ends.
pub async fn share(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtext('regreen incidents'))").execute(db).await?;
    Ok(())
}

/// Prevents incident assignments and other merges and splits until the transaction ends.
pub async fn lock(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('regreen incidents'))").execute(db).await?;
    Ok(())
}

/// Returns the cause that a report with these fingerprints belongs to, and new aliases to learn.
pub async fn recognised(db: &mut PgConnection, names: &FingerprintSet) -> sqlx::Result<Recognition> {
    let all: Vec<String> = names.placing().chain(&names.fine).map(|name| name.0.clone()).collect();
    let mut known = KnownFingerprints::default();
    let aliases = sqlx::query!(
        "select fingerprint, stands_for, learned from fingerprint_aliases where fingerprint = any($1)",
        &all
    );
    for row in aliases.fetch_all(&mut *db).await? {
        let (fingerprint, how) = (Fingerprint(row.stands_for), AliasSource::parse(&row.learned));
        let target = LearnedFingerprint { fingerprint, how };
        known.aliases.insert(Fingerprint(row.fingerprint), target);
    }
    let placing: Vec<String> = names.placing().map(|name| name.0.clone()).collect();
    let targets = known.aliases.values().map(|target| target.fingerprint.0.clone());
    let asked: Vec<String> = placing.into_iter().chain(targets).collect();
    let rows = sqlx::query!(
        r#"select asked as "fingerprint!",
                  exists (select from fingerprint_aliases a where a.stands_for = asked and a.learned = 'found') as "found!",
                  exists (select from fingerprint_aliases a where a.stands_for = asked and a.learned = 'named') as "named!"
           from unnest($1::text[]) as asked where exists (select from incidents i where i.fingerprint = asked)"#,
        &asked
    );
    for row in rows.fetch_all(db).await? {
        let fingerprint = Fingerprint(row.fingerprint);
        for (claimed, how) in [(row.found, AliasSource::Found), (row.named, AliasSource::Named)] {
            if claimed {
                known.claimed.insert(LearnedFingerprint { fingerprint: fingerprint.clone(), how });
            }
        }
        known.opened.insert(fingerprint);
    }
    Ok(recognise(names, &known))
}

/// Stores learned aliases; known ones stay unchanged.
pub async fn learn(
    db: impl PgExecutor<'_>,
    target: &Fingerprint,
    learned: &[LearnedFingerprint],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if learned.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = learned.iter().map(|one| one.fingerprint.0.clone()).collect();
    let how: Vec<String> = learned.iter().map(|one| one.how.as_str().to_owned()).collect();
    sqlx::query!(
        "insert into fingerprint_aliases (fingerprint, stands_for, learned, learned_at)
         select name, $3, how, $4 from unnest($1::text[], $2::text[]) as learned (name, how)
         -- In one order, so that no two transactions wait for each other.
         order by name on conflict (fingerprint) do nothing",
        &names,
        &how,
        target.0,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Redirects all aliases of one cause to another.
pub async fn merge(
    db: &mut PgConnection,
    from: &Fingerprint,
    into: &Fingerprint,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!("update fingerprint_aliases set stands_for = $2 where stands_for = $1", from.0, into.0)
        .execute(&mut *db)
        .await?;
    teach(&mut *db, std::slice::from_ref(from), into, AliasSource::Merge, now).await?;
    // The target stands for itself again, regardless of learned aliases.
    sqlx::query!("delete from fingerprint_aliases where fingerprint = $1 and stands_for <> $1", into.0)
        .execute(db)
        .await?;
    Ok(())
}

/// Stores aliases set by a person, replacing known ones.
pub async fn teach(
    db: impl PgExecutor<'_>,
    names: &[Fingerprint],
    target: &Fingerprint,
    how: AliasSource,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let names: Vec<String> = names.iter().map(|name| name.0.clone()).collect();
    sqlx::query!(
        "insert into fingerprint_aliases (fingerprint, stands_for, learned, learned_at)
         select distinct name, $2, $3, $4::timestamptz from unnest($1::text[]) as name
         on conflict (fingerprint) do update
         set stands_for = excluded.stands_for, learned = excluded.learned, learned_at = excluded.learned_at",
        &names,
        target.0,
        how.as_str(),
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns one of these fingerprints that stands for a cause.
pub async fn standing_for(
    db: impl PgExecutor<'_>,
    names: &[Fingerprint],
    target: &Fingerprint,
) -> sqlx::Result<Option<Fingerprint>> {
    let names: Vec<String> = names.iter().map(|name| name.0.clone()).collect();
    let found = sqlx::query_scalar!(
        "select fingerprint from fingerprint_aliases where fingerprint = any($1) and stands_for = $2
         -- Those of the cluster and of merges first.
         order by learned = 'said', fingerprint limit 1",
        &names,
        target.0
    );
    Ok(found.fetch_optional(db).await?.map(Fingerprint))
}

/// Assignment of a report to an incident.
#[derive(Debug)]
pub struct Placement<'a> {
    /// Incident id.
    pub incident: Uuid,
    /// Whether the report investigates the cause.
    pub leads: bool,
    /// Fingerprints of the report.
    pub names: &'a FingerprintSet,
}

/// Assigns a report to its incident. Returns `false` when the lease was lost.
pub async fn assign_incident(
    db: impl PgExecutor<'_>,
    report: Uuid,
    token: Uuid,
    placement: &Placement<'_>,
) -> sqlx::Result<bool> {
    let texts =
        |names: &mut dyn Iterator<Item = &Fingerprint>| names.map(|name| name.0.clone()).collect::<Vec<_>>();
    let (placing, fine) = (texts(&mut placement.names.placing()), texts(&mut placement.names.fine.iter()));
    let done = sqlx::query!(
        "update reports set incident_id = $3, leads = $4, fingerprints = $5, fine_fingerprints = $6
         where id = $1 and lease_token = $2",
        report,
        token,
        placement.incident,
        placement.leads,
        &placing,
        &fine
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Fingerprints of a report.
#[derive(Debug, Default)]
pub struct Stored {
    /// Fingerprints that determine the incident, most general first.
    pub placing: Vec<Fingerprint>,
    /// Fingerprints of lines of its evidence.
    pub fine: Vec<Fingerprint>,
}

impl Stored {
    fn of(placing: Vec<String>, fine: Vec<String>) -> Self {
        let prints = |names: Vec<String>| names.into_iter().map(Fingerprint).collect();
        Self { placing: prints(placing), fine: prints(fine) }
    }
}

/// Returns the fingerprints of a report; empty for reports of an older version.
pub async fn of_report(db: impl PgExecutor<'_>, report: Uuid) -> sqlx::Result<Stored> {
    let row = sqlx::query!("select fingerprints, fine_fingerprints from reports where id = $1", report);
    let row = row.fetch_optional(db).await?;
    Ok(row.map(|row| Stored::of(row.fingerprints, row.fine_fingerprints)).unwrap_or_default())
}

/// Returns the fingerprints of all reports of an incident except some.
pub async fn of_others(db: impl PgExecutor<'_>, incident: Uuid, but: &[Uuid]) -> sqlx::Result<Stored> {
    let row = sqlx::query!(
        r#"with others as (select fingerprints, fine_fingerprints from reports where incident_id = $1 and id <> all($2))
           select array(select distinct unnest(fingerprints) from others) as "placing!",
                  array(select distinct unnest(fine_fingerprints) from others) as "fine!""#,
        incident,
        but
    );
    let row = row.fetch_one(db).await?;
    Ok(Stored::of(row.placing, row.fine))
}
