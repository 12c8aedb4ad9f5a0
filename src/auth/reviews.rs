//! Cached TokenReview answers, and limits on reviews per address. Valid and refused tokens are cached separately, so that
//! invalid tokens cannot displace valid ones.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long an answer is cached: a deleted account can call for this long.
const BELIEVED: Duration = Duration::from_secs(60);
/// Maximum number of cached answers of each kind.
const MAX_ANSWERS: usize = 10_000;
/// Maximum number of invalid tokens per address and minute.
const MAX_REFUSED: u32 = 10;
/// Maximum number of concurrent reviews per address; others wait.
const MAX_OPEN: usize = 4;
/// Maximum number of addresses counted separately; any further ones share one entry.
const MAX_ADDRESSES: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// SHA-256 of a token.
type Token = [u8; 32];

/// Cached answers of the API server: the account of a token, or why the token is refused.
pub(super) struct Reviews<T>(Mutex<State<T>>);

/// An answer and the time when it was given.
struct Answer<T> {
    at: Instant,
    said: T,
}

struct State<T> {
    good: HashMap<Token, Answer<T>>,
    refused: HashMap<Token, Answer<String>>,
    /// Counters per address; `None` is the shared entry.
    addresses: HashMap<Option<IpAddr>, Address>,
}

/// Reviews requested by one address.
struct Address {
    since: Instant,
    refused: u32,
    turns: Arc<Semaphore>,
}

impl Address {
    fn new(now: Instant) -> Self {
        Self { since: now, refused: 0, turns: Arc::new(Semaphore::new(MAX_OPEN)) }
    }

    /// Returns how long the address must wait until its next review.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = MINUTE.saturating_sub(now.saturating_duration_since(self.since));
        (self.refused >= MAX_REFUSED && !left.is_zero()).then_some(left)
    }

    fn is_over(&self, now: Instant) -> bool {
        let over = now.saturating_duration_since(self.since) >= MINUTE;
        over && self.turns.available_permits() == MAX_OPEN && Arc::strong_count(&self.turns) == 1
    }
}

/// Permission to review one token. Counts as a refusal unless it is settled, also if the client disconnects.
pub(super) struct Turn<'a, T> {
    reviews: &'a Reviews<T>,
    address: Option<IpAddr>,
    is_settled: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<T> Turn<'_, T> {
    /// Keeps the turn from counting as a refusal: the token was valid, or the review failed.
    pub(super) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut state = self.reviews.state();
        let now = Instant::now();
        let (_, address) = state.address(self.address, now);
        if now.saturating_duration_since(address.since) >= MINUTE {
            (address.since, address.refused) = (now, 0);
        }
        address.refused += 1;
    }
}

impl<T> Default for Reviews<T> {
    fn default() -> Self {
        let state = State { good: HashMap::new(), refused: HashMap::new(), addresses: HashMap::new() };
        Self(Mutex::new(state))
    }
}

impl<T: Clone> Reviews<T> {
    /// Returns the cached answer for a token.
    pub(super) fn known(&self, token: &Token) -> Option<Result<T, String>> {
        let state = self.state();
        if let Some(good) = state.good.get(token).filter(|good| good.at.elapsed() < BELIEVED) {
            return Some(Ok(good.said.clone()));
        }
        let refused = state.refused.get(token).filter(|refused| refused.at.elapsed() < BELIEVED)?;
        Some(Err(refused.said.clone()))
    }

    /// Caches an answer.
    pub(super) fn keep(&self, token: Token, answer: &Result<T, String>) {
        let (mut state, now) = (self.state(), Instant::now());
        match answer {
            Ok(good) => keep(&mut state.good, token, Answer { at: now, said: good.clone() }),
            Err(why) => keep(&mut state.refused, token, Answer { at: now, said: why.clone() }),
        }
    }

    /// Waits for a free review of the address.
    ///
    /// # Errors
    /// Too many tokens of the address were invalid; returns the time to wait.
    pub(super) async fn turn(&self, address: Option<IpAddr>) -> Result<Turn<'_, T>, Duration> {
        let (address, turns) = {
            let (mut state, now) = (self.state(), Instant::now());
            let (key, found) = state.address(address, now);
            if let Some(wait) = found.wait(now) {
                return Err(wait);
            }
            (key, Arc::clone(&found.turns))
        };
        let permit = turns.acquire_owned().await.ok();
        let wait = self.state().address(address, Instant::now()).1.wait(Instant::now());
        match wait {
            // Tokens that were reviewed while this one waited were invalid.
            Some(wait) => Err(wait),
            None => Ok(Turn { reviews: self, address, is_settled: false, _permit: permit }),
        }
    }
}

impl<T> Reviews<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// Returns the entry in which an address is counted.
    fn address(&mut self, address: Option<IpAddr>, now: Instant) -> (Option<IpAddr>, &mut Address) {
        let is_new = !self.addresses.contains_key(&address);
        if is_new && self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.retain(|_, known| !known.is_over(now));
        }
        let key = address.filter(|_| !is_new || self.addresses.len() < MAX_ADDRESSES);
        (key, self.addresses.entry(key).or_insert_with(|| Address::new(now)))
    }
}

/// Inserts into a map of bounded size. Removes expired entries first; drops the new entry if the map is still full.
fn keep<T>(answers: &mut HashMap<Token, Answer<T>>, token: Token, answer: Answer<T>) {
    if answers.len() >= MAX_ANSWERS {
        answers.retain(|_, answer| answer.at.elapsed() < BELIEVED);
    }
    if answers.len() < MAX_ANSWERS {
        answers.insert(token, answer);
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn token(number: u32) -> Token {
        let mut token = [0; 32];
        token[..4].copy_from_slice(&number.to_be_bytes());
        token
    }

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn made_up_tokens_take_no_place_of_good_ones_and_bounded_memory() {
        let reviews = Reviews::default();
        reviews.keep(token(0), &Ok("good"));
        for number in 1..=u32::try_from(MAX_ANSWERS).unwrap() + 500 {
            reviews.keep(token(number), &Err("bad".to_owned()));
        }
        reviews.keep(token(u32::MAX), &Ok("another"));
        assert_eq!(reviews.known(&token(0)), Some(Ok("good")));
        assert_eq!(reviews.known(&token(u32::MAX)), Some(Ok("another")));
        assert_eq!(reviews.known(&token(1)), Some(Err("bad".to_owned())));
        assert!(reviews.state().refused.len() <= MAX_ANSWERS);
    }

    #[tokio::test]
    async fn an_address_has_so_many_bad_tokens_looked_up_and_others_do_not_wait_for_it() {
        let reviews = Reviews::<()>::default();
        for _ in 0..50 {
            reviews.turn(address(1)).await.unwrap_or_else(|_| panic!("good tokens do not count")).settle();
        }
        for _ in 0..MAX_REFUSED {
            drop(reviews.turn(address(1)).await.unwrap_or_else(|_| panic!("not yet")));
        }
        let wait = reviews.turn(address(1)).await.err().unwrap();
        assert!(wait <= MINUTE && wait > Duration::from_secs(30), "{wait:?}");
        assert!(reviews.turn(address(2)).await.is_ok());
        // The minute has passed.
        let past = Instant::now().checked_sub(MINUTE).unwrap();
        reviews.state().addresses.get_mut(&address(1)).unwrap().since = past;
        drop(reviews.turn(address(1)).await.unwrap_or_else(|_| panic!("a new minute")));
        assert_eq!(reviews.state().addresses[&address(1)].refused, 1);
    }

    #[tokio::test]
    async fn who_waits_in_line_behind_bad_tokens_is_not_asked_about_either() {
        let reviews = Reviews::<()>::default();
        let mut open = Vec::new();
        for _ in 0..MAX_OPEN {
            open.push(reviews.turn(address(1)).await.unwrap_or_else(|_| panic!("there is room")));
        }
        reviews.state().addresses.get_mut(&address(1)).unwrap().refused = MAX_REFUSED - 1;
        let mut waiting = Box::pin(reviews.turn(address(1)));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(open.pop());
        assert!(waiting.await.is_err());
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory() {
        let mut state =
            State::<()> { good: HashMap::new(), refused: HashMap::new(), addresses: HashMap::new() };
        let now = Instant::now();
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        for number in 0..most + 500 {
            state.address(address(number), now);
        }
        assert_eq!(state.addresses.len(), MAX_ADDRESSES + 1, "and one for all others");
        assert_eq!(state.address(address(most + 1), now).0, None);
        assert_eq!(state.address(address(most + 1), now + MINUTE).0, address(most + 1));
        assert_eq!(state.addresses.len(), 1, "what is over is forgotten");
    }
}
