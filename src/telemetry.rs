//! Logging: text for people, JSON lines for collectors. Never a secret, a body or a raw log.

use crate::config::Log;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Begins to log to standard error. A second call is ignored.
///
/// # Errors
/// The filter is not one.
pub fn init(log: &Log) -> anyhow::Result<()> {
    // rmcp logs whole messages, and each failed attempt as an error: the registry reports both, without contents.
    let words =
        if log.filter.contains("rmcp") { log.filter.clone() } else { format!("{},rmcp=off", log.filter) };
    let filter = EnvFilter::try_new(words).map_err(|error| anyhow::anyhow!("`log.filter`: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second subscriber cannot be set; the first one stays.
    let _ = if log.json { builder.json().try_init() } else { builder.try_init() };
    Ok(())
}
