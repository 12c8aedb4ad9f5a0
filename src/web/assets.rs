//! Static assets: style sheets, scripts and the icon. Embedded, with the content hash in the URL so that browsers can cache
//! them permanently.

use axum::extract::Path;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::LazyLock;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Name, media type and content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("static/style.css")),
    ("work.css", "text/css; charset=utf-8", include_str!("static/work.css")),
    ("reading.js", JAVASCRIPT, include_str!("static/reading.js")),
    ("frame.css", "text/css; charset=utf-8", include_str!("static/frame.css")),
    ("keys.js", JAVASCRIPT, include_str!("static/keys.js")),
    ("pages.js", JAVASCRIPT, include_str!("static/pages.js")),
    ("log.js", JAVASCRIPT, include_str!("static/log.js")),
    // htmx 4.0.1 and its server-sent events extension; the Zero-Clause BSD licence is in the same folder.
    ("htmx.min.js", JAVASCRIPT, include_str!("static/htmx.min.js")),
    ("hx-sse.min.js", JAVASCRIPT, include_str!("static/hx-sse.min.js")),
    ("icon.svg", "image/svg+xml", include_str!("static/icon.svg")),
];

/// URL of each asset.
static URLS: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let url = |(name, _, content): &(&'static str, &str, &str)| {
        let hash = hex::encode(Sha256::digest(content));
        (*name, format!("/static/{name}?v={}", &hash[..10]))
    };
    ASSETS.iter().map(url).collect()
});

/// Returns the URL of an asset.
pub(super) fn url(name: &str) -> Option<&'static str> {
    URLS.get(name).map(String::as_str)
}

/// Serves an asset. Cached permanently only under its own content hash: another version may request a different one.
pub(super) async fn serve(Path(name): Path<String>, uri: Uri) -> Response {
    let own = url(&name).is_some_and(|own| uri.query().is_some_and(|query| own.ends_with(query)));
    let keep = if own { "public, max-age=31536000, immutable" } else { "no-store" };
    match ASSETS.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, content)) => {
            let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, keep)];
            (headers, *content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Serves the icon at the default path that browsers request, for the API description and for texts. Cached for a day, since
/// this URL does not change with the content.
pub(super) async fn icon() -> Response {
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=86400")];
    (headers, include_str!("static/icon.svg")).into_response()
}
