//! Forms with a file (`multipart/form-data`); the body was already read within the limit of its route.

use super::error::PageError;
use super::forms::{FormFields, too_many};
use crate::api::{Problem, parsed};
use crate::app::App;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use futures::FutureExt as _;
use std::convert::Infallible;
use std::sync::Arc;

/// Maximum number of parts of a form.
const MAX_PARTS: usize = 50;

/// Fields of a form and the files sent with it.
pub(super) struct Uploaded {
    pub(super) sent: FormFields,
    pub(super) files: Vec<File>,
}

/// An uploaded file.
pub(super) struct File {
    /// Name of the form field.
    pub(super) field: String,
    /// Text of the file, or the problem with it.
    pub(super) text: Result<String, &'static str>,
}

impl FromRequest<Arc<App>> for Uploaded {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let boundary = kind.and_then(|kind| multer::parse_boundary(kind).ok());
        let Some(boundary) = boundary else {
            let detail = "the form has to be sent as multipart/form-data";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into());
        };
        let body = Bytes::from_request(request, app)
            .await
            .map_err(|rejection| PageError(Problem::new(rejection.status(), rejection.body_text())))?;
        let whole = body.clone();
        Ok(parsed(&app.blocking, body, move |_| read(whole, boundary)).await??)
    }
}

/// Parses a complete body without waiting.
fn read(body: Bytes, boundary: String) -> Result<Uploaded, Problem> {
    let broken = || Problem::new(StatusCode::BAD_REQUEST, "the form cannot be read; send it again");
    let mut parts = multer::Multipart::new(futures::stream::iter([Ok::<_, Infallible>(body)]), boundary);
    let mut uploaded = Uploaded { sent: Vec::new(), files: Vec::new() };
    for _ in 0..=MAX_PARTS {
        let next = parts.next_field().now_or_never().and_then(Result::ok).ok_or_else(broken)?;
        let Some(part) = next else { return Ok(uploaded) };
        let field = part.name().unwrap_or_default().to_owned();
        // Browsers send a file without a name if none was chosen.
        let file = part.file_name().map(|name| !name.is_empty());
        let bytes = part.bytes().now_or_never().and_then(Result::ok).ok_or_else(broken)?;
        match file {
            Some(true) => uploaded.files.push(File { field, text: text(&bytes) }),
            Some(false) if bytes.is_empty() => {}
            _ => uploaded.sent.push((field, String::from_utf8_lossy(&bytes).into_owned())),
        }
    }
    Err(too_many())
}

/// Decodes the text of a file. Bytes in another encoding are accepted; binary files are refused.
fn text(bytes: &[u8]) -> Result<String, &'static str> {
    let compressed = [b"\x1f\x8b".as_slice(), b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ"];
    if compressed.iter().any(|magic| bytes.starts_with(magic)) {
        return Err("is compressed: unpack it and choose the text file");
    }
    if memchr::memchr(0, &bytes[..bytes.len().min(8_000)]).is_some() {
        return Err("is not a text file");
    }
    if bytes.trim_ascii().is_empty() {
        return Err("is empty");
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn form(parts: &[(&str, &str)]) -> Bytes {
        let mut body = String::new();
        for (head, text) in parts {
            body.push_str(&format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{text}\r\n"));
        }
        Bytes::from(body + "--b--\r\n")
    }

    fn taken(parts: &[(&str, &str)]) -> Result<Uploaded, Problem> {
        read(form(parts), "b".to_owned())
    }

    #[test]
    fn fields_and_files_are_told_apart() {
        let parts = [
            ("name=\"namespace\"", "ci"),
            ("name=\"none\"; filename=\"\"", ""),
            ("name=\"log\"; filename=\"a.log\"", "error: b\u{e9}\r\n"),
        ];
        let Uploaded { sent, files } = taken(&parts).unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!(sent, [("namespace".to_owned(), "ci".to_owned())]);
        let files: Vec<_> = files.iter().map(|file| (file.field.as_str(), file.text.as_deref())).collect();
        assert_eq!(files, [("log", Ok("error: b\u{e9}\r\n"))]);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let status = |body: Bytes| read(body, "b".to_owned()).map_or_else(|problem| problem.status, |_| 200);
        assert_eq!(status(Bytes::from_static(b"{")), 400);
        assert_eq!(
            status(Bytes::from_static(
                b"--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nbroken off"
            )),
            400
        );
        let one = ("name=\"a\"", "1");
        assert_eq!(status(form(&vec![one; MAX_PARTS])), 200);
        assert_eq!(status(form(&vec![one; MAX_PARTS + 1])), 422);
    }

    #[test]
    fn only_text_is_a_log() {
        assert!(text(b"\x1f\x8b\x08\x00").is_err_and(|why| why.contains("compressed")));
        assert!(text(b"\x7fELF\x00\x01").is_err_and(|why| why.contains("text file")));
        assert!(text(b" \n").is_err());
        assert_eq!(text(b"caf\xe9").as_deref(), Ok("caf\u{fffd}"));
    }
}
