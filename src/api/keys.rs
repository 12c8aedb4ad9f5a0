//! `/api/keys`: API keys.

use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::{FieldError, Problem};
use super::reports::missing;
use crate::app::App;
use crate::auth::{self, CreateKeyError, NewKey};
use crate::db::keys;
use crate::domain::{ApiKey, Caller, Role};
use crate::evidence::redact;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

const FIELDS: FieldFilter = FieldFilter::Of(&["name", "role", "namespaces", "expires_in"]);
/// Maximum number of namespaces per key.
const MAX_NAMESPACES: usize = 100;

/// All keys, without the keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct Keys {
    /// Those that may be used first.
    pub(crate) keys: Vec<ApiKey>,
}

/// A key that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct WantedKey {
    /// What it is for: letters, digits, `.`, `_`, `-`. Not used twice.
    #[schema(example = "team-a-pipelines")]
    name: String,
    /// What it may do.
    role: Role,
    /// Namespaces that a reporter is bound to; all when left out.
    namespaces: Option<Vec<String>>,
    /// How long it may be used, such as `90d`; for ever when left out.
    #[schema(example = "90d")]
    expires_in: Option<String>,
}

/// A key that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeKey {
    /// What is known of it.
    #[serde(flatten)]
    key: ApiKey,
    /// The key itself: shown here and never again.
    #[schema(example = "rgn_…")]
    secret: String,
}

/// API keys, without the keys.
#[utoipa::path(get, operation_id = "list_keys", path = "/api/keys", tag = "keys", responses((status = 200, body = Keys), (status = 503, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Keys>, Problem> {
    Ok(Json(Keys { keys: keys::list(&app.pool).await? }))
}

/// Makes an API key. The answer shows it, and nothing does again.
#[utoipa::path(post, operation_id = "create_key", path = "/api/keys", tag = "keys", request_body = WantedKey,
    responses((status = 201, body = MadeKey), (status = 400, body = Problem), (status = 409, body = Problem, description = "The name is or was taken"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    let new = wanted(caller, Fields::of_body(&app, body, FIELDS).await?)?;
    let (key, secret) = auth::make_key(&app.pool, new).await.map_err(|error| match error {
        CreateKeyError::Wrong(field, problem) => {
            Problem::fields(vec![FieldError { field: field.to_owned(), problem }])
        }
        CreateKeyError::Taken(_) => Problem::new(StatusCode::CONFLICT, error.to_string()),
        CreateKeyError::Database(error) => error.into(),
    })?;
    Ok((StatusCode::CREATED, Json(MadeKey { key, secret: secret.expose().to_owned() })))
}

fn wanted(caller: Caller, mut fields: Fields) -> Result<NewKey, Problem> {
    let name = fields.required("name", Shape::Line(100));
    let said = fields.required("role", Shape::Line(20));
    let role = Role::parse(&said).unwrap_or_else(|| {
        if !said.is_empty() {
            fields.error("role", format!("has to be one of {}", Role::NAMES.join(", ")));
        }
        Role::Reporter
    });
    let namespaces = fields.lines("namespaces", MAX_NAMESPACES).unwrap_or_default();
    let life = fields.optional("expires_in", Shape::Line(50));
    let expires_in: Option<Duration> = life.and_then(|life| {
        let read = humantime::parse_duration(&life).ok();
        if read.is_none() {
            fields.error("expires_in", "has to be a time such as 90d or 12h");
        }
        read
    });
    for (field, text) in [("name", name.clone()), ("namespaces", namespaces.join("\n"))] {
        if redact::plain(&text) != text {
            fields.error(field, "holds what looks like a secret");
        }
    }
    fields.finish()?;
    Ok(NewKey { name, role, namespaces, expires_in, by: caller.actor() })
}

/// Takes a key back, by its id or name. Whoever is logged in with it is logged out.
#[utoipa::path(delete, operation_id = "revoke_key", path = "/api/keys/{id}", tag = "keys", params(("id" = String, Path, description = "Id or name")),
    responses((status = 204), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    auth::revoke_key(&app.pool, &id, &caller.actor())
        .await?
        .ok_or_else(|| missing("key that could be revoked"))?;
    Ok(StatusCode::NO_CONTENT)
}
