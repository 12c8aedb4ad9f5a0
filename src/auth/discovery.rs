//! Where an issuer has what (OpenID Connect Discovery 1.0), read once an hour and not for each person who wants to log in.

use anyhow::Context as _;
use serde::Deserialize;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// It is read again after this time.
const FRESH: Duration = Duration::from_secs(3600);
/// What cannot be read again is believed for this time.
const GOOD: Duration = Duration::from_secs(24 * 3600);
/// The issuer is asked at most this often, whatever fails.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What the issuer says.
#[derive(Debug, Deserialize)]
pub(super) struct Discovered {
    pub(super) issuer: String,
    pub(super) jwks_uri: String,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
}

/// What the issuer said, for a while.
#[derive(Default)]
pub(super) struct Discovery {
    known: RwLock<Known>,
    /// One looks, the others wait for what it finds.
    looking: tokio::sync::Mutex<()>,
}

/// What was found, and when.
struct Found {
    at: Instant,
    discovered: Arc<Discovered>,
}

#[derive(Default)]
struct Known {
    found: Option<Found>,
    tried: Option<Instant>,
    /// Something failed that an issuer which moved its endpoints would explain.
    in_doubt: bool,
}

impl Discovery {
    /// What is known, read with `fetch` where that is too old.
    ///
    /// # Errors
    /// It cannot be read, and was not within a day.
    pub(super) async fn get<F: Future<Output = anyhow::Result<Discovered>>>(
        &self,
        fetch: impl FnOnce() -> F,
    ) -> anyhow::Result<Arc<Discovered>> {
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        let _turn = self.looking.lock().await;
        // Another one may have looked meanwhile.
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

    /// Has it read again at the next need: something failed that the issuer said is there.
    pub(super) fn doubt(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).in_doubt = true;
    }

    /// What is known and not to be read again now.
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

    /// Lets the time of the last look be past.
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
        // Away from the start: the one who comes next is not what has it asked again.
        assert_eq!((look(false).await, look(true).await, times()), (false, false, 1));
        later(&discovery, Duration::ZERO);
        let all = futures::future::join_all((0..20).map(|_| look(true))).await;
        assert_eq!((all.iter().all(|good| *good), times()), (true, 2));
        // In doubt, but asked a moment ago; then it is time.
        discovery.doubt();
        assert_eq!((look(true).await, times()), (true, 2));
        later(&discovery, Duration::ZERO);
        assert_eq!((look(false).await, look(false).await, times()), (true, true, 3));
        // Old, and away: believed for a day, and no longer.
        later(&discovery, FRESH);
        assert_eq!((look(false).await, look(true).await, times()), (true, true, 4));
        later(&discovery, GOOD);
        assert_eq!((look(false).await, times()), (false, 5));
    }
}
