//! Comments on the pull request of a failed commit: one comment, updated with each failure.

use super::message::Item;
use super::{DeliveryError, Part, SEND_TIMEOUT};
use crate::app::App;
use crate::config::{Forge, ForgeKind, Target};
use crate::db::reports;
use crate::domain::{Failure, Incident, Report};
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown::{self, RenderTarget};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of failures in a comment. The latest ones are shown.
const MOST: usize = 10;
/// Maximum number of pages searched, of comments or of open pull requests.
const PAGES: usize = 10;
/// Entries per page. The forge may return fewer.
const PAGE: usize = 100;
/// Maximum length of a cause in characters.
const MAX_CAUSE: usize = 1_500;
/// Maximum number of next steps.
const MAX_STEPS: usize = 5;

/// Maximum number of a commit's reports that are checked.
const LOOKED_AT: i64 = 200;

/// A commit in a repository of the forge. All fields are in lower case, since forges ignore case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Commit {
    owner: String,
    repo: String,
    sha: String,
}

impl Commit {
    /// Whether both are the same commit, of which one may have an abbreviated hash.
    fn is(&self, other: &Self) -> bool {
        (&self.owner, &self.repo) == (&other.owner, &other.repo)
            && (self.sha.starts_with(&other.sha) || other.sha.starts_with(&self.sha))
    }
}

/// Comments on the pull requests of failed commits. Commits without a pull request are skipped. Returns the result for each
/// commit.
pub(super) async fn comment(app: &App, target: &Target, forge: &Forge, items: &[Item]) -> Vec<Part> {
    let mut commits: BTreeMap<Option<Commit>, Vec<Uuid>> = BTreeMap::new();
    for item in items {
        commits.entry(commit(forge, &item.report.failure)).or_default().push(item.id);
    }
    let mut parts = Vec::new();
    for (commit, ids) in commits {
        let sent = match commit {
            Some(commit) => comment_on(app, target, forge, &commit).await,
            None => Ok(()),
        };
        parts.push(Part { ids, sent });
    }
    parts
}

async fn comment_on(app: &App, target: &Target, forge: &Forge, commit: &Commit) -> Result<(), DeliveryError> {
    let client = Client { http: app.http(), forge, path: format!("repos/{}/{}", commit.owner, commit.repo) };
    if let Some(number) = client.pull_request(&commit.sha).await? {
        let marker = marker(forge, commit, number);
        let text = text(app, target, forge, commit, &marker).await?;
        client.put(number, &marker, &text).await?;
    }
    Ok(())
}

/// Returns the commit of a failure, if it belongs to this forge and its repository is allowed.
fn commit(forge: &Forge, failure: &Failure) -> Option<Commit> {
    let (address, sha) = (failure.repository.as_deref()?, failure.commit.as_deref()?);
    let url = Url::parse(address).ok()?;
    let below = url.path().strip_prefix(forge.base.as_str()).filter(|below| below.starts_with('/'))?;
    let mut parts = below.trim_matches('/').trim_end_matches(".git").split('/');
    let mut name = || parts.next().map(str::to_ascii_lowercase);
    let (owner, repo) = (name()?, name()?);
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let is_commit = (7..=64).contains(&sha.len()) && sha.chars().all(|c| c.is_ascii_hexdigit());
    let is_ours = url.host_str() == Some(forge.host.as_str()) && parts.next().is_none();
    let wanted = forge.repositories.is_match(format!("{owner}/{repo}"));
    (is_ours && is_name(&owner) && is_name(&repo) && is_commit && wanted).then(|| Commit {
        owner,
        repo,
        sha: sha.to_ascii_lowercase(),
    })
}

/// Returns the marker of our comment. Nobody else can create it for the same pull request.
fn marker(forge: &Forge, commit: &Commit, number: i64) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(forge.token.expose_secret().as_bytes()).expect("a key of any length");
    mac.update(json!(["pull-request", commit.owner, commit.repo, number]).to_string().as_bytes());
    let proof = hex::encode(mac.finalize().into_bytes());
    format!("<!-- regreen:pull-request:{} -->", &proof[..32])
}

/// Renders all known failures of the commit that the target wants.
async fn text(
    app: &App,
    target: &Target,
    forge: &Forge,
    of: &Commit,
    marker: &str,
) -> Result<String, DeliveryError> {
    let ids = reports::of_commit(&app.pool, &of.sha, LOOKED_AT).await.map_err(DeliveryError::away)?;
    let mut failures = Vec::new();
    for id in ids {
        if let Some((report, Some(incident))) =
            super::known(&app.pool, id).await.map_err(DeliveryError::away)?
            && commit(forge, &report.failure).is_some_and(|other| other.is(of))
            && target.wanted.concerns(&report.failure.namespace, Some(incident.class))
        {
            let url = app.report_url(report.id);
            failures.push(shown(&app.config.privacy.links, url, &report, &incident));
        }
        if failures.len() == MOST {
            break;
        }
    }
    let values = json!({ "failures": failures, "commit": of.sha, "marker": marker });
    app.prompts.render("pull-request", values).map_err(|error| DeliveryError::Final(format!("{error:#}")))
}

fn shown(links: &LinkPolicy, url: Option<String>, report: &Report, incident: &Incident) -> Value {
    let line = |text: &str| markdown::sanitize_line(text, links);
    let failure = &report.failure;
    let job: Vec<String> =
        [&failure.pipeline, &failure.task].into_iter().flatten().map(|name| line(name)).collect();
    let diagnosis = incident.diagnosis.as_ref();
    let cause: String =
        diagnosis.map(|diagnosis| diagnosis.cause.chars().take(MAX_CAUSE).collect()).unwrap_or_default();
    let steps = diagnosis.map(|diagnosis| &diagnosis.next_steps[..]).unwrap_or_default();
    json!({
        "title": line(&incident.title), "class": incident.class.as_str(), "job": job.join(" › "),
        "cause": markdown::sanitize(&cause, links, RenderTarget::Tracker),
        "next_steps": steps.iter().take(MAX_STEPS).map(|step| line(step)).collect::<Vec<_>>(),
        "issue_url": incident.issue_url, "occurrences": incident.occurrences,
        "report_id": report.id, "report_url": url,
    })
}

/// Client of the forge's API for one repository. Gitea and GitHub differ in how the pull requests of a commit are found.
struct Client<'a> {
    http: &'a reqwest::Client,
    forge: &'a Forge,
    path: String,
}

impl Client<'_> {
    /// Sends a request. Returns `None` if the object does not exist.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<Value>, DeliveryError> {
        let url = format!("{}/{}/{path}", self.forge.api, self.path);
        let (url, reads) = (url.trim_end_matches('/'), method == Method::GET);
        let request = self
            .http
            .request(method, url)
            .bearer_auth(self.forge.token.expose_secret())
            .header("accept", "application/json")
            .header("user-agent", "regreen")
            .timeout(SEND_TIMEOUT);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        match super::answered(request.send().await).await {
            Ok(response) => {
                let read = response.json().await;
                let unread =
                    |_| DeliveryError::Retry(format!("its answer to {path} cannot be read"), Duration::ZERO);
                read.map(Some).map_err(unread)
            }
            Err((Some(StatusCode::NOT_FOUND), _)) => Ok(None),
            // GitHub's response for an unknown commit.
            Err((Some(StatusCode::UNPROCESSABLE_ENTITY), _)) if reads => Ok(None),
            Err((_, refusal)) => Err(refusal),
        }
    }

    /// Sends a request and fails if the object does not exist. Forges also return 404 for objects that the token must not
    /// see.
    async fn demand(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, DeliveryError> {
        let found = self.ask(method, path, body).await?;
        found.ok_or_else(|| DeliveryError::Final(format!("it answered 404 Not Found for {}: see that it is there, and that the token may read pull requests and comment on them", self.path)))
    }

    /// Returns the open pull request of a commit.
    async fn pull_request(&self, sha: &str) -> Result<Option<i64>, DeliveryError> {
        match self.forge.kind {
            ForgeKind::Gitea => self.pull_request_with_head(sha).await,
            ForgeKind::GitHub => {
                let path = format!("commits/{sha}/pulls");
                let Some(found) = self.ask(Method::GET, &path, None).await? else {
                    return self.demand(Method::GET, "", None).await.map(|_| None);
                };
                let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
                let open = found.iter().find(|found| found["state"] == "open");
                Ok(open.and_then(|open| open["number"].as_i64()))
            }
        }
    }

    /// Returns the open pull request with this head commit. Gitea's endpoint for a commit finds only merged pull requests.
    async fn pull_request_with_head(&self, sha: &str) -> Result<Option<i64>, DeliveryError> {
        for page in 1..=PAGES {
            let path = format!("pulls?state=open&sort=recentupdate&limit={PAGE}&page={page}");
            let Value::Array(open) = self.demand(Method::GET, &path, None).await? else { break };
            let has = |open: &&Value| open["head"]["sha"].as_str().is_some_and(|head| head.starts_with(sha));
            if let Some(found) = open.iter().find(has) {
                return Ok(found["number"].as_i64());
            }
            if open.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// Updates our comment, or creates it.
    async fn put(&self, number: i64, marker: &str, text: &str) -> Result<(), DeliveryError> {
        let body = json!({ "body": text });
        if let Some(known) = self.find(number, marker).await? {
            let path = format!("issues/comments/{known}");
            // The comment may have been deleted meanwhile.
            if self.ask(Method::PATCH, &path, Some(body.clone())).await?.is_some() {
                return Ok(());
            }
        }
        self.demand(Method::POST, &format!("issues/{number}/comments"), Some(body)).await.map(|_| ())
    }

    async fn find(&self, number: i64, marker: &str) -> Result<Option<i64>, DeliveryError> {
        for page in 1..=PAGES {
            let path = format!("issues/{number}/comments?per_page={PAGE}&limit={PAGE}&page={page}");
            let Some(Value::Array(comments)) = self.ask(Method::GET, &path, None).await? else { break };
            let bears = |comment: &&Value| comment["body"].as_str().is_some_and(|body| body.contains(marker));
            if let Some(found) = comments.iter().find(bears) {
                return Ok(found["id"].as_i64());
            }
            // Gitea returns all comments at once.
            if comments.len() != PAGE {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::globs;
    use secrecy::SecretString;

    #[test]
    fn only_commits_of_its_own_repositories_are_commented_on() {
        let forge = Forge {
            kind: ForgeKind::GitHub,
            api: "https://api.github.com".into(),
            host: "github.com".into(),
            base: String::new(),
            token: SecretString::from("t"),
            repositories: globs(&["team/*".into()]),
        };
        let of = |repository: &str, sha: &str| {
            let (repository, commit_sha) = (Some(repository.to_owned()), Some(sha.to_owned()));
            let failure = Failure { repository, commit: commit_sha, ..Failure::default() };
            commit(&forge, &failure).map(|found| format!("{}/{}", found.owner, found.repo))
        };
        assert_eq!(of("https://github.com/team/app.git", "0a1b2c3d").as_deref(), Some("team/app"));
        for (repository, sha) in [
            ("https://github.com/other/app", "0a1b2c3d"),
            ("https://evil.example/team/app", "0a1b2c3d"),
            ("https://github.com/team/app/../../other/app", "0a1b2c3d"),
            ("https://github.com/team/a%2Fb", "0a1b2c3d"),
            ("https://github.com/team/..", "0a1b2c3d"),
            ("https://github.com/team/app", "main"),
            ("https://github.com/team/app", "../../pulls"),
            ("git@github.com:team/app", "0a1b2c3d"),
        ] {
            assert_eq!(of(repository, sha), None, "{repository} {sha}");
        }
    }

    #[test]
    fn a_forge_below_a_path_has_its_repositories_there() {
        let forge = Forge {
            kind: ForgeKind::Gitea,
            api: "https://dev.example/git/api/v1".into(),
            host: "dev.example".into(),
            base: "/git".into(),
            token: SecretString::from("t"),
            repositories: globs(&["*".into()]),
        };
        let of = |repository: &str, sha: &str| {
            let (repository, sha) = (Some(repository.to_owned()), Some(sha.to_owned()));
            commit(&forge, &Failure { repository, commit: sha, ..Failure::default() })
        };
        let known = of("https://dev.example/git/Team/App.git", "0A1B2C3D4E").unwrap();
        assert!(known.is(&of("https://dev.example/git/team/app/", "0a1b2c3d").unwrap()));
        assert!(!known.is(&of("https://dev.example/git/team/app", "0a1b2c3e").unwrap()));
        assert!(!known.is(&of("https://dev.example/git/team/other", "0a1b2c3d").unwrap()));
        for elsewhere in ["https://dev.example/team/app", "https://dev.example/github/team/app"] {
            assert_eq!(of(elsewhere, "0a1b2c3d"), None, "{elsewhere}");
        }
    }
}
