//! Messages of a server that are larger than the limit. What comes beyond the limit is looked at for the id of the request it
//! answers and not kept; that request gets an error in the message's place, so that the session and its other calls go on.

use memchr::memchr2;
use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};

/// Largest message of a server, in bytes: a log of 28 MB that is sent as text and as structured content fits.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// How much of a message that is too large is read to find its end; what goes on beyond has no end.
const MAX_SKIPPED: usize = 3 * MAX_MESSAGE;
/// From here on a message is looked at while it arrives: all at once it would take too long for an async thread.
const LOOKED_AT: usize = 1 << 20;
/// Longest key or id of a message that is read, in bytes.
const MAX_TOKEN: usize = 256;
/// Of our own, outside of the codes that JSON-RPC reserves.
const TOO_LARGE: ErrorCode = ErrorCode(-64_413);

/// Whether an error stands in the place of a message that was too large.
pub(super) fn is_too_large(error: &ErrorData) -> bool {
    error.code == TOO_LARGE
}

/// What stands in the place of an answer that was too large.
pub(super) fn answer(id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(TOO_LARGE, "the answer is too large", None), Some(id))
}

/// One message as it arrives, in pieces.
#[derive(Debug)]
pub(super) struct Incoming {
    kept: Vec<u8>,
    size: usize,
    limit: usize,
    /// Of a message that is large.
    envelope: Option<Envelope>,
}

/// A message that ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// All of it.
    Whole(Vec<u8>),
    /// It was too large; the request it answers, if it is an answer.
    TooLarge(Option<RequestId>),
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), size: 0, limit, envelope: None }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len());
        if let Some(envelope) = &mut self.envelope {
            envelope.read(bytes);
        } else if self.size > LOOKED_AT.min(self.limit) {
            let mut envelope = Envelope::default();
            envelope.read(&self.kept);
            envelope.read(bytes);
            self.envelope = Some(envelope);
        }
        if self.is_too_large() {
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.size > self.limit
    }

    /// Whether it is so large that nobody waits for its end.
    pub(super) fn is_endless(&self) -> bool {
        self.size > MAX_SKIPPED
    }

    /// The message, which has ended; the next one begins.
    pub(super) fn take(&mut self) -> Message {
        let Self { kept, envelope, .. } = std::mem::replace(self, Self::new(self.limit));
        match envelope.filter(|_| kept.is_empty()) {
            Some(envelope) => Message::TooLarge(envelope.answers()),
            None => Message::Whole(kept),
        }
    }
}

/// Reads the outermost members of a JSON object, and keeps its `id`.
#[derive(Debug, Default)]
struct Envelope {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The key or value that is being read, as it is written.
    token: Vec<u8>,
    key: Vec<u8>,
    id: Vec<u8>,
    has_method: bool,
}

impl Envelope {
    /// The request that the message answers. A request of the server's has an id of its own, which is none of ours.
    fn answers(&self) -> Option<RequestId> {
        let id = serde_json::from_slice(&self.id).ok();
        id.filter(|_| !self.has_method)
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            let read = if self.in_string { self.string(bytes) } else { self.structure(first) };
            bytes = &bytes[read..];
        }
    }

    /// Within a string: up to what may end it. Returns how much was read.
    fn string(&mut self, bytes: &[u8]) -> usize {
        if std::mem::take(&mut self.is_escaped) {
            self.keep(&bytes[..1]);
            return 1;
        }
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            self.keep(bytes);
            return bytes.len();
        };
        self.keep(&bytes[..=end]);
        self.is_escaped = bytes[end] == b'\\';
        self.in_string = self.is_escaped;
        end + 1
    }

    fn structure(&mut self, byte: u8) -> usize {
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(b"\"");
            }
            b':' if self.depth == 1 => {
                self.key = std::mem::take(&mut self.token);
                self.has_method |= self.key == b"\"method\"";
            }
            b',' if self.depth == 1 => self.end_member(),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_member();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => self.keep(&[byte]),
        }
        1
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.depth == 1 {
            let room = MAX_TOKEN.saturating_sub(self.token.len());
            self.token.extend_from_slice(&bytes[..room.min(bytes.len())]);
        }
    }

    fn end_member(&mut self) {
        let token = std::mem::take(&mut self.token);
        if std::mem::take(&mut self.key) == b"\"id\"" {
            self.id = token;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limit: usize, text: &str, pieces: usize) -> Message {
        let mut incoming = Incoming::new(limit);
        text.as_bytes().chunks(pieces).for_each(|piece| incoming.push(piece));
        incoming.take()
    }

    #[test]
    fn a_message_within_the_limit_is_whole() {
        let text = r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#;
        for pieces in [1, 7, 1_000] {
            assert_eq!(read(text.len(), text, pieces), Message::Whole(text.as_bytes().to_vec()));
            assert!(matches!(
                read(text.len() - 1, text, pieces),
                Message::TooLarge(Some(RequestId::Number(1)))
            ));
        }
    }

    #[test]
    fn the_request_is_known_wherever_its_id_stands() {
        let log = r#"a \"quoted\" line, {\"id\": 7}\\n"#.repeat(20);
        let result = format!(r#"{{"content": [{{"id": 8, "type": "text", "text": "{log}"}}]}}"#);
        for (text, id) in [
            (format!(r#"{{"jsonrpc":"2.0","id":12,"result":{result}}}"#), Some(RequestId::Number(12))),
            (format!(r#"{{"result":{result},"jsonrpc":"2.0","id" : 12 }}"#), Some(RequestId::Number(12))),
            (format!(r#"{{"result":{result},"id":"a","x":"\""}}"#), Some(RequestId::String("a".into()))),
            (format!(r#"{{"id":12,"method":"sampling/createMessage","params":{result}}}"#), None),
            (format!(r#"{{"method":"notifications/message","params":{result}}}"#), None),
            (format!(r#"[{result}]"#), None),
            (log.clone(), None),
        ] {
            for pieces in [1, 13, 10_000] {
                assert_eq!(read(100, &text, pieces), Message::TooLarge(id.clone()), "{text}");
            }
        }
    }

    #[test]
    fn nothing_is_kept_beyond_the_limit_and_the_next_message_is_read() {
        let mut incoming = Incoming::new(10);
        incoming.push(b"{\"id\": 3, \"result\": \"");
        for _ in 0..100 {
            incoming.push(&[b'x'; 1_000]);
            assert!(incoming.kept.capacity() == 0 && incoming.is_too_large() && !incoming.is_endless());
        }
        incoming.push(b"\"}");
        assert_eq!(incoming.take(), Message::TooLarge(Some(RequestId::Number(3))));
        incoming.push(b"{}");
        assert_eq!(incoming.take(), Message::Whole(b"{}".to_vec()));
    }
}
