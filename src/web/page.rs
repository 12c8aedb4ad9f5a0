//! What pages are made with: the templates, who looks, the shared parts, the logs at hand. They come with the request, and go
//! along with what outlives it.

use super::error::PageError;
use super::logs::Logs;
use super::templates::{self, Templates};
use super::value::value;
use crate::api::{Problem, with_body};
use crate::app::App;
use crate::clock;
use crate::db;
use crate::domain::Caller;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use minijinja::{Value, context};
use std::sync::Arc;

/// Renders what a request asks for.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    templates: Arc<Templates>,
    /// Every page says at its top who it is made for. What they may do is judged at the route, never by this.
    viewer: Option<Arc<Caller>>,
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let templates = parts.extensions.get::<Arc<Templates>>().cloned();
        let templates = templates.ok_or_else(|| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody said what pages are made of")
        })?;
        let viewer = parts.extensions.get::<Caller>().cloned().map(Arc::new);
        Ok(Self { templates, viewer })
    }
}

impl Page {
    fn render(&self, template: &str, values: Value) -> Result<String, PageError> {
        self.templates.render(template, values, self.viewer.clone()).map_err(|error| {
            // Not in full: that would show the values, which are texts of logs and people.
            tracing::error!(template, %error, "a page cannot be rendered");
            let detail = "the page cannot be shown; the log has more";
            PageError(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        })
    }

    /// Turns an answer that tells a problem into the page of it, with the same status and headers. Any other answer stays.
    pub(crate) fn of_problem(&self, response: Response) -> Response {
        let Some(problem) = response.extensions().get::<Problem>() else { return response };
        let values = context! { section => "", waiting => 0, problem => value(problem) };
        let Ok(html) = self.render("trouble.html", values) else { return response };
        let mut page = with_body(response, Html(html).into_response());
        let headers = page.headers_mut();
        // Also where the layers of the pages do not reach: nothing is at that path.
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(super::POLICY));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(super::UNCACHED));
        page
    }
}

/// What handlers make pages with.
pub(super) struct PageContext {
    page: Page,
    pub(super) app: Arc<App>,
    pub(super) logs: Arc<Logs>,
}

impl FromRequestParts<Arc<App>> for PageContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let page = Page::from_request_parts(parts, app).await?;
        let logs = parts.extensions.get::<Arc<Logs>>().cloned();
        let logs = logs.ok_or_else(|| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the layer with the logs is missing")
        })?;
        Ok(Self { page, app: Arc::clone(app), logs })
    }
}

impl PageContext {
    /// A piece of a page.
    pub(super) fn render(&self, template: &str, values: Value) -> Result<String, PageError> {
        self.page.render(template, values)
    }

    /// A whole page of a section.
    pub(super) async fn show(
        &self,
        section: &str,
        template: &str,
        values: Value,
    ) -> Result<Html<String>, PageError> {
        let waiting = db::approvals::waiting(&self.app.pool, clock::now()).await?;
        let links = templates::links(&self.app.config.privacy.links);
        self.render(template, context! { section, waiting, links, ..values }).map(Html)
    }
}
