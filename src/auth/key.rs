//! Creation and revocation of API keys, with the same rules for the command line, the API and the page.

use super::{Secret, hash};
use crate::clock;
use crate::db::audit;
use crate::db::keys;
use crate::domain::{Actor, ApiKey, AuditAction, AuditEvent, Role};
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// Maximum lifetime of a key that expires.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Parameters of a new key.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Name of the key: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Role of the key.
    pub role: Role,
    /// Namespaces that the key is limited to; all if empty.
    pub namespaces: Vec<String>,
    /// Lifetime; unlimited if absent.
    pub expires_in: Option<Duration>,
    /// Who creates the key.
    pub by: Actor,
}

/// Reason why a key is not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// A field is invalid: its name and the problem.
    #[error("`{0}` {1}")]
    Wrong(&'static str, String),
    /// The name is in use, or was used before.
    #[error("there is, or was, a key called `{0}`; names are not used twice, so that the record stays clear")]
    Taken(String),
    /// The database is unavailable.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

/// Creates a key. The secret is returned only here.
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

/// Revokes a key by id or name and ends its sessions at once. Returns `None` if there is no such key.
///
/// # Errors
/// The database is unavailable.
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
