//! Making API keys: the same rules for the command line, the API and the page.

use super::{Secret, hash};
use crate::clock;
use crate::db::audit;
use crate::db::keys;
use crate::domain::{Actor, ApiKey, AuditAction, AuditEvent, Role};
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// Longest life of a key that ends.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// A key that somebody wants.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is for: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Namespaces it is bound to; all when empty.
    pub namespaces: Vec<String>,
    /// How long it may be used; for ever when absent.
    pub expires_in: Option<Duration>,
    /// Who makes it.
    pub by: Actor,
}

/// Why a key is not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// A field is wrong: which, and how.
    #[error("`{0}` {1}")]
    Wrong(&'static str, String),
    /// The name is taken.
    #[error("there is, or was, a key called `{0}`; names are not used twice, so that the record stays clear")]
    Taken(String),
    /// The database is away.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

/// Makes a key. Its text is given out here and never again.
///
/// # Errors
/// See [`CreateKeyError`].
pub async fn make(pool: &PgPool, new: NewKey) -> Result<(ApiKey, Secret), CreateKeyError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=100).contains(&new.name.len()) || !new.name.bytes().all(plain) {
        let problem = "has to be 1 to 100 letters, digits, `.`, `_` or `-`";
        return Err(CreateKeyError::Wrong("name", problem.to_owned()));
    }
    if !new.namespaces.is_empty() && new.role > Role::Viewer {
        let problem = format!("bind reporters and viewers only; {} is for all of them", article(new.role));
        return Err(CreateKeyError::Wrong("namespaces", problem));
    }
    let label = |name: &String| {
        (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if let Some(wrong) = new.namespaces.iter().find(|name| !label(name)) {
        return Err(CreateKeyError::Wrong(
            "namespaces",
            format!("has `{}`, which is no namespace", wrong.escape_debug()),
        ));
    }
    if new.expires_in.is_some_and(|life| life.is_zero() || life > LONGEST) {
        return Err(CreateKeyError::Wrong(
            "expires_in",
            "has to be more than nothing and at most ten years".to_owned(),
        ));
    }
    let now = clock::now();
    let key = ApiKey {
        id: Uuid::now_v7(),
        name: new.name,
        role: new.role,
        namespaces: (!new.namespaces.is_empty()).then_some(new.namespaces),
        created_by: new.by.name.clone(),
        created_at: now,
        expires_at: new.expires_in.map(|life| now + life),
        last_used_at: None,
        revoked_at: None,
    };
    let secret = Secret::key();
    let mut transaction = pool.begin().await?;
    if !keys::add(&mut *transaction, &key, &hash(secret.expose())).await? {
        return Err(CreateKeyError::Taken(key.name));
    }
    let bound = key.namespaces.as_deref().map_or_else(String::new, |all| format!(" in {}", all.join(", ")));
    let until = key
        .expires_at
        .map_or_else(|| "for ever".to_owned(), |end| format!("until {}", end.format("%F %H:%M UTC")));
    let detail = format!("{}{bound}, {until}", key.role.as_str());
    let event = AuditEvent::new(&new.by, AuditAction::KeyCreate, now).on("key", &key.name).detail(detail);
    audit::add(&mut *transaction, &event).await?;
    transaction.commit().await?;
    Ok((key, secret))
}

/// Takes a key back, by id or name; sessions that were opened with it end at once. `None` when there is none.
///
/// # Errors
/// The database is away.
pub async fn revoke(pool: &PgPool, id_or_name: &str, by: &Actor) -> sqlx::Result<Option<ApiKey>> {
    let now = clock::now();
    let mut transaction = pool.begin().await?;
    let key = keys::revoke(&mut *transaction, id_or_name, now).await?;
    if let Some(key) = &key {
        let event = AuditEvent::new(by, AuditAction::KeyRevoke, now).on("key", &key.name);
        audit::add(&mut *transaction, &event).await?;
    }
    transaction.commit().await?;
    Ok(key)
}

fn article(role: Role) -> String {
    let article = if matches!(role, Role::Operator | Role::Admin) { "an" } else { "a" };
    format!("{article} {}", role.as_str())
}
