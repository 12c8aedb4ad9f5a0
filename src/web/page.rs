//! Context for rendering pages: templates, current user, shared parts and cached logs. Extracted from the request.

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

/// Renders pages for a request.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    templates: Arc<Templates>,
    /// User shown at the top of every page. Permissions are checked at the route, not with this.
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
            // Without details: they would contain the values, which include text from logs and users.
            tracing::error!(template, %error, "a page cannot be rendered");
            let detail = "the page cannot be shown; the log has more";
            PageError(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        })
    }

    /// Converts a problem response to an error page with the same status and headers. Other responses are unchanged.
    pub(crate) fn of_problem(&self, response: Response) -> Response {
        let Some(problem) = response.extensions().get::<Problem>() else { return response };
        let values = context! { section => "", waiting => 0, problem => value(problem) };
        let Ok(html) = self.render("trouble.html", values) else { return response };
        let mut page = with_body(response, Html(html).into_response());
        let headers = page.headers_mut();
        // Also for unknown paths, which the layers of the pages do not cover.
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(super::POLICY));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(super::UNCACHED));
        page
    }
}

/// Context of the page handlers.
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
    /// Renders a fragment of a page.
    pub(super) fn render(&self, template: &str, values: Value) -> Result<String, PageError> {
        self.page.render(template, values)
    }

    /// Renders a whole page of a section.
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
