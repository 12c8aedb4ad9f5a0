//! Parsing of bodies; large ones on blocking threads, so that they do not block async threads.

use super::problem::Problem;
use crate::blocking::BlockingPool;
use axum::body::Bytes;
use axum::http::StatusCode;
use std::time::Duration;

/// Bodies up to this size, in bytes, take about a millisecond to parse.
const PARSED_AT_ONCE: usize = 64 * 1024;
/// Time limit for a larger body, including the wait for a thread.
const PARSE_LIMIT: Duration = Duration::from_secs(30);
/// Seconds after which the body may be sent again.
const AGAIN: u32 = 5;

/// Parses a body; a large one on a blocking thread.
pub(crate) async fn parsed<T: Send + 'static>(
    threads: &BlockingPool,
    body: Bytes,
    parse: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Problem> {
    if body.len() <= PARSED_AT_ONCE {
        return Ok(parse(&body));
    }
    threads.run(PARSE_LIMIT, move |_| parse(&body)).await.map_err(|error| {
        tracing::warn!(%error, "a body is not parsed");
        let detail = "the body could not be parsed in time; send it again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(AGAIN)
    })
}
