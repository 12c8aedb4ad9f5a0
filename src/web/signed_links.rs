//! Page of a signed link: shows a call and decides it when the button is pressed, without a login.

use super::error::PageError;
use super::extract::PageQuery;
use super::page::PageContext;
use super::value::value;
use crate::api::approvals::not_decided;
use crate::api::caller::RequestOrigin;
use crate::api::{Problem, known_id, missing};
use crate::app::App;
use crate::chat::{ApprovalChoice, DecisionError, LinkClient, SignedLink};
use crate::clock;
use crate::db::approvals;
use crate::domain::{Approval, ApprovalState, AuthMethod, Caller};
use axum::Extension;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use minijinja::context;
use serde::Deserialize;

/// Query of a signed link.
#[derive(Debug, Deserialize)]
pub(super) struct SignedLinkQuery {
    until: i64,
    #[serde(default, rename = "by")]
    made_by: String,
    #[serde(rename = "for")]
    issued_to: String,
    signature: String,
}

/// Returns the call of a link; refuses invalid and expired links.
async fn open(
    app: &App,
    id: &str,
    choice: &str,
    signed: SignedLinkQuery,
) -> Result<(SignedLink, Approval), Problem> {
    let refused = || {
        let detail =
            "this link is not (or no longer) good; look at the call on its page, or ask for a new link";
        Problem::new(StatusCode::FORBIDDEN, detail)
    };
    let choice = ApprovalChoice::parse(choice).ok_or_else(|| missing("link"))?;
    let now = clock::now();
    let approval = approvals::get(&app.pool, known_id(id)?, now).await?.ok_or_else(refused)?;
    let SignedLinkQuery { until, made_by, issued_to, signature } = signed;
    let link = SignedLink { choice, until, made_by, issued_to };
    if approval.visible_to.is_none() && link.is_genuine(&app.config.chat, &approval, &signature, now) {
        Ok((link, approval))
    } else {
        Err(refused())
    }
}

pub(super) async fn show(
    page: PageContext,
    Path((id, choice)): Path<(String, String)>,
    PageQuery(signed): PageQuery<SignedLinkQuery>,
) -> Result<Html<String>, PageError> {
    let (link, approval) = open(&page.app, &id, &choice, signed).await?;
    shown(&page, &link, approval, None)
}

pub(super) async fn decide(
    page: PageContext,
    caller: Option<Extension<Caller>>,
    RequestOrigin { id: request, address }: RequestOrigin,
    Path((id, choice)): Path<(String, String)>,
    PageQuery(signed): PageQuery<SignedLinkQuery>,
) -> Result<Response, PageError> {
    let (link, approval) = open(&page.app, &id, &choice, signed).await?;
    // Without authentication, no caller is known.
    let caller = caller.map(|Extension(caller)| caller).filter(|caller| caller.way != AuthMethod::Open);
    match link.decide(&page.app, &approval, LinkClient { caller, address, request }).await {
        Ok(decided) => Ok(shown(&page, &link, decided.approval, None)?.into_response()),
        Err(refused @ (DecisionError::Over(_) | DecisionError::NotTheirs(_))) => {
            let problem = not_decided(refused);
            let now = approvals::get(&page.app.pool, approval.id, clock::now()).await?.unwrap_or(approval);
            Ok((problem.code(), shown(&page, &link, now, Some(problem))?).into_response())
        }
        Err(refused) => Err(not_decided(refused).into()),
    }
}

fn shown(
    page: &PageContext,
    link: &SignedLink,
    approval: Approval,
    problem: Option<Problem>,
) -> Result<Html<String>, PageError> {
    let is_open = approval.state == ApprovalState::Pending;
    // A link only shows what everybody may see.
    let nobody = Caller::recorded("", "");
    let values = context! {
        section => "",
        waiting => 0,
        call => super::approvals::card(&page.app, approval, &nobody),
        choice => link.choice.as_str(),
        made_by => link.made_by.clone(),
        issued_to => link.issued_to.clone(),
        four_eyes => page.app.config.chat.four_eyes,
        open => is_open,
        problem => problem.map(value),
    };
    page.render("link.html", values).map(Html)
}
