//! Parsing of bodies: large ones are no work for the threads that everybody waits for.

use super::problem::Problem;
use crate::blocking::BlockingPool;
use axum::body::Bytes;
use axum::http::StatusCode;
use std::time::Duration;

/// Bodies up to this size take a millisecond to parse.
const PARSED_AT_ONCE: usize = 64 * 1024;
/// How long a larger one may wait for a thread and be parsed.
const PARSE_LIMIT: Duration = Duration::from_secs(30);
/// Seconds after which it may be sent again.
const AGAIN: u32 = 5;

/// Parses a body: a large one on a blocking thread.
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
