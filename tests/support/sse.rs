//! A client of server-sent events.

use super::PATIENCE;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: i64,
    pub name: String,
    pub data: Value,
}

/// An open stream.
pub struct Events {
    pub run: String,
    pub conversation: String,
    bytes: BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    buffer: String,
}

impl Events {
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let (run, conversation) = (header("regreen-run"), header("regreen-conversation"));
        assert_eq!(response.status(), 200);
        Self { run, conversation, bytes: response.bytes_stream().boxed(), buffer: String::new() }
    }

    /// Returns the next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    lines.collect::<Vec<_>>().join("\n")
                };
                let event = (!field("event").is_empty()).then(|| Event {
                    id: field("id").parse().unwrap(),
                    name: field("event"),
                    data: serde_json::from_str(&field("data")).unwrap(),
                });
                self.buffer = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.bytes.next()).await.expect("an event in time")?;
            self.buffer.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// Returns all events up to and including the first one with this name.
    pub async fn until(&mut self, name: &str) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            let last = event.name == name;
            all.push(event);
            if last {
                return all;
            }
        }
        panic!("the stream ended without {name}: {all:?}");
    }
}
