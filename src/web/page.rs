//! Renders pages. Templates are compiled once, escape everything, and know no missing variables.

use super::{assets, markdown, navigation, own, show};
use crate::app::App;
use crate::clock;
use crate::db;
use crate::domain::{Caller, Role, Way};
use crate::evidence::untrusted::hidden;
use crate::evidence::untrusted::links::Links;
use crate::http::Problem;
use crate::http::caller::seen_by;
use crate::mounted::replace_templates;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use futures::Stream;
use include_dir::{Dir, include_dir};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Serde};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, LazyLock};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/web/templates");

static BUILT_IN: LazyLock<Arc<Templates>> =
    LazyLock::new(|| Arc::new(Templates(environment().expect("a test compiles every template"))));

tokio::task_local! {
    /// What the pages of a request are made of.
    static TEMPLATES: Arc<Templates>;
}

/// The compiled templates of all pages.
#[derive(Debug)]
pub(crate) struct Templates(Environment<'static>);

impl Templates {
    /// The built-in ones, or the files of the folder that are named as they are.
    ///
    /// # Errors
    /// The folder cannot be read, or has a file that takes the place of none, has a syntax error, or asks for a variable
    /// that there is not.
    pub(crate) fn load(folder: Option<&Path>) -> anyhow::Result<Arc<Self>> {
        let Some(folder) = folder else { return Ok(Arc::clone(&BUILT_IN)) };
        let mut environment = environment()?;
        replace_templates(&mut environment, folder, "", Some("layout.html"))?;
        Ok(Arc::new(Self(environment)))
    }

    /// Those of the request that is answered.
    fn current() -> Arc<Self> {
        TEMPLATES.try_with(Arc::clone).unwrap_or_else(|_| Arc::clone(&BUILT_IN))
    }
}

/// Has every page of a request made of these templates.
pub(crate) async fn made_of(
    State(templates): State<Arc<Templates>>,
    request: Request,
    next: Next,
) -> Response {
    TEMPLATES.scope(templates, next.run(request)).await
}

/// What a stream tells after its request was answered is made of the same templates.
pub(super) fn made_of_the_same<S: Stream>(stream: S) -> impl Stream<Item = S::Item> {
    let templates = Templates::current();
    let mut stream = Box::pin(stream);
    futures::stream::poll_fn(move |cx| {
        TEMPLATES.sync_scope(Arc::clone(&templates), || stream.as_mut().poll_next(cx))
    })
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    for file in FILES.files() {
        let name = file.path().to_str().unwrap_or_default();
        environment.add_template(name, file.contents_utf8().unwrap_or_default())?;
    }
    navigation::globals(&mut environment);
    environment.add_function("asset", |name: &str| {
        assets::url(name).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("no asset {name}")))
    });
    // What is shown, not what is allowed: that is judged at the routes.
    environment.add_function("may", |role: &str| {
        let seen_by = seen_by();
        // Whoever is bound to namespaces sees what reporters see: the rest tells of all namespaces.
        let reads_all = |caller: &Caller| role == Role::Reporter.as_str() || own::reads_all(caller);
        let may = |caller: &Caller| Role::parse(role).is_some_and(|role| caller.role >= role);
        seen_by.is_some_and(|caller| may(&caller) && reads_all(&caller))
    });
    environment.add_function("me", || {
        let me = seen_by().filter(|caller| caller.way != Way::Open);
        me.map(|me| context! { name => &me.name, role => me.role.as_str() })
    });
    environment.add_filter("markdown", |state: &minijinja::State<'_, '_>, text: &str| {
        let links = state.lookup("links");
        let known = links.as_ref().and_then(|links| links.downcast_object_ref::<Known>());
        // A page that names no hosts links to none.
        let links = known.map_or_else(Links::default, |known| known.0.clone());
        Value::from_safe_string(markdown::html(text, &[], &links))
    });
    // What a server says of itself is shown with what is hidden in it.
    environment.add_filter("visible", hidden::spelled_out);
    environment.add_filter("ago", show::ago);
    environment.add_filter("when", show::when);
    environment.add_filter("span", show::span);
    environment.add_filter("count", show::count);
    environment.add_filter("size", show::size);
    environment.add_filter("money", show::money);
    environment.add_filter("outside", show::outside);
    environment.add_filter("link_in", show::link_in);
    environment.add_filter("short", show::short);
    environment.add_filter("words", |name: &str| name.replace('_', " "));
    environment.add_filter("query", |text: &str| {
        reqwest::Url::parse_with_params("x:", [("", text)])
            .map(|url| url.query().unwrap_or_default().trim_start_matches('=').to_owned())
            .unwrap_or_default()
    });
    Ok(environment)
}

/// Hosts that a page may link to, for its filters.
#[derive(Debug)]
struct Known(Links);

impl Object for Known {}

/// A value for a template.
pub(super) fn value(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}

/// Renders a piece of a page.
pub(super) fn render(template: &str, values: Value) -> Result<String, Trouble> {
    let templates = Templates::current();
    let rendered = templates.0.get_template(template).and_then(|template| template.render(values));
    rendered.map_err(|error| {
        // Not in full: that would show the values, which are texts of logs and people.
        tracing::error!(template, %error, "a page cannot be rendered");
        Trouble(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be shown; the log has more"))
    })
}

/// A whole page of a section.
pub(super) async fn show(
    app: &App,
    section: &str,
    template: &str,
    values: Value,
) -> Result<Html<String>, Trouble> {
    let waiting = db::approvals::waiting(&app.pool, clock::now()).await?;
    let links = Value::from_object(Known(app.config.privacy.links.clone()));
    render(template, context! { section, waiting, links, ..values }).map(Html)
}

/// What went wrong, as a page.
#[derive(Debug)]
pub(super) struct Trouble(pub(super) Problem);

impl<T: Into<Problem>> From<T> for Trouble {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = self.0.code();
        let values = context! { section => "", waiting => 0, problem => value(&self.0) };
        match render("trouble.html", values) {
            // Also where the layers of the pages do not reach: nothing is at that path.
            Ok(page) => {
                let headers = [
                    (header::CONTENT_SECURITY_POLICY, super::POLICY),
                    (header::CACHE_CONTROL, "private, no-store"),
                ];
                (status, headers, Html(page)).into_response()
            }
            Err(_) => self.0.into_response(),
        }
    }
}

/// What went wrong, as a page.
pub(crate) fn trouble(problem: Problem) -> Response {
    Trouble(problem).into_response()
}

/// Nothing is there: a page for people, a problem for programs.
pub(crate) fn not_found(headers: &HeaderMap, problem: Problem) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        return Trouble(problem).into_response();
    }
    problem.into_response()
}

#[cfg(test)]
mod unit {
    #[test]
    fn every_template_compiles() {
        super::environment().unwrap();
    }
}
