//! Classifies errors of rmcp by whether the call may have reached the server.

use super::oversize::is_too_large;
use super::sse::SseError;
use crate::evidence::redact;
use rmcp::service::ServiceError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

/// Maximum length of an error text that is kept, in characters.
const MAX_WORDS: usize = 300;

/// Maximum length of an error text that is read, in bytes.
const MAX_READ: usize = 8 << 10;

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server has not received the request; the session is unusable.
    NotReached(String),
    /// The server may have received the request; no answer will come.
    Lost(String),
    /// An HTTP refusal by the server or a proxy in front of it. The session continues.
    Refused(String),
    /// A JSON-RPC error, or an answer of the wrong kind. The session continues.
    Protocol(String),
    /// The answer exceeded the limit. The session continues.
    TooLarge,
}

impl Failure {
    pub(super) fn of(error: &ServiceError) -> Self {
        match error {
            ServiceError::McpError(error) if is_too_large(error) => Self::TooLarge,
            ServiceError::McpError(error) => Self::Protocol(cut(&error.message)),
            ServiceError::TransportSend(error) => Self::of_send(error.error.as_ref()),
            ServiceError::TransportClosed => Self::Lost("the connection was closed".to_owned()),
            // The peer may not be an MCP server; a new session finds out.
            ServiceError::UnexpectedResponse => Self::Lost("the answer is of the wrong kind".to_owned()),
            other => Self::Protocol(cut(&other.to_string())),
        }
    }

    fn of_send(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        let text = describe(error);
        if let Some(http) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            return match http {
                // The server did not know the session, so it did not process the call.
                StreamableHttpError::SessionExpired => Self::NotReached(text),
                StreamableHttpError::Client(error) if error.is_connect() => Self::NotReached(text),
                StreamableHttpError::HttpStatus(error) if error.status == 404 => Self::NotReached(text),
                StreamableHttpError::UnexpectedServerResponse(words) if words.starts_with("HTTP 404") => {
                    Self::NotReached(text)
                }
                StreamableHttpError::HttpStatus(error) if error.status < 500 => Self::Refused(text),
                StreamableHttpError::UnexpectedServerResponse(words) if words.starts_with("HTTP 4") => {
                    Self::Refused(text)
                }
                StreamableHttpError::AuthRequired(_)
                | StreamableHttpError::InsufficientScope(_)
                | StreamableHttpError::ReservedHeaderConflict(_) => Self::Refused(text),
                // A gateway may answer 502 or 504 to a call that was carried out.
                _ => Self::Lost(text),
            };
        }
        match error.downcast_ref::<SseError>() {
            Some(SseError::Http(error)) if error.is_connect() => return Self::NotReached(text),
            // Statuses with which servers of this transport reject an unknown session.
            Some(SseError::Status(400 | 404 | 410)) => return Self::NotReached(text),
            Some(SseError::Status(status)) if *status < 500 => return Self::Refused(text),
            _ => {}
        }
        // Writing to a child that has exited: it never received the whole line.
        if error.is::<std::io::Error>() { Self::NotReached(text) } else { Self::Lost(text) }
    }
}

/// Formats an error and its sources in one line, without the URLs that reqwest adds, since they may hold secrets.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    // rmcp does not return the inner error as a source.
    if let Some(StreamableHttpError::Client(inner)) =
        error.downcast_ref::<StreamableHttpError<reqwest::Error>>()
    {
        return describe(inner);
    }
    let mut line = without_urls(&error.to_string());
    let mut source = error.source();
    while let Some(inner) = source {
        let text = without_urls(&inner.to_string());
        if !text.is_empty() && !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = inner.source();
    }
    cut(&line)
}

/// Redacts and truncates the error text of a server or of a proxy in front of it.
pub(super) fn cut(text: &str) -> String {
    let begin = &text[..text.floor_char_boundary(MAX_READ)];
    redact::plain(begin).chars().take(MAX_WORDS).collect()
}

fn without_urls(text: &str) -> String {
    const MARK: &str = " for url (";
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once(MARK) {
        kept.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::transport::streamable_http_client::HttpStatusError;

    #[test]
    fn urls_are_left_out() {
        assert_eq!(
            without_urls("error sending request for url (http://h/?token=s): refused"),
            "error sending request: refused"
        );
        assert_eq!(without_urls("cut for url (http://h"), "cut");
    }

    #[test]
    fn only_what_the_server_cannot_have_seen_counts_as_not_reached() {
        type Http = StreamableHttpError<reqwest::Error>;
        let read = |error: Http| Failure::of_send(&error);
        assert!(matches!(read(Http::SessionExpired), Failure::NotReached(_)));
        assert!(matches!(
            read(Http::UnexpectedServerResponse("HTTP 404: no".into())),
            Failure::NotReached(_)
        ));
        assert!(matches!(read(Http::UnexpectedServerResponse("HTTP 401: no".into())), Failure::Refused(_)));
        assert!(matches!(read(HttpStatusError::new(504, None).into()), Failure::Lost(_)));
        assert!(matches!(read(Http::UnexpectedEndOfStream), Failure::Lost(_)));
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::of_send(&broken), Failure::NotReached(_)));
        assert!(matches!(Failure::of_send(&SseError::Status(404)), Failure::NotReached(_)));
        assert!(matches!(Failure::of_send(&SseError::Status(502)), Failure::Lost(_)));
    }
}
