//! Overview page: open incidents, reports in progress and trends.

use super::error::PageError;
use super::page::PageContext;
use super::value::value;
use crate::app::App;
use crate::clock;
use crate::db::incidents::Filter;
use crate::db::reports::Filter as ReportFilter;
use crate::db::{incidents, overview, reports};
use crate::domain::{FailureClass, Report};
use axum::Extension;
use axum::response::Html;
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::context;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Number of days in the trend and in the figures.
const DAYS: i64 = 30;
/// Maximum number of failed reports listed.
const FAILURES: i64 = 5;
/// Maximum age of the sums if no report changed: they also include runs of conversations.
const FRESH: Duration = Duration::from_secs(10);
/// Size of the trend chart.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;

/// A day in the trend chart.
#[derive(Serialize)]
struct Bar {
    x: f64,
    width: f64,
    /// Height of all reports, and of reports with a new cause.
    all: f64,
    new: f64,
    label: String,
    title: String,
}

/// A failure class with its open and resolved incidents.
#[derive(Serialize)]
struct Class {
    name: &'static str,
    open: i64,
    resolved: i64,
}

/// Sums over all incidents and reports.
struct Sums {
    counts: Vec<overview::Count>,
    trend: Vec<overview::Day>,
    figures: overview::Figures,
}

/// Cached sums with their time and the state of the data. All open overviews reload at the same time; only one of them
/// counts.
#[derive(Default)]
pub(super) struct Counted(Mutex<Option<(Instant, String, Arc<Sums>)>>);

impl Counted {
    async fn sums(&self, app: &App, now: DateTime<Utc>) -> sqlx::Result<Arc<Sums>> {
        let pulse = format!("{} {}", now.date_naive(), overview::pulse(&app.pool).await?);
        let mut last = self.0.lock().await;
        let same = last.as_ref().filter(|(at, seen, _)| *seen == pulse && at.elapsed() < FRESH);
        if let Some((_, _, sums)) = same {
            return Ok(Arc::clone(sums));
        }
        let (at, since) = (Instant::now(), now - TimeDelta::days(DAYS - 1));
        let (counts, trend, figures) = futures::try_join!(
            overview::counts(&app.pool),
            overview::trend(&app.pool, since.date_naive(), now.date_naive()),
            overview::figures(&app.pool, since)
        )?;
        let sums = Arc::new(Sums { counts, trend, figures });
        *last = Some((at, pulse, Arc::clone(&sums)));
        Ok(sums)
    }
}

pub(super) async fn show(
    page: PageContext,
    Extension(counted): Extension<Arc<Counted>>,
) -> Result<Html<String>, PageError> {
    let app = &page.app;
    let now = clock::now();
    let sums = counted.sums(app, now).await?;
    let Sums { counts, trend, figures } = &*sums;
    let answering = overview::answering(&app.pool).await?;
    let latest = incidents::list(&app.pool, &Filter { status: Some("open"), ..Filter::default() }, 8).await?;
    let running = running(app).await?;
    let filter = ReportFilter { status: Some("failed"), ..ReportFilter::default() };
    let failures = reports::list(&app.pool, &filter, FAILURES).await?;
    let values = context! {
        days => DAYS,
        classes => value(classes(counts)),
        open => counts.iter().filter(|count| count.status == "open").map(|count| count.incidents).sum::<i64>(),
        resolved => counts.iter().filter(|count| count.status != "open").map(|count| count.incidents).sum::<i64>(),
        bars => value(bars(trend)),
        most => trend.iter().map(|day| day.reports).max().unwrap_or(0),
        figures => value(figures),
        answering => value(&answering),
        seen => super::incidents::seen_in(app, &latest).await?,
        latest => value(&latest),
        failed => reports::failed(&app.pool).await?,
        failures => value(failures),
        running => value(&running),
        servers => value(app.mcp.status()),
        model => app.model.as_ref().map(|model| model.name().to_owned()),
        tracker => app.config.tracker.as_ref().map(|tracker| format!("{}/{}", tracker.owner, tracker.repo)),
    };
    page.show("/", "overview.html", values).await
}

/// Returns reports in progress or waiting, oldest first.
async fn running(app: &App) -> sqlx::Result<Vec<Report>> {
    let mut all = Vec::new();
    for status in ["running", "queued", "waiting"] {
        let filter = ReportFilter { status: Some(status), ..ReportFilter::default() };
        all.extend(reports::list(&app.pool, &filter, 10).await?);
    }
    all.sort_by_key(|report| report.id);
    Ok(all)
}

fn classes(counts: &[overview::Count]) -> Vec<Class> {
    let of = |class: &str, status: &str| {
        let same = counts.iter().filter(|count| count.class == class && count.status == status);
        same.map(|count| count.incidents).sum()
    };
    let mut classes: Vec<Class> = FailureClass::NAMES
        .iter()
        .copied()
        .map(|name| Class { name, open: of(name, "open"), resolved: of(name, "resolved") })
        .filter(|class| class.open + class.resolved > 0)
        .collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.open));
    classes
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn bars(days: &[overview::Day]) -> Vec<Bar> {
    let most = days.iter().map(|day| day.reports).max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / days.len().max(1) as f64;
    let round = |number: f64| (number * 10.0).round() / 10.0;
    let bar = |(index, day): (usize, &overview::Day)| Bar {
        x: round(index as f64 * step + 1.5),
        width: round(step - 3.0),
        all: round(day.reports as f64 / most * HEIGHT),
        new: round(day.new as f64 / most * HEIGHT),
        label: day.day.format("%-d %b").to_string(),
        title: format!("{}: {} reports, {} with a new cause", day.day, day.reports, day.new),
    };
    days.iter().enumerate().map(bar).collect()
}
