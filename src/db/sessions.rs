//! Login sessions of the pages, and logins in progress. Cookies are stored only as hashes.

use crate::domain::{AuthMethod, Caller, Role};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A session to insert.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Hash of the cookie.
    pub hash: &'a [u8],
    /// Caller who logged in.
    pub caller: &'a Caller,
    /// API key used to log in.
    pub key: Option<Uuid>,
    /// Expiry.
    pub expires_at: DateTime<Utc>,
}

/// Inserts a session and deletes expired ones.
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

/// Returns the caller of the session with this cookie hash.
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

/// Deletes a session.
pub async fn close(db: impl PgExecutor<'_>, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("delete from sessions where hash = $1", hash).execute(db).await?;
    Ok(())
}

/// A login in progress.
#[derive(Debug, Clone)]
pub struct Login {
    /// Nonce that the issuer must repeat in its token.
    pub nonce: String,
    /// PKCE code verifier (RFC 7636).
    pub verifier: String,
    /// Page to return to.
    pub next: String,
}

/// Starts a login and deletes expired ones.
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

/// Takes a login; succeeds only once.
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
