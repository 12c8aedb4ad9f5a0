//! Issuer metadata (OpenID Connect Discovery 1.0), cached for an hour instead of being read for each login.

use anyhow::Context as _;
use serde::Deserialize;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Age after which the metadata is read again.
const FRESH: Duration = Duration::from_secs(3600);
/// Maximum age of metadata that cannot be refreshed.
const GOOD: Duration = Duration::from_secs(24 * 3600);
/// Minimum interval between two requests to the issuer, also after failures.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Metadata of the issuer.
#[derive(Debug, Deserialize)]
pub(super) struct Discovered {
    pub(super) issuer: String,
    pub(super) jwks_uri: String,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
}

/// Cached metadata of the issuer.
#[derive(Default)]
pub(super) struct Discovery {
    known: RwLock<Known>,
    /// Held during a request to the issuer; concurrent callers wait for its result.
    looking: tokio::sync::Mutex<()>,
}

/// Metadata and the time when it was read.
struct Found {
    at: Instant,
    discovered: Arc<Discovered>,
}

#[derive(Default)]
struct Known {
    found: Option<Found>,
    tried: Option<Instant>,
    /// A request to a known endpoint failed, which moved endpoints would explain.
    in_doubt: bool,
}

impl Discovery {
    /// Returns the metadata, reading it with `fetch` if it is outdated.
    ///
    /// # Errors
    /// The metadata cannot be read, and the last copy is more than a day old.
    pub(super) async fn get<F: Future<Output = anyhow::Result<Discovered>>>(
        &self,
        fetch: impl FnOnce() -> F,
    ) -> anyhow::Result<Arc<Discovered>> {
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        let _turn = self.looking.lock().await;
        // Another task may have refreshed the metadata in the meantime.
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        if self.may_look() {
            let fetched = fetch().await;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.tried = Some(Instant::now());
            known.in_doubt = false;
            match fetched {
                Ok(found) => {
                    let found = Arc::new(found);
                    known.found = Some(Found { at: Instant::now(), discovered: Arc::clone(&found) });
                    return Ok(found);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "the configuration of an issuer cannot be read; the one that is known is believed for a day"
                    );
                }
            }
        }
        self.within(GOOD).context("the issuer's configuration could not be read a moment ago")
    }

    /// Marks the metadata as doubtful, so that it is read again at the next use: an endpoint in it failed.
    pub(super) fn doubt(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).in_doubt = true;
    }

    /// Returns the cached metadata, unless it has to be read again.
    fn fresh(&self) -> Option<Arc<Discovered>> {
        let in_doubt = self.known.read().unwrap_or_else(PoisonError::into_inner).in_doubt;
        self.within(FRESH).filter(|_| !(in_doubt && self.may_look()))
    }

    fn within(&self, time: Duration) -> Option<Arc<Discovered>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.found.as_ref().filter(|found| found.at.elapsed() < time);
        found.map(|found| Arc::clone(&found.discovered))
    }

    fn may_look(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.tried.is_none_or(|at| at.elapsed() >= LOOK_AGAIN)
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn discovered() -> Discovered {
        Discovered {
            issuer: "https://id.example".to_owned(),
            jwks_uri: "https://id.example/keys".to_owned(),
            authorization_endpoint: None,
            token_endpoint: None,
        }
    }

    /// Moves the last attempt and the last read into the past.
    fn later(discovery: &Discovery, read: Duration) {
        let mut known = discovery.known.write().unwrap();
        let ago = |time| Instant::now().checked_sub(time).unwrap();
        known.tried = Some(ago(LOOK_AGAIN));
        if let Some(found) = &mut known.found {
            found.at = ago(read);
        }
    }

    #[tokio::test]
    async fn the_issuer_is_asked_when_it_is_time_and_not_for_each_who_comes() {
        let (discovery, asked) = (Discovery::default(), AtomicUsize::new(0));
        let look = async |is_there: bool| {
            let fetch = || async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                anyhow::ensure!(is_there, "away");
                Ok(discovered())
            };
            discovery.get(fetch).await.is_ok()
        };
        let times = || asked.load(Ordering::Relaxed);
        // The issuer is unreachable at the start: the next login does not trigger another request.
        assert_eq!((look(false).await, look(true).await, times()), (false, false, 1));
        later(&discovery, Duration::ZERO);
        let all = futures::future::join_all((0..20).map(|_| look(true))).await;
        assert_eq!((all.iter().all(|good| *good), times()), (true, 2));
        // In doubt, but requested a moment ago; then the interval is over.
        discovery.doubt();
        assert_eq!((look(true).await, times()), (true, 2));
        later(&discovery, Duration::ZERO);
        assert_eq!((look(false).await, look(false).await, times()), (true, true, 3));
        // Outdated and unreachable: used for a day, and no longer.
        later(&discovery, FRESH);
        assert_eq!((look(false).await, look(true).await, times()), (true, true, 4));
        later(&discovery, GOOD);
        assert_eq!((look(false).await, times()), (false, 5));
    }
}
