//! `token`: manages API keys.

use crate::app::Connected;
use crate::auth::{self, NewKey};
use crate::config::Config;
use crate::db::private::PrivatePostgres;
use crate::domain::{Actor, Role};
use crate::{app, clock, db, telemetry};
use anyhow::Context as _;
use clap::Subcommand;
use std::process::ExitCode;
use std::time::Duration;

/// Creator recorded for keys made on the command line.
const OPERATOR: &str = "command line";

/// Warning for a newly created database.
const NEW: &str = "Warning: that database was not there and was made just now. A server with another one does not know this key: \
     run this with the settings of the server (DATABASE_URL, or the same REGREEN_DATA_DIR).";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Make a key and show it, once.
    Create {
        /// What it may do: reporter, viewer, operator or admin; each may do what those before it may.
        #[arg(long, value_parser = super::role())]
        role: Role,
        /// What it is for. Not used twice.
        #[arg(long)]
        name: String,
        /// How long it may be used, such as 90d; `never` ends it only by `revoke`.
        #[arg(long, default_value = "90d", value_parser = life)]
        expires: Life,
        /// Namespaces that a reporter or viewer is bound to; all when left out.
        #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
        namespace: Vec<String>,
    },
    /// Show what keys there are.
    List,
    /// Take a key back.
    Revoke {
        /// Its id or name.
        key: String,
    },
}

/// Lifetime of a key; `None` is unlimited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life(Option<Duration>);

fn life(text: &str) -> Result<Life, String> {
    if text == "never" {
        return Ok(Life(None));
    }
    humantime::parse_duration(text).map(|life| Life(Some(life))).map_err(|error| error.to_string())
}

/// Runs the command.
pub(super) async fn run(config: Config, action: Action) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let connected = app::connect(&config).await?;
    connected.migrate().await?;
    let done = act(&connected, action, config.auth.keys).await;
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    done.map(|()| ExitCode::SUCCESS)
}

async fn act(connected: &Connected, action: Action, taken: bool) -> anyhow::Result<()> {
    let (pool, place) = (&connected.pool, &connected.place);
    match action {
        Action::Create { role, name, expires: Life(expires_in), namespace } => {
            let new = NewKey { name, role, namespaces: namespace, expires_in, by: Actor::new(OPERATOR, "") };
            let (key, secret) = auth::make_key(pool, new).await?;
            // Only the key goes to standard output, so that it can be piped into a secret.
            outln!("{}", secret.expose());
            let until =
                key.expires_at.map_or_else(|| "for ever".to_owned(), |end| format!("until {}", day(end)));
            errln!(
                "`{}` may act as {} {until}. Keep it now: it is not shown again.",
                key.name,
                key.role.as_str()
            );
            errln!("It is stored in {place}.");
            if connected.private.as_ref().is_some_and(PrivatePostgres::is_new) {
                errln!("{NEW}");
            }
            if !taken {
                errln!("This configuration takes no keys: set `auth.methods` (REGREEN_AUTH) to `keys`.");
            }
        }
        Action::List => {
            let keys = db::keys::list(pool).await?;
            if keys.is_empty() {
                errln!(
                    "There is no key yet in {place}. `regreen token create --role reporter --name NAME` makes one."
                );
            }
            for key in keys {
                let state = match (key.revoked_at, key.expires_at) {
                    (Some(at), _) => format!("revoked {}", day(at)),
                    (None, Some(at)) if at <= clock::now() => format!("expired {}", day(at)),
                    (None, Some(at)) => format!("until {}", day(at)),
                    (None, None) => "for ever".to_owned(),
                };
                let used = key
                    .last_used_at
                    .map_or_else(|| "never used".to_owned(), |at| format!("used {}", day(at)));
                let bound =
                    key.namespaces.map_or_else(String::new, |all| format!("  only {}", all.join(", ")));
                outln!("{}  {:<24} {:<9} {state:<28} {used}{bound}", key.id, key.name, key.role.as_str());
            }
        }
        Action::Revoke { key } => {
            let known = auth::revoke_key(pool, &key, &Actor::new(OPERATOR, "")).await?;
            let known = known.with_context(|| {
                format!("there is no key `{key}` in {place} that could be revoked; see `regreen token list`")
            })?;
            outln!("`{}` is revoked.", known.name);
        }
    }
    Ok(())
}

fn day(at: chrono::DateTime<chrono::Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}
