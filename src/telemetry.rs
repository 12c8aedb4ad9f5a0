//! Logging: text for people, JSON lines for collectors. Never a secret, a body or a raw log.

use crate::config::Log;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// What says too much unless the filter names it: rmcp logs whole messages, and each failed attempt as an error (the registry
/// reports both, without contents); the database says of each table that it exists already.
const QUIET: [(&str, &str); 2] = [("rmcp", "rmcp=off"), ("sqlx", "sqlx::postgres::notice=warn")];

/// Begins to log to standard error. A second call is ignored.
///
/// # Errors
/// The filter is not one.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let mut words = log.filter.clone();
    for (of, quiet) in QUIET {
        if !words.contains(of) {
            words = format!("{words},{quiet}");
        }
    }
    let filter = EnvFilter::try_new(words).map_err(|error| anyhow::anyhow!("`log.filter`: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second subscriber cannot be set; the first one stays.
    let _ = if log.json { builder.json().try_init() } else { builder.try_init() };
    Ok(())
}
