//! People who are logged in to the pages, and logins under way. Of a cookie only its hash is kept.

use crate::domain::{AuthMethod, Caller, Role};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// Somebody who logs in.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Of the cookie.
    pub hash: &'a [u8],
    /// Who it is.
    pub caller: &'a Caller,
    /// The key they came with.
    pub key: Option<Uuid>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// Logs somebody in; those whose time is over are forgotten.
pub async fn open(
    db: impl PgExecutor<'_> + Copy,
    session: &NewSession<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let way = if session.key.is_some() { "key" } else { "oidc" };
    sqlx::query!(
        "insert into sessions (hash, caller, role, way, key_id, created_at, expires_at) values ($1, $2, $3, $4, $5, $6, $7)",
        session.hash,
        session.caller.name,
        session.caller.role.as_str(),
        way,
        session.key,
        now,
        session.expires_at
    )
    .execute(db)
    .await?;
    sqlx::query!("delete from sessions where expires_at < $1", now).execute(db).await?;
    Ok(())
}

/// Who is logged in with this cookie.
pub async fn find(db: impl PgExecutor<'_>, hash: &[u8], now: DateTime<Utc>) -> sqlx::Result<Option<Caller>> {
    let row = sqlx::query!(
        r#"select s.caller, coalesce(k.role, s.role) as "role!", s.way, k.namespaces as "namespaces?"
           from sessions s left join api_keys k on k.id = s.key_id
           where s.hash = $1 and s.expires_at > $2
             and (s.key_id is null or (k.revoked_at is null and (k.expires_at is null or k.expires_at > $2)))"#,
        hash,
        now
    );
    Ok(row.fetch_optional(db).await?.map(|row| {
        let role = Role::parse(&row.role).unwrap_or(Role::Reporter);
        let way = if row.way == "key" { AuthMethod::Key } else { AuthMethod::Oidc };
        Caller::known(row.caller, role, row.namespaces.map(Into::into), way)
    }))
}

/// Logs somebody out.
pub async fn close(db: impl PgExecutor<'_>, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("delete from sessions where hash = $1", hash).execute(db).await?;
    Ok(())
}

/// A login under way.
#[derive(Debug, Clone)]
pub struct Login {
    /// What the issuer has to repeat in its token.
    pub nonce: String,
    /// What shows that whoever redeems the code asked for it (RFC 7636).
    pub verifier: String,
    /// Where they wanted to go.
    pub next: String,
}

/// Begins a login; those that nobody came back from are forgotten.
pub async fn begin(
    db: impl PgExecutor<'_> + Copy,
    hash: &[u8],
    login: &Login,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!("delete from logins where expires_at < $1", now).execute(db).await?;
    sqlx::query!(
        "insert into logins (hash, nonce, verifier, next, expires_at) values ($1, $2, $3, $4, $5)",
        hash,
        login.nonce,
        login.verifier,
        login.next,
        expires_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Takes a login that comes back: once.
pub async fn take(db: impl PgExecutor<'_>, hash: &[u8], now: DateTime<Utc>) -> sqlx::Result<Option<Login>> {
    sqlx::query_as!(
        Login,
        "delete from logins where hash = $1 and expires_at > $2 returning nonce, verifier, next",
        hash,
        now
    )
    .fetch_optional(db)
    .await
}
