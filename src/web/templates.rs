//! Compiled templates of all pages, with escaping everywhere and errors for missing variables.

use super::{assets, filters, markdown, navigation};
use crate::domain::{AuthMethod, Caller, Role};
use crate::evidence::untrusted::hidden;
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::overrides::replace_templates;
use include_dir::{Dir, include_dir};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Object;
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, context};
use std::path::Path;
use std::sync::{Arc, LazyLock};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/web/templates");

static BUILT_IN: LazyLock<Arc<Templates>> =
    LazyLock::new(|| Arc::new(Templates(environment().expect("a test compiles every template"))));

#[derive(Debug)]
pub(crate) struct Templates(Environment<'static>);

impl Templates {
    /// Returns the built-in templates, replaced by files of the same name in the folder.
    ///
    /// # Errors
    /// The folder cannot be read, or a file in it replaces no template, has a syntax error, or uses an unknown variable.
    pub(crate) fn load(folder: Option<&Path>) -> anyhow::Result<Arc<Self>> {
        let Some(folder) = folder else { return Ok(Arc::clone(&BUILT_IN)) };
        let mut environment = environment()?;
        replace_templates(&mut environment, folder, "", Some("layout.html"))?;
        Ok(Arc::new(Self(environment)))
    }

    /// Renders a template for a viewer.
    pub(super) fn render(
        &self,
        template: &str,
        values: Value,
        viewer: Option<Arc<Caller>>,
    ) -> Result<String, Error> {
        let viewer = Value::from_object(Viewer(viewer));
        self.0.get_template(template)?.render(context! { viewer, ..values })
    }
}

/// Viewer of a page, for template functions; `None` without authentication.
#[derive(Debug)]
struct Viewer(Option<Arc<Caller>>);

impl Object for Viewer {}

fn viewer(state: &State<'_, '_>) -> Option<Arc<Caller>> {
    state.lookup("viewer")?.downcast_object_ref::<Viewer>()?.0.clone()
}

/// Hosts that a page may link to, for template filters.
#[derive(Debug)]
struct Known(LinkPolicy);

impl Object for Known {}

/// Returns the hosts that a page may link to, as a template value.
pub(super) fn links(links: &LinkPolicy) -> Value {
    Value::from_object(Known(links.clone()))
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
    // Affects only the display; permissions are checked at the routes.
    environment.add_function("may", |state: &State<'_, '_>, role: &str| {
        // Callers limited to namespaces see what reporters see, since other pages cover all namespaces.
        let reads_all = |caller: &Caller| role == Role::Reporter.as_str() || caller.reads_all();
        let may = |caller: &Caller| Role::parse(role).is_some_and(|role| caller.role >= role);
        viewer(state).is_some_and(|caller| may(&caller) && reads_all(&caller))
    });
    environment.add_function("me", |state: &State<'_, '_>| {
        let me = viewer(state).filter(|caller| caller.way != AuthMethod::Open);
        me.map(|me| context! { name => &me.name, role => me.role.as_str() })
    });
    environment.add_filter("markdown", |state: &State<'_, '_>, text: &str| {
        let links = state.lookup("links");
        let known = links.as_ref().and_then(|links| links.downcast_object_ref::<Known>());
        // A page without known hosts links to none.
        let links = known.map_or_else(LinkPolicy::default, |known| known.0.clone());
        Value::from_safe_string(markdown::html(text, &[], &links))
    });
    // Spells out hidden characters in what a server says of itself.
    environment.add_filter("visible", hidden::spelled_out);
    environment.add_filter("ago", filters::ago);
    environment.add_filter("when", filters::when);
    environment.add_filter("span", filters::span);
    environment.add_filter("count", filters::count);
    environment.add_filter("size", filters::size);
    environment.add_filter("money", filters::money);
    environment.add_filter("outside", filters::outside);
    environment.add_filter("link_in", filters::link_in);
    environment.add_filter("short", filters::short);
    environment.add_filter("words", |name: &str| name.replace('_', " "));
    environment.add_filter("query", |text: &str| {
        reqwest::Url::parse_with_params("x:", [("", text)])
            .map(|url| url.query().unwrap_or_default().trim_start_matches('=').to_owned())
            .unwrap_or_default()
    });
    Ok(environment)
}

#[cfg(test)]
mod unit {
    #[test]
    fn every_template_compiles() {
        super::environment().unwrap();
    }
}
