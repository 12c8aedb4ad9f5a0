//! What pages load: a style sheet, scripts, the icon. Embedded, named by content so that browsers may keep them for good.

use axum::extract::Path;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::LazyLock;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Name, kind, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("static/style.css")),
    ("work.css", "text/css; charset=utf-8", include_str!("static/work.css")),
    ("reading.js", JAVASCRIPT, include_str!("static/reading.js")),
    ("frame.css", "text/css; charset=utf-8", include_str!("static/frame.css")),
    ("keys.js", JAVASCRIPT, include_str!("static/keys.js")),
    ("pages.js", JAVASCRIPT, include_str!("static/pages.js")),
    ("log.js", JAVASCRIPT, include_str!("static/log.js")),
    // htmx 4.0.1 and its part for events, under the Zero-Clause BSD licence beside them.
    ("htmx.min.js", JAVASCRIPT, include_str!("static/htmx.min.js")),
    ("hx-sse.min.js", JAVASCRIPT, include_str!("static/hx-sse.min.js")),
    ("icon.svg", "image/svg+xml", include_str!("static/icon.svg")),
];

/// Where each is found.
static URLS: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let url = |(name, _, content): &(&'static str, &str, &str)| {
        let hash = hex::encode(Sha256::digest(content));
        (*name, format!("/static/{name}?v={}", &hash[..10]))
    };
    ASSETS.iter().map(url).collect()
});

/// The URL of an asset.
pub(super) fn url(name: &str) -> Option<&'static str> {
    URLS.get(name).map(String::as_str)
}

/// An asset. Kept for good only under the name of its own content: another version may ask for one that is not here.
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

/// The icon, where browsers look for one by themselves: for the description of the API, for texts. A day is kept: this address
/// does not change with its content.
pub(super) async fn icon() -> Response {
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=86400")];
    (headers, include_str!("static/icon.svg")).into_response()
}
