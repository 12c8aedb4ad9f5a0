//! Incidents: the list, one with everything known about it, and the form that says how it was.

use super::asked::{Asked, Posted, some};
use super::forms::{self, Kind, Refused};
use super::page::{self, Trouble, value};
use crate::app::App;
use crate::db::documents::{self, Realm};
use crate::db::evidence::Owner;
use crate::db::reports::Filter as ReportFilter;
use crate::db::{evidence, incidents, reports, resolutions, runs};
use crate::domain::{Caller, FailureClass, Incident, Reader, Report};
use crate::http::{self, known_id, missing};
use crate::knowledge::Hit;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Incidents on a page.
const PAGE: i64 = 50;
/// Reports, and related documents of a kind, shown with an incident.
const REPORTS: i64 = 25;
const RELATED: usize = 4;

/// How the list is narrowed.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Wanted {
    #[serde(default)]
    status: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    q: String,
    before: Option<Uuid>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Wanted>,
) -> Result<Html<String>, Trouble> {
    let filter = incidents::Filter {
        status: some(&asked.status),
        class: some(&asked.class),
        namespace: some(&asked.namespace),
        // Pages are for whoever reads all namespaces.
        within: None,
        text: some(&asked.q),
        before: asked.before,
        offset: 0,
    };
    let mut found = incidents::list(&app.pool, &filter, PAGE + 1).await?;
    let next = http::cut(&mut found, PAGE, |incident| incident.id);
    let classes: Vec<&str> = FailureClass::ALL.iter().map(|class| class.as_str()).collect();
    let narrowed =
        [&asked.status, &asked.class, &asked.namespace, &asked.q].iter().any(|text| !text.trim().is_empty());
    let values = context! { asked => value(&asked), incidents => value(&found), next => value(next), classes, narrowed };
    page::show(&app, "/incidents", "incidents.html", values).await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Html<String>, Trouble> {
    detail(&app, known_id(&id)?, None).await
}

async fn detail(app: &App, id: Uuid, refused: Option<Refused>) -> Result<Html<String>, Trouble> {
    let incident = incidents::get(&app.pool, id).await?.ok_or_else(|| missing("incident"))?;
    let filter = ReportFilter { incident: Some(id), ..ReportFilter::default() };
    let occurrences = reports::list(&app.pool, &filter, REPORTS).await?;
    let leader = reports::leader(&app.pool, id).await?;
    let investigated = match leader {
        Some(report) => reports::get(&app.pool, report).await?,
        None => None,
    };
    let work = match &investigated {
        Some(report) => work(app, report).await?,
        None => Value::from(()),
    };
    let similar = similar(app, &incident).await;
    let values = context! {
        incident => value(&incident),
        leader => value(leader),
        work,
        reports => value(&occurrences),
        pipelines => incidents::pipelines(&app.pool, id).await?,
        last_good_run => incidents::last_good_run(&app.pool, id).await?,
        resolutions => value(resolutions::of_incident(&app.pool, id).await?),
        runbooks => used(app, &incident).await?,
        similar => value(&similar),
        refused => refused.map(value),
    };
    page::show(app, "/incidents", "incident.html", values).await
}

/// What was done for a report: steps, evidence, runs.
async fn work(app: &App, report: &Report) -> sqlx::Result<Value> {
    Ok(context! {
        report => value(report),
        steps => value(reports::steps(&app.pool, report.id).await?),
        evidence => value(evidence::list(&app.pool, Owner::Report(report.id), &Reader::nobody()).await?),
        runs => value(runs::of_report(&app.pool, report.id).await?),
    })
}

/// The runbooks that the analyst was given, in the order it was.
async fn used(app: &App, incident: &Incident) -> Result<Vec<Value>, Trouble> {
    let none = Vec::new();
    let paths = incident.diagnosis.as_ref().map_or(&none, |diagnosis| &diagnosis.runbooks);
    let known = documents::of_paths(&app.pool, paths).await?;
    let shown = |path: &String| {
        let (id, _, title) = known.iter().find(|(_, known, _)| known == path)?;
        Some(context! { id => value(id), title })
    };
    Ok(paths.iter().filter_map(shown).collect())
}

/// Other incidents that are alike. The page is good without them.
async fn similar(app: &App, incident: &Incident) -> Vec<Hit> {
    let cause = incident.diagnosis.as_ref().map_or("", |diagnosis| diagnosis.cause.as_str());
    let text = format!("{}\n{cause}", incident.title);
    let mut hits = app.knowledge.near(&text, Realm::Incident, RELATED * 3, None).await;
    // What is near by its words only is alike if it is of the same kind too.
    let ids: Vec<Uuid> = hits.iter().filter_map(|hit| hit.incident_id).collect();
    let alike = incidents::of_class(&app.pool, &ids, incident.class.as_str()).await.unwrap_or_default();
    hits.retain(|hit| hit.incident_id.is_some_and(|id| id != incident.id && alike.contains(&id)));
    hits.truncate(RELATED);
    hits
}

pub(super) async fn resolve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Posted(sent): Posted,
) -> Result<Response, Trouble> {
    let fields = ["verdict", "cause", "fix", "link", "author"].map(|name| (name, Kind::Text));
    let body = forms::body(&sent, &fields);
    match http::resolutions::resolve(State(Arc::clone(&app)), caller, Path(id.clone()), Ok(body)).await {
        Ok(_) => Ok(Redirect::to(&format!("/incidents/{id}#said")).into_response()),
        Err(problem) if problem.status == 422 => {
            Ok(detail(&app, known_id(&id)?, Some(Refused::new(sent, problem))).await?.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

/// A report: how far it is, what was done for it.
pub(super) async fn report(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Trouble> {
    let id = known_id(&id)?;
    let report = reports::get(&app.pool, id).await?.ok_or_else(|| missing("report"))?;
    let values = context! { report => value(&report), work => work(&app, &report).await? };
    Ok(page::show(&app, "/incidents", "report.html", values).await?.into_response())
}
