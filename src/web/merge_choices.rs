//! Choices for merging and splitting on an incident's page.

use super::value::value;
use crate::app::App;
use crate::db::{incidents, merges};
use crate::domain::{Incident, IncidentStatus, Report};
use minijinja::{Value, context};
use uuid::Uuid;

/// Maximum number of incidents offered for merging.
const OTHERS: i64 = 50;

/// Returns the values of the merge and split forms.
pub(super) async fn values(
    app: &App,
    incident: &Incident,
    reports: &[Report],
    leader: Option<Uuid>,
) -> sqlx::Result<Value> {
    let merged = merges::merged(&app.pool, incident.id).await?;
    let merged: Vec<Value> = merged.iter().map(|(id, title)| context! { id => value(id), title }).collect();
    let is_open = incident.status == IncidentStatus::Open;
    let mut others = Vec::new();
    if is_open {
        let filter = incidents::Filter {
            status: Some(IncidentStatus::Open.as_str()),
            namespace: Some(&incident.namespace),
            ..incidents::Filter::default()
        };
        others = incidents::list(&app.pool, &filter, OTHERS).await?;
        others.retain(|other| other.id != incident.id);
    }
    let movable: Vec<&Report> = reports
        .iter()
        .filter(|report| is_open && Some(report.id) != leader && report.status.is_final())
        .collect();
    Ok(context! { merged, others => value(&others), movable => value(&movable) })
}
