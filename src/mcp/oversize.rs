//! Server messages that exceed the size limit. The part beyond the limit is scanned for the request id and discarded. The
//! request gets an error instead, so that the session and its other calls continue.

use memchr::memchr2;
use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};

/// Maximum size of a server message, in bytes: fits a log of 28 MB sent both as text and as structured content.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// Maximum number of bytes read of an oversized message in search of its end; a longer message is considered endless.
const MAX_SKIPPED: usize = 3 * MAX_MESSAGE;
/// Messages from this size, in bytes, are scanned while they arrive: scanning at the end would block an async thread.
const LOOKED_AT: usize = 1 << 20;
/// Maximum length of a key or id that is read, in bytes.
const MAX_TOKEN: usize = 256;
/// Private error code, outside the range that JSON-RPC reserves.
const TOO_LARGE: ErrorCode = ErrorCode(-64_413);

/// Returns whether an error replaces an oversized message.
pub(super) fn is_too_large(error: &ErrorData) -> bool {
    error.code == TOO_LARGE
}

/// Returns the error that replaces an oversized answer.
pub(super) fn answer(id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(TOO_LARGE, "the answer is too large", None), Some(id))
}

/// One message, received in pieces.
#[derive(Debug)]
pub(super) struct Incoming {
    kept: Vec<u8>,
    size: usize,
    limit: usize,
    /// Set for large messages.
    envelope: Option<Envelope>,
}

/// A complete message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The whole message.
    Whole(Vec<u8>),
    /// The message was too large; holds the id of the request if the message is an answer.
    TooLarge(Option<RequestId>),
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), size: 0, limit, envelope: None }
    }

    /// Adds the next piece.
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

    /// Returns whether the message is so large that its end is not awaited.
    pub(super) fn is_endless(&self) -> bool {
        self.size > MAX_SKIPPED
    }

    /// Returns the complete message and starts the next one.
    pub(super) fn take(&mut self) -> Message {
        let Self { kept, envelope, .. } = std::mem::replace(self, Self::new(self.limit));
        match envelope.filter(|_| kept.is_empty()) {
            Some(envelope) => Message::TooLarge(envelope.answers()),
            None => Message::Whole(kept),
        }
    }
}

/// Scans the top-level members of a JSON object and keeps the `id`.
#[derive(Debug, Default)]
struct Envelope {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Raw text of the key or value that is being read.
    token: Vec<u8>,
    key: Vec<u8>,
    id: Vec<u8>,
    has_method: bool,
}

impl Envelope {
    /// Returns the id of the request that the message answers. A request by the server has an id of its own, which is
    /// ignored.
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

    /// Scans a string up to a byte that may end it. Returns the number of bytes read.
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
