//! The page behind a signed link: shows the call, and decides it when the button is pressed. Nobody has to log in for it.

use super::asked::Asked;
use super::page::{self, Trouble, value};
use crate::app::App;
use crate::chat::{Choice, Link, NotDecided};
use crate::clock;
use crate::db::approvals;
use crate::domain::{Approval, ApprovalState};
use crate::http::{Problem, known_id, missing};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use minijinja::context;
use serde::Deserialize;
use std::sync::Arc;

/// What stands in the address.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    until: i64,
    #[serde(rename = "for")]
    issued_to: String,
    signature: String,
}

type Address = (Path<(String, String)>, Asked<Signed>);

/// The call that a link is for; refuses what was not signed here or is over.
async fn open(app: &App, (Path((id, choice)), Asked(signed)): Address) -> Result<(Link, Approval), Problem> {
    let refused = || {
        let detail =
            "this link is not (or no longer) good; look at the call on its page, or ask for a new link";
        Problem::new(StatusCode::FORBIDDEN, detail)
    };
    let choice = Choice::parse(&choice).ok_or_else(|| missing("link"))?;
    let now = clock::now();
    let approval = approvals::get(&app.pool, known_id(&id)?, now).await?.ok_or_else(refused)?;
    let link = Link { choice, until: signed.until, issued_to: signed.issued_to };
    if link.is_genuine(app, &approval, &signed.signature, now) {
        Ok((link, approval))
    } else {
        Err(refused())
    }
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    place: Path<(String, String)>,
    signed: Asked<Signed>,
) -> Result<Html<String>, Trouble> {
    let (link, approval) = open(&app, (place, signed)).await?;
    shown(&link, &approval, None)
}

pub(super) async fn decide(
    State(app): State<Arc<App>>,
    place: Path<(String, String)>,
    signed: Asked<Signed>,
) -> Result<Response, Trouble> {
    let (link, approval) = open(&app, (place, signed)).await?;
    match link.decide(&app, &approval).await {
        Ok(decided) => Ok(shown(&link, &decided.approval, None)?.into_response()),
        Err(NotDecided::Missing) => Err(missing("approval").into()),
        Err(over @ NotDecided::Over(_)) => {
            let problem = Problem::new(StatusCode::CONFLICT, over.to_string());
            let now = approvals::get(&app.pool, approval.id, clock::now()).await?.unwrap_or(approval);
            Ok((StatusCode::CONFLICT, shown(&link, &now, Some(problem))?).into_response())
        }
        Err(NotDecided::Database(error)) => Err(error.into()),
    }
}

fn shown(link: &Link, approval: &Approval, problem: Option<Problem>) -> Result<Html<String>, Trouble> {
    let values = context! {
        section => "",
        waiting => 0,
        call => super::approvals::card(approval),
        choice => link.choice.as_str(),
        issued_to => link.issued_to.clone(),
        open => approval.state == ApprovalState::Pending,
        problem => problem.map(value),
    };
    page::render("link.html", values).map(Html)
}
