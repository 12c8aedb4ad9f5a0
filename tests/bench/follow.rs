//! Lightweight stream readers: a connection, a buffer, and the time of writing of the last piece read.

use crate::endpoint::nanos;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// State shared by all readers of a measurement.
#[derive(Default)]
pub struct Readers {
    /// Number of open streams that have received a first piece.
    pub open: AtomicUsize,
    /// Pieces written before this time are not measured.
    pub since: AtomicU64,
    delays: Mutex<Vec<Duration>>,
}

impl Readers {
    /// Starts a measurement.
    pub fn measure(&self) {
        self.delays.lock().unwrap().clear();
        self.since.store(nanos(), Ordering::SeqCst);
    }

    /// Ends the measurement and returns the delays from writing to arrival, shortest first.
    pub fn delays(&self) -> Vec<Duration> {
        self.since.store(u64::MAX, Ordering::SeqCst);
        let mut delays = std::mem::take(&mut *self.delays.lock().unwrap());
        delays.sort();
        delays
    }
}

/// Builds a GET request whose response is a stream.
pub fn get(address: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
}

pub fn post(address: &str, path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads a stream to its end. `begun` receives the response head after the first piece.
pub async fn follow(readers: Arc<Readers>, address: String, request: String, begun: oneshot::Sender<String>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(request);
    let (mut pieces, mut head, mut begun) = (Pieces::default(), String::new(), Some(begun));
    let mut buffer = vec![0; 4096];
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        if length == 0 {
            break;
        }
        let fresh = pieces.take(&buffer[..length]);
        if begun.is_some() {
            head.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let heard = !fresh.is_empty() || head.contains("event: changed");
        if heard && let Some(begun) = begun.take() {
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            readers.open.fetch_add(1, Ordering::SeqCst);
            let _ = begun.send(std::mem::take(&mut head));
        }
        let (now, since) = (nanos(), readers.since.load(Ordering::SeqCst));
        let measured = fresh.into_iter().filter(|written| *written >= since);
        let delays: Vec<Duration> = measured.map(|written| Duration::from_nanos(now - written)).collect();
        readers.delays.lock().unwrap().extend(delays);
    }
    assert!(begun.is_none(), "the stream ended before it began: {head}");
    readers.open.fetch_sub(1, Ordering::SeqCst);
}

/// Finds `w=123;` in a stream across chunk boundaries. Only newer values count, because a page repeats earlier text.
#[derive(Default)]
struct Pieces {
    marked: bool,
    number: Option<u64>,
    last: u64,
}

impl Pieces {
    fn take(&mut self, bytes: &[u8]) -> Vec<u64> {
        let mut fresh = Vec::new();
        for &byte in bytes {
            match (byte, self.number) {
                (b'w', _) => (self.marked, self.number) = (true, None),
                (b'=', None) if self.marked => (self.marked, self.number) = (false, Some(0)),
                (b'0'..=b'9', Some(number)) => self.number = Some(number * 10 + u64::from(byte - b'0')),
                (b';', Some(number)) => {
                    self.number = None;
                    if number > self.last {
                        self.last = number;
                        fresh.push(number);
                    }
                }
                _ => (self.marked, self.number) = (false, None),
            }
        }
        fresh
    }
}
