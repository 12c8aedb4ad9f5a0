//! Server-sent events of an MCP server, each within a size limit. An oversized event is replaced by an error for the request
//! that it answers.

use super::oversize::{self, Incoming, MAX_MESSAGE, Message};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use memchr::{memchr, memchr2};
use rmcp::model::RequestId;
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::Sse;
use std::collections::VecDeque;
use std::pin::Pin;

/// Maximum length of a field name that is read, in bytes.
const MAX_NAME: usize = 16;
/// Maximum length of a field other than `data`, in bytes.
const MAX_VALUE: usize = 4_096;

/// Returns the events of a body. `of` is the request that the body answers, if it answers only one: the stream then ends
/// after an oversized answer.
pub(super) fn events<B, E>(
    bytes: impl Stream<Item = Result<B, E>> + Send + 'static,
    of: Option<RequestId>,
) -> BoxStream<'static, Result<Sse, SseError>>
where
    B: AsRef<[u8]> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let state =
        Body { bytes: Some(Box::pin(bytes)), reader: Reader::new(MAX_MESSAGE), ready: VecDeque::new(), of };
    futures::stream::unfold(state, async |mut state| state.next().await.map(|event| (event, state))).boxed()
}

struct Body<S> {
    /// `None` when nothing more is read.
    bytes: Option<Pin<Box<S>>>,
    reader: Reader,
    ready: VecDeque<Sse>,
    of: Option<RequestId>,
}

impl<S, B, E> Body<S>
where
    S: Stream<Item = Result<B, E>>,
    B: AsRef<[u8]>,
    E: std::error::Error + Send + Sync + 'static,
{
    async fn next(&mut self) -> Option<Result<Sse, SseError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let chunk = match self.bytes.as_mut()?.next().await? {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.bytes = None;
                    return Some(Err(SseError::Body(Box::new(error))));
                }
            };
            self.reader.feed(chunk.as_ref(), &mut self.ready);
            if self.reader.data.is_too_large()
                && let Some(id) = self.of.take()
            {
                self.bytes = None;
                self.ready.push_back(too_large(id));
            } else if self.reader.data.is_endless() {
                self.bytes = None;
                return Some(Err(SseError::Body("an event has no end".into())));
            }
        }
    }
}

fn too_large(id: RequestId) -> Sse {
    Sse { data: serde_json::to_string(&oversize::answer(id)).ok(), ..Sse::default() }
}

/// Parses an event stream as the HTML standard specifies.
struct Reader {
    /// Field name of the current line, up to the colon.
    name: Vec<u8>,
    /// Whether the colon was read, and whether the byte after it, which may be a space, was read.
    value: Value,
    after_cr: bool,
    /// Value of a field other than `data`.
    small: Vec<u8>,
    event: Sse,
    data: Incoming,
    has_data: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Missing,
    Begins,
    GoesOn,
}

impl Reader {
    fn new(limit: usize) -> Self {
        Self {
            name: Vec::new(),
            value: Value::Missing,
            after_cr: false,
            small: Vec::new(),
            event: Sse::default(),
            data: Incoming::new(limit),
            has_data: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8], ready: &mut VecDeque<Sse>) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\r', b'\n', bytes) else {
                self.text(bytes);
                return;
            };
            self.text(&bytes[..end]);
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            ready.extend(self.end_line());
        }
    }

    fn text(&mut self, mut text: &[u8]) {
        if self.value == Value::Missing {
            let colon = memchr(b':', text);
            let name = &text[..colon.unwrap_or(text.len())];
            let room = MAX_NAME.saturating_sub(self.name.len());
            self.name.extend_from_slice(&name[..room.min(name.len())]);
            let Some(colon) = colon else { return };
            self.begin_value();
            text = &text[colon + 1..];
        }
        if self.value == Value::Begins && !text.is_empty() {
            self.value = Value::GoesOn;
            text = text.strip_prefix(b" ").unwrap_or(text);
        }
        if self.name == b"data" {
            self.data.push(text);
        } else {
            let room = MAX_VALUE.saturating_sub(self.small.len());
            self.small.extend_from_slice(&text[..room.min(text.len())]);
        }
    }

    fn begin_value(&mut self) {
        self.value = Value::Begins;
        if self.name == b"data" && std::mem::replace(&mut self.has_data, true) {
            self.data.push(b"\n");
        }
    }

    fn end_line(&mut self) -> Option<Sse> {
        if self.value == Value::Missing && self.name.is_empty() {
            return self.end_event();
        }
        if self.value == Value::Missing {
            // A name without a colon is a field with an empty value.
            self.begin_value();
        }
        let small = String::from_utf8_lossy(&self.small).into_owned();
        match self.name.as_slice() {
            b"event" => self.event.event = Some(small),
            b"id" => self.event.id = Some(small),
            b"retry" => self.event.retry = small.parse().ok(),
            _ => {}
        }
        self.name.clear();
        self.small.clear();
        self.value = Value::Missing;
        None
    }

    /// Returns the event that an empty line ends, or `None` if it has no fields.
    fn end_event(&mut self) -> Option<Sse> {
        let mut event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            event.data = match self.data.take() {
                Message::Whole(data) => Some(String::from_utf8_lossy(&data).into_owned()),
                Message::TooLarge(Some(id)) => too_large(id).data,
                Message::TooLarge(None) => {
                    tracing::warn!(
                        "an event of an MCP server is too large, answers nothing, and is left out"
                    );
                    None
                }
            };
        }
        (event != Sse::default()).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limit: usize, text: &str, pieces: usize) -> Vec<Sse> {
        let (mut reader, mut ready) = (Reader::new(limit), VecDeque::new());
        text.as_bytes().chunks(pieces).for_each(|piece| reader.feed(piece, &mut ready));
        ready.into()
    }

    fn sse(event: Option<&str>, data: Option<&str>, id: Option<&str>, retry: Option<u64>) -> Sse {
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        Sse { event: own(event), data: own(data), id: own(id), retry }
    }

    #[test]
    fn a_stream_is_taken_apart_however_it_is_cut() {
        let text = ": hello\r\nevent: message\r\nid: 7\r\ndata: one\r\ndata:  two\r\n\r\n\n\nretry: 5\ndata\n\ndatabase: x\ndata:{}\n\nid:8\n\ndata: not ended";
        for pieces in [1, 2, 5, 1_000] {
            let all = [
                sse(Some("message"), Some("one\n two"), Some("7"), None),
                sse(None, Some(""), None, Some(5)),
                sse(None, Some("{}"), None, None),
                sse(None, None, Some("8"), None),
            ];
            assert_eq!(read(100, text, pieces), all);
        }
    }

    #[test]
    fn an_event_that_is_too_large_is_answered_in_its_place() {
        let log = "x".repeat(200);
        let text = format!("data: {{\"result\":\"{log}\",\"id\":4}}\n\ndata: {log}\n\ndata: {{}}\n\n");
        for pieces in [1, 9, 1_000] {
            let all = read(100, &text, pieces);
            assert_eq!(all.len(), 2);
            assert_eq!(all[0], too_large(RequestId::Number(4)));
            assert_eq!(all[1].data.as_deref(), Some("{}"));
        }
    }

    #[tokio::test]
    async fn nothing_more_is_read_of_an_answer_that_is_too_large() {
        let chunk = vec![b'x'; 1 << 20];
        let first = b"data: ".to_vec();
        let endless = futures::stream::iter(std::iter::once(first).chain(std::iter::repeat(chunk)));
        let bytes = endless.map(Ok::<_, std::io::Error>);
        let all: Vec<_> = events(bytes, Some(RequestId::Number(9))).collect().await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].as_ref().unwrap(), &too_large(RequestId::Number(9)));
    }
}
