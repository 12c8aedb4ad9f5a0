//! Extractors of page queries and forms; invalid input results in an error page.

use super::error::PageError;
use super::forms::{FormFields, pairs, too_many};
use crate::api::{Problem, parsed};
use crate::app::App;
use axum::extract::{FromRequest, FromRequestParts, Query, RawForm, Request};
use axum::http::{StatusCode, Uri, request::Parts};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Query of a page. Empty form fields count as absent.
pub(super) struct PageQuery<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for PageQuery<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, PageError> {
        let wrong = |detail: String| PageError(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        let mut pairs = pairs(parts.uri.query().unwrap_or_default().as_bytes()).ok_or_else(too_many)?;
        pairs.retain(|(_, value)| !value.trim().is_empty());
        let given = reqwest::Url::parse_with_params("http://x/", pairs);
        let uri: Option<Uri> = given.ok().and_then(|url| url.as_str().parse().ok());
        let uri = uri.ok_or_else(|| wrong("the query cannot be read".to_owned()))?;
        let Query(asked) = Query::try_from_uri(&uri).map_err(|error| wrong(error.body_text()))?;
        Ok(Self(asked))
    }
}

/// Fields of a form.
pub(super) struct PageForm(pub(super) FormFields);

impl FromRequest<Arc<App>> for PageForm {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        let RawForm(body) = RawForm::from_request(request, app)
            .await
            .map_err(|rejection| PageError(Problem::new(rejection.status(), rejection.body_text())))?;
        let sent = parsed(&app.blocking, body, pairs).await?;
        sent.map(Self).ok_or_else(|| too_many().into())
    }
}

/// Returns a query field unless it is blank.
pub(super) fn some(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// Returns the start of a day, or the start of the following day if `end` is set.
pub(super) fn day(text: &str, end: bool) -> Option<DateTime<Utc>> {
    let day: NaiveDate =
        text.trim().parse().ok().filter(|day: &NaiveDate| (1..10_000).contains(&day.year()))?;
    let day = if end { day.succ_opt()? } else { day };
    Some(day.and_time(chrono::NaiveTime::MIN).and_utc())
}
