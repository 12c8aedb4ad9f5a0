//! Rate limits by address and by caller, and limits on open event streams per caller. Counted in this process alone: each of
//! several replicas allows the full rate.
//!
//! `RateLimit` and `RateLimit-Policy` as in draft-ietf-httpapi-ratelimit-headers-10.

use crate::api::Problem;
use crate::api::client::{ClientAddress, Key};
use crate::api::{RateClass, RouteRules};
use crate::config::{Limits, Rate};
use crate::domain::{AuthMethod, Caller};
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt as _;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use ipnet::IpNet;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Maximum number of keys counted separately; beyond it, addresses share one of `CROWDS` keys.
const MAX_KEYS: usize = 50_000;
const CROWDS: u64 = 4_096;
/// Minimum interval between two removals of expired keys.
const SWEEP: Duration = Duration::from_secs(1);

/// Requests left after this one, or the time to wait for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    rate: Rate,
    name: &'static str,
    remaining: u32,
    wait: Option<Duration>,
}

/// Rate limiter of one class of requests.
struct Meter<C: Clock> {
    rate: Rate,
    name: &'static str,
    limiter: RateLimiter<Key, DashMapStateStore<Key>, C, StateInformationMiddleware>,
    clock: C,
    swept: Mutex<C::Instant>,
    max_keys: usize,
}

impl<C: Clock + Clone> Meter<C> {
    /// Returns `None` if the rate is unlimited.
    fn new(name: &'static str, rate: Rate, clock: C) -> Option<Self> {
        let quota = Quota::per_minute(NonZeroU32::new(rate.per_minute)?);
        let quota = quota.allow_burst(NonZeroU32::new(rate.burst)?);
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone())
            .with_middleware::<StateInformationMiddleware>();
        let swept = Mutex::new(clock.now());
        Some(Self { rate, name, limiter, clock, swept, max_keys: MAX_KEYS })
    }

    fn count(&self, key: &Key) -> Left {
        let key = self.apart(key);
        let (remaining, wait) = match self.limiter.check_key(&key) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(not_until) => (0, Some(not_until.wait_time_from(self.clock.now()))),
        };
        Left { rate: self.rate, name: self.name, remaining, wait }
    }

    /// Returns the key itself, or a shared key if there are too many. Callers keep their own key, since their number is
    /// bounded.
    fn apart(&self, key: &Key) -> Key {
        if self.limiter.len() < self.max_keys {
            return key.clone();
        }
        let now = self.clock.now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let rested: Duration = governor::clock::Reference::duration_since(&now, *swept).into();
        if rested >= SWEEP {
            *swept = now;
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        drop(swept);
        match key {
            Key::Address(address) if self.limiter.len() >= self.max_keys => {
                let mut hasher = DefaultHasher::new();
                address.hash(&mut hasher);
                Key::Crowd(hasher.finish() % CROWDS)
            }
            key => key.clone(),
        }
    }
}

impl Left {
    /// Returns the seconds after which this number of requests is allowed again.
    fn seconds(&self, requests: u32) -> u64 {
        (u64::from(requests) * 60).div_ceil(u64::from(self.rate.per_minute.max(1)))
    }

    /// Sets the rate limit headers. Of two limits, the one with fewer requests left is reported.
    fn tell(self, headers: &mut HeaderMap) {
        let known = headers.get("ratelimit").and_then(|value| value.to_str().ok()?.split("r=").nth(1));
        let known = known.and_then(|rest| rest.split(';').next()?.parse::<u32>().ok());
        if known.is_some_and(|known| known <= self.remaining) && self.wait.is_none() {
            return;
        }
        let Self { name, remaining, rate, .. } = self;
        let texts = [
            ("ratelimit-policy", format!("\"{name}\";q={};w={}", rate.burst, self.seconds(rate.burst))),
            (
                "ratelimit",
                format!(
                    "\"{name}\";r={remaining};t={}",
                    self.seconds(rate.burst.saturating_sub(remaining)).max(1)
                ),
            ),
        ];
        for (header, text) in texts {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(header, value);
            }
        }
    }
}

/// Request and stream limits of this process.
pub(super) struct Gate {
    requests: Option<Meter<DefaultClock>>,
    reports: Option<Meter<DefaultClock>>,
    questions: Option<Meter<DefaultClock>>,
    max_streams: usize,
    streams: Arc<Streams>,
    trusted: Vec<IpNet>,
    rules: Arc<RouteRules>,
}

/// Number of open event streams by key.
#[derive(Debug, Default)]
struct Streams(Mutex<HashMap<Key, usize>>);

/// An open event stream.
#[derive(Debug)]
struct Open {
    streams: Arc<Streams>,
    key: Key,
}

impl Streams {
    fn counts(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.streams.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

impl Gate {
    pub(super) fn new(limits: &Limits, rules: &Arc<RouteRules>) -> Arc<Self> {
        let meter = |name, rate| Meter::new(name, rate, DefaultClock::default());
        Arc::new(Self {
            requests: meter("requests", limits.requests),
            reports: meter("reports", limits.reports),
            questions: meter("questions", limits.questions),
            max_streams: limits.streams,
            streams: Arc::default(),
            trusted: limits.trusted_proxies.clone(),
            rules: Arc::clone(rules),
        })
    }

    fn count(&self, request: &Request, key: &Key) -> Option<Left> {
        let meter = match self.rules.rate(request)? {
            RateClass::Request => &self.requests,
            RateClass::Report => &self.reports,
            RateClass::Question => &self.questions,
        };
        meter.as_ref().map(|meter| meter.count(key))
    }

    fn open(&self, key: &Key) -> Option<Open> {
        let mut counts = self.streams.counts();
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.max_streams {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Open { streams: Arc::clone(&self.streams), key: key.clone() })
    }
}

/// Returns the client's address: the peer, or behind trusted proxies the last untrusted address in `X-Forwarded-For`.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let said = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let said: Vec<&str> = said.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in said.into_iter().rev() {
        let bare = hop.trim_matches(['[', ']']);
        let parsed = bare.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
        // An invalid address was not written by a trusted proxy: use the address of the proxy that forwarded it.
        let Ok(address) = parsed else { break };
        client = address.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// Counts requests by address, before any more expensive work.
pub(super) async fn by_address(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let peer = peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let address = client(peer, request.headers(), &gate.trusted);
    request.extensions_mut().insert(ClientAddress(address));
    let key = Key::of(address);
    let left = gate.count(&request, &key);
    if let Some(left) = left.filter(|left| left.wait.is_some()) {
        return refused(left);
    }
    request.extensions_mut().insert(key);
    let mut response = next.run(request).await;
    if let Some(left) = left {
        left.tell(response.headers_mut());
    }
    response
}

/// Counts requests and open event streams by authenticated caller.
pub(super) async fn by_caller(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<Key>().cloned();
    let caller = request.extensions().get::<Caller>().filter(|caller| caller.way != AuthMethod::Open);
    // Without authentication all callers have the same name and are counted by address.
    let caller = caller.map(|caller| Key::Caller(caller.name.as_str().into()));
    let left = caller.as_ref().and_then(|key| gate.count(&request, key));
    if let Some(left) = left.filter(|left| left.wait.is_some()) {
        return refused(left);
    }
    let mut open = None;
    if gate.rules.may_stream(&request)
        && let Some(key) = caller.or(address)
    {
        open = gate.open(&key);
        if open.is_none() {
            let detail = format!(
                "{} event streams are open already, and that is as many as `limits.streams` allows; close one",
                gate.max_streams
            );
            return told(detail, 5);
        }
    }
    let mut response = next.run(request).await;
    if let Some(left) = left {
        left.tell(response.headers_mut());
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match open.filter(|_| kind.is_some_and(|kind| kind.starts_with("text/event-stream"))) {
        Some(open) => response.map(|body| {
            // The slot is freed when the stream ends or the client disconnects.
            Body::from_stream(body.into_data_stream().inspect(move |_| {
                let _ = &open;
            }))
        }),
        None => response,
    }
}

/// Builds the answer to a request over the limit: allowed rate and time to wait.
fn refused(left: Left) -> Response {
    let wait = left.wait.unwrap_or_default();
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let (name, per_minute) = (left.name, left.rate.per_minute);
    let detail = format!(
        "too many {name}: {per_minute} a minute are allowed (`limits.{name}_per_minute`); try again in {seconds} s"
    );
    let mut response = told(detail, u32::try_from(seconds.max(1)).unwrap_or(u32::MAX));
    left.tell(response.headers_mut());
    response
}

/// Builds a 429 answer in the format that the client accepts.
fn told(detail: String, seconds: u32) -> Response {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(seconds).negotiable()
}

#[cfg(test)]
mod unit {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn meter(per_minute: u32, burst: u32, clock: &FakeRelativeClock) -> Meter<FakeRelativeClock> {
        Meter::new("requests", Rate { per_minute, burst }, clock.clone()).unwrap()
    }

    fn address(text: &str) -> Key {
        Key::of(text.parse().unwrap())
    }

    #[test]
    fn a_burst_is_let_through_then_one_at_a_time() {
        let clock = FakeRelativeClock::default();
        let meter = meter(30, 3, &clock);
        let one = address("192.0.2.1");
        let remaining: Vec<u32> = (0..3).map(|_| meter.count(&one).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let left = meter.count(&one);
        assert_eq!(left.wait, Some(Duration::from_secs(2)));
        assert_eq!(meter.count(&address("192.0.2.2")).wait, None, "somebody else");
        let mut headers = HeaderMap::new();
        left.tell(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"requests\";q=3;w=6");
        assert_eq!(headers["ratelimit"], "\"requests\";r=0;t=6");
        clock.advance(Duration::from_millis(1_999));
        assert!(meter.count(&one).wait.is_some());
        clock.advance(Duration::from_millis(1));
        assert_eq!(meter.count(&one).wait, None);
        assert!(meter.count(&one).wait.is_some());
        assert!(Meter::new("any", Rate { per_minute: 0, burst: 1 }, clock).is_none());
    }

    #[test]
    fn of_two_counts_the_tighter_one_is_told() {
        let left = |remaining| Left {
            rate: Rate { per_minute: 60, burst: 10 },
            name: "requests",
            remaining,
            wait: None,
        };
        let mut headers = HeaderMap::new();
        for (remaining, told) in [(5, "r=5;"), (7, "r=5;"), (2, "r=2;")] {
            left(remaining).tell(&mut headers);
            assert!(headers["ratelimit"].to_str().unwrap().contains(told), "{headers:?}");
        }
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory() {
        let clock = FakeRelativeClock::default();
        let meter = Meter { max_keys: 100, ..meter(1, 1, &clock) };
        for host in 0..20_000_u32 {
            meter.count(&Key::Address(IpAddr::from(host.to_be_bytes())));
        }
        let most = 100 + usize::try_from(CROWDS).unwrap();
        assert!(meter.limiter.len() <= most, "{}", meter.limiter.len());
        let caller = Key::Caller("key:ci".into());
        assert_eq!(meter.count(&caller).wait, None, "callers are never counted with a crowd");
        assert!(meter.count(&caller).wait.is_some());
        // One minute until the rate is available again, and another one until the state expires.
        clock.advance(Duration::from_secs(121));
        assert_eq!(meter.count(&address("192.0.2.1")).wait, None);
        assert!(meter.limiter.len() <= 2, "what is over is forgotten: {}", meter.limiter.len());
    }

    #[test]
    fn an_ipv6_subscriber_is_one_and_a_mapped_address_is_ipv4() {
        assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2:ffff::1"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        let mapped = client("::ffff:192.0.2.1".parse().unwrap(), &HeaderMap::new(), &[]);
        assert_eq!(mapped, IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn only_trusted_proxies_say_where_a_request_comes_from() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let from = |peer: &str, said: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            client(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(from("192.0.2.9", &["198.51.100.1"]), "192.0.2.9", "a stranger's word");
        assert_eq!(from("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.2.2.2"]), "198.51.100.1", "forged in front");
        assert_eq!(from("10.0.0.1", &["1.1.1.1", "198.51.100.1"]), "198.51.100.1", "two headers");
        assert_eq!(from("10.0.0.1", &["1.1.1.1, unknown"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("fd00::1", &["[2001:db8::5]"]), "2001:db8::5");
        assert_eq!(from("10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
    }
}
