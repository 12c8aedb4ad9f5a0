//! What a page is asked for and what a form sends; what cannot be read is said on a page.

use super::forms::Sent;
use super::page::Trouble;
use crate::http::Problem;
use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::{StatusCode, Uri, request::Parts};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::de::DeserializeOwned;

/// The query of a page. A field that was left empty in a form was not asked for.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Trouble> {
        let wrong = |detail: String| Trouble(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        let Query(mut pairs) =
            Query::<Sent>::try_from_uri(&parts.uri).map_err(|error| wrong(error.body_text()))?;
        pairs.retain(|(_, value)| !value.trim().is_empty());
        let given = reqwest::Url::parse_with_params("http://x/", pairs);
        let uri: Option<Uri> = given.ok().and_then(|url| url.as_str().parse().ok());
        let uri = uri.ok_or_else(|| wrong("the query cannot be read".to_owned()))?;
        let Query(asked) = Query::try_from_uri(&uri).map_err(|error| wrong(error.body_text()))?;
        Ok(Self(asked))
    }
}

/// The fields of a form.
pub(super) struct Posted(pub(super) Sent);

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Trouble;

    async fn from_request(request: Request, state: &S) -> Result<Self, Trouble> {
        match Form::from_request(request, state).await {
            Ok(Form(sent)) => Ok(Self(sent)),
            Err(rejection) => Err(Trouble(Problem::new(rejection.status(), rejection.body_text()))),
        }
    }
}

/// A field of a query that says something.
pub(super) fn some(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// Begin or end of a day that a form names.
pub(super) fn day(text: &str, end: bool) -> Option<DateTime<Utc>> {
    let day: NaiveDate =
        text.trim().parse().ok().filter(|day: &NaiveDate| (1..10_000).contains(&day.year()))?;
    let day = if end { day.succ_opt()? } else { day };
    Some(day.and_time(chrono::NaiveTime::MIN).and_utc())
}
