//! `report`: posts a failure to a server and prints what came of it. The exit code says which.

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use reqwest::Response;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Longest wait for the server's answer; the server answers 202 long before.
const TIMEOUT: Duration = Duration::from_secs(1_800);

/// Arguments of `report`.
///
/// Exit codes: 0 done, 1 the report failed, 2 the server refused the request, 3 it cannot be reached, 4 accepted and still running.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 the report failed; 2 the server refused the request; 3 the server cannot be reached; 4 accepted, still running."
)]
pub(super) struct Arguments {
    /// Namespace of the failed pod.
    #[arg(long)]
    namespace: String,
    /// The failed pod.
    #[arg(long)]
    pod: String,
    /// The container in it; looked up when left out.
    #[arg(long)]
    container: Option<String>,
    /// Pipeline the pod belongs to.
    #[arg(long)]
    pipeline: Option<String>,
    /// Where the run can be looked at.
    #[arg(long)]
    run_url: Option<String>,
    /// A log to send along, for a pod that is gone.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The log of the last good run of the same job: what it says too counts less.
    #[arg(long, value_name = "FILE")]
    good_log: Option<PathBuf>,
    /// Link to the last good run.
    #[arg(long)]
    last_good_run: Option<String>,
    /// The same key gives the same report.
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Do not wait for the outcome.
    #[arg(long)]
    no_wait: bool,
    /// Print the server's answer as JSON.
    #[arg(long)]
    json: bool,
    /// The server.
    #[arg(long, env = "REGREEN_SERVER", default_value = "http://127.0.0.1:8000")]
    server: String,
    /// API key or token that says who reports, where the server asks.
    #[arg(long, env = "REGREEN_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with it, such as a service account's projected token.
    #[arg(long, env = "REGREEN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Posts and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let log = arguments.log.as_ref().map(read).transpose()?;
    let good_log = arguments.good_log.as_ref().map(read).transpose()?;
    let body = json!({
        "namespace": arguments.namespace, "pod_name": arguments.pod, "container_name": arguments.container,
        "pipeline": arguments.pipeline, "run_url": arguments.run_url, "log": log,
        "good_log": good_log, "last_good_run": arguments.last_good_run,
    });
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(10))
        // One that is followed makes a GET of the report, and sends the token along.
        .redirect(Policy::none())
        .build()?;
    let mut request =
        http.post(format!("{}/report-failure", arguments.server.trim_end_matches('/'))).json(&body);
    let token = match &arguments.token_file {
        Some(path) => Some(read(path)?),
        None => arguments.token.clone(),
    };
    if let Some(token) = token {
        request = request.bearer_auth(token.trim());
    }
    if let Some(key) = &arguments.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    if arguments.no_wait {
        request = request.header("prefer", "respond-async");
    }
    let spinner = spinner(&arguments);
    let answer = request.send().await;
    spinner.finish_and_clear();
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            eprintln!("regreen: {} cannot be reached: {}", arguments.server, error.without_url());
            return Ok(ExitCode::from(3));
        }
    };
    let status = response.status().as_u16();
    let answer: Value = match elsewhere(&response) {
        Some(detail) => json!({ "detail": detail }),
        None => response
            .json()
            .await
            .unwrap_or_else(|_| json!({"detail": format!("HTTP {status} without a readable answer")})),
    };
    print_answer(&arguments, status, &answer);
    Ok(ExitCode::from(match status {
        200 => 0,
        202 => 4,
        // Only of a report that was taken and worked on.
        502 => 1,
        _ => 2,
    }))
}

/// Where to report instead, when the answer is a redirect.
fn elsewhere(response: &Response) -> Option<String> {
    let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    let location = response.url().join(location.to_str().ok()?).ok()?;
    let advice = match location.as_str().strip_suffix("/report-failure") {
        Some(server) => format!("use `--server {server}`"),
        None => "name the URL of the server itself with `--server`".to_owned(),
    };
    Some(format!("the server redirects to {location}, and a report is not sent on; {advice}"))
}

fn spinner(arguments: &Arguments) -> ProgressBar {
    if arguments.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner()
        .with_message(format!("looking at {}/{} …", arguments.namespace, arguments.pod));
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn print_answer(arguments: &Arguments, status: u16, answer: &Value) {
    if arguments.json {
        println!("{answer}");
        return;
    }
    match (status, answer["result"].as_str(), answer["detail"].as_str()) {
        (200 | 202, Some(result), _) => println!("{result}"),
        (_, _, Some(detail)) => eprintln!("regreen: {detail}"),
        _ => eprintln!("regreen: the server answered HTTP {status}"),
    }
    if let Some(id) = answer["report_id"].as_str() {
        println!("{}/api/reports/{id}", arguments.server.trim_end_matches('/'));
    }
}
