//! Incidents pages: the list, the details of an incident and the feedback form.

use super::error::PageError;
use super::excerpts;
use super::extract::{PageForm, PageQuery, day, some};
use super::forms::{self, Kind, RejectedForm};
use super::merge_choices;
use super::page::PageContext;
use super::value::value;
use crate::api::{self, Problem, known_id, missing};
use crate::app::App;
use crate::db::documents::{self, Realm};
use crate::db::evidence::Owner;
use crate::db::incidents::Sort;
use crate::db::reports::Filter as ReportFilter;
use crate::db::{evidence, incidents, reports, resolutions, runs};
use crate::domain::{Caller, FailureClass, Incident, IncidentStatus, Principal, Report};
use crate::knowledge::Hit;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Number of incidents per page.
const PAGE: i64 = 50;
/// Maximum number of reports, and of related documents of each kind, shown with an incident.
const REPORTS: i64 = 25;
const RELATED: usize = 4;

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct IncidentListQuery {
    #[serde(default)]
    status: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    pipeline: String,
    /// First and last day, such as `2026-11-30`.
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    q: String,
    before: Option<Uuid>,
    /// Number of incidents that were just resolved.
    #[serde(skip_serializing)]
    resolved: Option<usize>,
}

impl IncidentListQuery {
    /// Returns the filters with their field names.
    fn narrowing(&self) -> [(&'static str, &str); 7] {
        [
            ("q", self.q.trim()),
            ("status", self.status.trim()),
            ("class", self.class.trim()),
            ("namespace", self.namespace.trim()),
            ("pipeline", self.pipeline.trim()),
            ("since", self.since.trim()),
            ("until", self.until.trim()),
        ]
    }

    /// Returns the query of this list without the page.
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let all = self.narrowing().into_iter().chain([("sort", self.sort.trim())]);
        query.extend_pairs(all.filter(|(_, text)| !text.is_empty()));
        query.finish()
    }
}

pub(super) async fn list(
    page: PageContext,
    PageQuery(asked): PageQuery<IncidentListQuery>,
) -> Result<Html<String>, PageError> {
    let filter = incidents::Filter {
        status: some(&asked.status),
        class: some(&asked.class),
        namespace: some(&asked.namespace),
        // This page requires access to all namespaces.
        within: None,
        pipeline: some(&asked.pipeline),
        since: day(&asked.since, false),
        until: day(&asked.until, true),
        sort: Sort::parse(asked.sort.trim()).unwrap_or_default(),
        text: some(&asked.q),
        before: asked.before,
        offset: 0,
    };
    let mut found = incidents::list(&page.app.pool, &filter, PAGE + 1).await?;
    let next = api::cut(&mut found, PAGE, |incident| incident.id);
    let values = context! {
        narrowed => asked.narrowing().iter().any(|(_, text)| !text.is_empty()),
        query => asked.query(),
        resolved => asked.resolved,
        asked => value(&asked),
        seen => seen_in(&page.app, &found).await?,
        openings => found.iter().any(|incident| incident.status == IncidentStatus::Open),
        incidents => value(&found),
        next => value(next),
        classes => value(FailureClass::NAMES),
    };
    page.show("/incidents", "incidents.html", values).await
}

/// Returns the pipeline and task of each incident's latest report, by incident id.
pub(super) async fn seen_in(app: &App, found: &[Incident]) -> sqlx::Result<Value> {
    let ids: Vec<Uuid> = found.iter().map(|incident| incident.id).collect();
    let seen = incidents::seen_in(&app.pool, &ids).await?;
    let by_id: BTreeMap<String, _> = seen.into_iter().map(|seen| (seen.incident.to_string(), seen)).collect();
    Ok(value(&by_id))
}

pub(super) async fn show(page: PageContext, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    detail(&page, known_id(&id)?, IncidentNotices::default()).await
}

/// Notices on the page of an incident.
#[derive(Default)]
pub(super) struct IncidentNotices {
    /// Refused feedback form.
    pub(super) refused: Option<RejectedForm>,
    /// Reason why an action was not carried out.
    pub(super) problem: Option<Problem>,
}

pub(super) async fn detail(
    page: &PageContext,
    id: Uuid,
    shown: IncidentNotices,
) -> Result<Html<String>, PageError> {
    let app = &page.app;
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
    let excerpts = excerpts::of(app, &page.logs, leader, incident.diagnosis.as_ref()).await;
    let again = investigated.as_ref().is_some_and(|report| !report.status.is_final());
    let merging = merge_choices::values(app, &incident, &occurrences, leader).await?;
    let values = context! {
        merging,
        incident => value(&incident),
        leader => value(leader),
        excerpts => value(excerpts),
        again => again && incident.diagnosis.is_some(),
        work,
        reports => value(&occurrences),
        pipelines => incidents::pipelines(&app.pool, id).await?,
        last_good_run => incidents::last_good_run(&app.pool, id).await?,
        resolutions => value(resolutions::of_incident(&app.pool, id).await?),
        runbooks => used(app, &incident).await?,
        similar => value(&similar),
        refused => shown.refused.map(value),
        problem => shown.problem.map(value),
    };
    page.show("/incidents", "incident.html", values).await
}

/// Returns the steps, evidence and runs of a report.
pub(super) async fn work(app: &App, report: &Report) -> sqlx::Result<Value> {
    Ok(context! {
        report => value(report),
        steps => value(reports::steps(&app.pool, report.id).await?),
        evidence => value(evidence::list(&app.pool, Owner::Report(report.id), &Principal::nobody()).await?),
        runs => value(runs::of_report(&app.pool, report.id).await?),
    })
}

/// Returns the runbooks that the analyst was given, in the same order.
async fn used(app: &App, incident: &Incident) -> Result<Vec<Value>, PageError> {
    let none = Vec::new();
    let paths = incident.diagnosis.as_ref().map_or(&none, |diagnosis| &diagnosis.runbooks);
    let known = documents::of_paths(&app.pool, paths).await?;
    let shown = |path: &String| {
        let (id, _, title) = known.iter().find(|(_, known, _)| known == path)?;
        Some(context! { id => value(id), title })
    };
    Ok(paths.iter().filter_map(shown).collect())
}

/// Returns similar incidents. Failures are not errors: the page works without them.
async fn similar(app: &App, incident: &Incident) -> Vec<Hit> {
    let cause = incident.diagnosis.as_ref().map_or("", |diagnosis| diagnosis.cause.as_str());
    let text = format!("{}\n{cause}", incident.title);
    let mut hits = app.knowledge.near(&text, Realm::Incident, RELATED * 3, None).await;
    // Text similarity is not sufficient: the class must be the same too.
    let ids: Vec<Uuid> = hits.iter().filter_map(|hit| hit.incident_id).collect();
    let alike = incidents::of_class(&app.pool, &ids, incident.class.as_str()).await.unwrap_or_default();
    hits.retain(|hit| hit.incident_id.is_some_and(|id| id != incident.id && alike.contains(&id)));
    hits.truncate(RELATED);
    hits
}

pub(super) async fn resolve(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let fields = ["verdict", "cause", "fix", "link", "author"].map(|name| (name, Kind::Text));
    let body = forms::body(&sent, &fields);
    match api::resolutions::resolve(State(Arc::clone(&page.app)), caller, Path(id.clone()), Ok(body)).await {
        Ok(_) => Ok(Redirect::to(&format!("/incidents/{id}#said")).into_response()),
        Err(problem) if problem.status == 422 => {
            let shown = IncidentNotices {
                refused: Some(RejectedForm::new(sent, problem)),
                ..IncidentNotices::default()
            };
            Ok(detail(&page, known_id(&id)?, shown).await?.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}
