//! The page behind a signed link: shows the call, and decides it when the button is pressed. Nobody has to log in for it.

use super::error::PageError;
use super::extract::PageQuery;
use super::page::Page;
use super::value::value;
use crate::api::approvals::not_decided;
use crate::api::caller::RequestOrigin;
use crate::api::{Problem, known_id, missing};
use crate::app::App;
use crate::chat::{Choice, Link, NotDecided, Presser};
use crate::clock;
use crate::db::approvals;
use crate::domain::{Approval, ApprovalState, AuthMethod, Caller};
use axum::Extension;
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
    #[serde(default, rename = "by")]
    made_by: String,
    #[serde(rename = "for")]
    issued_to: String,
    signature: String,
}

type Address = (Path<(String, String)>, PageQuery<Signed>);

/// The call that a link is for; refuses what was not signed here or is over.
async fn open(
    app: &App,
    (Path((id, choice)), PageQuery(signed)): Address,
) -> Result<(Link, Approval), Problem> {
    let refused = || {
        let detail =
            "this link is not (or no longer) good; look at the call on its page, or ask for a new link";
        Problem::new(StatusCode::FORBIDDEN, detail)
    };
    let choice = Choice::parse(&choice).ok_or_else(|| missing("link"))?;
    let now = clock::now();
    let approval = approvals::get(&app.pool, known_id(&id)?, now).await?.ok_or_else(refused)?;
    let Signed { until, made_by, issued_to, signature } = signed;
    let link = Link { choice, until, made_by, issued_to };
    if approval.visible_to.is_none() && link.is_genuine(app, &approval, &signature, now) {
        Ok((link, approval))
    } else {
        Err(refused())
    }
}

pub(super) async fn show(
    page: Page,
    State(app): State<Arc<App>>,
    signed: Address,
) -> Result<Html<String>, PageError> {
    let (link, approval) = open(&app, signed).await?;
    shown((&page, &app), &link, approval, None)
}

pub(super) async fn decide(
    page: Page,
    State(app): State<Arc<App>>,
    caller: Option<Extension<Caller>>,
    RequestOrigin { id: request, address }: RequestOrigin,
    signed: Address,
) -> Result<Response, PageError> {
    let (link, approval) = open(&app, signed).await?;
    // Where nobody has to show who they are, nobody is known.
    let caller = caller.map(|Extension(caller)| caller).filter(|caller| caller.way != AuthMethod::Open);
    match link.decide(&app, &approval, Presser { caller, address, request }).await {
        Ok(decided) => Ok(shown((&page, &app), &link, decided.approval, None)?.into_response()),
        Err(refused @ (NotDecided::Over(_) | NotDecided::NotTheirs(_))) => {
            let problem = not_decided(refused);
            let now = approvals::get(&app.pool, approval.id, clock::now()).await?.unwrap_or(approval);
            Ok((problem.code(), shown((&page, &app), &link, now, Some(problem))?).into_response())
        }
        Err(refused) => Err(not_decided(refused).into()),
    }
}

fn shown(
    (page, app): (&Page, &App),
    link: &Link,
    approval: Approval,
    problem: Option<Problem>,
) -> Result<Html<String>, PageError> {
    let is_open = approval.state == ApprovalState::Pending;
    // A link shows what everybody may see.
    let nobody = Caller::recorded("", "");
    let values = context! {
        section => "",
        waiting => 0,
        call => super::approvals::card(app, approval, &nobody),
        choice => link.choice.as_str(),
        made_by => link.made_by.clone(),
        issued_to => link.issued_to.clone(),
        four_eyes => app.config.chat.four_eyes,
        open => is_open,
        problem => problem.map(value),
    };
    page.render("link.html", values).map(Html)
}
