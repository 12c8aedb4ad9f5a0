//! A slow model: each answer streams one piece per second with its time of writing, until ended. Answers are staggered
//! in time.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Interval;

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns a monotonic time of this process in nanoseconds.
pub fn nanos() -> u64 {
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap()
}

#[derive(Clone)]
struct Pace {
    asked: Arc<AtomicU64>,
    /// Changes when all running answers must end.
    round: watch::Receiver<u32>,
}

/// The model endpoint.
pub struct SlowModel {
    pub url: String,
    round: watch::Sender<u32>,
    asked: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

impl Drop for SlowModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl SlowModel {
    pub async fn start() -> Self {
        let (round, receiver) = watch::channel(0);
        let asked = Arc::new(AtomicU64::new(0));
        let pace = Pace { asked: Arc::clone(&asked), round: receiver };
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(pace);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, round, asked, server }
    }

    /// Returns the number of requests so far.
    pub fn asked(&self) -> usize {
        usize::try_from(self.asked.load(Ordering::Relaxed)).unwrap()
    }

    /// Ends all running answers.
    pub fn end(&self) {
        self.round.send_modify(|round| *round += 1);
    }
}

struct Writing {
    round: watch::Receiver<u32>,
    seconds: Interval,
    over: bool,
}

async fn complete(State(pace): State<Pace>, _body: String) -> Response {
    // The golden ratio distributes any number of answers evenly over a second.
    let nth = pace.asked.fetch_add(1, Ordering::Relaxed);
    let first = tokio::time::Instant::now() + Duration::from_millis(nth * 618 % 1_000);
    let mut round = pace.round;
    round.mark_unchanged();
    let seconds = tokio::time::interval_at(first, Duration::from_secs(1));
    let writing = Writing { round, seconds, over: false };
    let pieces = futures::stream::unfold(writing, |mut writing| async {
        if writing.over {
            return None;
        }
        let piece = tokio::select! {
            _ = writing.seconds.tick() => format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"w={}; \"}}}}]}}\n\n", nanos()),
            _ = writing.round.changed() => {
                writing.over = true;
                "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".to_owned()
            }
        };
        Some((Ok::<_, Infallible>(piece), writing))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
}
